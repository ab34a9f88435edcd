"""The dummy stager as deliv meets it: a process, HTTPS both ways, real files."""

from __future__ import annotations

import http.client
import ssl
import uuid
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from deliv_testbed import synthetic
from deliv_testbed.trees import tree_of

from integration.staging_bench import PRODUCTS, Bench, install_bench, until


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = install_bench(tmp_path_factory.mktemp("stager"))
    with bench.receiver.running():
        bench.start()
        yield bench
        assert bench.stop() == 0


@pytest.fixture
def bench(installed: Bench) -> Bench:
    installed.receiver.calls.clear()
    installed.receiver.answer = lambda fields: 200
    return installed


@pytest.fixture
def job() -> str:
    return str(uuid.uuid4())


@pytest.mark.parametrize("product_id", ["P 1.fits", "βeta", "synthetic-0", "synthetic-2500000"])
def test_stages_a_true_copy_and_reports_it(bench: Bench, job: str, product_id: str) -> None:
    assert bench.stage(job, product_id) == 202
    assert bench.wait_told(job)["answers"] == [200]
    (call,) = bench.calls_for(job)
    content = (bench.staging / job / product_id).read_bytes()
    size = PRODUCTS.get(product_id) or synthetic.size_of(product_id)
    assert isinstance(size, int)
    assert content == b"".join(synthetic.chunks(size))
    assert call == {
        "job_id": job,
        "product_id": product_id,
        "authcode": "c0de",
        "success": "true",
        "msg": "staged",
        "staged_to": "127.0.0.1:2811",
        "path": f"/archive/staging/{job}/{product_id}",
        "size": str(size),
        "checksum": f"ADLER32:{zlib.adler32(content):08x}",
        "path_called": "/doneStaging",
        "peer": "stager",
    }


def listed_files(directory: Path) -> dict[str, tuple[int, str]]:
    """The files of a staged directory as its report has to have them."""
    return {
        str(path.relative_to(directory)): (
            path.stat().st_size,
            f"ADLER32:{zlib.adler32(path.read_bytes()):08x}",
        )
        for path in directory.rglob("*")
        if path.is_file()
    }


def reported_files(call: dict[str, Any]) -> dict[str, tuple[int, str]]:
    assert all(set(file) == {"name", "size", "checksum"} for file in call["files"])
    return {file["name"]: (file["size"], file["checksum"]) for file in call["files"]}


@pytest.mark.parametrize("product_id", ["Many ß", "tree-12-5", "tree-1-0"])
def test_stages_a_directory_and_reports_its_files(bench: Bench, job: str, product_id: str) -> None:
    assert bench.stage(job, product_id) == 202
    assert bench.wait_told(job)["answers"] == [200]
    (call,) = bench.calls_for(job)
    files = reported_files(call)
    assert files == listed_files(bench.staging / job / product_id)
    if sizes := PRODUCTS.get(product_id):
        assert {name: size for name, (size, _) in files.items()} == sizes
    else:
        tree = tree_of(product_id)
        assert tree and list(files) == [*tree.names]
    assert list(call) == [
        *("job_id", "product_id", "authcode", "msg", "staged_to", "path", "success", "files"),
        *("path_called", "peer"),
    ]
    del call["files"]
    assert call == {
        "job_id": job,
        "product_id": product_id,
        "authcode": "c0de",
        "success": True,
        "msg": "staged",
        "staged_to": "127.0.0.1:2811",
        "path": f"/archive/staging/{job}/{product_id}",
        "path_called": "/doneStaging",
        "peer": "stager",
    }


def test_ten_thousand_files_are_reported_without_holding_them(bench: Bench, job: str) -> None:
    """In memory they would be more. While deliv takes its time, the stager answers others."""
    bench.stage(job, "tree-1-10")
    bench.wait_told(job)
    bench.receiver.answer = lambda fields: bench.call("GET", "/healthz")[0]
    before = memory(bench)
    many = str(uuid.uuid4())
    bench.stage(many, "tree-10000-10")
    assert bench.wait_told(many)["answers"] == [200]
    (call,) = bench.calls_for(many)
    assert len({file["name"] for file in call["files"]}) == 10_000
    assert memory(bench) - before < 4 * 2**20
    assert bench.call("DELETE", f"/stage/{many}")[0] == 200
    assert not (bench.staging / many).exists()


