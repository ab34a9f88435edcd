"""An instance that stops answers its open connections, and accepts no new one."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import live_client
from support.another_instance import Instance, another_instance
from support.live_client import connected, exchange
from support.running_stack import Stack, until

REQUEST = b"GET /transferStatus?job_id=1 HTTP/1.1\r\nHost: x\r\n\r\n"  # 404 for every caller


@pytest.fixture
def instance(stack: Stack, tmp_path: Path) -> Iterator[Instance]:
    """It may drain for much longer than a test waits for its end."""
    with another_instance(stack, tmp_path, {"drain": "600s"}) as instance:
        yield instance


def context(stack: Stack) -> ssl.SSLContext:
    user = Path(stack.user("alice").proxy)
    return live_client.lax_context(Path(stack.testbed["ca_file"]), user)


def connect(instance: Instance) -> socket.socket:
    return socket.create_connection(("127.0.0.1", instance.port), 20)


def stop(instance: Instance) -> None:
    instance.process.send_signal(signal.SIGTERM)
    until(lambda: instance.status("/ready")[0] != 200, "it drains, or has ended")


def test_open_connections_are_answered(instance: Instance) -> None:
    """One has only connected, one has shown a certificate, one is in the middle of a request."""
    tls = context(instance.stack)
    with connect(instance) as plain, connected(instance.port, tls) as handshaken:
        with connected(instance.port, tls) as asking:
            asking.sendall(REQUEST[:20])
            until(
                lambda: 'stage="open"} 2.0' in instance.status("/metrics")[1], "they are open", 60
            )
            stop(instance)
            assert exchange(asking, REQUEST[20:]).status == 404
        assert exchange(handshaken, REQUEST).status == 404
        with tls.wrap_socket(plain, server_hostname="localhost") as late:
            reply = exchange(late, REQUEST)
        assert reply.status == 404
        assert reply.headers["connection"] == "close"
    assert instance.process.wait(60) == 0


def test_an_answered_connection_is_not_waited_for(instance: Instance) -> None:
    with connected(instance.port, context(instance.stack)) as idle:
        assert exchange(idle, REQUEST).status == 404
        stop(instance)
        assert instance.process.wait(60) == 0
        assert idle.recv(1) == b""


def test_no_new_connection_is_accepted(instance: Instance) -> None:
    with connect(instance):
        stop(instance)
        until(lambda: refuses(instance), "connections are refused")


def refuses(instance: Instance) -> bool:
    try:
        connect(instance).close()
    except ConnectionRefusedError:
        return True
    return False
