"""The callers' commands as processes of their own: on a terminal of 80 columns, and into a pipe."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.running_stack import until

from integration.client_world import World
from integration.scripted_deliv import Reply, reply

COLUMNS = 80
JOB = "01a2286b-d855-7be2-972b-45fb26ca0ad2"
PLACE = "gsiftp://gridftp.example.org:2811/data/meerkat/observations/2030/01/31/of/a/campaign"
FILE = f"{PLACE}/M31%20HI%20cube.fits"
STAGED = "/archive/staging/of/the/observatory/in/a/deep/directory/M31 HI cube, all channels.fits"
SENTENCE = f"The disk is full. What was copied may be left at {FILE}: look there, and remove it."
FAILED = {
    "job_id": JOB,
    "product_id": "M31 HI cube.fits",
    "destination_path": PLACE,
    "submitter": "/DC=org/DC=example/OU=people of the observatory/CN=Alice with a long name",
    "status": "ERROR",
    "detailed_status": SENTENCE,
    "error_class": "destination full",
    "stager_path": STAGED,
    "time_submitted": "2030-01-31T18:00:00.123456Z",
}
STAGING = {"job_id": JOB, "status": "STAGING", "stager_status": "accepted"}


@pytest.fixture(scope="module")
def module_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("terminal"))
    with world.deliv.running():
        yield world


@pytest.fixture
def world(module_world: World) -> World:
    module_world.deliv.script.clear()
    module_world.deliv.calls.clear()
    return module_world


def command(world: World, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "deliv.cli", *arguments, *world.options()]


def environment() -> dict[str, str]:
    """That of a plain terminal: what the width of another one is, is nobody's business here."""
    misleading = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE")
    kept = {name: value for name, value in os.environ.items() if name not in misleading}
    return {**kept, "TERM": "xterm-256color"}


