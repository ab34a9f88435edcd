"""bandit over deliv and tools: every finding must have an answer.

ruff's S rules are bandit's, under the same numbers, so the answers stand where ruff wants them: a
`noqa: S608` on the lines in question, or a path's ignores in pyproject.toml, each with its reason.
What bandit says beyond ruff is answered in ANSWERS, where an answer to nothing is an error.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("deliv", "testbed", "tools")
NOQA = re.compile(r"# noqa:([^#]*)")
# By number and path.
ANSWERS = {
    ("B404", "*"): "importing subprocess does nothing; each call is judged by B602 to B607",
    ("B405", "tools/*"): "the XML is pytest's report, written a moment ago",
    ("B606", "tools/*"): "they end in the program that they were asked to run, without a shell",
    ("B105", "testbed/deliv_testbed/issuer/grants.py"): "Bearer is a kind of token, not one",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`number` as in B608; `lines` are those of the statement."""

    number: str
    file: str
    lines: tuple[int, ...]
    text: str

    @property
    def rule(self) -> str:
        """ruff's name for it."""
        return f"S{self.number[1:]}"

    def __str__(self) -> str:
        return f"{self.file}:{self.lines[0]}: {self.number} {self.text}"


def main() -> int:
    found = findings()
    ignores = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    by_path = ignores["tool"]["ruff"]["lint"]["per-file-ignores"]
    open_ones = [finding for finding in found if not answered(finding, by_path)]
    for finding in open_ones:
        print(finding)
    unused = [answer for answer in ANSWERS if not any(_is_for(answer, one) for one in found)]
    for number, path in unused:
        print(f"{Path(__file__).name}: {number} has not to be answered any more for {path}")
    print(f"bandit: {len(found)} findings, {len(open_ones)} without an answer")
    return int(bool(open_ones or unused))


def findings() -> list[Finding]:
    command = [sys.executable, "-m", "bandit", "--quiet", "--recursive", "--format", "json"]
    done = subprocess.run(
        [*command, *SOURCES], cwd=ROOT, capture_output=True, text=True, check=False
    )
    report = json.loads(done.stdout)
    if report["errors"]:
        raise SystemExit(f"bandit: {report['errors']}")
    return [_finding(result) for result in report["results"]]


def answered(finding: Finding, by_path: dict[str, list[str]]) -> bool:
    if any(_is_for(answer, finding) for answer in ANSWERS):
        return True
    if any(fnmatch(finding.file, path) and finding.rule in by_path[path] for path in by_path):
        return True
    return finding.rule in _noqa(finding)


def _is_for(answer: tuple[str, str], finding: Finding) -> bool:
    return answer[0] == finding.number and fnmatch(finding.file, answer[1])


def _finding(result: dict[str, Any]) -> Finding:
    return Finding(
        number=result["test_id"],
        file=result["filename"].removeprefix("./"),
        lines=tuple(result["line_range"]),
        text=result["issue_text"],
    )


def _noqa(finding: Finding) -> set[str]:
    """The rules that the statement's lines have answers for."""
    lines = (ROOT / finding.file).read_text("utf-8").splitlines()
    own = lines[finding.lines[0] - 1 : finding.lines[-1]]
    texts = [text for line in own for text in NOQA.findall(line)]
    return {rule for text in texts for rule in re.findall(r"S\d+", text)}


if __name__ == "__main__":
    sys.exit(main())
