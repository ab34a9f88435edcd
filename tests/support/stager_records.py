"""What the dummy stager has done, by its own log and register."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from contextlib import closing

from support.running_stack import Stack


def copies_made(stack: Stack) -> Counter[str]:
    """How often it has made a copy, by the id that it knows each staging by."""
    return Counter(re.findall(r"job (\S+): staged \d+ bytes", _log(stack)))


def copies_released(stack: Stack) -> Counter[str]:
    """How often it has given a copy back."""
    return Counter(re.findall(r" 200 DELETE /stage/(\S+)", _log(stack)))


def held(stack: Stack, product: str) -> list[str]:
    """The ids by which it has this product."""
    path = stack.directory / "stager" / "stager.sqlite"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as register:
        sql = "SELECT job_id FROM stagings WHERE product_id = ?"
        return [job_id for (job_id,) in register.execute(sql, (product,))]


def _log(stack: Stack) -> str:
    return (stack.directory / "log" / "stager.log").read_text(encoding="utf-8", errors="replace")
