"""The process that reads a file on a GridFTP server is bounded, whatever it does."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from deliv_testbed import pki

from deliv.commands.serve import describe_gridftp
from deliv.config import GridFtpSettings, Seconds
from deliv.errors import Unavailable, Unreachable
from deliv.gateways.gridftp import FileFacts, GridFtp

URL = "gsiftp://user.example.org/data/a%20file.fits"
WAIT = 60.0
Made = Callable[..., GridFtp]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A GridFtp whose interpreter is a shell script."""

    def make(script: str, timeout: float = WAIT, at_once: int = 4) -> GridFtp:
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n", encoding="ascii")
        python.chmod(0o755)
        settings = GridFtpSettings(python=python, timeout=Seconds(timeout), at_once=at_once)
        return GridFtp(settings, Path("/authorities"))

    return make


async def read(gridftp: GridFtp, credential: tuple[bytes, bytes] = (b"", b"")) -> FileFacts:
    return await gridftp.read(URL, size=5, algorithm="ADLER32", credential=credential)


def failure(gridftp: GridFtp) -> str:
    with pytest.raises(Unavailable) as caught:
        asyncio.run(read(gridftp))
    return str(caught.value)


def test_what_it_is_asked_and_answers(made: Made, tmp_path: Path) -> None:
    """The credential, here one file for both, goes by its input alone, as Globus has it."""
    user = pki.Authority.create().issue(pki.user_name("alice"))
    both = user.proxy().proxy_pem()
    gridftp = made('echo "$@" >arguments; env >environment; cat >order; echo \'{"size": 5}\'')
    assert asyncio.run(read(gridftp, (both, both))) == FileFacts(size=5)
    order = json.loads((tmp_path / "order").read_text(encoding="ascii"))
    credential = order.pop("credential").encode()
    assert order == {
        "url": URL,
        "size": 5,
        "beginning": False,
        "algorithm": "ADLER32",
        "ca_directory": "/authorities",
        "seconds": int(WAIT),
    }
    assert credential.split() == both.split()
    for name in ("arguments", "environment"):
        assert b"PRIVATE" not in (tmp_path / name).read_bytes()
    assert (tmp_path / "arguments").read_text("ascii").startswith("-I /")
    names = {line.partition("=")[0] for line in (tmp_path / "environment").read_text().splitlines()}
    assert names <= {"PATH", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"}


def test_the_chain_comes_behind_the_key(made: Made, tmp_path: Path) -> None:
    proxy = pki.Authority.create().issue(pki.user_name("alice")).proxy()
    gridftp = made("cat >order; echo '{\"size\": 5}'")
    asyncio.run(read(gridftp, (proxy.certificate_pem(), proxy.key_pem())))
    order = json.loads((tmp_path / "order").read_text(encoding="ascii"))
    assert order["credential"].encode().split() == proxy.proxy_pem().split()


def test_what_the_server_said_is_not_for_the_user(made: Made) -> None:
    gridftp = made('cat >order; echo \'{"errno": 13, "message": "220 secrets of a host"}\'')
    with pytest.raises(Unreachable, match="secrets of a host") as caught:
        asyncio.run(read(gridftp))
    assert caught.value.kind == "its server did not say what it is (Permission denied)"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("yes", "no usable answer"),
        ("head -c 1000000 /dev/zero", "no usable answer"),
        ("echo hello", "no usable answer"),
        ("echo []", "no usable answer"),
        ("exec true", "no usable answer"),
        ("kill -9 $$", "no usable answer"),
        ("exec >&-; exec sleep 1000", "no usable answer"),
    ],
)
def test_an_interpreter_that_is_none(made: Made, script: str, words: str) -> None:
    assert words in failure(made(script))


def test_one_that_is_not_there() -> None:
    settings = GridFtpSettings(python=Path("/nonexistent/python"))
    assert "can't be run: No such file" in failure(GridFtp(settings, Path("/authorities")))


def test_one_without_gfal2() -> None:
    gridftp = GridFtp(GridFtpSettings(python=Path(sys.executable)), Path("/authorities"))
    with pytest.raises(Unavailable, match="has no gfal2"):
        asyncio.run(gridftp.check_ready())
    assert asyncio.run(describe_gridftp(gridftp)).startswith("warn gridftp: ")


def test_one_with_gfal2(made: Made) -> None:
    """As far as it says so: a real one is in the integration tests."""
    ready = asyncio.run(describe_gridftp(made("cat >order; echo {}")))
    assert ready == "ok   gridftp: files at destinations can be compared"


def test_it_has_its_time(made: Made) -> None:
    assert failure(made("sleep 1000", timeout=0.1)) == "it took longer than 0.1 s"


def test_it_is_gone_with_all_it_started_when_nobody_waits(made: Made, tmp_path: Path) -> None:
    async def cancelled() -> list[int]:
        gridftp = made("cat >order; sleep 1000 & echo $$ $! >new; mv new pids; wait")
        task = asyncio.create_task(read(gridftp))
        async with asyncio.timeout(WAIT):
            while not (tmp_path / "pids").exists():
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return [int(pid) for pid in (tmp_path / "pids").read_text("ascii").split()]

    pids = asyncio.run(cancelled())
    until = time.monotonic() + WAIT  # a killed program closes its output, and then it is gone
    while any(map(runs, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(map(runs, pids))


def test_so_many_at_once(made: Made, tmp_path: Path) -> None:
    async def several() -> None:
        # Each leaves its mark, and finds that of another that runs at the same time.
        gridftp = made(
            "ls mark.* >>together 2>/dev/null; touch mark.$$; cat >/dev/null; sleep 0.1;"
            " rm mark.$$; echo '{\"size\": 5}'",
            at_once=1,
        )
        await asyncio.gather(*(read(gridftp) for _ in range(4)))

    asyncio.run(several())
    assert (tmp_path / "together").read_bytes() == b""


def runs(pid: int) -> bool:
    """Whether it is more than what its parent has yet to take note of."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