def through_pipe(world: World, *arguments: str) -> str:
    done = subprocess.run(
        command(world, *arguments), env=environment(), capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def on_terminal(world: World, *arguments: str) -> str:
    """What an 80-column terminal is sent, without the colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    process = subprocess.Popen(
        command(world, *arguments), env=environment(), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    sent = b""
    try:
        while chunk := os.read(ours, 65536):
            sent += chunk
    except OSError:  # EIO: the other end is closed
        pass
    finally:
        os.close(ours)
        process.wait(60)
    return re.sub(r"\x1b\[[0-9;]*m", "", sent.decode()).replace("\r\n", "\n")


RUNS = pytest.mark.parametrize("run", [through_pipe, on_terminal])


@RUNS
def test_a_status_has_every_value_whole(world: World, run: Any) -> None:
    world.deliv.script += [reply(200, FAILED)]
    shown = run(world, "status", JOB)
    for name, value in FAILED.items():
        assert name in shown
        assert name == "detailed_status" or value in shown, name
    assert FILE in shown
    assert SENTENCE in " ".join(shown.split())


@RUNS
def test_events_have_every_value_whole(world: World, run: Any) -> None:
    steps = [
        {"time": "2030-01-31T18:00:00.123456Z", "status": "SUBMITTED", "attempt": 1},
        {"time": "2030-01-31T18:00:01.123456Z", "status": "ERROR", "attempt": 1,
         "detailed_status": SENTENCE},
    ]  # fmt: skip
    world.deliv.script += [reply(200, {"job_id": JOB, "events": steps})]
    shown = run(world, "events", JOB)
    assert FILE in shown
    assert SENTENCE in " ".join(shown.split())
    assert "2030-01-31T18:00:00.123456Z" in shown
    assert "UTC" in shown


@RUNS
def test_a_list_has_every_value_whole(world: World, run: Any) -> None:
    page = {"transfers": [FAILED, {**FAILED, "status": "SUCCESS"}], "next": None}
    world.deliv.script += [reply(200, page), reply(200, {"user_dn": FAILED["submitter"]})]
    shown = run(world, "list")
    assert shown.count(JOB) == 2
    assert shown.count(PLACE) == 3
    assert shown.count(FILE) == 1  # of the one that failed
    assert "M31 HI cube.fits" in shown
    assert "UTC" in shown
    assert str(FAILED["submitter"]) not in shown  # one's own jobs


NAME = "correlator data/of the observation/channel 00001/Su\u0308dhimmel-\u03b2, all of it.npy"
MISSING = {
    "name": NAME, "destination": FILE, "state": "FAILED", "size": 3 * 2**20, "attempt": 2,
    "error_class": "no permission", "reason": "the server said: 553 Permission denied.",
    "remedy": "Check that the directory exists, then submit again.", "partial": True,
}  # fmt: skip
WHY = (
    "the server said: 553 Permission denied. Check that the directory exists, then submit again. "
    f"An attempt may have left (a part of) it at {FILE}."
)


@RUNS
def test_files_have_every_value_whole(world: World, run: Any) -> None:
    there = {"name": "flags", "state": "FINISHED", "size": 0, "attempt": 1, "partial": False}
    page = {"job_id": JOB, "files": [there, MISSING], "next": None}
    world.deliv.script += [reply(200, page)]
    shown = run(world, "files", JOB)
    assert NAME in shown
    assert FILE in shown
    assert "3.0 MiB" in shown
    assert WHY in " ".join(shown.split())


def test_piped_files_are_a_header_and_a_line_for_each(world: World) -> None:
    """Of every page, with the states and sizes of all in one column."""
    there = {"name": "flags", "state": "FINISHED", "size": 7, "attempt": 1, "partial": False}
    untried = {"name": "z", "state": "WAITING", "attempt": 0, "partial": False}
    first = {"job_id": JOB, "files": [there] * 100, "next": "1-100"}
    world.deliv.script += [reply(200, first), reply(200, {"files": [MISSING, untried]})]
    header, *lines = through_pipe(world, "files", JOB).splitlines()
    assert header.split() == ["STATE", "SIZE", "NAME", "WHAT", "HAPPENED"]
    assert len(lines) == 102
    assert lines[0].split() == ["FINISHED", "7", "B", "flags"]
    assert lines[100] == f"FAILED       3.0 MiB  {NAME}  {WHY}"
    assert lines[101].split() == ["WAITING", "z", "not", "tried"]
    places = {line.index(name) for line, name in zip(lines[-3:], ("flags", NAME, "z"), strict=True)}
    assert places == {header.index("NAME")}


def test_prose_breaks_between_words_on_a_terminal(world: World) -> None:
    world.deliv.script += [reply(200, {**FAILED, "detailed_status": "word " * 60})]
    lines = on_terminal(world, "status", JOB).splitlines()
    prose = [line for line in lines if "word" in line]
    assert len(prose) > 3
    assert max(map(len, prose)) <= COLUMNS
    assert {line.index("word") for line in prose} == {prose[0].index("word")}


def test_a_piped_list_is_a_header_and_a_line_for_each_job(world: World) -> None:
    other = {**FAILED, "submitter": "/CN=bob"}
    page = {"transfers": [FAILED, other], "next": None}
    world.deliv.script += [reply(200, page), reply(200, {"user_dn": "/CN=operator"})]
    header, *lines = through_pipe(world, "list").splitlines()
    assert header.split("  ")[0] == "JOB"
    for name in ("SUBMITTED (UTC)", "STATUS", "SUBMITTER", "PRODUCT", "DESTINATION", "REASON"):
        assert name in header
    assert len(lines) == 2
    assert lines[0].startswith(JOB)
    assert lines[0].rstrip().endswith(SENTENCE)
    assert "/CN=bob" in lines[1]
    assert lines[0].index("2030-01-31 18:00:00") == header.index("SUBMITTED (UTC)")


def test_a_reader_that_leaves_early_is_no_error(world: World) -> None:
    page = {"transfers": [FAILED] * 3000, "next": None}
    world.deliv.script += [reply(200, page), reply(200, {"user_dn": "/CN=operator"})]
    reading, writing = os.pipe()
    process = subprocess.Popen(
        command(world, "list", "--limit", "3000"),
        env=environment(), stdout=writing, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writing)
    os.read(reading, 100)
    os.close(reading)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (141, "")


JSON = pytest.mark.parametrize("json_or_not", [(), ("--json",)])


def into(output: int, world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command with its output there, which is closed afterwards."""
    with os.fdopen(output, "wb") as stdout:
        return subprocess.run(
            command(world, *arguments), env=environment(), stdout=stdout, stderr=subprocess.PIPE,
            text=True, timeout=60, check=False,
        )  # fmt: skip


def closed_pipe() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@JSON
def test_a_list_into_a_closed_pipe_ends_quietly(world: World, json_or_not: tuple[str]) -> None:
    page = {"transfers": [FAILED], "next": None}
    world.deliv.script += [reply(200, page), reply(200, {"user_dn": "/CN=operator"})]
    done = into(closed_pipe(), world, "list", *json_or_not)
    assert (done.returncode, done.stderr) == (141, "")


@JSON
@pytest.mark.parametrize(
    ("output", "reason", "code"),
    [
        (lambda: os.open("/dev/full", os.O_WRONLY), "No space left on device", 8),
        (closed_pipe, "Broken pipe", 141),
    ],
)
def test_a_job_whose_id_could_not_be_printed_is_on_the_error_output(
    world: World, output: Any, reason: str, code: int, json_or_not: tuple[str]
) -> None:
    world.deliv.script += [ACCEPTED]
    done = into(output(), world, "submit", "005", PLACE, "--idempotency-key", "K", *json_or_not)
    said = f"deliv: the output can't be written: {reason}; job {JOB}; idempotency key K\n"
    assert (done.returncode, done.stderr) == (code, said)


@JSON
def test_without_an_output_no_job_is_submitted(world: World, json_or_not: tuple[str]) -> None:
    """As `>&-` of a shell has it: nobody would learn the job's id."""
    submission = command(world, "submit", "005", PLACE, *json_or_not)
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *submission], env=environment(),
        stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    said = "deliv: the output can't be written: it is closed; nothing was asked of deliv\n"
    assert (done.returncode, done.stderr) == (8, said)
    assert world.deliv.calls == []


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_what_the_outputs_encoding_lacks_is_escaped(world: World, encoding: str) -> None:
    page = {"transfers": [{**FAILED, "product_id": "Himmel-\u03b2.fits"}], "next": None}
    world.deliv.script += [reply(200, page), reply(200, {"user_dn": FAILED["submitter"]})]
    done = subprocess.run(
        command(world, "list"), env={**environment(), "PYTHONIOENCODING": encoding},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert r"Himmel-\u03b2.fits" in done.stdout


def interrupted(
    world: World, *arguments: str, calls: int, by: signal.Signals = signal.SIGINT
) -> subprocess.CompletedProcess[str]:
    """The command, sent a signal when deliv has had so many calls."""
    process = subprocess.Popen(
        # A job of a shell's background ignores SIGINT, and so do its children.
        ["env", "--default-signal=INT", *command(world, *arguments)],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: len(world.deliv.calls) >= calls, "the calls before the signal")
    process.send_signal(by)
    out, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, errors)


