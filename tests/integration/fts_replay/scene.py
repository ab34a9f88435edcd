"""The players of the recordings, and the sections by their titles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from integration.private_fts import Client, Fts
from integration.recorded import Answer

FORM = "application/x-www-form-urlencoded"
SIZE = 1_000_000
DEAD = "gsiftp://localhost:1/x"


@dataclass
class Scene:
    """The players, and the ids that one section leaves to the next."""

    fts: Fts
    alice: Client
    bob: Client
    nobody: Client
    ids: dict[str, str] = field(default_factory=dict)

    def url(self, name: str) -> str:
        return self.fts.at_source(name)

    def target(self, name: str) -> str:
        return self.fts.at_destination(name)

    def copy(self, source: str, target: str, **params: Any) -> Answer:
        return self.alice.submit(self.fts.transfer(self.url(source), self.target(target), **params))

    def post(self, source: str, target: str) -> list[Answer]:
        return [self.alice.submit(self.fts.transfer(source, target))]

    def ended(self, answer: Answer, files: str) -> list[Answer]:
        """The answer to a submission, and the job with these fields of its files at its end."""
        job_id = answer.content["job_id"]
        self.alice.ended(job_id)
        return [answer, self.alice.get(f"/jobs/{job_id}?files={files}")]


Section = Callable[[Scene], list[Answer]]
SECTIONS: dict[str, Section] = {}


def section(title: str) -> Callable[[Section], Section]:
    def register(function: Section) -> Section:
        SECTIONS[title] = function
        return function

    return register
