"""Readiness in the log: an outage is one line when it begins and one when it ends."""

from __future__ import annotations

import asyncio
import gc

import pytest
from structlog.testing import capture_logs

from deliv.errors import Unreachable
from deliv.tasks import health as health_module
from deliv.tasks.health import Health, one_at_a_time

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


class Dependency:
    """Answers while `open` is set; counts how often it was asked."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked = 0

    async def probe(self) -> str:
        self.asked += 1
        await self.open.wait()
        return "answers"


def test_ready_asks_mariadb_and_rabbitmq_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {name: Dependency() for name in ("mariadb", "rabbitmq", "stager")}

    async def run() -> None:
        for part in parts.values():
            part.open.set()
        health = Health({name: part.probe for name, part in parts.items()})
        monkeypatch.setattr(health_module, "FRESH", 3600)
        for _ in range(3):
            report = await health.check_ready()
        assert report["waiting_for"] == ["stager"]
        assert [part.asked for part in parts.values()] == [1, 1, 0]
        monkeypatch.setattr(health_module, "FRESH", 0)
        await health.check_ready()
        assert [part.asked for part in parts.values()] == [2, 2, 0]

    asyncio.run(run())


def test_what_hangs_is_down_soon_and_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "PROMPT", 0.05)
    monkeypatch.setattr(health_module, "FRESH", 0)

    async def run() -> None:
        mariadb, rabbitmq = Dependency(), Dependency()
        rabbitmq.open.set()
        health = Health(
            {"mariadb": one_at_a_time(mariadb.probe), "rabbitmq": one_at_a_time(rabbitmq.probe)}
        )
        for _ in range(3):
            report = await health.check_ready()
            assert report["status"] == "unavailable"
            assert report["dependencies"]["mariadb"]["detail"] == "no answer within 0.05 s"
        assert mariadb.asked == 1
        mariadb.open.set()
        async with asyncio.timeout(60):
            while (await health.check_ready())["status"] != "ready":
                await asyncio.sleep(0)

    asyncio.run(run())


def test_looks_at_what_hangs_do_not_wait_as_long_as_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time counts from when it was asked."""
    monkeypatch.setattr(health_module, "PROMPT", 0.05)

    async def run() -> None:
        ask = one_at_a_time(Dependency().probe)
        with pytest.raises(TimeoutError):
            await ask()
        monkeypatch.setattr(health_module, "PROMPT", 3600)
        async with asyncio.timeout(60):
            with pytest.raises(TimeoutError):
                await ask()

    asyncio.run(run())


def test_an_error_that_comes_when_everybody_gave_up_is_not_reported_as_a_bug() -> None:
    reported: list[dict[str, object]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: reported.append(what))
        asked, goes_on = asyncio.Event(), asyncio.Event()

        async def probe() -> str:
            asked.set()
            await goes_on.wait()
            raise Unreachable(DOWN[0], sent=False)

        asking = asyncio.ensure_future(one_at_a_time(probe)())
        await asked.wait()
        asking.cancel()
        await asyncio.wait([asking])
        goes_on.set()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)

    asyncio.run(run())
    gc.collect()
    assert reported == []
