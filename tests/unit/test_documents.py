"""README and docs: each block has its test or its reason, and the commands named in them exist."""

from __future__ import annotations

import functools
import io
import re
from contextlib import redirect_stderr, redirect_stdout

import pytest
from support.documents import PAGES, PYTHON, ROOT, SHELL, Block, blocks, inline, words

from deliv import cli

BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = [block for block in BLOCKS if block.language in {SHELL, PYTHON}]
OTHERS = {"yaml", "mermaid"}
DEPLOY = (ROOT / "tests" / "deploy" / "test_operate.py").read_text("utf-8")


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_every_block_says_what_it_is(block: Block) -> None:
    assert block.language in {SHELL, PYTHON} | OTHERS


@pytest.mark.parametrize("block", COMMANDS, ids=lambda block: block.name)
def test_every_command_is_run_or_an_example_with_a_reason(block: Block) -> None:
    match block.mark:
        case "run":
            assert not block.about
        case "test":
            assert f'"{block.about}"' in DEPLOY
        case "example":
            assert len(block.about) > 20
        case _:
            pytest.fail(f"{block.name} has no mark: see tests/support/documents.py")


@functools.cache
def help_of(*commands: str) -> str:
    """What a command's --help says; empty where there is no such command."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(io.StringIO()):
        try:
            cli.main([*commands, "--help"])
        except SystemExit as ending:
            return "" if ending.code else said.getvalue()
    return ""


def command_lines() -> list[str]:
    shell = [block for block in COMMANDS if block.language == SHELL]
    fenced = {command for block in shell for command in block.commands}
    return sorted(fenced.union(*map(inline, PAGES)))


@pytest.mark.parametrize("line", [line for line in command_lines() if line.startswith("deliv ")])
def test_a_command_of_deliv_that_is_named_exists(line: str) -> None:
    _, *rest = words(line.replace("[", " ").replace("]", " ").replace("|", " "))
    names = [word for word in rest if re.fullmatch("[a-z]+", word)][:2]
    below = names[:2] if names and names[0] in {"testbed", "queue", "policy"} else names[:1]
    text = help_of(*below)
    assert text, line
    for option in (word.partition("=")[0] for word in rest if word.startswith("--")):
        assert re.search(rf"{option}\b", text), f"{line}: no {option}"


@pytest.mark.parametrize("line", [line for line in command_lines() if line.startswith("make ")])
def test_a_target_of_make_that_is_named_exists(line: str) -> None:
    makefiles = (ROOT / "Makefile", ROOT / "tools" / "deploy.mk")
    targets = "".join(file.read_text("utf-8") for file in makefiles)
    assert re.search(rf"^{words(line)[1]}:", targets, re.MULTILINE)
