"""VOMS attributes on connections that stay open, while what they depend on changes."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from support.attribute_certificates import HOST, THIS_HOST, Server, carrying
from support.credentials import ALICE, Grid, alice, days_ago, user
from support.voms_kinds import BOTH

from deliv.identity import connection_identities, tls
from deliv.identity.voms import attribute_certificate
from integration.tls_server import Client, serving


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server.create(Grid.create(tmp_path / "certificates"), tmp_path / "vomsdir")


def fqans(client: Client) -> list[str]:
    status, answer = client.whoami()
    assert (status, answer["dn"]) == (200, ALICE)
    found = answer.get("fqans", [])
    assert isinstance(found, list)
    return found


def test_attributes_end_with_what_they_depend_on_on_an_open_connection(server: Server) -> None:
    holder = alice(server.grid)
    lsc = server.vomsdir / "skao" / f"{HOST}.lsc"
    with serving(server.grid, vomsdir=server.vomsdir, host=THIS_HOST) as served:
        with served.client(carrying(holder, server.ac(holder))) as client:
            assert fqans(client) == list(BOTH)
            content = lsc.read_bytes()
            lsc.unlink()
            assert served.tls.reload()
            assert fqans(client) == []
            lsc.write_bytes(content)
            assert served.tls.reload()
            assert fqans(client) == list(BOTH)
            server.grid.revoke(server.credential.certificate)
            assert served.tls.reload()
            assert fqans(client) == []


def test_a_vomsdir_that_cannot_be_read_gives_nothing_and_hides_nothing(server: Server) -> None:
    holder, other = alice(server.grid), user(server.grid.root, "bob")
    away = server.vomsdir.with_name("away")
    with serving(server.grid, vomsdir=server.vomsdir, host=THIS_HOST) as served:
        with (
            served.client(carrying(holder, server.ac(holder))) as client,
            served.client(other) as revoked,
        ):
            assert fqans(client) == list(BOTH)
            assert revoked.whoami()[0] == 200
            server.vomsdir.rename(away)
            server.grid.revoke(other.certificate)
            assert served.tls.reload()
            assert fqans(client) == []
            assert revoked.whoami()[0] == 403
            assert f"{server.vomsdir}: No such file or directory" in served.tls.unusable()
            away.rename(server.vomsdir)
            assert served.tls.reload()
            assert fqans(client) == list(BOTH)


def test_a_link_in_the_vomsdir_that_cannot_be_followed_hides_nothing(server: Server) -> None:
    other = user(server.grid.root, "bob")
    with serving(server.grid, vomsdir=server.vomsdir, host=THIS_HOST) as served:
        with served.client(other) as revoked:
            assert revoked.whoami()[0] == 200
            link = server.vomsdir / "odd"
            link.symlink_to("a" * 300)
            server.grid.revoke(other.certificate)
            assert served.tls.reload()
            assert revoked.whoami()[0] == 403
            assert f"{link}: File name too long" in served.tls.unusable()


def test_an_lsc_file_that_cannot_be_read_gives_nothing_and_hides_nothing(server: Server) -> None:
    holder, other = alice(server.grid), user(server.grid.root, "bob")
    lsc = server.vomsdir / "skao" / f"{HOST}.lsc"
    with serving(server.grid, vomsdir=server.vomsdir, host=THIS_HOST) as served:
        with (
            served.client(carrying(holder, server.ac(holder))) as client,
            served.client(other) as revoked,
        ):
            assert fqans(client) == list(BOTH)
            assert revoked.whoami()[0] == 200
            lsc.unlink()
            lsc.symlink_to(lsc)
            server.grid.revoke(other.certificate)
            assert served.tls.reload()
            assert fqans(client) == []
            assert revoked.whoami()[0] == 403
            assert f"{lsc}: Too many levels of symbolic links" in served.tls.unusable()


def test_attributes_end_with_the_list_of_their_servers_ca(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The VOMS server's CA is another than the user's: the user stays who they are."""
    holder = user(server.grid.no_crl)
    server.grid.write_crl(server.grid.no_crl, server.grid.no_crl.revocation_list())
    soon = server.grid.root.revocation_list(
        updated=days_ago(1), lifetime=timedelta(days=1, hours=1)
    )
    server.grid.write_crl(server.grid.root, soon)
    with serving(server.grid, vomsdir=server.vomsdir, host=THIS_HOST) as served:
        with served.client(carrying(holder, server.ac(holder))) as client:
            assert fqans(client) == list(BOTH)
            in_two_hours(monkeypatch)
            assert fqans(client) == []


def test_attributes_end_on_an_open_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, hour = alice(server.grid), 1 / 24
    acs = server.ac(holder, ends=days_ago(-hour)), server.ac(holder, fqans=["/skao"])
    with serving(server.grid, vomsdir=server.vomsdir, host=THIS_HOST) as served:
        with served.client(carrying(holder, *acs)) as client:
            assert fqans(client) == list(BOTH)
            in_two_hours(monkeypatch)
            assert fqans(client) == ["/skao"]


def in_two_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (connection_identities, tls):
        monkeypatch.setattr(module, "datetime", InTwoHours)


class InTwoHours(datetime):
    @classmethod
    def now(cls, zone: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(zone) + timedelta(hours=2)


def test_attributes_are_verified_once_a_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = alice(server.grid)
    parsed: list[bytes] = []
    plain = attribute_certificate.parse
    monkeypatch.setattr(
        attribute_certificate, "parse", lambda value: parsed.append(value) or plain(value)
    )
    with serving(server.grid, vomsdir=server.vomsdir, host=THIS_HOST) as served:
        for changes, expected in (({}, list(BOTH)), ({"ends": days_ago(1)}, [])):
            parsed.clear()
            with served.client(carrying(holder, server.ac(holder, **changes))) as client:
                for _ in range(5):
                    assert fqans(client) == expected
            assert len(parsed) == 1


def test_without_a_vomsdir_there_are_no_attributes(server: Server) -> None:
    holder = alice(server.grid)
    with serving(server.grid) as served:
        with served.client(carrying(holder, server.ac(holder))) as client:
            assert fqans(client) == []
