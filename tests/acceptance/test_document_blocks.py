"""README and docs: their blocks are run as they stand there, each page in a shell of its own."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from support.documents import PAGES, PYTHON, ROOT, Block, blocks
from support.running_stack import Stack, Target, brought_up, until

pytestmark = pytest.mark.own_stack
CLIENT = ROOT / "docs" / "client.md"
RUN = {page: [block for block in blocks(page) if block.mark == "run"] for page in PAGES}
AT_REST = """
SELECT COUNT(*) FROM jobs
WHERE status IN ('SUBMITTED', 'STAGING', 'TRANSFERRING')
   OR (time_staging IS NOT NULL AND time_released IS NULL)
"""
# curl's own exit code says nothing of an HTTP error.
PREPARED = """\
curl() { command curl --fail-with-body "$@"; }
trap 'echo "$at: $BASH_COMMAND" >&2' ERR
"""


@pytest.fixture(scope="module")
def own_stack() -> Iterator[Stack]:
    """The pages kill parts and repair what they find: not in a stack that others use."""
    with brought_up() as stack:
        yield stack


@pytest.fixture
def own_target(own_stack: Stack) -> Target:
    return own_stack.target()


@pytest.fixture
def home(own_stack: Stack, tmp_path: Path) -> Path:
    """A directory as the pages take it for granted: the stack in .run, a user's certificate."""
    (tmp_path / ".run").symlink_to(own_stack.directory)
    alice = own_stack.user("alice")
    for name, file in (("cert.pem", alice.cert), ("key.pem", alice.key)):
        (tmp_path / name).symlink_to(file)
    return tmp_path


def pinned(use: str) -> set[str]:
    text = (ROOT / "requirements" / f"{use}.txt").read_text("utf-8")
    return set(re.findall(r"^(\S+)==", text, re.MULTILINE))


def substitutes(stack: Stack, target: Target, home: Path) -> dict[str, str]:
    """The pages' examples and what is there in their place."""
    alice = stack.user("alice")
    return {
        "https://deliv.example.org:8443": stack.url,
        "https://deliv:8443": stack.url,
        "gsiftp://gridftp.example.org/home/alice": target.url,
        "gsiftp://deliv:2812/srv/user": target.url,
        "/etc/deliv-ca/users/alice": str(home),
        "/tmp/x509up_u$(id -u)": alice.proxy,
        "/tmp/x509up_u1000": alice.proxy,
        "/tmp/x509up_operator": stack.user("operator").proxy,
        "/DC=org/DC=example/OU=people/CN=alice": alice.dn,
        "/DC=org/DC=example/OU=people/CN=bob": stack.user("bob").dn,
        "/etc/grid-security/certificates": stack.ca,
        "/var/log/deliv/audit.log": str(stack.directory / "log" / "audit.log"),
        "/etc/deliv/delegation-key": str(home / "delegation-key"),
        "pip install .": f"pip install {shlex.quote(str(ROOT))}",
        "submit m31-cube": "submit silent-synthetic-2004",  # there is time to cancel it
    }


def script(page: Path, replaced: dict[str, str]) -> str:
    """The page's blocks, one after another, and where each is."""
    text = PREPARED
    for block in RUN[page]:
        text += f"at={block.name}\n{_shell(block)}\n"
    for example, real in replaced.items():
        text = text.replace(example, real)
    return text


def _shell(block: Block) -> str:
    if block.language == PYTHON:
        return f"python3 - <<'END OF PYTHON'\n{block.text}END OF PYTHON"
    return block.text


def run(text: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """In bash, with nothing of this process's environment but where programs are."""
    path = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=home,
        env={"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", **more},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install` would fetch: from what is installed here, so without a network."""
    directory = tmp_path_factory.mktemp("wheels")
    for name in pinned("client") | pinned("build"):
        found = distribution(name)
        stem = f"{name.replace('-', '_')}-{found.version}-py3-none-any.whl"
        with zipfile.ZipFile(directory / stem, "w") as wheel:
            for file in found.files or ():
                if ".." not in file.parts and "__pycache__" not in file.parts:
                    wheel.write(found.locate_file(file), str(file))
    return directory


@pytest.fixture
def offline(wheels: Path) -> dict[str, str]:
    return {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


@pytest.mark.parametrize(
    "page", [page for page in PAGES if RUN[page] and page != CLIENT], ids=lambda page: page.name
)
def test_a_page_works_as_it_stands(
    page: Path, own_stack: Stack, own_target: Target, home: Path
) -> None:
    text = script(page, substitutes(own_stack, own_target, home))
    done = run(text, home, DELIV_CONFIG=own_stack.testbed["config"])
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    until(lambda: own_stack.ready().get("status") == "ready", "all parts are there again")
    until(lambda: own_stack.query(AT_REST) == [(0,)], "the page's jobs have ended")


def test_the_page_for_callers_needs_nothing_of_the_servers(
    own_stack: Stack, own_target: Target, home: Path, offline: dict[str, str]
) -> None:
    text = script(CLIENT, substitutes(own_stack, own_target, home))
    asked = "! deliv serve || exit 9; pip check; pip list --format freeze"
    done = run(text + asked, home, **offline)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "this command needs" in done.stderr
    installed = set(re.findall(r"^([\w-]+)(?:==| @ )", done.stdout.lower(), re.MULTILINE))
    assert installed - {"pip", "setuptools"} == {"deliv"} | pinned("client")


def test_what_up_ends_with_can_be_pasted(own_stack: Stack, home: Path) -> None:
    said = own_stack.command("up")
    commands = [line.strip() for line in said.splitlines() if line.startswith("    ")]
    assert commands[-1].endswith(" --wait")
    done = run("cd /\n" + "\n".join(commands), home, PATH="/usr/bin:/bin")
    assert done.returncode == 0, f"{said}\n{done.stderr}"
    assert "delivered: 005" in done.stdout
    assert str(own_stack.directory / "testbed.json") in said
