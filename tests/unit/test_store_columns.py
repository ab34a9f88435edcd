"""How changes become SQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from deliv.model.job import Job
from deliv.model.states import Status
from deliv.store.columns import FIXED, KEEP, NOW, SETTABLE, Change

TIME = datetime(2026, 1, 1, tzinfo=UTC)


def job(**changes: Any) -> Job:
    values = {
        "job_id": "id",
        "product_id": "product",
        "status": Status.STAGING,
        "destination_path": "gsiftp://host/",
        "submitter": "/CN=a",
        "time_submitted": TIME,
    }
    return Job(**{**values, **changes})


def test_every_change_grows_the_version() -> None:
    assert Change(columns={}).assignments() == ("version = version + 1", [])


def test_values_are_bound_and_now_is_the_databases() -> None:
    columns = {"checksum": "x'; --", "time_staged": NOW}
    change = Change(columns=columns, status=Status.STAGING, delay=1.5)
    terms, values = change.assignments()
    assert terms == (
        "version = version + 1, due_at = NOW(6) + INTERVAL %s MICROSECOND, status = %s, "
        "checksum = %s, time_staged = NOW(6)"
    )
    assert values == [1_500_000, Status.STAGING, "x'; --"]


def test_no_delay_is_rest_and_keep_is_neither() -> None:
    assert Change(columns={}, delay=None).assignments()[1] == [None]
    assert "due_at" not in Change(columns={}, delay=KEEP).assignments()[0]


@pytest.mark.parametrize("name", sorted(FIXED))
def test_some_columns_are_not_to_be_set(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        Change(columns={name: 1})


def test_fixed_columns_exist() -> None:
    assert FIXED < set(Job.__dataclass_fields__)
    assert FIXED.isdisjoint(SETTABLE)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"checksum": "a", "time_staged": TIME}, True),
        ({"checksum": "b", "time_staged": TIME}, False),
        ({"checksum": "a", "time_staged": None}, False),
        ({"checksum": "a", "time_staged": TIME, "status": Status.ERROR}, False),
    ],
)
def test_a_change_is_recognised(found: dict[str, Any], expected: bool) -> None:
    change = Change(columns={"checksum": "a", "time_staged": NOW}, status=Status.STAGING)
    assert change.is_in(job(**found)) is expected


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("plain", "plain"),
        ("\ud800x", "?x"),
        ("\N{TELESCOPE}" * 20_000, "\N{TELESCOPE}" * 16_383),
        (None, None),
    ],
)
def test_prose_is_made_to_fit(said: str | None, kept: str | None) -> None:
    assert Change(columns={"detailed_status": said}).columns == {"detailed_status": kept}
