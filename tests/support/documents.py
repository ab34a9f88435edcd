"""The fenced blocks of README and docs, and what becomes of each: a comment before it says so.

<!-- run -->              run by acceptance/test_document_blocks.py, page by page; those of
                          operate.md and recovery.md also on a host, by deploy/test_operate.py
<!-- test: NAME -->       run by deploy/test_operate.py
<!-- example: REASON -->  not run
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "vagrant" / "README.md")
SHELL, PYTHON = "sh", "python"
COMMENT = re.compile(r"\s*<!-- (run|test|example)(?:: (.+?))? -->\s*")
FENCE = re.compile(r"( *)```(\w*)\n")


@dataclass(frozen=True, kw_only=True)
class Block:
    """`mark` is run, test, example or empty; `about` what follows it; `line` that of the fence."""

    page: Path
    line: int
    language: str
    mark: str
    about: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Its shell lines: continued ones joined, without comments."""
        joined = self.text.replace("\\\n", " ").splitlines()
        stripped = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in joined)
        return [line for line in stripped if line]


def blocks(page: Path) -> Iterator[Block]:
    lines = iter(enumerate(page.read_text("utf-8").splitlines(keepends=True), 1))
    mark = about = ""
    for number, line in lines:
        if comment := COMMENT.fullmatch(line):
            mark, about = comment[1], comment[2] or ""
        elif fence := FENCE.fullmatch(line):
            text = "".join(_until_closed(lines, fence[1]))
            yield Block(
                page=page, line=number, language=fence[2], mark=mark, about=about, text=text
            )
            mark = about = ""
        elif line.strip():
            mark = about = ""


def _until_closed(lines: Iterator[tuple[int, str]], indent: str) -> Iterator[str]:
    for _, line in lines:
        if line.rstrip() == f"{indent}```":
            return
        yield line.removeprefix(indent)


def inline(page: Path) -> Iterator[str]:
    """What is between single backquotes."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text))


def words(command: str) -> list[str]:
    """A command line's words; none where its quotes are not the shell's."""
    try:
        return shlex.split(command, comments=True)
    except ValueError:
        return []
