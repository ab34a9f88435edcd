"""Whom the connections to MariaDB and RabbitMQ trust: one CA, for the configured host."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from deliv_testbed import pki

from deliv import config
from deliv.db import database as db
from deliv.gateways.broker import session

HOST = "part.example.org"


@pytest.fixture
def ca_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Beside another CA, which the environment names."""
    trusted, other = tmp_path / "ca.pem", tmp_path / "other.pem"
    for file, name in ((trusted, "trusted"), (other, "other")):
        authority = pki.Authority.create(pki.name(("O", "Grid"), ("CN", name)))
        pki.write(file, pki.certificate_pem(authority.certificate))
    for variable in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(variable, str(other))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    return trusted


def database_tls(ca_file: Path) -> tuple[ssl.SSLContext, str]:
    settings = config.DatabaseSettings(
        host=HOST, name="deliv", user="deliv", password_file=ca_file, ca_file=ca_file
    )
    return db._tls(settings)["ssl"], settings.host  # PyMySQL verifies the host it connects to


def broker_tls(ca_file: Path) -> tuple[ssl.SSLContext, str]:
    options = session._tls(
        config.BrokerSettings(host=HOST, user="deliv", password_file=ca_file, ca_file=ca_file)
    )
    return options.context, options.server_hostname


@pytest.mark.parametrize("tls", [database_tls, broker_tls])
def test_the_name_and_the_configured_ca_alone_are_verified(ca_file: Path, tls: object) -> None:
    assert callable(tls)
    context, host = tls(ca_file)
    assert host == HOST
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert [dict(*one["subject"][-1:])["commonName"] for one in context.get_ca_certs()] == [
        "trusted"
    ]
