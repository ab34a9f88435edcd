"""The audit log: one line each, whatever is in it, and what becomes of lines it can't take."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deliv.ops.audit import (
    LONGEST,
    AuditEntry,
    AuditEvent,
    AuditLog,
    AuditOutcome,
    AuditUnwritable,
    line,
    outcome,
)

TIME = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
SOME = AuditEntry(
    event=AuditEvent.REQUEST, outcome=AuditOutcome.ALLOWED, dn="/O=Grid/CN=alice", job_id="1"
)
NASTY = {
    "a line end": 'x\n{"event":"request","outcome":"allowed"}',
    "a carriage return": "x\r\ny",
    "an escape sequence": "\x1b[2Jx",
    "a NUL": "x\0y",
    "a DEL": "x\x7fy",
    "a C1 control": "x\x9by",
    "a lone surrogate": "x\ud800y",
    "text from right to left": "x\u202ecba\u2066",
    "a line separator": "x\u2028y\u2029\x85",
    "a quote": '","outcome":"allowed',
    "what is not ASCII": "Zoë 🐍",
}


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text(encoding="ascii").splitlines()]


def test_a_line() -> None:
    assert line(SOME, TIME) == (
        b'{"log":"audit","time":"2026-01-02T03:04:05.000678Z","event":"request",'
        b'"outcome":"allowed","dn":"/O=Grid/CN=alice","job_id":"1"}\n'
    )


@pytest.mark.parametrize("name", NASTY)
def test_nothing_writes_a_line_of_its_own(name: str) -> None:
    _holds(NASTY[name])


@given(st.text(st.characters(), max_size=200))
def test_any_text_is_one_line_of_printable_ascii(text: str) -> None:
    _holds(text)


def _holds(text: str) -> None:
    written = line(AuditEntry(event=AuditEvent.REQUEST, dn=text, reason=text))
    assert written.endswith(b"\n")
    assert written[:-1].decode("ascii").isprintable()
    assert json.loads(written)["dn"] == text == json.loads(written)["reason"]


def test_a_long_value_is_cut() -> None:
    written = line(AuditEntry(event=AuditEvent.REQUEST, reason="\U0001f40d" * 100_000))
    assert json.loads(written)["reason"].startswith("\U0001f40d" * LONGEST + " ...")
    assert len(written) < 30_000


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, "allowed"), (202, "allowed"), (304, "allowed"), (400, "failed"), (401, "refused"),
     (403, "refused"), (404, "failed"), (409, "failed"), (429, "refused"), (503, "failed")],
)  # fmt: skip
def test_outcomes(status: int, expected: str) -> None:
    assert outcome(status) == expected


def test_lines_are_appended_to_a_file_of_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    first, second = AuditLog(path), AuditLog(path)
    first.write(SOME)
    second.write(SOME)
    first.refused_handshake("127.0.0.1:1", "certificate revoked")
    assert [entry["event"] for entry in entries(path)] == ["request", "request", "handshake"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o137 == 0
    assert first.check() == f"written to {path}"


def test_a_flood_of_refused_handshakes(tmp_path: Path) -> None:
    """Counted, not written out: whoever wants to fill the disk need not have a certificate."""
    path = tmp_path / "audit.log"
    log = AuditLog(path)
    for number in range(10_000):
        log.refused_handshake(f"192.0.2.1:{number}", "certificate revoked")
    log.refused_handshake("192.0.2.2:1", "unknown CA")
    assert entries(path)[-1]["peer"] == "192.0.2.2:1"
    log.check()
    written = entries(path)
    assert sum(entry.get("times", 1) for entry in written) == 10_001
    assert len(written) < 1000
    assert (written[-1]["peer"], written[-1]["reason"]) == ("192.0.2.1", "certificate revoked")


def test_a_flood_from_one_ipv6_network(tmp_path: Path) -> None:
    """Its 2**64 addresses are one host's: they are counted together."""
    path = tmp_path / "audit.log"
    log = AuditLog(path)
    for number in range(5_000):
        log.refused_handshake(f"[2001:db8:1:2::{number:x}]:4711", "certificate revoked")
    log.refused_handshake("[2001:db8:1:3::1]:4711", "certificate revoked")
    assert entries(path)[-1]["peer"] == "[2001:db8:1:3::1]:4711"
    log.check()
    written = entries(path)
    assert sum(entry.get("times", 1) for entry in written) == 5_001
    assert len(written) < 1000
    assert written[-1]["peer"] == "2001:db8:1:2::/64"


