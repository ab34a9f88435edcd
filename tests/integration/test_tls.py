"""TLS on a live port: who is accepted, versions and ciphers, files that change meanwhile."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from deliv_testbed import pki
from deliv_testbed.pki import Authority
from support.credential_kinds import KINDS, Kind
from support.credentials import ALICE, Grid, alice, full, key, presented, self_signed, user

from deliv.errors import ConfigError, CredentialRefused
from deliv.identity.connection_identities import ConnectionIdentities, verified_chain
from deliv.identity.tls import ServerTls
from integration.tls_server import TIMEOUT, Client, Served, serving

TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """For tests that leave the files as they are."""
    with serving(Grid.create(tmp_path_factory.mktemp("tls") / "certificates")) as served:
        yield served


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Served]:
    """For tests that change the files."""
    with serving(Grid.create(tmp_path / "certificates")) as served:
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


def wait_for(condition: Callable[[], bool]) -> None:
    deadline, pause = time.monotonic() + TIMEOUT, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.01)


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


# --- files that change


def test_a_new_crl_counts_at_once_and_closes_no_connection(own: Served) -> None:
    mine, other = alice(own.grid), user(own.grid.root, "bob")
    with own.client(full(mine)) as client, own.client(other) as bystander:
        assert client.whoami()[0] == bystander.whoami()[0] == 200
        own.grid.revoke(mine.certificate)
        assert own.tls.reload()
        assert not own.tls.reload()
        assert client.whoami() == (403, {"msg": f"{ALICE} is revoked"})
        assert bystander.whoami()[0] == 200
    assert refused(own, full(mine)) == "certificate revoked"


def test_a_crl_that_ends_under_an_open_connection(own: Served) -> None:
    """Also of a CA further up; a list that comes in time keeps the connection's identity."""
    below = user(own.grid.intermediate)
    ends = list_that_ends_soon(own, own.grid.root)
    with own.client(full(alice(own.grid))) as client, own.client(below) as other:
        assert client.whoami()[0] == other.whoami()[0] == 200
        wait_for(lambda: datetime.now(UTC) > ends + timedelta(seconds=1))
        expired = (403, {"msg": "the revocation list of the CA /O=Grid/CN=root CA has expired"})
        assert client.whoami() == other.whoami() == expired
        assert refused(own, alice(own.grid)) == "CRL has expired"
        own.grid.revoke()
        own.tls.reload()
        assert client.whoami()[0] == other.whoami()[0] == 200


def test_a_crl_that_is_replaced_in_time(own: Served) -> None:
    ends = list_that_ends_soon(own, own.grid.root)
    with own.client(alice(own.grid)) as client:
        assert client.whoami()[0] == 200
        own.grid.revoke()
        wait_for(lambda: datetime.now(UTC) > ends + timedelta(seconds=1))
        assert client.whoami()[0] == 200


def list_that_ends_soon(served: Served, authority: Authority) -> datetime:
    """Put a list in force that has a few seconds left; when it ends."""
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=5)
    updated = ends - timedelta(days=1)
    crl = authority.revocation_list(updated=updated, lifetime=timedelta(days=1))
    served.grid.write_crl(authority, crl)
    served.tls.reload()
    return ends


def test_a_new_ca_and_a_removed_one(own: Served) -> None:
    new = Authority.create(pki.name(("O", "deliv testbed"), ("CN", "new CA")), key=key("new CA"))
    newcomer = new.issue(pki.user_name("newcomer"), key=key("user"))
    assert "issuer certificate" in refused(own, newcomer)
    new.install(own.grid.directory)
    own.tls.reload()
    with own.client(newcomer) as client:
        assert client.whoami()[1]["dn"] == "/O=deliv testbed/OU=users/CN=newcomer"
        own.grid.file(new, "0").unlink()
        own.tls.reload()
        assert client.whoami() == (
            403,
            {"msg": "the CA /O=deliv testbed/CN=new CA is not trusted"},
        )
    assert "issuer certificate" in refused(own, newcomer)


