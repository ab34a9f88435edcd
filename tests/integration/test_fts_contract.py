"""The dummy FTS answers as the real one did: in status, shape, names, types and words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from integration import recorded
from integration.fts_replay import DEAD, SECTIONS, SIZE, Scene
from integration.private_fts import TERMINAL, UNKNOWN, Fts, running_or_skipped, wait_for
from integration.recorded import Answer

REPLAYED = ("rest.txt", "deleg.txt", "sid.txt", "dbdown.txt")
RECORDED = {
    title: answers for name in REPLAYED for title, answers in recorded.sections(name).items()
}
LIMIT = re.compile(r"bulk GET of (\d+) unknown ids, path \d+ bytes -> (\d+) (\S+; \S+) (.*)")
LOOK = re.compile(r"job_state=(\w+) .*files=\[(.*)\]$", re.MULTILINE)
LARGE = 8 * 2**30
STATES = "file_state,start_time,finish_time,throughput,filesize,tx_duration,retry,reason,pid," \
    "recoverable,transfer_host,internal_file_params,file_id"  # fmt: skip


@pytest.fixture(scope="module")
def fts() -> Iterator[Fts]:
    """One slot, so that a test can hold it; the recorded server took metadata of 4096 bytes."""
    with running_or_skipped(slots=1, metadata_limit=4096) as server:
        yield server


@pytest.fixture(scope="module")
def scene(fts: Fts) -> Scene:
    fts.put_source("f1m", bytes(range(250)) * (SIZE // 250))
    return Scene(fts=fts, alice=fts.client("alice"), bob=fts.client("bob"), nobody=fts.client(None))


@pytest.fixture(scope="module")
def replay(scene: Scene) -> dict[str, list[Answer]]:
    """Everything recorded, asked again in the same order."""
    return {title: SECTIONS[title](scene) for title in RECORDED}


@pytest.mark.parametrize("title", RECORDED)
def test_answers_as_recorded(replay: dict[str, list[Answer]], title: str) -> None:
    answers = replay[title]
    assert len(answers) == len(RECORDED[title])
    for before, now in zip(RECORDED[title], answers, strict=True):
        assert recorded.differences(before, now) == []


def limits() -> list[tuple[int, int, str, str]]:
    text = (recorded.DIRECTORY / "limits.txt").read_text(encoding="utf-8")
    return [(int(count), int(status), *rest) for count, status, *rest in LIMIT.findall(text)]


@pytest.mark.parametrize(("count", "status", "kind", "first"), limits())
def test_too_many_ids(scene: Scene, count: int, status: int, kind: str, first: str) -> None:
    answer = scene.alice.get("/jobs/" + ",".join([UNKNOWN] * count))
    assert (answer.status, answer.kind) == (status, kind)
    assert answer.body.startswith(first)


@pytest.mark.parametrize(("count", "status"), [(109, 207), (110, 404)])
def test_how_many_ids_a_request_takes(scene: Scene, count: int, status: int) -> None:
    assert scene.alice.get("/jobs/" + ",".join([UNKNOWN] * count)).status == status


def test_a_job_of_a_thousand_files(scene: Scene, replay: object) -> None:
    body = scene.fts.transfer(scene.url("f1m"), scene.target("many"))
    with scene.fts.all_slots_taken(1):
        job = scene.alice.submit({"files": body["files"] * 1000}).content["job_id"]
        assert len(scene.alice.get(f"/jobs/{job}/files").content) == 1000
        answer = scene.alice.get(f"/jobs/{job}?files=file_state")
        assert len(answer.content["files"]) == 1000
        assert scene.alice.delete(f"/jobs/{job}").status == 200


# --- states.txt: how a job and its file go from state to state

Look = tuple[str, dict[str, Any]]


def recorded_walks() -> dict[str, list[Look]]:
    """(job state, file) at each look, of each recorded walk."""
    text = (recorded.DIRECTORY / "states.txt").read_text(encoding="utf-8")
    text = text.replace("POST 200", "### 50 MB\nPOST 200").replace("\n### 50 MB\n", "\n", 5)
    parts = re.split(r"^### (.*)$", text, flags=re.MULTILINE)
    return {
        name: [(state, json.loads(file)) for state, file in LOOK.findall(walk)]
        for name, walk in zip(parts[1::2], parts[2::2], strict=True)
    }


def recorded_cancel() -> Answer:
    """The answer to the DELETE of a job that was ACTIVE."""
    text = (recorded.DIRECTORY / "states.txt").read_text(encoding="utf-8")
    found = re.search(r"DELETE -> (\d+) (.*)$", text, re.MULTILINE)
    assert found
    return Answer(status=int(found[1]), kind="application/json", body=found[2])


WALKS = recorded_walks()


def kinds(look: Look) -> tuple[object, ...]:
    """A look, reduced to the states and the type of each field."""
    job_state, file = look
    types = tuple(sorted((name, type(value).__name__) for name, value in file.items()))
    return job_state, file["file_state"], types


KNOWN = {kinds(look) for walk in WALKS.values() for look in walk}
# A job ends up to a second after its file: too short to be in the recordings.
KNOWN |= {("ACTIVE", *rest) for job_state, *rest in KNOWN if job_state in ("FINISHED", "FAILED")}


def look_at(scene: Scene, job: str) -> Look:
    content = scene.alice.get(f"/jobs/{job}?files={STATES}").content
    return content["job_state"], content["files"][0]


def walk(scene: Scene, body: dict[str, Any]) -> list[Look]:
    """Submit, and look until the job has ended."""
    job = scene.alice.submit(body).content["job_id"]
    looks = list[Look]()

    def at_the_end() -> bool:
        looks.append(look_at(scene, job))
        return looks[-1][0] in TERMINAL

    wait_for(at_the_end, 60)
    return looks


def assert_as_recorded(looks: list[Look], name: str) -> None:
    """Each look is of a kind that was recorded, and the last is as the recorded last."""
    assert [look for look in looks if kinds(look) not in KNOWN] == []
    before, now = WALKS[name][-1], looks[-1]
    assert now[0] == before[0]
    assert differences(before[1], now[1]) == []


def differences(before: object, now: object) -> list[str]:
    return recorded.differences(
        *(Answer(status=None, kind="", body=json.dumps(content)) for content in (before, now))
    )


def test_a_copy_that_arrives(scene: Scene, replay: object) -> None:
    scene.fts.put_source("f50m", 50_000_000)
    body = scene.fts.transfer(scene.url("f50m"), scene.target("f50m"), overwrite=True)
    assert_as_recorded(walk(scene, body), "50 MB")


def test_a_source_that_is_missing(scene: Scene, replay: object) -> None:
    body = scene.fts.transfer(scene.url("nosuchfile"), scene.target("x"))
    assert_as_recorded(walk(scene, body), "missing source")


def test_a_destination_that_exists(scene: Scene, replay: object) -> None:
    body = scene.fts.transfer(scene.url("f1m"), scene.target("t1"))
    assert_as_recorded(walk(scene, body), "dest exists no overwrite")


def test_retries(scene: Scene, replay: object) -> None:
    """The recorded walk breaks off before its end; that is in deleg.txt."""
    looks = walk(scene, scene.fts.transfer(DEAD, scene.target("x"), retry=2, overwrite=True))
    assert [look for look in looks if kinds(look) not in KNOWN] == []
    assert looks[-1][0] == "FAILED"
    waits = {file["retry"] for _, file in looks if file["file_state"] == "SUBMITTED"}
    assert {1, 2} <= waits


def test_cancel_while_active(scene: Scene, replay: object) -> None:
    """At once CANCELED; the copy stops, and what it has written stays behind."""
    scene.fts.put_source("f8g", LARGE)
    body = scene.fts.transfer(scene.url("f8g"), scene.target("f8g"), overwrite=True)
    job = scene.alice.submit(body).content["job_id"]
    partial = scene.fts.destination.root / "f8g"
    wait_for(lambda: partial.exists() and partial.stat().st_size)
    answer = scene.alice.delete(f"/jobs/{job}")
    assert recorded.differences(recorded_cancel(), answer) == []
    looks = [look_at(scene, job)]
    wait_for(lambda: looks.append(look_at(scene, job)) or looks[-1][1]["finish_time"], 60)
    assert_as_recorded(looks, "cancel while ACTIVE")
    assert 0 < partial.stat().st_size < LARGE
    partial.unlink()
