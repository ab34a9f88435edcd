"""The parameters of /transfers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from deliv.errors import InvalidRequest
from deliv.http.call.parameters import decode
from deliv.http.handlers.lists import ListParameters
from deliv.http.types import MOST, USUAL
from deliv.model.job import Listing
from deliv.model.states import Status


def parse(values: dict[str, str]) -> Listing:
    return decode(ListParameters, values).listing()


JOB = "01890a5d-ac96-774b-bcce-b302099a8057"


def test_without_any_there_is_a_page_of_the_usual_size() -> None:
    assert parse({}) == Listing(limit=USUAL)


def test_each_is_understood() -> None:
    values = {
        "status": "ERROR",
        "submitter": "/DC=org/CN=Alice",
        "product_id": "005",
        "since": "2030-01-31T18:00:00+02:00",
        "until": "2030-02-01T00:00:00Z",
        "cursor": JOB.upper(),
        "limit": str(MOST),
    }
    assert parse(values) == Listing(
        status=Status.ERROR,
        submitter="/DC=org/CN=Alice",
        product_id="005",
        since=datetime(2030, 1, 31, 16, tzinfo=UTC),
        until=datetime(2030, 2, 1, tzinfo=UTC),
        before=JOB,
        limit=MOST,
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *[("status", text) for text in ("", "error", "DONE", "ERROR,SUCCESS")],
        *[("submitter", text) for text in ("", "Alice", "/CN=Ålice", "/CN=a\nb")],
        *[("product_id", text) for text in ("", " ", "a\x00b", "x" * 1025)],
        *[("since", text) for text in ("", "yesterday", "2030-01-31", "2030-01-31T18:00:00")],
        ("until", "0001-01-01T00:00:00+14:00"),
        *[("cursor", text) for text in ("", "1", JOB[:-1])],
        *[("limit", text) for text in ("", "0", "-1", "1.5", "+1", "٣", str(MOST + 1), "9" * 5000)],
    ],
)
def test_anything_else_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(InvalidRequest, match=name):
        parse({name: text})