def test_a_new_server_certificate(own: Served) -> None:
    with own.client(alice(own.grid)) as before:
        assert before.whoami()[0] == 200
        new = own.grid.root.issue_host()
        directory = own.grid.directory.parent
        pki.write_credential(directory / "host.pem", directory / "host.key", new)
        assert own.tls.reload()
        assert before.whoami()[0] == 200
        assert shown(before) != new.certificate.serial_number
    with own.client(alice(own.grid)) as after:
        assert shown(after) == new.certificate.serial_number


def test_a_broken_server_certificate_leaves_the_old_one(own: Served) -> None:
    certificate = own.grid.directory.parent / "host.pem"
    good = certificate.read_bytes()
    certificate.write_text("broken")
    for _ in range(2):
        assert not own.tls.reload()
        assert [reason for reason in own.tls.unusable() if "host.pem" in reason]
    with own.client(alice(own.grid)) as client:
        assert client.whoami()[0] == 200
    certificate.write_bytes(good)
    assert own.tls.reload()
    assert not [reason for reason in own.tls.unusable() if "host.pem" in reason]


def test_a_revoked_caller_is_refused_while_our_own_key_is_broken(own: Served) -> None:
    """The old certificate goes on, with the CAs and lists as they are now."""
    new = Authority.create(pki.name(("O", "Grid"), ("CN", "new CA")), key=key("new CA"))
    new.install(own.grid.directory)
    own.grid.file(new, "signing_policy").write_text(new.signing_policy("/O=Grid/*"))
    own.tls.reload()
    mine, other, theirs = alice(own.grid), user(own.grid.root, "bob"), user(new, "carol")
    host_key = own.grid.directory.parent / "host.key"
    good = host_key.read_bytes()
    with (
        own.client(full(mine)) as client,
        own.client(theirs) as removed,
        own.client(other) as bystander,
    ):
        assert {each.whoami()[0] for each in (client, removed, bystander)} == {200}
        host_key.write_bytes(good[: len(good) // 2])
        own.grid.revoke(mine.certificate)
        own.grid.file(new, "0").unlink()
        assert own.tls.reload()
        assert client.whoami() == (403, {"msg": f"{ALICE} is revoked"})
        assert removed.whoami() == (403, {"msg": "the CA /O=Grid/CN=new CA is not trusted"})
        assert bystander.whoami()[0] == 200
        before = shown(bystander)
    assert refused(own, full(mine)) == "certificate revoked"
    assert "issuer certificate" in refused(own, theirs)
    with own.client(other) as client:
        assert client.whoami()[0] == 200
        assert shown(client) == before
    assert [reason for reason in own.tls.unusable() if "host.key" in reason]
    host_key.write_bytes(good)
    own.tls.reload()
    assert not [reason for reason in own.tls.unusable() if "host.key" in reason]


@pytest.mark.parametrize("crl", ["hard", "soft"])
def test_a_ca_directory_that_cannot_be_read_makes_no_caller_trusted(
    tmp_path: Path, crl: str
) -> None:
    grid = Grid.create(tmp_path / "certificates")
    away = tmp_path / "away"
    with serving(grid, crl=crl) as served, served.client(alice(grid)) as client:
        assert client.whoami()[0] == 200
        grid.directory.rename(away)
        assert served.tls.reload()
        assert not served.tls.reload()
        assert client.whoami()[0] == 403
        assert refused(served, alice(grid)) == "self-signed certificate in certificate chain"
        assert f"{grid.directory}: No such file or directory" in served.tls.unusable()
        grid.directory.symlink_to(grid.directory)  # what is tried below it is an error of its own
        assert served.tls.reload()
        assert client.whoami()[0] == 403
        grid.directory.unlink()
        away.rename(grid.directory)
        assert served.tls.reload()
        assert client.whoami()[0] == 200
        assert not any(reason.startswith(f"{grid.directory}:") for reason in served.tls.unusable())


def test_a_file_that_cannot_be_read_among_good_ones(own: Served) -> None:
    """It counts for its own CA alone, and hides no change of another's."""
    mine, other = alice(own.grid), user(own.grid.intermediate, "bob")
    looped, gone = own.grid.file(own.grid.no_crl, "r0"), own.grid.directory / "01234567.0"
    with own.client(mine) as client, own.client(other) as bystander:
        assert client.whoami()[0] == bystander.whoami()[0] == 200
        looped.symlink_to(looped)
        gone.symlink_to(own.grid.directory.parent / "gone.pem")
        own.grid.revoke(mine.certificate)
        assert own.tls.reload()
        assert client.whoami() == (403, {"msg": f"{ALICE} is revoked"})
        assert bystander.whoami()[0] == 200
    said = "\n".join(own.tls.unusable())
    assert f"{looped}: Too many levels of symbolic links" in said
    assert f"{gone}: No such file or directory" in said


def test_two_lists_in_one_file_are_broken(own: Served) -> None:
    """OpenSSL counts each of them, so an older one in front must not hide the newer one."""
    mine, other = alice(own.grid), user(own.grid.intermediate, "bob")
    file = own.grid.file(own.grid.root, "r0")
    with own.client(mine) as client, own.client(other) as bystander:
        assert client.whoami()[0] == bystander.whoami()[0] == 200
        old = file.read_bytes()
        own.grid.revoke(mine.certificate)
        file.write_bytes(old + file.read_bytes())
        assert own.tls.reload()
        for one in (client, bystander):
            status, answer = one.whoami()
            assert (status, "/O=Grid/CN=root CA is broken" in answer["msg"]) == (403, True)
    assert f"{file}: it holds more than one PEM block: a file is one list" in own.tls.unusable()


def test_a_pipe_in_the_ca_directory_blocks_nothing(own: Served) -> None:
    pipe = own.grid.file(own.grid.no_crl, "r0")
    with own.client(alice(own.grid)) as client:
        assert client.whoami()[0] == 200
        os.mkfifo(pipe)
        assert own.tls.reload()
        assert client.whoami()[0] == 200
    assert f"{pipe}: not a regular file" in own.tls.unusable()


def test_soft_crls(tmp_path: Path) -> None:
    grid = Grid.create(tmp_path / "certificates")
    with serving(grid, crl="soft") as served:
        with served.client(user(grid.no_crl)) as client:
            assert client.whoami()[0] == 200
        with served.client(full(grid.revoked)) as client:
            assert client.whoami() == (403, {"msg": "/O=Grid/OU=users/CN=revoked is revoked"})
        with served.client(user(grid.old_crl)) as client:
            assert client.whoami()[0] == 403


def test_soft_crls_with_a_gap_before_the_list(tmp_path: Path) -> None:
    grid = Grid.create(tmp_path / "certificates")
    grid.file(grid.root, "r0").rename(grid.file(grid.root, "r1"))
    with serving(grid, crl="soft") as served:
        with served.client(alice(grid)) as client, served.client(full(grid.revoked)) as revoked:
            assert client.whoami()[0] == 200
            assert revoked.whoami() == (403, {"msg": "/O=Grid/OU=users/CN=revoked is revoked"})


def test_hard_crls_with_a_gap_before_the_list(own: Served) -> None:
    """OpenSSL looks for no other list where HASH.r0 is missing, as in a GridFTP server.

    So no list behind the gap counts on open connections either.
    """
    first, second = (own.grid.file(own.grid.root, suffix) for suffix in ("r0", "r1"))
    new = Authority.create(pki.name(("O", "Grid"), ("CN", "new CA")), key=key("new CA"))
    new.install(own.grid.directory)
    own.grid.file(new, "signing_policy").write_text(new.signing_policy("/O=Grid/*"))
    own.tls.reload()
    report = f"{first}: missing, so that no list of the CA /O=Grid/CN=root CA behind it counts"
    with own.client(alice(own.grid)) as client, own.client(user(new, "bob")) as bystander:
        assert client.whoami()[0] == bystander.whoami()[0] == 200
        assert report not in own.tls.unusable()
        first.rename(second)
        assert own.tls.reload()
        assert client.whoami() == (
            403,
            {"msg": "a revocation list before those of the CA /O=Grid/CN=root CA is missing"},
        )
        assert bystander.whoami()[0] == 200
        assert refused(own, alice(own.grid)) == "unable to get certificate CRL"
        assert refused(own, full(own.grid.revoked)) == "unable to get certificate CRL"
        assert report in own.tls.unusable()
        second.rename(first)
        assert own.tls.reload()
        assert client.whoami()[0] == 200
        assert report not in own.tls.unusable()


def test_a_ca_behind_one_that_is_missing_or_broken(own: Served) -> None:
    """OpenSSL looks for no CA behind such a file, so none counts on open connections either."""
    first, second = (own.grid.file(own.grid.root, suffix) for suffix in ("0", "1"))
    good, out = first.read_bytes(), (403, {"msg": "the CA /O=Grid/CN=root CA is not trusted"})
    missing = f"{first}: missing, so that no CA certificate behind it counts"
    with own.client(alice(own.grid)) as client:
        assert client.whoami()[0] == 200
        first.rename(second)
        assert own.tls.reload()
        assert client.whoami() == out
        assert "self-signed" in refused(own, alice(own.grid))
        assert missing in own.tls.unusable()
        first.write_text("broken")
        assert own.tls.reload()
        assert client.whoami() == out
        assert "self-signed" in refused(own, alice(own.grid))
        assert missing not in own.tls.unusable()
        first.write_bytes(good)
        assert own.tls.reload()
        assert client.whoami()[0] == 200
        assert not any(reason.startswith(str(first)) for reason in own.tls.unusable())


def test_the_newest_list_that_has_begun_counts(own: Served) -> None:
    """As OpenSSL has it in the handshake: one that is not in force yet does not count."""
    mine, root = alice(own.grid), own.grid.root
    ahead = datetime.now(UTC) + timedelta(days=1)
    old, new = own.grid.file(root, "r0"), own.grid.file(root, "r1")
    pki.write(new, old.read_bytes())
    future = root.revocation_list([mine.certificate], updated=ahead)
    pki.write(old, future.public_bytes(serialization.Encoding.PEM))
    own.tls.reload()
    with own.client(mine) as client:
        assert client.whoami()[0] == 200
        assert refused(own, full(own.grid.revoked)) == "certificate revoked"
        new.unlink()
        own.tls.reload()
        root_dn = "/O=Grid/CN=root CA"
        assert client.whoami() == (
            403,
            {"msg": f"the revocation list of the CA {root_dn} is not in force yet"},
        )


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


def refused(served: Served, credential: pki.Credential) -> str:
    """What the server says in refusing a handshake."""
    del served.refusals[:]
    with pytest.raises(OSError):
        with served.client(credential) as client:
            client.whoami()
    wait_for(lambda: bool(served.refusals))
    return served.refusals[0]


def test_a_refused_handshake_names_the_presented_certificate(served: Served) -> None:
    """Nobody has vouched for it: a certificate signed by no one is enough to be named here."""
    assert refused(served, self_signed()) == "self-signed certificate"
    assert served.subjects[-1] == ALICE
    assert "self-signed" in refused(served, self_signed('eve\n{"a": 1}\x1b[31m'))
    assert served.subjects[-1] == r'/O=Grid/OU=users/CN=eve\x0A{"a": 1}\x1B[31m'
    with pytest.raises(OSError), served.client(None) as client:
        client.whoami()
    wait_for(lambda: served.subjects[-1] is None)


def shown(client: Client) -> int:
    encoding = client.socket.getpeercert(binary_form=True)
    assert encoding is not None
    return x509.load_der_x509_certificate(encoding).serial_number