def test_a_refused_handshake_names_the_certificate_that_was_presented(tmp_path: Path) -> None:
    """As it said of itself: not under the name of what was verified."""
    path = tmp_path / "audit.log"
    log = AuditLog(path)
    log.refused_handshake("192.0.2.1:1", "certificate revoked", "/CN=alice")
    log.refused_handshake("192.0.2.1:2", "unknown CA", "/CN=" + "a" * 100_000)
    log.refused_handshake("192.0.2.1:3", "no certificate")
    named, long, unnamed = entries(path)
    assert named["unverified_subject"] == "/CN=alice"
    assert not {"dn", "subject"} & named.keys()
    assert len(long["unverified_subject"]) < 2100
    assert "unverified_subject" not in unnamed


def test_refusals_of_peers_that_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    AuditLog(path).refused_handshake("unknown", "certificate revoked")
    assert [entry["peer"] for entry in entries(path)] == ["unknown"]


def test_a_file_that_was_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    log = AuditLog(path)
    log.write(SOME)
    path.rename(tmp_path / "audit.log.1")
    log.write(SOME)
    log.reopen()
    log.write(SOME)
    assert (len(entries(tmp_path / "audit.log.1")), len(entries(path))) == (2, 1)


def test_who_only_asks_makes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    assert AuditLog(path).check() == f"written to {path}"
    assert not path.exists()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "later" / "audit.log"
    log = AuditLog(path)
    with pytest.raises(AuditUnwritable):
        log.check()
    log.write(SOME)
    log.write(SOME)
    with pytest.raises(AuditUnwritable, match=r"No such file or directory; 2 lines are missing"):
        log.check()
    path.parent.mkdir()
    assert log.check() == f"written to {path}"
    (gap,) = entries(path)
    assert (gap["event"], gap["times"]) == ("gap", 2)
    assert "No such file" in gap["reason"]


def test_a_full_disk() -> None:
    log = AuditLog(Path("/dev/full"))
    log.write(SOME)
    with pytest.raises(AuditUnwritable, match="No space left on device; 1 lines are missing"):
        log.check()


def test_a_pipe_that_nobody_reads(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    log = AuditLog(pipe)
    log.write(SOME)
    with pytest.raises(AuditUnwritable):
        log.check()


TORN = """
import resource, signal, sys
from pathlib import Path
from deliv.ops.audit import AuditLog, AuditEntry, AuditEvent
path, room = Path(sys.argv[1]), int(sys.argv[2])
log, hard = AuditLog(path), resource.getrlimit(resource.RLIMIT_FSIZE)[1]
log.write(AuditEntry(event=AuditEvent.REQUEST, job_id="first"))
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + room, hard))
log.write(AuditEntry(event=AuditEvent.REQUEST, job_id="torn"))
log.write(AuditEntry(event=AuditEvent.REQUEST, job_id="lost"))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
log.write(AuditEntry(event=AuditEvent.REQUEST, job_id="last"))
"""


@pytest.mark.parametrize("room", [0, 10])
def test_a_line_that_found_room_in_part(tmp_path: Path, room: int) -> None:
    """The disk fills in the middle of a line: the next ones are whole, and say what is missing."""
    if resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY:
        pytest.skip("file sizes are limited here")
    path = tmp_path / "audit.log"
    command = [sys.executable, "-c", TORN, str(path), str(room)]
    subprocess.run(command, check=True, timeout=30, capture_output=True)
    first, *torn, gap, last = path.read_text("ascii").splitlines()
    assert json.loads(first)["job_id"] == "first"
    assert [len(text) for text in torn] == [room] * bool(room)
    assert (json.loads(gap)["event"], json.loads(gap)["times"]) == ("gap", 2)
    assert json.loads(last)["job_id"] == "last"


def test_a_line_that_another_process_has_torn(tmp_path: Path) -> None:
    """Also one of an instance that was killed, or of a release that has gone."""
    path = tmp_path / "audit.log"
    log = AuditLog(path)
    log.write(SOME)
    with path.open("ab") as file:
        file.write(b'{"log":"audit","ti')
    log.write(SOME)
    AuditLog(path).write(SOME)
    first, torn, *last = path.read_text("ascii").splitlines()
    assert torn == '{"log":"audit","ti'
    assert [json.loads(text)["event"] for text in (first, *last)] == ["request"] * 3


def test_standard_error_that_is_a_file(tmp_path: Path) -> None:
    """It may be opened for writing alone."""
    path = tmp_path / "journal"
    script = (
        "from deliv.ops.audit import AuditLog, AuditEntry, AuditEvent\n"
        "AuditLog(None).write(AuditEntry(event=AuditEvent.REQUEST))"
    )
    with path.open("wb") as file:
        file.write(b"another's line\n")
        file.flush()
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60, stderr=file)
    assert json.loads(path.read_text("ascii").splitlines()[-1])["event"] == "request"


def test_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    log = AuditLog(None)
    log.write(SOME)
    log.reopen()
    log.write(SOME)
    assert log.check() == "written to standard error"
    log.close()
    written = capfd.readouterr().err.splitlines()
    assert [json.loads(text)["log"] for text in written] == ["audit", "audit"]