ACCEPTED = reply(202, {"job_id": JOB, "error": False, "msg": "accepted"})
SLOW = reply(200, STAGING, Retry_After="60")


@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_wait_leaves_the_job_to_scripts(
    world: World, by: signal.Signals, code: int
) -> None:
    world.deliv.script += [ACCEPTED, SLOW]
    done = interrupted(world, "submit", "005", PLACE, "--wait", "--json", calls=2, by=by)
    assert done.returncode == code
    document = json.loads(done.stdout)
    assert (document["job_id"], document["kind"]) == (JOB, "interrupted")


def test_an_interrupted_wait_tells_how_to_look_again(world: World) -> None:
    world.deliv.script += [ACCEPTED, SLOW]
    done = interrupted(world, "submit", "005", PLACE, "--wait", calls=2)
    assert done.returncode == 130
    assert done.stderr.splitlines()[-2:] == [
        "deliv: interrupted",
        f"  look again with: deliv status --wait {JOB}",
    ]
    assert "\N{REPLACEMENT CHARACTER}" not in done.stderr


def test_an_interrupted_submission_leaves_its_key_to_scripts(world: World) -> None:
    world.deliv.script += [Reply(status=503, headers={"Retry-After": "60"})]
    done = interrupted(world, "submit", "005", PLACE, "--json", "--patience", "99", calls=1)
    assert done.returncode == 130
    document = json.loads(done.stdout)
    assert document["job_id"] is None
    assert document["idempotency_key"] == world.deliv.calls[0].key


