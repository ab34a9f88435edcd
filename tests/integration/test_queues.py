"""`deliv queue` on a real RabbitMQ."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from deliv_testbed.processes import wait
from support.private_mariadb import Server

from deliv.cli import main
from deliv.commands.queue import OUTBOX
from deliv.gateways.broker import DEAD, STAGE, TRANSFER, Message
from deliv.gateways.broker.dead_letters import QUEUE_HEADER, REASON_HEADER
from deliv.gateways.broker.publisher import Letter
from integration.broker_bench import Recorder, connected, raw, until
from integration.rabbit import Rabbit, rabbit_fixture  # noqa: F401 - a fixture is used by its name

EXAMPLE = Path(__file__).parents[2] / "config" / "deliv.example.yaml"
JOBS = [f"0190b6c4-0000-7000-8000-00000000000{number}" for number in range(3)]


def body(job_id: str, verb: str) -> bytes:
    return json.dumps({"job_id": job_id, "verb": verb}).encode()


LETTERS = [
    (STAGE, body(JOBS[0], "stage"), "failed 11 times, last OSError: no"),
    (TRANSFER, body(JOBS[1], "transfer"), "failed 11 times"),
    (TRANSFER, b"\xffnonsense", "malformed: not JSON"),
    ("deliv.other", body(JOBS[2], "other"), "who knows"),
]
Run = Callable[..., list[str]]


async def dead_letter(rabbit: Rabbit) -> None:
    """Empty queues, but for some dead letters."""
    async with connected(rabbit.settings()) as broker:
        async with raw(rabbit.settings()) as channel:
            for queue in (STAGE, TRANSFER, DEAD):
                await channel.call("queue_purge", queue)
        for queue, content, reason in LETTERS:
            await broker._dead.add(queue, content, reason)


@pytest.fixture
def configuration(rabbit: Rabbit, migrated: Server, tmp_path: Path) -> Path:
    document = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    database = migrated.settings()
    document["database"] |= {
        "host": database.host,
        "port": database.port,
        "name": database.name,
        "user": database.user,
        "password_file": str(database.password_file),
    }
    document["broker"] |= {
        "host": rabbit.node.host,
        "port": rabbit.node.port,
        "user": rabbit.node.user,
        "password_file": str(rabbit.node.password_file),
    }
    path = tmp_path / "deliv.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


@pytest.fixture
def deliv_queue(configuration: Path, rabbit: Rabbit, capsys: pytest.CaptureFixture[str]) -> Run:
    asyncio.run(dead_letter(rabbit))

    def run(*words: str) -> list[str]:
        capsys.readouterr()
        assert main(["queue", "--config", str(configuration), *words]) == 0
        return capsys.readouterr().out.splitlines()

    return run


def depths(lines: list[str]) -> dict[str, int]:
    documents = [json.loads(line) for line in lines]
    return {document["queue"]: document["messages"] for document in documents}


def wait_until_all_are_back(deliv_queue: Run) -> None:
    """A quorum queue takes a moment to have back what was only looked at."""
    assert wait(lambda: depths(deliv_queue("list", "--json"))[DEAD] == len(LETTERS), 60)


def test_the_depth_of_every_queue(deliv_queue: Run) -> None:
    expected = {OUTBOX: 0, STAGE: 0, TRANSFER: 0, DEAD: 4}
    assert depths(deliv_queue("list", "--json")) == expected
    lines = deliv_queue()
    assert lines == deliv_queue("list")
    assert {line.split()[0]: int(line.split()[1]) for line in lines} == expected


def test_dead_letters_with_their_reason_stay_where_they_are(deliv_queue: Run) -> None:
    lines = deliv_queue("dead")
    assert {line.split("  ", 1)[1] for line in lines} == {
        f"{STAGE}  job {JOBS[0]}: failed 11 times, last OSError: no",
        f"{TRANSFER}  job {JOBS[1]}: failed 11 times",
        rf"{TRANSFER}  '\xffnonsense': malformed: not JSON",
        f"deliv.other  job {JOBS[2]}: who knows",
    }
    wait_until_all_are_back(deliv_queue)
    assert len(deliv_queue("dead", "--limit", "2")) == 2
    wait_until_all_are_back(deliv_queue)
    documents = [json.loads(line) for line in deliv_queue("dead", "--json")]
    bodies = {document["job_id"]: document["body"] for document in documents}
    assert bodies.keys() == {*JOBS, None}
    assert bodies[None] == r"\xffnonsense"


STEERING = "\x1b[2J\r\n\u00fc\u202e"
NO_JOB = json.dumps({"job_id": "\ud800\x1b[2J", "verb": "transfer"}).encode()
MADE_UP: list[dict[str, object]] = [
    {QUEUE_HEADER: STEERING, REASON_HEADER: STEERING},
    {QUEUE_HEADER: 7, REASON_HEADER: b"\xff"},
    {"x-death": "never"},
    {"x-death": [{"queue": STEERING, "reason": 7, "time": "never"}]},
]


async def publish(rabbit: Rabbit, queue: str, content: bytes, headers: dict[str, object]) -> None:
    async with connected(rabbit.settings()) as broker:
        await broker._publisher.publish(Letter(key=queue, body=content, headers=headers))


def test_what_a_client_made_up_is_shown_in_plain_ascii(deliv_queue: Run, rabbit: Rabbit) -> None:
    assert deliv_queue("discard", "--all") == ["4 discarded"]
    for headers in MADE_UP:
        asyncio.run(publish(rabbit, DEAD, NO_JOB, headers))
    text = r"\x1b[2J\r\n\xfc\u202e"
    shown = repr(NO_JOB)[1:]
    assert {line.split("  ", 1)[1] for line in deliv_queue("dead")} == {
        f"{text}  {shown}: {text}",
        rf"7  {shown}: b'\xff'",
        f"an unknown queue  {shown}: ",
        f"{text}  {shown}: 7",
    }
    assert wait(lambda: depths(deliv_queue("list", "--json"))[DEAD] == len(MADE_UP), 60)
    assert len([json.loads(line) for line in deliv_queue("dead", "--json")]) == len(MADE_UP)


def test_one_jobs_letters_are_replayed(deliv_queue: Run) -> None:
    assert deliv_queue("replay", "--job", JOBS[1]) == ["1 replayed"]
    assert depths(deliv_queue("list", "--json")) == {OUTBOX: 0, STAGE: 0, TRANSFER: 1, DEAD: 3}
    assert deliv_queue("replay", "--job", JOBS[1]) == ["0 replayed"]


def test_all_that_has_a_queue_is_replayed(deliv_queue: Run) -> None:
    assert deliv_queue("replay", "--all") == ["3 replayed"]
    assert depths(deliv_queue("list", "--json")) == {OUTBOX: 0, STAGE: 1, TRANSFER: 2, DEAD: 1}


def test_letters_are_discarded(deliv_queue: Run) -> None:
    assert deliv_queue("discard", "--job", JOBS[2]) == ["1 discarded"]
    assert len(deliv_queue("dead")) == 3
    assert deliv_queue("discard", "--all") == ["3 discarded"]
    assert depths(deliv_queue("list", "--json")) == {OUTBOX: 0, STAGE: 0, TRANSFER: 0, DEAD: 0}


def test_a_choice_must_be_made(configuration: Path) -> None:
    for what in ("replay", "discard"):
        with pytest.raises(SystemExit):
            main(["queue", "--config", str(configuration), what])


def change(configuration: Path, section: str, **settings: object) -> None:
    document = yaml.safe_load(configuration.read_text(encoding="utf-8"))
    document[section] |= settings
    configuration.write_text(yaml.safe_dump(document), encoding="utf-8")


def test_without_a_broker_the_list_shows_what_the_database_knows(
    configuration: Path, migrated: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    migrated.run("INSERT INTO outbox (routing, job_id) VALUES ('stage', UUID())")
    change(configuration, "broker", port=1)
    assert main(["queue", "--config", str(configuration), "list", "--json"]) == 1
    shown = capsys.readouterr()
    assert depths(shown.out.splitlines()) == {OUTBOX: 1}
    assert "Connection refused" in shown.err
    for what in ("dead", "replay --all", "discard --all"):
        assert main(["queue", "--config", str(configuration), *what.split()]) == 1
        assert "Connection refused" in capsys.readouterr().err


def test_a_frozen_broker_is_not_waited_for(
    configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is given up while the attempt to connect still lasts."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        change(configuration, "broker", host="127.0.0.1", port=silent.getsockname()[1])
        assert main(["queue", "--config", str(configuration)]) == 1
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()] == [OUTBOX]
    assert shown.err == "deliv queue: no connection with RabbitMQ within 2 s: connecting\n"


def test_without_a_database_the_list_shows_what_the_broker_has(
    configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(configuration, "database", port=1)
    assert main(["queue", "--config", str(configuration), "list", "--json"]) == 1
    shown = capsys.readouterr()
    assert depths(shown.out.splitlines()).keys() == {STAGE, TRANSFER, DEAD}
    assert shown.err.count("deliv queue: ") == 1  # two answers lack for the same reason


@asynccontextmanager
async def uncounted(rabbit: Rabbit, queue: str) -> AsyncIterator[None]:
    """Meanwhile the queue is a classic one: RabbitMQ does not count in it, a header stays."""
    async with raw(rabbit.settings()) as channel:
        await channel.call("queue_delete", queue)
        await channel.call("queue_declare", queue, durable=True)
        try:
            yield
        finally:
            await channel.call("queue_delete", queue)


@pytest.mark.parametrize("count", ["often", [1]])
async def test_a_count_that_a_client_made_up_is_none(rabbit: Rabbit, count: object) -> None:
    stage = Recorder()
    async with uncounted(rabbit, STAGE), connected(rabbit.settings(), stage):
        await publish(rabbit, STAGE, body(JOBS[0], "stage"), {"x-delivery-count": count})
        await until(lambda: stage.done)
    assert stage.got == [Message(routing="stage", job_id=JOBS[0])]
