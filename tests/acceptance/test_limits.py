"""Limits on the service's own port: size, number, time and rate; and what every answer carries."""

from __future__ import annotations

import platform
import re
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from support import live_client
from support.another_instance import Instance, another_instance
from support.live_client import Reply, client_hello, connected, exchange
from support.running_stack import Stack, until

from deliv.http.monitoring import CONNECTIONS as MONITORING

NOTHING = b"GET /transferStatus?job_id=1 HTTP/1.1\r\nHost: x\r\n\r\n"  # 404 for every caller
POST = b"POST /submitTransfer HTTP/1.1\r\nHost: x\r\n"
TIGHT = {
    "connections": 16,
    "connections_per_address": 6,
    "handshakes": 3,
    "handshake_timeout": "2s",
    "idle_timeout": "3s",
    "body_timeout": "15s",  # six half-sent requests are there at once, on a loaded machine too
    "header_limit": "2KiB",
}
SLACK = 30.0  # seconds that a loaded machine may take longer
SECURITY = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "content-type": "application/json; charset=UTF-8",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "strict-transport-security": "max-age=31536000",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
TELLTALE = re.compile(rb"tornado|python|openssl|traceback|\.py\b|deliv[/.]|/home|/work|/usr", re.I)


def context(stack: Stack, user: str = "alice") -> ssl.SSLContext:
    return live_client.lax_context(Path(stack.testbed["ca_file"]), Path(stack.user(user).proxy))


def send(instance: Instance, request: bytes, user: str = "alice") -> Reply:
    with connected(instance.port, context(instance.stack, user)) as secure:
        return exchange(secure, request)


def plain(port: int, data: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", port), 20, (source, 0))
    raw.sendall(data)
    return raw


def closed(raw: socket.socket) -> bool:
    """Whether the other side has closed it, by now."""
    raw.setblocking(False)
    try:
        while raw.recv(65536):
            continue
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    return True


@pytest.fixture(scope="module")
def tight(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with another_instance(stack, tmp_path_factory.mktemp("tight"), TIGHT) as instance:
        yield instance


# --- time


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0], ids=["nothing", "a part", "a ClientHello"])
def test_a_handshake_that_does_not_end(tight: Instance, share: float) -> None:
    whole = client_hello()
    began = time.monotonic()
    with plain(tight.port, whole[: int(len(whole) * share)]) as raw:
        until(lambda: closed(raw), "it is closed", 2 + SLACK)
    assert time.monotonic() - began > 1.5


def test_a_handshake_a_byte_at_a_time(tight: Instance) -> None:
    """Each byte is progress, and yet the time is up."""
    with plain(tight.port) as raw:
        rest = iter(client_hello())

        def closed_after_another_byte() -> bool:
            try:
                raw.send(bytes([next(rest)]))
            except OSError:
                return True
            return closed(raw)

        until(closed_after_another_byte, "it is closed", 2 + SLACK)


def test_time_that_the_service_took_itself_is_not_counted(tight: Instance) -> None:
    """The service is stopped for longer than a handshake may take, while the client goes on."""
    with plain(tight.port) as raw, ThreadPoolExecutor(1) as pool:
        until(
            lambda: 'stage="greeting"} 1.0' in tight.status("/metrics")[1], "it is accepted", SLACK
        )
        tight.process.send_signal(signal.SIGSTOP)
        try:
            wrap = context(tight.stack).wrap_socket
            handshake = pool.submit(wrap, raw, server_hostname="localhost")
            began = time.monotonic()
            until(lambda: time.monotonic() > began + 2.5, "its time is over", SLACK)
        finally:
            tight.process.send_signal(signal.SIGCONT)
        with handshake.result(SLACK) as secure:
            assert exchange(secure, NOTHING).status == 404


def test_an_idle_connection(tight: Instance) -> None:
    with connected(tight.port, context(tight.stack)) as secure:
        assert exchange(secure, NOTHING).status == 404
        until(lambda: closed(secure), "it is closed", 3 + SLACK)