def test_a_wait_tells_why_nothing_moves(world: World) -> None:
    reason = "not reached yet: the stager did not answer in time"
    answers = [
        reply(200, STAGING, Retry_After="0"),
        reply(200, {**STAGING, "stager_status": reason}, Retry_After="0"),
        reply(200, {**STAGING, "stager_status": reason}, Retry_After="0"),
        reply(200, {"job_id": JOB, "status": "TRANSFERRING", "detailed_status": "waiting: FTS"},
              Retry_After="0"),
        reply(200, {"job_id": JOB, "status": "SUCCESS"}),
    ]  # fmt: skip
    for option in ([], ["--json"]):
        world.deliv.script += answers
        done = subprocess.run(
            command(world, "status", JOB, "--wait", *option),
            env=environment(), capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        events = [line.partition(" s  ")[2] for line in done.stderr.splitlines()]
        assert events == [
            "STAGING  being staged out of the archive",
            f"STAGING  being staged out of the archive: {reason}",
            "TRANSFERRING  being copied to the destination: waiting: FTS",
            "SUCCESS  delivered",
        ]
    assert json.loads(done.stdout)["status"] == "SUCCESS"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["list", "--limit", "-3"], "--limit: must be a number, 1 or more"),
        (["list", "--limit", "many"], "--limit: must be a number, 1 or more"),
        (["list", "--since", "yesterday"], "--since: must be a time like 2030-01-31"),
        (["list", "--until", "0001-01-01"], "--until: must be a time like 2030-01-31"),
        (["list", "--since", "99999999999999d"], "--since: must be a time like 2030-01-31"),
        (["submit", "005", PLACE, "--deadline", "soon"], "--deadline: must be a time like 2030"),
        (["status", JOB, "--timeout", "soon"], "--timeout: must be a number of seconds"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named_with_what_is_allowed(
    world: World, arguments: list[str], wanted: str
) -> None:
    done = subprocess.run(
        command(world, *arguments),
        env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert wanted in " ".join(done.stderr.split())


def test_the_lines_of_a_file_have_a_bar_on_a_terminal_and_lines_in_a_pipe(
    world: World, tmp_path: Path
) -> None:
    file = tmp_path / "products.csv"
    file.write_text("P,gsiftp://h/d\n" * 3, encoding="ascii")
    found = [{"code": 202, "job_id": f"{JOB}{n}"} for n in range(3)]
    document = {"error": False, "msg": "3 of 3", "outcomes": found}
    world.deliv.script += [reply(200, document)] * 2
    shown = on_terminal(world, "submit", "--from", str(file))
    assert "\N{BOX DRAWINGS HEAVY HORIZONTAL}" * 10 in shown
    assert "3 of 3 lines" in shown
    assert JOB not in shown
    done = subprocess.run(
        command(world, "submit", "--from", str(file)), env=environment(), capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "3 of 3 lines\n")
    assert done.stdout.split() == [one["job_id"] for one in found]


@JSON
def test_files_into_a_closed_pipe_end_quietly(world: World, json_or_not: tuple[str]) -> None:
    page = {"files": [MISSING], "next": None}
    world.deliv.script += [reply(200, page)]
    done = into(closed_pipe(), world, "files", JOB, *json_or_not)
    assert (done.returncode, done.stderr) == (141, "")


def test_interrupted_files_are_one_object(world: World) -> None:
    world.deliv.script += [
        reply(200, {"files": [MISSING], "next": "1-1"}),
        Reply(status=503, headers={"Retry-After": "60"}),
    ]
    done = interrupted(world, "files", JOB, "--json", "--patience", "99", calls=2)
    assert done.returncode == 130
    document = json.loads(done.stdout)
    assert (document["files"], document["kind"]) == ([MISSING], "interrupted")
