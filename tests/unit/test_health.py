"""Readiness in the log: an outage is one line when it begins and one when it ends."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from deliv.errors import Unreachable
from deliv.tasks.health import Health

DOWN = [f"connection timed out after {ms} ms" for ms in (10_001, 10_002, 9_999)]


def test_an_outage_whose_text_changes_is_told_once() -> None:
    """Curl says after how many milliseconds it gave up; `/ready` has the latest text."""
    answers: list[str | Unreachable] = [
        "answers",
        *(Unreachable(text, sent=False) for text in DOWN),
        "answers again",
        "answers",
    ]

    async def probe() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Unreachable):
            raise answer
        return answer

    async def run() -> None:
        health = Health({"fts:a": probe})
        for expected in ("answers", *DOWN, "answers again", "answers"):
            await health.check_once()
            assert health.report()["dependencies"]["fts:a"]["detail"] == expected

    with capture_logs() as lines:
        asyncio.run(run())
    said = [(line["event"], line["detail"]) for line in lines if line["log_level"] != "debug"]
    assert said == [
        ("dependency is up", "answers"),
        ("waiting for a dependency", DOWN[0]),
        ("dependency is up", "answers again"),
    ]
    assert ["waited" in line for line in lines if line["event"] == "dependency is up"] == [
        False,
        True,
    ]


def test_breakers_are_shown_and_make_nothing_unready() -> None:
    """Those of releases and cancellations by names of their own."""

    async def probe() -> str:
        return "answers"

    breakers = {
        "stager": {"breaker": lambda: "closed", "release_breaker": lambda: "open"},
        "fts:a": {"breaker": lambda: "closed", "cancel_breaker": lambda: "half-open"},
    }
    health = Health({"mariadb": probe, "stager": probe, "fts:a": probe}, breakers)
    asyncio.run(health.check_once())
    answers = {"up": True, "detail": "answers"}
    assert health.report() == {
        "status": "ready",
        "waiting_for": [],
        "dependencies": {
            "mariadb": answers,
            "stager": {**answers, "breaker": "closed", "release_breaker": "open"},
            "fts:a": {**answers, "breaker": "closed", "cancel_breaker": "half-open"},
        },
    }


def test_one_that_is_out_from_the_start_is_told() -> None:
    async def probe() -> str:
        raise Unreachable("nobody there", sent=False)

    with capture_logs() as lines:
        asyncio.run(Health({"mariadb": probe}).check_once())
    assert [(line["event"], line["detail"]) for line in lines] == [
        ("waiting for a dependency", "nobody there")
    ]
