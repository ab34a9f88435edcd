"""`deliv testbed` from outside: the command, its files, the processes it starts and ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deliv_testbed import pki, ports
from deliv_testbed.accounts import unprivileged
from deliv_testbed.processes import Processes, wait

PROGRAMS = ("mariadbd", "epmd", "globus-gridftp-server")
# Nothing of this may reach a part.
HOSTILE = {
    "REQUESTS_CA_BUNDLE": "/nowhere/ca.pem",
    "SSL_CERT_FILE": "/nowhere/ca.pem",
    "CURL_CA_BUNDLE": "/nowhere/ca.pem",
    "HTTPS_PROXY": "http://127.0.0.1:1",
    "X509_CERT_DIR": "/nowhere",
    "RABBITMQ_NODENAME": "somebody@else",
    "MYSQL_HOME": "/nowhere",
}
BASIC = [
    *("mariadb", "rabbitmq", "gridftp-archive", "gridftp-destination"),
    *("issuer", "stager", "fts"),
]

Document = dict[str, Any]


class Testbed:
    __test__ = False

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(name, *arguments),
            env=os.environ | HOSTILE,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def command(self, name: str, *arguments: str) -> list[str]:
        directory = ("--dir", str(self.directory))
        return [sys.executable, "-m", "deliv.cli", "testbed", name, *directory, *arguments]

    def good(self, name: str, *arguments: str) -> str:
        done = self(name, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def document(self) -> Document:
        text = (self.directory / "testbed.json").read_text(encoding="utf-8")
        document: Document = json.loads(text)
        return document

    def waiting_for(self) -> list[str] | None:
        """What deliv says it waits for; None when it doesn't answer."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), AnyStatus())
        try:
            with opener.open(self.document["monitoring_url"] + "/ready", timeout=30) as answer:
                waiting: list[str] = json.load(answer)["waiting_for"]
                return waiting
        except OSError:
            return None

    def left(self) -> list[str]:
        """Parts of which any process is left."""
        return Processes(self.directory, unprivileged()).names()


class AnyStatus(urllib.request.HTTPErrorProcessor):
    def http_response(self, request: Any, response: Any) -> Any:
        return response


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[Testbed]:
    for program in PROGRAMS:
        if not shutil.which(program, path="/usr/sbin:/usr/bin"):
            assert not os.environ.get("DELIV_TESTS_REQUIRE"), f"{program} is missing"
            pytest.skip(f"{program} is not installed")
    # A name with a blank and an umlaut, in a directory that only its owner may enter.
    used = Testbed(tmp_path / "a stäck")
    yield used
    used.good("down")


def test_the_whole_stack(testbed: Testbed) -> None:
    print(testbed.good("up", "--instances", "2"))
    first = testbed.document
    parts = [*BASIC, "deliv@1", "deliv@2"]
    assert list(first["pids"]) == parts
    assert testbed.waiting_for() == []
    assert "already up" in testbed.good("up", "--instances", "2")
    other = testbed("up")
    assert other.returncode == 1 and "another stack is up" in other.stderr
    assert all(environment_is_clean(pid) for pid in first["pids"].values())

    frozen_and_thawed(testbed)
    killed_and_started(testbed, "deliv@2", first)

    os.kill(first["pids"]["gridftp-archive"], 9)
    assert wait(lambda: testbed("status").returncode == 1, 60)
    testbed.good("up")
    second = testbed.document
    assert list(second["pids"]) == [*BASIC, "deliv@1"]
    assert not any(is_testbeds(pid) for pid in first["pids"].values())
    assert Path(second["ca_file"]).read_bytes() == pki.certificate_pem(
        pki.Authority.load(Path(second["ca_file"]), Path(second["ca_key"])).certificate
    )

    stopped = testbed.good("down")
    assert all(part in stopped for part in (*BASIC, "deliv@1", "epmd"))
    assert testbed.left() == []
    assert not any(is_testbeds(pid) for pid in second["pids"].values())
    assert not any(map(ports.accepts, listening(second)))
    assert testbed.document["pids"] == {}
    assert "nothing was running" in testbed.good("down")


def frozen_and_thawed(testbed: Testbed) -> None:
    testbed.good("freeze", "stager")
    assert wait(lambda: testbed.waiting_for() == ["stager"], 60)
    assert "frozen" in testbed("status").stdout
    testbed.good("thaw", "stager")
    assert wait(lambda: testbed.waiting_for() == [], 60)


def killed_and_started(testbed: Testbed, part: str, before: Document) -> None:
    testbed.good("kill", part)
    assert part not in testbed.document["pids"]
    refused = testbed("freeze", part)
    assert refused.returncode == 1 and f"{part} is not running" in refused.stderr
    testbed.good("start", part)
    assert testbed.document["pids"][part] != before["pids"][part]
    refused = testbed("start", part)
    assert refused.returncode == 1 and "running already" in refused.stderr


def environment_is_clean(pid: int) -> bool:
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    seen = dict(variable.split(b"=", 1) for variable in variables if variable)
    return not any(seen.get(name.encode()) == value.encode() for name, value in HOSTILE.items())


def is_testbeds(pid: int) -> bool:
    try:
        return b"DELIV_TESTBED_PART=" in Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def listening(document: Document) -> list[int]:
    names = ("url", "monitoring_url", "fts_url", "stager_url", "issuer_url")
    urls = [document[name] for name in names]
    urls += [server["url"] for server in document["gridftp"].values()]
    broker = document["broker_url"].rpartition("@")[2]
    addresses = [url.split("/")[2] for url in urls] + [broker.split("/")[0]]
    return [document["database"]["port"]] + [int(a.rpartition(":")[2]) for a in addresses]


def test_what_was_left_out_comes_later(testbed: Testbed) -> None:
    testbed.good("up", "--without", *BASIC)
    assert list(testbed.document["pids"]) == ["deliv@1"]
    waits = ["fts:fts", "issuer", "mariadb", "rabbitmq", "stager"]
    assert sorted(testbed.waiting_for() or []) == waits
    assert testbed.good("status").count("left out") == len(BASIC)
    for part in ("mariadb", "issuer", "stager", "fts"):
        testbed.good("start", part)
    assert wait(lambda: testbed.waiting_for() == ["rabbitmq"], 60)


def test_an_up_that_is_killed_half_way_leaves_nothing_after_down(testbed: Testbed) -> None:
    up = subprocess.Popen(testbed.command("up"), stdout=subprocess.DEVNULL)
    started = testbed.directory / "run" / "rabbitmq.json"
    assert wait(started.exists, 60)
    up.kill()
    up.wait()
    assert "rabbitmq" in testbed.left()
    assert "rabbitmq" in testbed.good("down")
    assert testbed.left() == []


def test_a_part_that_fails_takes_the_others_down(testbed: Testbed) -> None:
    testbed.directory.mkdir()
    authority = testbed.directory / "authority"
    authority.mkdir()
    for name in ("ca.pem", "ca.key"):
        (authority / name).write_text("no PEM")
    (testbed.directory / "plan.json").touch()
    failed = testbed("up")
    assert failed.returncode == 1 and "ca.pem is no usable CA" in failed.stderr
    assert testbed.left() == []
