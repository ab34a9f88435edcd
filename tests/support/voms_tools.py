"""Proxies that VOMS's own voms-proxy-fake makes (Debian's voms-clients), which needs no server."""

from __future__ import annotations

import subprocess
from pathlib import Path

from deliv_testbed import pki
from deliv_testbed.pki import Credential

from support.attribute_certificates import HOST, MEMBER, PRODUCTION, VO, Server
from support.credentials import key, name_of

TIMEOUT = 60
PATH = "/usr/bin:/bin"


def holder(server: Server, name: str = "alice") -> Credential:
    """A user with a subject key identifier, without which voms-proxy-fake makes no proxy."""
    return server.grid.root.issue(name_of(name), key=key("user"))


def faked(
    directory: Path,
    server: Server,
    user: Credential,
    *options: str,
    fqans: tuple[str, ...] = (MEMBER, PRODUCTION),
) -> Credential:
    """What voms-proxy-fake makes of a user's credential with the server's own key."""
    made = directory / "proxy.pem"
    for name, credential in (("user", user), ("server", server.credential)):
        pki.write(directory / f"{name}.pem", credential.certificate_pem())
        pki.write(directory / f"{name}.key", credential.key_pem(), mode=0o600)
    command = ["voms-proxy-fake", "-q", "-rfc", "-bits", "2048", "-hours", "2"]
    command += ["-certdir", str(server.grid.directory), "-out", str(made)]
    command += ["-cert", str(directory / "user.pem"), "-key", str(directory / "user.key")]
    command += ["-hostcert", str(directory / "server.pem")]
    command += ["-hostkey", str(directory / "server.key"), "-voms", VO, "-uri", f"{HOST}:15000"]
    for fqan in fqans:
        command += ["-fqan", fqan]
    made.unlink(missing_ok=True)
    environment = {"PATH": PATH, "HOME": str(directory)}
    done = subprocess.run(
        [*command, *options],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=TIMEOUT,
    )
    assert made.exists(), done.stdout + done.stderr
    return pki.load(made, made)
