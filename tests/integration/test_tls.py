"""TLS on a live port: who is accepted, versions and ciphers, who is named."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives import serialization
from deliv_testbed import pki
from support.credential_kinds import KINDS, Kind
from support.credentials import ALICE, Grid, alice, full, key, presented, self_signed, user

from deliv.errors import ConfigError, CredentialRefused
from deliv.identity.connection_identities import ConnectionIdentities, verified_chain
from deliv.identity.tls import ServerTls
from integration.tls_server import (
    TIMEOUT,
    Served,
    own_fixture,  # noqa: F401 - a fixture is used by its name
    refused,
    serving,
    wait_for,
)

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """For tests that leave the files as they are."""
    with serving(Grid.create(tmp_path_factory.mktemp("tls") / "certificates")) as served:
        yield served


def attempt(served: Served, credential: pki.Credential | None) -> tuple[int, str]:
    """The status and what was said; 0 when the handshake was refused."""
    del served.refusals[:]
    try:
        with served.client(credential) as client:
            status, answer = client.whoami()
    except OSError:
        wait_for(lambda: bool(served.refusals))
        return 0, served.refusals[0]
    return status, answer.get("msg") or f"{answer['dn']} {answer['limited']}"


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if not kind.unloadable], ids=lambda kind: kind.name
)
def test_every_kind_of_credential(served: Served, kind: Kind) -> None:
    credential = kind.make(served.grid)
    status, said = attempt(served, credential)
    if kind.accepted:
        assert (status, said) == (200, f"{kind.dn} {kind.limited}")
    elif kind.handshake is not None:
        assert status == 0
        assert re.search(kind.handshake, said, re.IGNORECASE)
        assert served.subjects[-1] == presented(credential)
    else:
        assert status == 403
        assert re.search(kind.reason or "", said)


# --- what is spoken


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_current_protocols(served: Served, version: ssl.TLSVersion) -> None:
    with served.client(alice(served.grid), version=version) as client:
        assert client.whoami() == (200, {"dn": ALICE, "limited": False})
        assert client.socket.compression() is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_protocols(served: Served, version: ssl.TLSVersion) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(ssl.SSLError):
            served.client(alice(served.grid), version=version)


def test_only_ciphers_with_forward_secrecy_and_authenticated_encryption(served: Served) -> None:
    offered = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    offered.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    names = [cipher["name"] for cipher in offered.get_ciphers()]
    taken = {name for name in names if not name.startswith("TLS_") and speaks(served, name)}
    assert taken == {
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-RSA-CHACHA20-POLY1305",
    }


def speaks(served: Served, cipher: str) -> bool:
    try:
        with served.client(alice(served.grid), version=TLS12, ciphers=f"{cipher}:@SECLEVEL=0"):
            return True
    except ssl.SSLError:
        return False


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_no_session_is_resumed(served: Served, version: ssl.TLSVersion) -> None:
    with served.client(alice(served.grid), version=version) as first:
        first.whoami()
        session = first.socket.session
        assert not session.has_ticket
        with served.client(None, context=first.context, session=session) as second:
            assert second.whoami() == (200, {"dn": ALICE, "limited": False})
            assert not second.socket.session_reused


def test_a_resumed_session_is_no_identity(served: Served) -> None:
    """On a context as it usually is, to see that `peer` would notice."""
    grid, context = served.grid, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(grid.directory.parent / "host.pem", grid.directory.parent / "host.key")
    context.load_verify_locations(capath=grid.directory)
    context.verify_mode, context.options = ssl.CERT_REQUIRED, context.options | ssl.OP_NO_TICKET
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.maximum_version = TLS12
    client.load_verify_locations(capath=grid.directory)
    credential = alice(grid)
    pki.write(grid.directory.parent / "alice.pem", credential.proxy_pem())
    client.load_cert_chain(grid.directory.parent / "alice.pem")
    first = handshake(context, client)
    assert len(verified_chain(first[0])) == 2
    again = handshake(context, client, session=first[1].session)
    with pytest.raises(CredentialRefused, match="resumed"):
        verified_chain(again[0])


def handshake(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname="localhost", session=session),
    )
    done: set[ssl.SSLObject] = set()
    while len(done) < len(ends):
        for end in ends:
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                continue
    return ends


def test_no_renegotiation(served: Served, tmp_path: Path) -> None:
    credential = tmp_path / "alice.pem"
    pki.write(credential, alice(served.grid).proxy_pem(), mode=0o600)
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{served.port}", "-tls1_2"]
    done = subprocess.run(
        [*command, "-cert", credential, "-key", credential, "-CApath", served.grid.directory],
        input="R\n", capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip
    assert "RENEGOTIATING" in done.stdout + done.stderr
    assert "no renegotiation" in done.stdout + done.stderr


def test_what_is_not_tls_is_reported(own: Served) -> None:
    with socket.create_connection(("127.0.0.1", own.port), timeout=TIMEOUT) as raw:
        raw.sendall(b"GET / HTTP/1.0\r\n\r\n")
        wait_for(lambda: bool(own.refusals))
    assert own.refusals == ["HTTP_REQUEST"]
    with own.client(alice(own.grid)) as client:
        assert client.whoami()[0] == 200


def test_a_credential_that_expires_on_an_open_connection(served: Served) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
    with served.client(full(alice(served.grid), ends=ends)) as client:
        assert client.whoami()[0] == 200
        wait_for(lambda: datetime.now(UTC) > ends)
        status, answer = client.whoami()
        assert status == 403
        assert re.fullmatch(rf"{ALICE}/CN=\d+ expired at .* UTC", answer["msg"])


# --- the interfaces


def test_the_identity_is_computed_once_a_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[bytes]] = []
    plain = served.tls.identify
    monkeypatch.setattr(served.tls, "identify", lambda chain: calls.append(chain) or plain(chain))
    with served.client(full(alice(served.grid))) as client:
        assert {client.whoami()[0] for _ in range(5)} == {200}
    assert [len(chain) for chain in calls] == [3]


def test_refusals_are_computed_once_a_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[bytes]] = []
    plain = served.tls.identify
    monkeypatch.setattr(served.tls, "identify", lambda chain: calls.append(chain) or plain(chain))
    with served.client(user(served.grid.no_policy)) as client:
        assert {client.whoami()[0] for _ in range(5)} == {403}
    assert len(calls) == 1


def test_a_connection_that_was_closed_meanwhile(served: Served) -> None:
    stream = SimpleNamespace(socket=None)  # as Tornado leaves it
    with pytest.raises(CredentialRefused, match="has been closed"):
        ConnectionIdentities(served.tls).of(stream)


async def test_asyncio_servers_are_served_as_well(served: Served) -> None:
    identities, seen = ConnectionIdentities(served.tls), asyncio.Queue[str]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await seen.put(identities.of(writer.get_extra_info("ssl_object")).dn)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=served.tls.context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        there = Served(grid=served.grid, tls=served.tls, port=port, refusals=[])
        client = await asyncio.to_thread(there.client, alice(served.grid))
        assert await asyncio.wait_for(seen.get(), TIMEOUT) == ALICE
        with client:
            pass


def test_files_that_cannot_be_used(served: Served, tmp_path: Path) -> None:
    directory = served.grid.directory.parent
    good = {
        "certificate": directory / "host.pem",
        "key": directory / "host.key",
        "ca_directory": served.grid.directory,
    }
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(encrypted_key())
    other = tmp_path / "other.key"
    other.write_bytes(user(served.grid.root).key_pem())
    for name, path, problem in (
        ("certificate", tmp_path / "absent.pem", "No such file"),
        ("key", tmp_path / "absent.key", "No such file"),
        ("key", encrypted, "encrypted"),
        ("key", other, "MISMATCH"),
        ("ca_directory", tmp_path / "absent", "CA directory .* No such file"),
        ("vomsdir", tmp_path / "absent", "vomsdir .* No such file"),
    ):
        with pytest.raises(ConfigError, match=f"(?i){problem}"):
            ServerTls(**{**good, name: path})


def encrypted_key() -> bytes:
    return key("user").private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def test_a_refused_handshake_names_the_presented_certificate(served: Served) -> None:
    """Nobody has vouched for it: a certificate signed by no one is enough to be named here."""
    assert refused(served, self_signed()) == "self-signed certificate"
    assert served.subjects[-1] == ALICE
    assert "self-signed" in refused(served, self_signed('eve\n{"a": 1}\x1b[31m'))
    assert served.subjects[-1] == r'/O=Grid/OU=users/CN=eve\x0A{"a": 1}\x1B[31m'
    with pytest.raises(OSError), served.client(None) as client:
        client.whoami()
    wait_for(lambda: served.subjects[-1] is None)