def test_a_header_that_does_not_end(tight: Instance) -> None:
    with connected(tight.port, context(tight.stack)) as secure:
        secure.sendall(NOTHING[:-2])
        until(lambda: closed(secure), "it is closed", 3 + SLACK)


def test_a_body_that_does_not_end(tight: Instance) -> None:
    with connected(tight.port, context(tight.stack)) as secure:
        secure.sendall(POST + b"Content-Length: 9\r\n\r\nhalf")
        until(lambda: closed(secure), "it is closed", 15 + SLACK)


# --- number


def test_an_address_over_its_limit_closes_its_own(tight: Instance) -> None:
    with ExitStack() as held:
        silent = [held.enter_context(plain(tight.port, source="127.0.0.2")) for _ in range(5)]
        opened = time.monotonic()
        last = held.enter_context(plain(tight.port, source="127.0.0.2"))
        with connected(tight.port, context(tight.stack), "127.0.0.2") as secure:
            assert exchange(secure, NOTHING).status == 404
            until(lambda: closed(silent[0]), "the oldest is closed", SLACK)
            left = not closed(last)
            assert left or time.monotonic() - opened > 2, "but for its own time it is left"


def test_others_connect_beside_a_crowd(tight: Instance) -> None:
    whole = client_hello()
    with ExitStack() as held:
        for number in range(60):
            source = f"127.0.1.{number % 20 + 1}"
            held.enter_context(plain(tight.port, whole[: number % 3 * 200], source))
        with connected(tight.port, context(tight.stack)) as secure:
            assert exchange(secure, NOTHING).status == 404
            for number in range(60):
                held.enter_context(plain(tight.port, whole, f"127.0.2.{number % 20 + 1}"))
            assert exchange(secure, NOTHING).status == 404
    assert 'deliv_connections_closed_total{why="crowded"}' in tight.status("/metrics")[1]


def deserted(instance: Instance) -> bool:
    """Whether there is no connection."""
    lines = instance.status("/metrics")[1].splitlines()
    numbers = [line.split()[1] for line in lines if line.startswith("deliv_connections{")]
    return numbers == ["0.0"] * 3


def test_an_address_whose_connections_are_all_busy(tight: Instance) -> None:
    until(lambda: deserted(tight) and deserted(tight), "the connections of other tests are closed")
    lax = context(tight.stack)
    with ExitStack() as held:
        for _ in range(6):
            secure = held.enter_context(connected(tight.port, lax, "127.0.0.3"))
            secure.sendall(POST + b"Content-Length: 9\r\n\r\nhalf")
        until(lambda: "in_flight 6.0" in tight.status("/metrics")[1], "they are being served")
        with plain(tight.port, client_hello(), "127.0.0.3") as raw:
            until(lambda: closed(raw), "it is closed", SLACK)
        with connected(tight.port, lax, "127.0.0.4") as secure:
            assert exchange(secure, NOTHING).status == 404


# --- size


def padded(size: int) -> bytes:
    return NOTHING[:-2] + b"X-Padding: " + b"x" * size + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (padded(1900), 404),
        (padded(2100), 431),
        (padded(100_000), 431),
        (b"GET /" + b"x" * 8001 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /transferStatus?job_id=" + b"x" * 8001 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (POST + b"Content-Length: 70000\r\n\r\n" + b"x" * 70000, 413),
        (POST + b"Content-Length: 70000\r\nExpect: 100-continue\r\n\r\n", 413),
        (POST + b"Content-Length: 9000000\r\n\r\n", 413),
        (POST + b"Content-Length: 99999999999999999999999\r\n\r\n", 400),
        (POST + b"Expect: 100-continue\r\nContent-Length: x\r\n\r\n", 400),
        (POST + b"Content-Length: 8204\r\n\r\nproduct_id=" + b"x" * 8193, 400),
    ],
    ids=lambda value: value if isinstance(value, int) else value[:40],
)
def test_sizes(tight: Instance, request_bytes: bytes, status: int) -> None:
    reply = send(tight, request_bytes)
    assert reply.status == status
    assert reply.document["error"] is True


