"""What `deliv submit --from` reads, and the keys that make its repetition harmless."""

from __future__ import annotations

import pytest

from deliv.client.campaign import read
from deliv.client.errors import UnusableFile

PLACE = {"destination_path": "gsiftp://h/a"}


def products(content: str, **defaults: str) -> list[tuple[int, dict[str, str]]]:
    """The lines' numbers and items, without their keys."""
    lines = read(content.encode(), {**PLACE, **defaults}, None)
    without = ("idempotency_key",)
    return [
        (line.number, {name: text for name, text in line.item.items() if name not in without})
        for line in lines
    ]


def keys(content: str, run: str | None = None, **defaults: str) -> list[str]:
    lines = read(content.encode(), {**PLACE, **defaults}, run)
    return [line.item["idempotency_key"] for line in lines]


def test_csv_has_a_product_a_line() -> None:
    text = '\ufeff005\r\n\n"a, b", gsiftp://h/b \n006,,2030-01-31T18:00:00Z,x\n'
    found = products(text, label="all")
    assert found[:2] == [
        (1, {"product_id": "005", **PLACE, "label": "all"}),
        (3, {"product_id": "a, b", "destination_path": "gsiftp://h/b", "label": "all"}),
    ]
    number, last = found[2]
    assert (number, last["label"], last["destination_path"]) == (4, "x", "gsiftp://h/a")
    assert last["deadline"].startswith("2030-0")


def test_a_first_line_may_name_the_columns() -> None:
    text = "product_id,label\n005,x\n006,\n"
    assert products(text, label="all") == [
        (2, {"product_id": "005", **PLACE, "label": "x"}),
        (3, {"product_id": "006", **PLACE, "label": "all"}),
    ]


def test_json_has_an_object_a_line() -> None:
    text = '{"product_id": "005", "label": null}\n\n{"product_id": "006", "label": "x"}'
    assert products(text) == [
        (1, {"product_id": "005", **PLACE}),
        (3, {"product_id": "006", **PLACE, "label": "x"}),
    ]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "no line in it"),
        (b"product_id\n", "no line in it"),
        (b"005\n\xff\n", "line 2 is not UTF-8"),
        (b'005\n"006\n', "line 2 is not CSV"),
        (b"005\n,gsiftp://h/b\n", "line 2 has no product_id"),
        (b"005\n006,a,b,c,d\n", "line 2 has 5 columns"),
        (b"product_id,colour\n005,red\n", "line 1: unknown 'colour'"),
        (b"product_id,label,label\n", "line 1 has a name twice"),
        (b"005\n006,,soon\n", "line 2: the deadline must be ISO 8601, not 'soon'"),
        (b'{"product_id": "005"}\n{', "line 2 is not JSON"),
        (b'{"product_id": "005"}\n[]', "line 2 is not a JSON object"),
        (b'{"product_id": 5}', "line 1: product_id must be a string"),
        (b'{"product": "5"}', "line 1: unknown 'product'"),
    ],
)
def test_an_error_names_the_line(content: bytes, wanted: str) -> None:
    with pytest.raises(UnusableFile, match=wanted) as raised:
        read(content, PLACE, None)
    assert raised.value.exit_code == 2


def test_a_line_needs_a_destination() -> None:
    with pytest.raises(UnusableFile, match="line 2 has no destination_path"):
        read(b"005,gsiftp://h/a\n006\n", {}, None)


def test_the_keys_are_the_files_and_the_lines() -> None:
    text = "005\n005\n\n006\n"
    first = keys(text)
    assert len(set(first)) == 3
    assert keys(text) == first
    assert set(keys(text + "007\n")).isdisjoint(first)
    assert set(keys(text, label="x")).isdisjoint(first)
    assert set(keys(text, run="second")).isdisjoint(first)
    assert keys("005\n", run="second") == keys("006\n", run="second")


def test_a_key_of_the_lines_own_stays() -> None:
    assert keys('{"product_id": "005", "idempotency_key": "k"}') == ["k"]
