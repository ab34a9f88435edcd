"""Bad input: each a clear 4xx, and no row written."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.live_client import connected, exchange, lax_context
from support.running_stack import CALL_TIMEOUT, Stack, Target, until

GOOD = "gsiftp://127.0.0.1/home/alice"
JSON = ("-H", "Content-Type: application/json")


def form(**fields: str) -> list[str]:
    return [
        part for name, value in fields.items() for part in ("--data-urlencode", f"{name}={value}")
    ]


def raw(body: str) -> list[str]:
    return ["--data-raw", body]


DESTINATIONS = {
    "another scheme": "ftp://127.0.0.1/home/alice",
    "https": "https://127.0.0.1/home/alice",
    "a bare path": "/home/alice",
    "no host": "gsiftp:///home/alice",
    "no host but a port": "gsiftp://:2811/home/alice",
    "no directory": "gsiftp://127.0.0.1",
    "user information": "gsiftp://ubuntu@127.0.0.1/home/alice",
    "dots": "gsiftp://127.0.0.1/home/../alice",
    "encoded dots": "gsiftp://127.0.0.1/home/%2e%2e/alice",
    "a control character": "gsiftp://127.0.0.1/home/a\nb",
    "an encoded control character": "gsiftp://127.0.0.1/home/a%00b",
    "a query": "gsiftp://127.0.0.1/home?x=1",
    "a fragment": "gsiftp://127.0.0.1/home#x",
    "a port that is none": "gsiftp://127.0.0.1:99999/home",
    "a host that is none": "gsiftp://exa mple/home",
    "a number in a host's place": "gsiftp://0x7f000001/home",
    "an address in decimal": "gsiftp://2130706433/home",
    "an address in octal": "gsiftp://0177.0.0.1/home",
    "half an address": "gsiftp://127.1/home",
    "port 0": "gsiftp://127.0.0.1:0/home",
    "whose home it is": "gsiftp://127.0.0.1/~/x",
    "too long": "gsiftp://127.0.0.1/" + "a" * 3000,
}
BODIES = {
    "nothing": raw(""),
    "missing product": form(destination_path=GOOD),
    "missing destination": form(product_id="005"),
    "empty product": form(product_id="", destination_path=GOOD),
    "blank product": form(product_id="  ", destination_path=GOOD),
    "empty destination": form(product_id="005", destination_path=""),
    "unknown parameter": form(product_id="005", destination_path=GOOD, priority="1"),
    "repeated parameter": [*form(product_id="005", destination_path=GOOD), *raw("product_id=6")],
    "product with a control character": form(product_id="0\x1b5", destination_path=GOOD),
    "product of 60 kB": form(product_id="x" * 60_000, destination_path=GOOD),
    "product that is not UTF-8": raw(f"product_id=%ff%fe&destination_path={GOOD}"),
    "destination that is not UTF-8": raw(f"product_id=005&destination_path={GOOD}%ff"),
    "doubly encoded and not UTF-8": raw(f"product_id=005&destination_path={GOOD}%25ff"),
    "broken form": raw("product_id&destination_path"),
    "parameters in the URL too": [*form(product_id="005", destination_path=GOOD)],
    "broken JSON": [*JSON, *raw('{"product_id": "005", ')],
    "JSON that is no object": [*JSON, *raw('["005"]')],
    "JSON with a list": [*JSON, *raw(f'{{"product_id": ["005"], "destination_path": "{GOOD}"}}')],
    "JSON with null": [*JSON, *raw(f'{{"product_id": null, "destination_path": "{GOOD}"}}')],
    "JSON with NaN": [*JSON, *raw(f'{{"product_id": NaN, "destination_path": "{GOOD}"}}')],
    "JSON with a lone surrogate": [
        *JSON,
        *raw(f'{{"product_id": "\\ud800", "destination_path": "{GOOD}"}}'),
    ],
    "JSON nested deeply": [*JSON, *raw("[" * 30_000)],
    "JSON given twice": [
        *JSON,
        *raw(f'{{"product_id": "1", "product_id": "2", "destination_path": "{GOOD}"}}'),
    ],
    **{
        f"destination: {name}": form(product_id="005", destination_path=url)
        for name, url in DESTINATIONS.items()
    },
}


@pytest.mark.parametrize("name", BODIES)
def test_bad_body(stack: Stack, name: str) -> None:
    before = stack.how_many_jobs()
    path = "/submitTransfer?x=1" if "in the URL" in name else "/submitTransfer"
    answer = stack.curl(path, *BODIES[name])
    assert answer.status == 400
    assert answer.document["job_id"] is None
    assert answer.document["error"] is True
    assert len(answer.document["msg"]) > 10
    assert stack.how_many_jobs() == before


def test_bytes_that_are_not_utf8(stack: Stack, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"product_id=\xff\xfe&destination_path=" + GOOD.encode())
    before = stack.how_many_jobs()
    answer = stack.curl("/submitTransfer", "--data-binary", f"@{body}")
    assert (answer.status, answer.document["error"]) == (400, True)
    assert "UTF-8" in answer.document["msg"]
    assert stack.how_many_jobs() == before


@pytest.mark.parametrize("size", [70_000, 3_000_000])
def test_a_body_over_the_limit(stack: Stack, tmp_path: Path, size: int) -> None:
    """The prototype took a product id of any length."""
    body = tmp_path / "body"
    body.write_text(f"destination_path={GOOD}&product_id={'x' * size}")
    before = stack.how_many_jobs()
    answer = stack.curl("/submitTransfer", "--data-binary", f"@{body}")
    assert (answer.status, answer.document["error"]) == (413, True)
    assert answer.document["job_id"] is None
    assert stack.how_many_jobs() == before


def test_a_body_over_the_limit_is_refused_before_it_is_sent(stack: Stack, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_text(f"destination_path={GOOD}&product_id={'x' * 3_000_000}")
    answer = stack.curl(
        "/submitTransfer",
        *("--expect100-timeout", str(2 * CALL_TIMEOUT), "--data-binary", f"@{body}"),
        expect="100-continue",
    )
    assert (answer.status, answer.document["error"]) == (413, True)


def test_a_body_over_the_limit_without_a_length(stack: Stack, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_text(f"destination_path={GOOD}&product_id={'x' * 200_000}")
    answer = stack.curl(
        "/submitTransfer", "-H", "Transfer-Encoding: chunked", "--data-binary", f"@{body}"
    )
    assert answer.status == 413


def test_another_content_type(stack: Stack) -> None:
    answer = stack.curl("/submitTransfer", "-H", "Content-Type: text/xml", *raw("<product/>"))
    assert (answer.status, answer.document["error"]) == (415, True)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/submitTransfer", "POST"),
        ("PUT", "/submitTransfer", "POST"),
        ("DELETE", "/submitTransfer", "POST"),
        ("PATCH", "/submitTransfer", "POST"),
        ("OPTIONS", "/submitTransfer", "POST"),
        ("POST", "/transferStatus", "GET"),
        ("GET", "/doneStaging", "POST"),
        ("PUT", "/delegation/0", "GET, DELETE"),
        ("DELETE", "/delegation/0/request", "GET"),
        ("PATCH", "/delegation/0/credential", "POST, PUT"),
        ("QUERY", "/submitTransfer", "POST"),
        ("FINISH", "/transferStatus", "GET"),
    ],
)
def test_wrong_method(stack: Stack, method: str, path: str, allowed: str) -> None:
    before = stack.how_many_jobs()
    answer = stack.curl(path, "-X", method)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert answer.document["error"] is True
    assert stack.how_many_jobs() == before


def test_an_unknown_method_keeps_the_connection_open(stack: Stack) -> None:
    context = lax_context(Path(stack.testbed["ca_file"]), Path(stack.user("alice").proxy))
    head = b"QUERY /submitTransfer HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n"
    with connected(urlsplit(stack.url).port or 0, context) as secure:
        assert exchange(secure, head + b"x" * 50_000).status == 405
        assert exchange(secure, b"GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n").status == 200


@pytest.mark.parametrize(
    "path", ["/nothing", "/submitTransfer/", "/submittransfer", "/../etc/passwd", "/%00"]
)
def test_unknown_path(stack: Stack, path: str) -> None:
    answer = stack.curl(path, *raw(f"product_id=005&destination_path={GOOD}"))
    assert (answer.status, answer.document["error"]) == (404, True)


def test_a_destination_that_the_policy_does_not_allow(stack: Stack) -> None:
    before = stack.how_many_jobs()
    fields = form(product_id="005", destination_path="gsiftp://elsewhere.test/home/alice")
    answer = stack.curl("/submitTransfer", *fields)
    assert (answer.status, answer.document["job_id"]) == (403, None)
    assert stack.how_many_jobs() == before


def test_a_body_that_never_ends_is_not_in_flight_for_ever(stack: Stack) -> None:
    context = ssl.create_default_context(capath=stack.ca)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.load_cert_chain(stack.user("alice").proxy)
    address = urlsplit(stack.url)
    before = stack.metric("deliv_http_requests_in_flight")
    with (
        socket.create_connection((address.hostname, address.port), 10) as plain,
        context.wrap_socket(plain, server_hostname=address.hostname) as half,
    ):
        half.sendall(b"POST /submitTransfer HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
        until(lambda: stack.metric("deliv_http_requests_in_flight") > before, "it is in flight")
    until(lambda: stack.metric("deliv_http_requests_in_flight") == before, "it is let go")


def test_all_spellings_of_a_directory_are_one(stack: Stack, target: Target) -> None:
    """What a job goes by, in the policy, the caps and the key of its file, is never a spelling."""
    place = urlsplit(target.url)
    spellings = [
        target.url,
        f"GSIFTP://{place.netloc}//{place.path}//",
        f"gsiftp://127.0.0.1:{place.port}{place.path.replace('/', '/%2F')}",
        f"gsiftp://[::ffff:127.0.0.1]:{place.port}{place.path.replace('test', '%74est')}",
    ]
    for spelling in spellings:
        answer = stack.curl("/submitTransfer", *form(product_id="005", destination_path=spelling))
        assert answer.status == 202, (spelling, answer)
        job_id = answer.document["job_id"]
        known = stack.curl(f"/transferStatus?job_id={job_id}").document
        assert known["destination_path"] == target.url
        asked = "SELECT destination_host FROM jobs WHERE job_id = %s"
        assert stack.query(asked, job_id) == [("127.0.0.1",)]
