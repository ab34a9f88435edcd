"""deliv-install-crls: which of the fetched lists get into a CA directory, and nothing else does."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from deliv_testbed import pki
from deliv_testbed.pki import Authority
from support.credentials import days_ago, key

PROGRAM = Path(__file__).parents[2] / "ansible/roles/deliv/files/deliv-install-crls"
URL = "http://crl.example.org/ca.crl"
DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Installer:
    """What was fetched, in `fetched`, and a CA directory with `authority` and its list in it."""

    urls: Path
    fetched: Path
    directory: Path
    authority: Authority

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.directory.iterdir()}

    def place(self, authority: Authority, number: int = 0) -> Path:
        return self.directory / f"{pki.name_hash(authority.certificate.subject)}.r{number}"

    def fetch(self, content: bytes, number: int = 1) -> Path:
        path = self.fetched / str(number)
        path.write_bytes(content)
        return path

    def run(self, urls: int = 1) -> tuple[int, str]:
        """Its exit code and what it says."""
        self.urls.write_text(f"{URL}\n" * urls)
        done = subprocess.run(
            [PROGRAM, self.urls, self.fetched, self.directory],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def refuses(self, reason: str) -> None:
        before = self.files()
        assert self.run() == (1, f"{URL}: {reason}\n")
        assert self.files() == before


@pytest.fixture
def installer(tmp_path: Path) -> Installer:
    fetched, directory = tmp_path / "fetched", tmp_path / "certificates"
    fetched.mkdir()
    authority = Authority.create(key=key("CA"))
    authority.install(directory)
    listed = authority.revocation_list(updated=days_ago(2))
    made = Installer(
        urls=tmp_path / "urls", fetched=fetched, directory=directory, authority=authority
    )
    made.place(authority).write_bytes(listed.public_bytes(Encoding.PEM))
    return made


def pem(crl: x509.CertificateRevocationList) -> bytes:
    return crl.public_bytes(Encoding.PEM)


@pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER])
def test_a_newer_list_is_installed(installer: Installer, form: Encoding) -> None:
    crl = installer.authority.revocation_list()
    installer.fetch(crl.public_bytes(form))
    place = installer.place(installer.authority)
    assert installer.run() == (0, f"{URL}: {place} is new\n")
    assert place.read_bytes() == pem(crl)
    assert place.stat().st_mode & 0o777 == 0o644
    assert sorted(installer.files()) == sorted(
        f"{place.stem}.{suffix}" for suffix in ("0", "r0", "signing_policy")
    )
    assert installer.run() == (0, "")  # there is nothing to do


def test_one_that_is_refused_keeps_no_other_out(installer: Installer) -> None:
    installer.fetch(b"<html>")
    installer.fetch(pem(installer.authority.revocation_list()), 3)
    code, said = installer.run(urls=3)
    assert code == 1
    assert said.splitlines() == [
        f"{URL}: not a revocation list",
        f"{URL}: not fetched",
        f"{URL}: {installer.place(installer.authority)} is new",
    ]


def test_a_ca_with_the_same_hash_has_its_list_beside_its_certificate(installer: Installer) -> None:
    subject = installer.authority.certificate.subject
    other = Authority.create(subject, key=key("other CA"))
    certificate = installer.place(other).with_suffix(".1")
    certificate.write_bytes(pki.certificate_pem(other.certificate))
    before = installer.place(other).read_bytes()
    installer.fetch(pem(other.revocation_list()))
    assert installer.run() == (0, f"{URL}: {installer.place(other, 1)} is new\n")
    assert installer.place(other).read_bytes() == before


def test_a_list_that_has_not_begun(installer: Installer) -> None:
    ahead = datetime.now(UTC) + timedelta(minutes=2)
    installer.fetch(pem(installer.authority.revocation_list(updated=ahead)))
    installer.refuses("not in force yet")


def test_a_list_that_has_ended(installer: Installer) -> None:
    ended = installer.authority.revocation_list(updated=days_ago(1.5), lifetime=DAY)
    installer.fetch(pem(ended))
    installer.refuses("expired")


def test_an_older_list(installer: Installer) -> None:
    installer.fetch(pem(installer.authority.revocation_list(updated=days_ago(3))))
    installer.refuses("older than the one that is there")


def test_another_cas_list(installer: Installer) -> None:
    """One of an unknown name, and one that only has the name."""
    reason = f"not signed by a CA of {installer.directory}"
    unknown = Authority.create(pki.name(("O", "Grid"), ("CN", "unknown")), key=key("other CA"))
    impostor = Authority(certificate=installer.authority.certificate, key=key("other CA"))
    for authority in (unknown, impostor):
        installer.fetch(pem(authority.revocation_list()))
        installer.refuses(reason)


def test_a_list_of_changes_only(installer: Installer) -> None:
    """Its CA has signed it, but in place of the whole list it would refuse all of its users."""
    authority = installer.authority
    builder = x509.CertificateRevocationListBuilder(
        issuer_name=authority.certificate.subject,
        last_update=days_ago(1),
        next_update=days_ago(-1),
    ).add_extension(x509.DeltaCRLIndicator(1), critical=True)
    installer.fetch(pem(builder.sign(authority.key, hashes.SHA256())))
    installer.refuses("not a complete list")


def test_what_is_no_file_of_a_bounded_size(installer: Installer) -> None:
    """A link to a good list, a pipe that nobody writes to, a directory, 60 MB."""
    good = installer.urls.with_name("good")
    good.write_bytes(pem(installer.authority.revocation_list()))
    given, unread = installer.fetched / "1", "not a file of at most 50000000 bytes"
    given.symlink_to(good)
    installer.refuses(unread)
    given.unlink()
    given.symlink_to("gone")
    installer.refuses(unread)
    given.unlink()
    os.mkfifo(given)
    installer.refuses("not a revocation list")
    given.unlink()
    given.mkdir()
    installer.refuses(unread)
    given.rmdir()
    with given.open("wb") as file:
        file.truncate(60_000_000)
    installer.refuses(unread)


def test_what_is_not_asked_for_is_left_alone(installer: Installer) -> None:
    good = pem(installer.authority.revocation_list())
    for name in ("2", "01234567.0", "1.new", ".1"):
        (installer.fetched / name).write_bytes(good)
    installer.refuses("not fetched")
