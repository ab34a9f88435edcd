"""The recordings of a real FTS3, and what it means to answer as it did.

A recording is a file of sections, `##### title` and the answers that came. Two answers agree
when status and type are the same, every field is there under its name with the same JSON type, and
every text and whole number is the same but for ids, hosts, times and checksums.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parents[1] / "recordings"
SECTION = re.compile(r"^##### (.*)$", re.MULTILINE)
STATUS = re.compile(r"\[HTTP (\d{3}) ?([^\]]*)\]")
BARE_STATUS = re.compile(r"\d{3} ?")
# What is between the answers: timings, headings, the ids that were computed beside them.
NOISE = re.compile(r'(real|user|sys)\t.*|\w[^{]*:|"base_id".*|[0-9a-f-]{36} [0-9a-f-]{36}')
# In a text, what differs from one server, host and time to the next.
PATTERNS = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"gsiftp://[\w.-]+:\d+/\S*"), "gsiftp://HOST:PORT/PATH"),
    (re.compile(r"gsiftp://(vm|localhost|127\.0\.0\.1)(?![\w.:])"), "gsiftp://HOST"),
    (re.compile(r"(localhost|127\.0\.0\.1):\d+"), "HOST:PORT"),
    (re.compile(r"expired \d+ seconds"), "expired N seconds"),
    (re.compile(r"!= [0-9a-f]{8}"), "!= CHECKSUM"),
    (re.compile(r"/\S*/\d{4}-\d\d-\d\d/\S+__\S+"), "LOG"),
)
HOSTS = {"submit_host", "transfer_host"}
OWN_NUMBERS = {"file_id", "hashed_id", "pid"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Status None: not recorded. 0: the TLS handshake failed, and the body is what curl said."""

    status: int | None
    kind: str
    body: str

    @property
    def content(self) -> Any:
        """The body as JSON where it is that, else the text in one form of white space."""
        try:
            return json.loads(self.body)
        except ValueError:
            return " ".join(self.body.split())


def sections(name: str) -> dict[str, list[Answer]]:
    """The answers of one recording by their titles, in order."""
    parts = SECTION.split((DIRECTORY / name).read_text(encoding="utf-8"))
    return {
        title.strip(): list(_answers(text))
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def _answers(text: str) -> Iterator[Answer]:
    body = list[str]()
    for line in text.splitlines():
        if found := STATUS.fullmatch(line):
            yield Answer(status=int(found[1]), kind=found[2].strip(), body="\n".join(body))
            body.clear()
        elif BARE_STATUS.fullmatch(line):
            yield Answer(status=int(line), kind="", body="")
        elif line and not NOISE.fullmatch(line):
            if body and _is_json("\n".join(body)):
                yield Answer(status=None, kind="", body="\n".join(body))
                body.clear()
            body.append(line)
    if body:
        yield Answer(status=None if _is_json("\n".join(body)) else 0, kind="", body="\n".join(body))


def _is_json(text: str) -> bool:
    return text.startswith(("{", "[", '"', "null"))


def differences(recorded: Answer, ours: Answer) -> list[str]:
    """Where `ours` doesn't agree; nothing when it does."""
    if recorded.status == 0:
        said = "unknown ca" in ours.body.replace("_", " ").lower()
        return [] if ours.status == 0 and said else [f"no TLS alert but {ours}"]
    found = []
    if recorded.status not in (None, ours.status):
        found.append(f"status {ours.status} in place of {recorded.status}: {ours.body[:200]}")
    if recorded.kind and recorded.kind != ours.kind:
        found.append(f"type {ours.kind} in place of {recorded.kind}")
    return found + list(_differences("", recorded.content, ours.content))


def _differences(where: str, recorded: Any, ours: Any) -> Iterator[str]:
    if type(recorded) is not type(ours):
        yield f"{where}: {ours!r} in place of {recorded!r}"
    elif isinstance(recorded, dict):
        yield from _fields(where, recorded, ours)
    elif isinstance(recorded, list):
        if len(recorded) != len(ours):
            yield f"{where}: {len(ours)} elements in place of {len(recorded)}"
        for index, pair in enumerate(zip(recorded, ours, strict=False)):
            yield from _differences(f"{where}[{index}]", *pair)
    elif not isinstance(recorded, float) and neutral(recorded) != neutral(ours):
        yield f"{where}: {ours!r} in place of {recorded!r}"


def _fields(where: str, recorded: dict[str, Any], ours: dict[str, Any]) -> Iterator[str]:
    if recorded.keys() != ours.keys():
        yield f"{where}: the fields differ by {sorted(recorded.keys() ^ ours.keys())}"
    for name in recorded.keys() & ours.keys():
        one, other = recorded[name], ours[name]
        if name in HOSTS | OWN_NUMBERS and type(one) is type(other):
            continue
        yield from _differences(f"{where}.{name}", one, other)


def neutral(value: Any) -> Any:
    """A text without what differs from server to server; anything else as it is."""
    if isinstance(value, str):
        for pattern, word in PATTERNS:
            value = pattern.sub(word, value)
    return value
