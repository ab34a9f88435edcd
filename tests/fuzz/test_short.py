"""Every parser fuzzed for a moment; `make fuzz` goes on for a million inputs."""

from __future__ import annotations

from random import Random

import pytest

from fuzz.engine import Hang, Target, run
from fuzz.targets import TARGETS

INPUTS = 1000  # of each target


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found(name: str) -> None:
    result = run(TARGETS[name], INPUTS, seed=1)
    assert result.findings == []
    assert 0 < result.taken < INPUTS


def test_what_a_parser_must_not_do_is_found() -> None:
    def panic(given: int) -> None:
        if given == 0:
            raise Hang("as a library's panic, no Exception")
        if given == 1:
            raise ValueError("a refusal")

    target = Target(
        name="broken",
        share=1,
        sources=(lambda random: random.randrange(3), Random.random),
        check=panic,
        refusals=(ValueError,),
    )
    result = run(target, 100, seed=1)
    assert 0 < len(result.findings) < 50
    assert result.findings[0].startswith("broken: Hang: as a library's panic, no Exception\n    0")
    assert run(target, 100, seed=1).findings == result.findings


def test_a_parser_that_does_not_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(given: object) -> None:
        while True:
            pass

    monkeypatch.setattr("fuzz.engine.LONGEST", 0.05)
    target = Target(
        name="endless", share=1, sources=(Random.random,), check=endless, refusals=(Exception,)
    )
    (finding,) = run(target, 1, seed=1).findings
    assert finding.startswith("endless: Hang: more than")