def memory(bench: Bench) -> int:
    """The most that the stager has taken by now, in bytes."""
    assert bench.process
    status = Path(f"/proc/{bench.process.pid}/status").read_text(encoding="utf-8")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_lost_is_reported_but_not_there(bench: Bench, job: str) -> None:
    bench.stage(job, "lost-2-tree-3-5")
    bench.wait_told(job)
    (call,) = bench.calls_for(job)
    there = listed_files(bench.staging / job / "tree-3-5")
    reported = reported_files(call)
    assert reported.keys() - there.keys() == {call["files"][1]["name"]}
    assert there.items() <= reported.items()
    assert call["product_id"] == "lost-2-tree-3-5"


def test_short_is_smaller_than_reported(bench: Bench, job: str) -> None:
    bench.stage(job, "short-1-short-3-tree-3-5")
    bench.wait_told(job)
    (call,) = bench.calls_for(job)
    there = listed_files(bench.staging / job / "tree-3-5")
    reported = reported_files(call)
    wrong = {name: size - there[name][0] for name, (size, _) in reported.items()}
    assert list(wrong.values()) == [1, 0, 1]


def test_one_file_is_lost_or_short_as_well(bench: Bench, job: str) -> None:
    bench.stage(job, "short-1-lost-1-synthetic-5")
    bench.wait_told(job)
    (call,) = bench.calls_for(job)
    assert (call["success"], call["size"]) == ("true", "6")
    assert list((bench.staging / job).iterdir()) == []


def test_a_directory_that_fails_has_no_files(bench: Bench, job: str) -> None:
    bench.stage(job, "fail-tree-3-5")
    bench.wait_told(job)
    (call,) = bench.calls_for(job)
    assert call["success"] == "false"
    assert "files" not in call


def test_a_directory_is_reported_again_as_it_was(bench: Bench, job: str) -> None:
    bench.stage(job, "twice-lost-1-tree-3-5", "one")
    bench.wait_told(job)
    bench.stage(job, "twice-lost-1-tree-3-5", "two")
    until(lambda: len(bench.calls_for(job)) == 4, "four reports")
    codes = [call.pop("authcode") for call in bench.calls_for(job)]
    first, *others = bench.calls_for(job)
    assert codes == ["one", "one", "two", "two"]
    assert others == [first] * 3


def test_release_removes_the_copy_once(bench: Bench, job: str) -> None:
    bench.stage(job, "βeta")
    bench.wait_told(job)
    assert bench.call("DELETE", f"/stage/{job}")[0] == 200
    assert not (bench.staging / job).exists()
    assert bench.call("DELETE", f"/stage/{job}")[0] == 404


def test_kept_is_not_released_as_long_as_the_switch_says_so(bench: Bench, job: str) -> None:
    bench.stage(job, "kept-βeta")
    bench.wait_told(job)
    switch = bench.directory / "state" / "keep"
    switch.touch()
    assert bench.call("DELETE", f"/stage/{job}")[0] == 500
    assert (bench.staging / job).exists()
    switch.unlink()
    assert bench.call("DELETE", f"/stage/{job}")[0] == 200


def test_release_stops_a_copy_and_its_callback(bench: Bench, job: str) -> None:
    bench.stage(job, "slow-30-βeta")
    assert bench.call("DELETE", f"/stage/{job}")[0] == 200
    assert bench.listed(job) == {}
    assert bench.calls_for(job) == []


@pytest.mark.parametrize(
    ("product_id", "msg"), [("nothing", "no such product"), ("fail-βeta", "ordered")]
)
def test_failures_are_reported(bench: Bench, job: str, product_id: str, msg: str) -> None:
    bench.stage(job, product_id)
    bench.wait_told(job)
    (call,) = bench.calls_for(job)
    assert call["success"] == "false"
    assert msg in call["msg"]
    assert "staged_to" not in call
    assert not (bench.staging / job).exists()


