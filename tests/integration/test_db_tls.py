"""Encrypted connections to MariaDB: the server must prove who it is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from deliv_testbed import accounts, pki
from support.private_mariadb import Server, running

from deliv.db.database import Database
from deliv.errors import ConfigError, DatabaseUnavailable

pytestmark = pytest.mark.usefixtures("mariadb_server")  # which skips where MariaDB is missing


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """The CA in ca.pem, a stranger's in stranger.pem, the server's certificate and key."""
    with tempfile.TemporaryDirectory(prefix="deliv-test-tls-") as name:
        directory = Path(name)
        authority, stranger = pki.Authority.create(), pki.Authority.create()
        pki.write(directory / "ca.pem", pki.certificate_pem(authority.certificate))
        pki.write(directory / "stranger.pem", pki.certificate_pem(stranger.certificate))
        host = authority.issue(pki.host_name("db"), hosts=["127.0.0.1"])
        pki.write_credential(directory / "cert.pem", directory / "key.pem", host)
        accounts.unprivileged().own(directory)
        yield directory


@pytest.fixture(scope="module")
def tls_server(directory: Path) -> Iterator[Server]:
    cert, key = directory / "cert.pem", directory / "key.pem"
    with running(f"--ssl-cert={cert}", f"--ssl-key={key}") as server:
        yield server


async def test_a_session_is_encrypted(tls_server: Server, directory: Path) -> None:
    database = Database(tls_server.settings(ca_file=directory / "ca.pem"))
    row = await database.get("SHOW SESSION STATUS LIKE 'Ssl_version'")
    assert row is not None
    assert row["Value"].startswith("TLSv1.")
    database.close()


async def test_a_server_of_another_ca_is_refused(tls_server: Server, directory: Path) -> None:
    database = Database(tls_server.settings(ca_file=directory / "stranger.pem"))
    with pytest.raises(DatabaseUnavailable, match="certificate verify failed"):
        await database.check_ready()
    database.close()


async def test_a_server_of_another_name_is_refused(tls_server: Server, directory: Path) -> None:
    settings = tls_server.settings(ca_file=directory / "ca.pem", host="localhost")
    database = Database(settings)
    with pytest.raises(DatabaseUnavailable, match="not valid for 'localhost'"):
        await database.check_ready()
    database.close()


async def test_a_server_without_tls_is_refused(server: Server, directory: Path) -> None:
    """MariaDB from 11.4 makes itself a certificate that no CA has signed."""
    database = Database(server.settings(ca_file=directory / "ca.pem"))
    with pytest.raises(DatabaseUnavailable, match=r"SSL is required|self-signed certificate"):
        await database.check_ready()
    database.close()


async def test_a_ca_file_that_is_no_such_thing_is_named(server: Server, directory: Path) -> None:
    for name in ("missing.pem", "key.pem"):
        database = Database(server.settings(ca_file=directory / name))
        with pytest.raises(ConfigError, match=name):
            await database.check_ready()
        database.close()
