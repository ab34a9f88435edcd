"""Feeding a parser inputs by the hundred thousand, and keeping what it does wrong.

What a parser may do: return, or raise an error that its target expects. Anything else, a panic in
a library and five seconds of CPU time included, is a finding.
"""

from __future__ import annotations

import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from random import Random
from typing import Any

LONGEST = 5.0  # seconds of CPU time for one input
MOST = 20  # findings of one target; the next ones would be the same


class Hang(BaseException):
    """No Exception, so that no parser takes it for one of its own."""


class Disagreement(AssertionError):
    """The parser took something for what it is not."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """`sources` make inputs, in turn; `check` returns when one is taken and was read right.

    `refusals` are the errors by which the parser may refuse. `share` is of all inputs of a run.
    """

    name: str
    share: float
    sources: tuple[Callable[[Random], Any], ...]
    check: Callable[[Any], None]
    refusals: tuple[type[Exception], ...]


@dataclass(kw_only=True)
class Result:
    """`seconds` and `slowest` (one input's) are CPU time; `slowest` without making the input."""

    name: str
    inputs: int = 0
    taken: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    findings: list[str] = field(default_factory=list)


def run(target: Target, inputs: int, seed: int) -> Result:
    """Try so many inputs, for one seed the same ones but for keys and times in them."""
    random, sources = Random(f"{seed} {target.name}"), cycle(target.sources)
    result, started = Result(name=target.name), time.process_time()
    with _alarm(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a library's on odd certificates; no error of ours
        while result.inputs < inputs and len(result.findings) < MOST:
            _try(target, next(sources)(random), result)
    result.seconds = time.process_time() - started
    return result


def _try(target: Target, given: Any, result: Result) -> None:
    result.inputs += 1
    started = time.process_time()
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST)
    try:
        target.check(given)
        result.taken += 1
    except target.refusals:
        pass
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever else it is, it is what we look for
        result.findings.append(f"{target.name}: {type(error).__name__}: {error}\n    {given!r}")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    result.slowest = max(result.slowest, time.process_time() - started)


@contextmanager
def _alarm() -> Iterator[None]:
    """By CPU time: the machine may be loaded. pytest-timeout has the other alarm."""
    before = signal.signal(signal.SIGVTALRM, _hang)
    try:
        yield
    finally:
        signal.signal(signal.SIGVTALRM, before)


def _hang(*_: object) -> None:
    raise Hang(f"more than {LONGEST:.0f} s of CPU time")


def agree(one: object, other: object) -> None:
    if one != other:
        raise Disagreement(f"{one!r} is not {other!r}")
