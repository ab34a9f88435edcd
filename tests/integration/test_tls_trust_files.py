"""The files that TLS goes by and that change meanwhile: CAs, their lists, our own certificate."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from deliv_testbed import pki
from deliv_testbed.pki import Authority
from support.credentials import ALICE, Grid, alice, full, key, user

from integration.tls_server import (
    Client,
    Served,
    own_fixture,  # noqa: F401 - a fixture is used by its name
    refused,
    serving,
    wait_for,
)


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


def shown(client: Client) -> int:
    encoding = client.socket.getpeercert(binary_form=True)
    assert encoding is not None
    return x509.load_der_x509_certificate(encoding).serial_number
