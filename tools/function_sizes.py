"""How a package's functions are cut: their lengths, and the helpers that are called only once.

    python tools/function_sizes.py [--list] [PACKAGE ...]        deliv unless named

A private function or method (its name begins with one underscore) that is mentioned exactly once in
its package is counted as a share of all functions: a high one makes a reader jump. Length is in
lines, decorators and docstring included.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parent.parent
PRIVATE = re.compile(r"_(?!_)")


@dataclass(frozen=True, kw_only=True)
class Function:
    place: str
    name: str
    lines: int


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="How a package's functions are cut.")
    parser.add_argument("packages", metavar="PACKAGE", nargs="*", default=["deliv"])
    parser.add_argument("--list", action="store_true", help="name those that are called once")
    options = parser.parse_args(arguments)
    for package in options.packages:
        functions, mentions = read(ROOT / package)
        once = [f for f in functions if PRIVATE.match(f.name) and mentions[f.name] == 1]
        lengths = [f.lines for f in functions]
        print(
            f"{package}: {len(functions)} functions, {len(once)} private ones called once "
            f"({len(once) / len(functions):.1%}); lines: median {median(lengths):.0f}, "
            f"90th percentile {quantiles(lengths, n=10)[-1]:.0f}, longest {max(lengths)}"
        )
        if options.list:
            print("\n".join(f"{f.place}  {f.name} ({f.lines})" for f in once))
    return 0


def read(directory: Path) -> tuple[list[Function], Counter[str]]:
    """Every function of a package, and how often each name is mentioned other than by `def`."""
    functions: list[Function] = []
    mentions: Counter[str] = Counter()
    for file in sorted(directory.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                lines = (node.end_lineno or first) - first + 1
                place = f"{file.relative_to(ROOT)}:{node.lineno}"
                functions.append(Function(place=place, name=node.name, lines=lines))
            elif isinstance(node, ast.Name):
                mentions[node.id] += 1
            elif isinstance(node, ast.Attribute):
                mentions[node.attr] += 1
            elif isinstance(node, ast.alias):
                mentions[node.name] += 1
    return functions, mentions


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