def test_twice_calls_twice(bench: Bench, job: str) -> None:
    bench.stage(job, "twice-βeta")
    bench.wait_told(job)
    assert [call["authcode"] for call in bench.calls_for(job)] == ["c0de", "c0de"]


def test_badcode_calls_with_a_wrong_code_first(bench: Bench, job: str) -> None:
    bench.receiver.answer = lambda fields: 200 if fields["authcode"] == "c0de" else 403
    bench.stage(job, "badcode-βeta")
    assert bench.wait_told(job)["answers"] == [403, 200]


def test_silent_stages_and_never_calls(bench: Bench, job: str) -> None:
    bench.stage(job, "silent-βeta")
    until(lambda: bench.listed(job)["state"] == "STAGED", "the silent copy is made")
    other = str(uuid.uuid4())
    bench.stage(other, "βeta")
    bench.wait_told(other)
    assert bench.calls_for(job) == []


def test_slow_waits_first(bench: Bench, job: str) -> None:
    bench.stage(job, "slow-1-βeta")
    other = str(uuid.uuid4())
    bench.stage(other, "βeta")
    bench.wait_told(job)
    assert [call["job_id"] for call in bench.receiver.calls] == [other, job]


def test_repeated_request_calls_again_with_the_new_code(bench: Bench, job: str) -> None:
    bench.stage(job, "βeta", "one")
    bench.wait_told(job)
    assert bench.stage(job, "βeta", "two") == 202
    until(lambda: len(bench.calls_for(job)) == 2, "a second callback")
    assert [call["authcode"] for call in bench.calls_for(job)] == ["one", "two"]


def test_another_product_for_a_known_job_is_refused(bench: Bench, job: str) -> None:
    bench.stage(job, "βeta")
    assert bench.stage(job, "P 1.fits") == 409


def test_a_refused_callback_is_given_up(bench: Bench, job: str) -> None:
    bench.receiver.answer = lambda fields: 403
    bench.stage(job, "βeta")
    assert bench.wait_told(job)["answers"] == [403]
    assert len(bench.calls_for(job)) == 1


def test_an_unavailable_deliv_is_called_until_it_answers(bench: Bench, job: str) -> None:
    statuses = iter([503, 500, 429, 200])
    bench.receiver.answer = lambda fields: next(statuses)
    bench.stage(job, "βeta")
    bench.wait_told(job)
    assert len(bench.calls_for(job)) == 4


def test_a_new_code_is_used_while_the_old_one_waits(bench: Bench, job: str) -> None:
    bench.receiver.answer = lambda fields: 200 if fields["authcode"] == "new" else 503
    bench.stage(job, "βeta", "old")
    until(lambda: len(bench.calls_for(job)) >= 2, "callbacks with the old code")
    bench.stage(job, "βeta", "new")
    bench.wait_told(job)
    assert bench.calls_for(job)[-1]["authcode"] == "new"


def test_needs_a_client_certificate(bench: Bench) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(capath=bench.directory / "certificates")
    connection = http.client.HTTPSConnection("127.0.0.1", bench.port, context=context, timeout=60)
    with closing(connection), pytest.raises(OSError):
        connection.request("GET", "/stage")
        connection.getresponse()


def test_serves_those_who_may_use_it(bench: Bench, job: str) -> None:
    stranger, operator = bench.acting_as("stranger"), bench.acting_as("operator")
    bench.stage(job, "βeta")
    bench.wait_told(job)
    assert stranger.call("GET", "/stage")[0] == 403
    assert stranger.call("DELETE", f"/stage/{job}")[0] == 403
    assert stranger.stage(str(uuid.uuid4()), "βeta") == 403
    assert stranger.call("GET", "/healthz")[0] == 200
    assert operator.listed(job)["state"] == "STAGED"