def test_a_chunked_body_without_end(tight: Instance) -> None:
    """It is read for a while but not kept; then comes the answer."""
    with connected(tight.port, context(tight.stack)) as secure:
        secure.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"

        def refused() -> bool:
            try:
                secure.sendall(chunk)
            except OSError:
                return True
            return False

        until(refused, "the connection is closed", SLACK + 10)


# --- rate


@pytest.fixture(scope="module")
def strict(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    rest = {"requests_per_second": 2, "requests_burst": 10, "requests_at_once": 3}
    with another_instance(stack, tmp_path_factory.mktemp("strict"), rest) as instance:
        yield instance


def test_too_often(strict: Instance) -> None:
    with connected(strict.port, context(strict.stack)) as secure:
        replies = [exchange(secure, NOTHING) for _ in range(10)]
        assert {reply.status for reply in replies} == {404}
        refused = until(lambda: throttled(exchange(secure, NOTHING)), "it is too often")
        assert refused.document["msg"] == "more than 2 requests a second from you: wait"
        assert int(refused.headers["retry-after"]) >= 1
        assert send(strict, NOTHING, user="bob").status == 404
        until(lambda: exchange(secure, NOTHING).status == 404, "the bucket has a token again")
    entry = next(e for e in strict.audit() if e.get("status") == 429)
    assert (entry["outcome"], entry["dn"]) == ("refused", strict.stack.user("alice").dn)


def throttled(reply: Reply) -> Reply | None:
    return reply if reply.status == 429 else None


def test_too_much_at_once(strict: Instance) -> None:
    lax = context(strict.stack, "operator")
    with ExitStack() as held:
        for _ in range(3):
            secure = held.enter_context(connected(strict.port, lax))
            secure.sendall(POST + b"Content-Length: 9\r\n\r\nhalf")
        until(lambda: "in_flight 3.0" in strict.status("/metrics")[1], "they are being served")
        reply = send(strict, NOTHING, user="operator")
        assert (reply.status, reply.headers["retry-after"]) == (429, "1")
        assert "3 requests at once" in reply.document["msg"]
        assert send(strict, NOTHING, user="bob").status == 404
    until(lambda: "in_flight 0.0" in strict.status("/metrics")[1], "they have ended")
    assert send(strict, NOTHING, user="operator").status == 404


# --- what answers carry


def test_a_refusal_leaves_the_connection_open(strict: Instance) -> None:
    """So that the next try need not pay for a handshake, nor does the service."""
    unknown = b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70000
    with connected(strict.port, context(strict.stack, "stager")) as secure:
        replies = [exchange(secure, request) for request in (unknown, OTHERS["405"], NOTHING)]
    assert [reply.status for reply in replies] == [404, 405, 404]


MALFORMED = {
    "garbage": b"GARBAGE\r\n\r\n",
    "another protocol": b"GET / HTTP/3.0\r\nHost: x\r\n\r\n",
    "a version that is none": b"GET / HTTQ/1.1\r\nHost: x\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n",
    "a header with a NUL": b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
    "a header with a space before its colon": b"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a length that is none": POST + b"Content-Length: 0x10\r\n\r\n",
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another transfer encoding": POST + b"Transfer-Encoding: gzip\r\n\r\n",
    "a chunk size that is none": POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "a chunk that is longer than it says": POST
    + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabcdef\r\n0\r\n\r\n",
}
OTHERS = {
    "200": b"GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n",
    "400": POST + b"Content-Length: 0\r\n\r\n",
    "403": b"POST /doneStaging HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "404": NOTHING,
    "404 of a path": b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    "404 of another server": b"GET https://elsewhere.test/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "405": b"PUT /submitTransfer HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
    "405 of a method that is none": b"BREW /submitTransfer HTTP/1.1\r\nHost: x\r\n\r\n",
    "405 of TRACE": b"TRACE /submitTransfer HTTP/1.1\r\nHost: x\r\n\r\n",
    "415": POST + b"Content-Type: text/xml\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_not_http(tight: Instance, name: str) -> None:
    reply = send(tight, MALFORMED[name])
    assert reply.status == 400
    carries_what_every_answer_does(reply)
    wanted = reply.headers["x-request-id"]
    (entry,) = [entry for entry in tight.audit() if entry.get("request_id") == wanted]
    assert (entry["outcome"], entry["status"]) == ("failed", 400)
    assert entry["dn"] == tight.stack.user("alice").dn


@pytest.mark.parametrize("name", OTHERS)
def test_other_answers(tight: Instance, name: str) -> None:
    reply = send(tight, OTHERS[name])
    assert str(reply.status) == name[:3] or name == "200"
    carries_what_every_answer_does(reply)


def carries_what_every_answer_does(reply: Reply) -> None:
    assert isinstance(reply.document.get("error", False), bool)
    held = {name: reply.headers.get(name) for name in SECURITY}
    assert held == SECURITY
    assert not {"server", "x-powered-by", "via"} & set(reply.headers)
    shown = repr(reply.headers).encode() + reply.body
    assert not TELLTALE.search(shown), shown


def test_a_fault_of_our_own(stack: Stack, tmp_path: Path) -> None:
    """A database without our tables, which nobody expects."""
    settings = yaml.safe_load(Path(stack.testbed["config"]).read_text("utf-8"))["database"]
    with another_instance(
        stack, tmp_path, database=settings | {"name": "information_schema"}
    ) as instance:
        job = b"GET /transferStatus?job_id=01900000-0000-7000-8000-000000000000 HTTP/1.1\r\n"
        reply = send(instance, job + b"Host: x\r\n\r\n")
    assert reply.status == 500
    carries_what_every_answer_does(reply)
    assert reply.headers["x-request-id"] in reply.document["msg"]


def test_head_has_no_body(tight: Instance) -> None:
    reply = send(tight, b"HEAD /transferStatus?job_id=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (reply.status, reply.body, reply.headers["allow"]) == (405, b"", "GET")


@pytest.mark.parametrize(("path", "status"), [("/nothing", 404), ("/live", 200)])
def test_the_monitoring_port_shows_no_version(tight: Instance, path: str, status: int) -> None:
    with socket.create_connection(("127.0.0.1", tight.monitoring), 10) as raw:
        raw.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert not TELLTALE.search(answer), answer
    assert b"\r\nServer:" not in answer


def test_the_monitoring_port_shows_no_version_of_python(tight: Instance) -> None:
    status, text = tight.status("/metrics")
    assert status == 200
    assert "python_info" not in text
    assert platform.python_version() not in text


@pytest.mark.parametrize("said", [b"", b"GET /live HTTP/1.1\r\nHost: x\r\n"])
def test_a_silent_connection_to_the_monitoring_port(tight: Instance, said: bytes) -> None:
    with plain(tight.monitoring, said) as raw:
        until(lambda: closed(raw), "it is closed", 3 + SLACK)


def test_a_body_for_the_monitoring_port(tight: Instance) -> None:
    with plain(
        tight.monitoring, b"POST /live HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    ) as raw:
        until(lambda: closed(raw), "it is closed, and nothing is kept", SLACK)


def test_a_crowd_at_the_monitoring_port(strict: Instance) -> None:
    """They make way for each other, and for who asks; half of them begin to ask."""
    with ExitStack() as held:
        crowd = [
            held.enter_context(plain(strict.monitoring, b"GET /li"[: number % 2 * 7]))
            for number in range(300)
        ]
        until(lambda: sum(map(closed, crowd)) >= 300 - MONITORING, "the oldest are closed", SLACK)
        assert strict.status("/live")[0] == 200
        status, metrics = strict.status("/metrics")
        assert status == 200
    (line,) = re.findall(r'^deliv_monitoring_connections{stage="open"} (.*)$', metrics, re.M)
    assert float(line) <= MONITORING
    assert re.search(
        r'^deliv_monitoring_connections_closed_total{why="crowded"} [1-9]', metrics, re.M
    )
