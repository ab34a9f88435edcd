"""The command line: an install for callers only, usage errors, what is imported when."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deliv import __version__, cli

SERVER_ONLY = ["pycurl", "pymysql", "pika", "tornado", "msgspec", "structlog", "yaml", "fts3"]
WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({SERVER_ONLY}))"


def run_without_server(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in an interpreter that has none of the server's libraries."""
    code = f"{WITHOUT}; from deliv.cli import main; sys.exit(main({list(arguments)!r}))"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "command", ["submit", "status", "list", "events", "files", "cancel", "retry"]
)
def test_callers_commands_need_no_server(command: str) -> None:
    done = run_without_server(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "exit codes:" in done.stdout
    assert "X509_USER_PROXY" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [(["serve"], "server"), (["migrate"], "server"), (["testbed", "up"], "server")],
)
def test_the_missing_extra_is_named(arguments: list[str], extra: str) -> None:
    done = run_without_server(*arguments)
    assert done.returncode == 2
    assert f"pip install '.[{extra}]' from the top of a checkout" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_command_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    listed = capsys.readouterr().out
    callers = ("submit", "status", "list", "events", "files", "cancel")
    for command in (*callers, "serve", "migrate", "testbed"):
        assert f"  {command} " in listed


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"deliv {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["deliver"],
        ["submit", "005"],
        ["status"],
        ["status", "JOB", "--timeout", "-1"],
        ["status", "JOB", "--timeout", "soon"],
        ["cancel"],
        ["files"],
        ["files", "JOB", "--state", "FAILED", "--missing"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["status", "J"], "--url or DELIV_URL"),
        (["status", "J", "--url", "http://deliv.test", "--cert", "/none"], "must be https://"),
        (["status", "J", "--url", "https://a:b@deliv.test", "--cert", "/none"], "must be https://"),
        (["status", "J", "--url", "https://deliv.test:x", "--cert", "/none"], "is no URL"),
        (["status", "J", "--url", "https://deliv .test", "--cert", "/none"], "no host name"),
        (["status", "J", "--url", f"https://{'a' * 64}.test", "--cert", "/none"], "no host name"),
        (["status", "J", "--url", "https://deliv..test", "--cert", "/none"], "no host name"),
        (["status", "J", "--url", "https://deliv.test", "--key", "/none"], "add --cert"),
    ],
)
def test_what_is_not_given_is_asked_for(
    arguments: list[str],
    wanted: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DELIV_URL", raising=False)
    assert cli.main(arguments) == 2
    assert wanted in capsys.readouterr().err


def test_migrate_names_the_config_that_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["migrate", "--config", "/nowhere/deliv.yaml"]) == 1
    assert "/nowhere/deliv.yaml" in capsys.readouterr().err


INTERRUPT_AT_IMPORT = """
import os, signal, sys

class InterruptAtImport:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, InterruptAtImport())
"""


@pytest.mark.parametrize(
    "module", ["argparse", "deliv.client.arguments", "rich.console", "deliv.commands.validate"]
)
def test_an_interrupt_while_modules_are_imported_ends_quietly(tmp_path: Path, module: str) -> None:
    """As at any other moment: Ctrl-C may come before a command has begun."""
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT_AT_IMPORT, encoding="ascii")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "INTERRUPT_AT": module}
    done = subprocess.run(
        # A job of a shell's background ignores SIGINT, and so do its children.
        ["env", "--default-signal=INT", sys.executable, "-m", "deliv.cli", "validate", "--help"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "deliv: interrupted\n")
