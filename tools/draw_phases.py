"""Draws the phases of a job into docs/develop.md, from the tables in deliv/model/phase.py.

    python tools/draw_phases.py

What is between the two marks is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deliv.model.phase import ACTIONS, CASES, NEXT, Case, Phase
from deliv.model.states import Status

PAGE = Path(__file__).resolve().parent.parent / "docs" / "develop.md"
BEGIN, END = "<!-- phases: tools/draw_phases.py -->\n", "<!-- end of phases -->\n"


def main() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}{picture()}{END}{after}", encoding="utf-8")


def picture() -> str:
    return "\n".join([*_diagram(), "", *_table(), ""])


def _diagram() -> Iterator[str]:
    yield "```mermaid"
    yield "stateDiagram-v2"
    for phase, others in NEXT.items():
        yield from (f"    {phase.name} --> {other.name}" for other in others)
    yield "```"


def _table() -> Iterator[str]:
    yield "| phase | status | columns | next |"
    yield "| --- | --- | --- | --- |"
    for phase in Phase:
        for case in CASES:
            if case.phase is phase:
                statuses = " ".join(status for status in Status if status in case.statuses)
                yield f"| {phase.name} | {statuses} | {_columns(case)} | {ACTIONS[phase]} |"


def _columns(case: Case) -> str:
    return ", ".join([f"`{name}`" for name in case.given] + [f"no `{name}`" for name in case.null])


if __name__ == "__main__":
    main()
