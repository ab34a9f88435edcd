"""The shapes of FTS's answers, as far as deliv reads them; whatever else they hold is ignored."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from deliv.errors import Unreachable
from deliv.gateways.https import Response

T = TypeVar("T")


class WhoamiAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Without a certificate `user_dn` is "anon" and the rest is empty."""

    user_dn: str
    delegation_id: str | None = None
    vos_id: tuple[str, ...] = ()


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    job_id: str


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    job_id: str
    job_state: str


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """A job with its submitter's metadata: of deliv's jobs, `deliv_job_id`."""

    job_id: str
    job_state: str | None = None
    job_metadata: Any = None

    @property
    def deliv_job_id(self) -> str | None:
        """The job of deliv's it was submitted for; None when it is another submitter's."""
        noted = self.job_metadata if isinstance(self.job_metadata, dict) else {}
        job_id = noted.get("deliv_job_id")
        return job_id if isinstance(job_id, str) else None

    @property
    def attempt(self) -> int:
        """Which attempt of that job it is for; 0 when it does not say."""
        return self._number("attempt")

    @property
    def slice(self) -> int:
        """Which transfer of that attempt it is, counted from 0."""
        return self._number("slice")

    def _number(self, name: str) -> int:
        noted = self.job_metadata if isinstance(self.job_metadata, dict) else {}
        number = noted.get(name)
        return number if isinstance(number, int) else 0


class FileAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Bytes, MiB/s, seconds; times are naive UTC."""

    file_state: str | None = None
    dest_surl: str | None = None
    reason: str | None = None
    filesize: int | None = None
    throughput: float | None = None
    start_time: str | None = None
    finish_time: str | None = None
    tx_duration: float | None = None
    transfer_host: str | None = None
    internal_file_params: str | None = None


class JobAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of a bulk answer carries a status of its own, and nothing else when it is an error."""

    job_id: str
    job_state: str | None = None
    reason: str | None = None
    submit_time: str | None = None
    job_finished: str | None = None
    files: tuple[FileAnswer, ...] | None = None
    http_status: str | None = None
    http_message: str | None = None

    @property
    def code(self) -> int:
        """The number in `http_status`, e.g. 404 of "404 Not Found"."""
        number = (self.http_status or "").split(" ")[0]
        return int(number) if number.isdecimal() else HTTPStatus.OK


# What ?files= asks for; FTS drops the names it does not know.
FILE_FIELDS = FileAnswer.__struct_fields__


def read(answer: Response, kind: type[T]) -> T:
    """The body as `kind`; Unreachable when it is something else, as the HTML of a web server."""
    text = answer.body.decode("utf-8", "replace")  # a server's reason may be in another encoding
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError as error:
        content = answer.headers.get("Content-Type", "no content type")
        raise Unreachable(f"FTS answered {answer.status}, {content}: {error}") from error


def read_each(elements: Iterable[msgspec.Raw], kind: type[T]) -> tuple[list[T], dict[str, str]]:
    """The elements as `kind`, and why others are not of it, by the id of their job.

    Each is read by itself: one that can't be read says nothing of the others.
    """
    readable: list[T] = []
    unreadable: dict[str, str] = {}
    for element in elements:
        try:
            readable.append(msgspec.json.decode(element, type=kind))
        except msgspec.DecodeError as error:
            unreadable[_job_id(element)] = f"FTS's answer about it can't be read: {error}"
    return readable, unreadable


def _job_id(element: msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(element, type=Accepted).job_id
    except msgspec.DecodeError:
        return ""