def test_a_look_whether_it_answers_is_not_in_its_log(bench: Bench) -> None:
    """deliv's readiness looks at / every few seconds."""
    for path in ("/", "/healthz"):
        assert bench.call("GET", path)[0] == 200
    assert bench.call("GET", "/nothing-here")[0] == 404
    log = bench.directory / "stager.log"
    until(lambda: "GET /nothing-here" in log.read_text(), "the next request is in the log")
    looks = [
        line for line in log.read_text().splitlines() if " GET / " in line or "healthz" in line
    ]
    assert looks == []


def test_calls_back_where_it_may(bench: Bench, job: str) -> None:
    port = bench.receiver.port
    for callback in (f"https://127.0.0.1:{port}/other", "https://127.0.0.1:1/doneStaging"):
        assert bench.stage(job, "βeta", callback=callback) == 403
    assert bench.listed(job) == {}


def test_says_what_is_wrong_with_a_request(bench: Bench) -> None:
    assert bench.call("POST", "/stage", {"job_id": "x"})[0] == 400
    status, answer = bench.call("GET", "/nothing")
    assert (status, answer["error"]) == (404, True)
    assert bench.call("PUT", "/stage", {"a": 1})[0] == 405


@pytest.fixture
def own_bench(tmp_path: Path) -> Iterator[Bench]:
    bench = install_bench(tmp_path)
    yield bench
    if bench.process and bench.process.poll() is None:
        bench.stop()


def test_goes_on_after_a_kill(own_bench: Bench) -> None:
    """Killed with one copy done but not reported, one not begun: both arrive after a restart."""
    bench, done, waiting = own_bench, str(uuid.uuid4()), str(uuid.uuid4())
    bench.receiver.answer = lambda fields: 503
    with bench.receiver.running():
        bench.start()
        bench.stage(done, "big")
        bench.stage(waiting, "slow-2-synthetic-1000")
        until(lambda: bench.calls_for(done), "a callback that is not taken")
        bench.stop(kill=True)
    bench.start()
    bench.receiver.answer = lambda fields: 200
    with bench.receiver.running():
        assert bench.wait_told(done)["state"] == "STAGED"
        assert bench.wait_told(waiting)["size"] == 1000
    assert (bench.staging / done / "big").stat().st_size == PRODUCTS["big"]


def test_a_copy_cut_by_a_kill_is_made_again(own_bench: Bench, job: str) -> None:
    bench = own_bench
    with bench.receiver.running():
        bench.start()
        bench.stage(job, "synthetic-1000000000")
        until(lambda: (bench.staging / job / ".partial").exists(), "the copy has begun")
        bench.stop(kill=True)
        bench.start()
        assert bench.wait_told(job)["size"] == 10**9
    (call,) = bench.calls_for(job)
    assert call["success"] == "true"
    assert (bench.staging / job / "synthetic-1000000000").stat().st_size == 10**9


def test_many_at_once_all_arrive(own_bench: Bench) -> None:
    bench, jobs = own_bench, [str(uuid.uuid4()) for _ in range(100)]
    with bench.receiver.running():
        bench.start()
        for job in jobs:
            assert bench.stage(job, "synthetic-4096") == 202
        until(lambda: len(bench.receiver.calls) == len(jobs), "a callback for each")
        assert sorted(call["job_id"] for call in bench.receiver.calls) == sorted(jobs)


def test_a_directory_cut_by_a_kill_is_made_again(own_bench: Bench, job: str) -> None:
    """It appears whole or not at all."""
    bench, product_id = own_bench, "tree-5000-1000"
    with bench.receiver.running():
        bench.start()
        bench.stage(job, product_id)
        until(lambda: (bench.staging / job / ".files").exists(), "the copy has begun")
        bench.stop(kill=True)
        assert len(listed_files(bench.staging / job / product_id)) in {0, 5000}
        bench.start()
        bench.wait_told(job)
    (call,) = bench.calls_for(job)
    assert reported_files(call) == listed_files(bench.staging / job / product_id)
