"""What an answer that is no JSON is reported as."""

from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders

from deliv.gateways.https import Response
from deliv.gateways.upstream import SHOWN, error_message

KIND = "text/html; charset=utf-8"
BANNED = "<h1>Forbidden</h1>\n<p>The user has been banned</p>"


def shown(page: str) -> str:
    answer = Response(status=403, headers=HTTPHeaders({"Content-Type": KIND}), body=page.encode())
    text = error_message(answer)
    assert text.startswith(f"{KIND}, not its JSON")
    return text.removeprefix(f"{KIND}, not its JSON").removeprefix(": ")


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (
            f"<!doctype html><title>403 Forbidden</title>{BANNED}",
            "Forbidden The user has been banned",
        ),
        (
            f"<html><head><style>p {{}}</style><body>{BANNED}</body>",
            "Forbidden The user has been banned",
        ),
        ("<html><head><title>x</title></head><body>a &lt;b&gt;\n  c</body></html>", "a <b> c"),
        ("<html><script>if (a < b) {}</script><p>x\x1b[31m y\x9b1</p>", "x[31m y1"),
        ("<html><p>not closed", "not closed"),
        ("<html><title>nothing else</title>", ""),
        ("<", "<"),
    ],
)
def test_the_text_that_a_page_shows(page: str, text: str) -> None:
    assert shown(page) == text


def test_of_a_long_page_only_the_beginning() -> None:
    assert shown(f"<html><p>{'words ' * 100_000}") == ("words " * SHOWN)[:SHOWN].strip()
