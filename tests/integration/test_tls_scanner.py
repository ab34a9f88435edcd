"""The scanner sees what is wrong: beside a server that is as lax as OpenSSL can be."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from deliv_testbed import pki, ports, processes
from support.credentials import Grid, user

from tools.tls_scan.checks import CHECKS, Target

SEEN = (
    "SSL 3.0, TLS 1.0, TLS 1.1",
    "ciphers of TLS 1.2",
    "cipher preference",
    "SHA-1 signatures",
    "renegotiation",
    "session tickets",
    "session resumption",
)
FINE = ("TLS 1.2, TLS 1.3", "ciphers of TLS 1.3", "secure renegotiation")


@pytest.fixture(scope="module")
def lax(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    directory = tmp_path_factory.mktemp("lax")
    grid = Grid.create(directory / "certificates")
    pki.write_credential(directory / "host.pem", directory / "host.key", grid.root.issue_host())
    pki.write(directory / "client.pem", user(grid.root).proxy_pem(), mode=0o600)
    pki.write(directory / "ca.pem", pki.certificate_pem(grid.root.certificate))
    (port,) = ports.choose(1)
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-www", "-quiet"]
    command += ["-cert", directory / "host.pem", "-key", directory / "host.key"]
    command += ["-cipher", "ALL:COMPLEMENTOFALL:@SECLEVEL=0", "-client_renegotiation"]
    command += ["-sigalgs", "RSA+SHA1:RSA-PSS+SHA256:RSA+SHA256", "-min_protocol", "TLSv1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as server:
        assert processes.wait(lambda: ports.accepts(port), 20)
        yield Target(
            host="127.0.0.1", port=port, cert=directory / "client.pem", ca=directory / "ca.pem"
        )
        server.kill()


@pytest.mark.parametrize("name", SEEN)
def test_what_is_wrong_is_seen(lax: Target, name: str) -> None:
    good, detail = CHECKS[name](lax)
    assert not good, detail


@pytest.mark.parametrize("name", FINE)
def test_what_is_right_is_seen(lax: Target, name: str) -> None:
    good, detail = CHECKS[name](lax)
    assert good, detail
