"""The identities of a testbed as files: its CA, users, services and hosts."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from cryptography import x509

from deliv_testbed import pki
from deliv_testbed.accounts import Account
from deliv_testbed.errors import TestbedError
from deliv_testbed.layout import DUMMIES, Layout

USERS = ("alice", "bob", "operator")
STAGER = "users/stager"
SERVICE = "services/deliv"
HOSTS = ("deliv", *DUMMIES)
PROXY_LIFETIME = timedelta(days=7)


class Identities:
    """The users' files belong to the caller, who acts as them; the others to the account."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def create(self, account: Account, more_authorities: Path | None) -> pki.Authority:
        """Make all of them; `more_authorities` is a CA directory to trust beside our CA."""
        authority = self._authority()
        self._layout.ca_directory.mkdir(parents=True)
        if more_authorities:
            for path in more_authorities.iterdir():  # also those behind links, readable by all
                if path.is_file():
                    pki.write(self._layout.ca_directory / path.name, path.read_bytes())
        authority.install(self._layout.ca_directory)
        hosts = [f"hosts/{host}" for host in HOSTS]
        owners = [*(f"users/{user}" for user in USERS), STAGER, SERVICE, *hosts]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda owner: self._issue(authority, owner), owners))
        for owner in (STAGER, SERVICE, *hosts):
            for path in (*self._layout.credential(owner), self._layout.proxy(owner)):
                if path.exists():
                    account.own(path)
        return authority

    def dn(self, owner: str) -> str:
        """The DN in the owner's certificate."""
        certificate, _ = self._layout.credential(owner)
        return pki.certificate_dn(x509.load_pem_x509_certificate(certificate.read_bytes()))

    def gridftp_users(self) -> list[str]:
        """The DNs that the GridFTP servers let in: users, and the service on their behalf."""
        return [self.dn(owner) for owner in (*(f"users/{user}" for user in USERS), SERVICE)]

    def _authority(self) -> pki.Authority:
        """The CA of an earlier stack in this directory, else one of a name of its own.

        Two stacks may then trust each other's: a CA's files are named by the hash of its name.
        """
        certificate, key = self._layout.ca_file, self._layout.ca_key
        if certificate.exists() and key.exists():
            try:
                return pki.Authority.load(certificate, key)
            except ValueError as error:
                raise TestbedError(f"{certificate} is no usable CA; remove it: {error}") from error
        authority = pki.Authority.create(pki.authority_name(f"CA {secrets.token_hex(4)}"))
        self._layout.authority.mkdir(exist_ok=True)
        ca = pki.Credential(certificate=authority.certificate, key=authority.key)
        pki.write_credential(certificate, key, ca)
        return authority

    def _issue(self, authority: pki.Authority, owner: str) -> None:
        """The owner's certificate and key, and a user's proxy."""
        kind, _, name = owner.partition("/")
        match kind:
            case "users":
                credential = authority.issue(pki.user_name(name))
            case "services":
                credential = authority.issue(pki.service_name(name))
            case _:
                credential = authority.issue_host(name)
        certificate, key = self._layout.credential(owner)
        certificate.parent.mkdir(exist_ok=True)
        pki.write_credential(certificate, key, credential)
        if kind == "users":
            proxy = credential.proxy(lifetime=PROXY_LIFETIME)
            pki.write_proxy(self._layout.proxy(owner), proxy)
