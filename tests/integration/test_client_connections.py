"""The client's connections: kept ones, and servers that are not deliv or not to be trusted."""

from __future__ import annotations

import socket
import threading
from datetime import timedelta

import pytest
from deliv_testbed import pki, ports

from deliv.client import (
    Client,
    CredentialRefused,
    CredentialUnusable,
    ServerNotTrusted,
    Unreachable,
)
from integration.client_world import (
    DROP,
    SUCCESS,
    World,
    module_world_fixture,  # noqa: F401 - fixtures are used by their names
    world_fixture,  # noqa: F401 - fixtures are used by their names
)


def test_one_connection_serves_many_calls(world: World) -> None:
    world.deliv.script += [SUCCESS, SUCCESS, SUCCESS]
    with world.client() as client:
        for _ in range(3):
            client.status("J")
    assert len({call.connection for call in world.deliv.calls}) == 1


def test_a_kept_connection_that_was_closed_is_replaced_at_once(world: World) -> None:
    world.deliv.script += [SUCCESS, DROP, SUCCESS]
    with world.client() as client:
        client.status("J")
        assert client.status("J")["status"] == "SUCCESS"


def test_a_renewed_proxy_is_used_for_the_next_connection(world: World) -> None:
    renewed = world.write("renewed", world.alice.proxy())
    world.deliv.script += [SUCCESS, DROP, SUCCESS]
    with world.client(renewed) as client:
        client.status("J")
        world.write("renewed", world.alice.proxy(lifetime=timedelta(minutes=-1)))
        with pytest.raises(CredentialUnusable, match="expired"):
            client.status("J")


def test_a_certificate_of_an_unknown_ca_is_refused(world: World) -> None:
    stranger = pki.Authority.create().issue(pki.user_name("mallory"))
    proxy = world.write("mallory", stranger.proxy())
    with (
        world.client(proxy) as client,
        pytest.raises((CredentialRefused, Unreachable), match="comes from a CA that the server"),
    ):
        client.status("J")
    assert world.deliv.calls == []


def test_a_server_of_another_name_is_not_trusted(world: World) -> None:
    other = world.authority.issue(pki.host_name("other"), hosts=["other.test"])
    impostor = world.server(other)
    with (
        impostor.running(),
        Client(impostor.url, world.proxy, world.proxy, world.ca, patience=20) as client,
        pytest.raises(ServerNotTrusted, match="name that is in its certificate"),
    ):
        client.status("J")
    assert impostor.calls == []


def test_a_server_of_another_ca_is_not_trusted(world: World) -> None:
    impostor = world.server(pki.Authority.create().issue_host())
    with (
        impostor.running(),
        Client(impostor.url, world.proxy, world.proxy, world.ca, patience=20) as client,
        pytest.raises(ServerNotTrusted, match="X509_CERT_DIR"),
    ):
        client.status("J")


def test_nobody_there(world: World) -> None:
    (port,) = ports.choose(1)
    client = Client(f"https://127.0.0.1:{port}", world.proxy, world.proxy, world.ca, patience=0)
    with pytest.raises(Unreachable, match="Connection refused"):
        client.status("J")


def test_a_server_that_says_nothing_is_left_in_time(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        client = Client(url, world.proxy, world.proxy, world.ca, timeout=0.3, patience=0)
        with pytest.raises(Unreachable, match="in time"):
            client.status("J")


def test_a_server_without_tls(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        thread = threading.Thread(target=_speak_plainly, args=(plain,))
        thread.start()
        url = f"https://127.0.0.1:{plain.getsockname()[1]}"
        client = Client(url, world.proxy, world.proxy, world.ca, patience=0)
        with pytest.raises(Unreachable, match=r"(?i)wrong.version"):
            client.status("J")
        thread.join()


def _speak_plainly(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
