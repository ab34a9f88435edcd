"""A dummy FTS under test, between two private GridFTP servers, with users of a private CA."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from deliv_testbed import accounts, gridftp, interpreter, pki, ports
from deliv_testbed.accounts import Account
from deliv_testbed.errors import TestbedError
from deliv_testbed.pki import Authority, Credential
from deliv_testbed.processes import Processes, Program

from integration.recorded import Answer

NAME = "fts"
GRID = (("DC", "test"), ("DC", "oracle"))
JSON = "application/json"
UNKNOWN = "00000000-0000-0000-0000-000000000000"
TERMINAL = ("FINISHED", "FAILED", "FINISHEDDIRTY", "CANCELED")
PAUSE = 0.05


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first true value of `condition`; AssertionError when none comes in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(PAUSE)
    return value


@dataclass(frozen=True, kw_only=True)
class User:
    """`certificate`, `key` and `proxy` are files; `credential` is what is in them."""

    credential: Credential
    certificate: Path
    key: Path
    proxy: Path


class Client:
    """HTTP with a user's certificate, or with none. Answers come as the recordings have them."""

    def __init__(self, url: str, ca_file: Path, certificate: Any) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(ca_file)
        self._session.cert = certificate

    def call(self, method: str, path: str, **options: Any) -> Answer:
        try:
            reply = self._session.request(method, self._url + path, timeout=30, **options)
        except (requests.exceptions.SSLError, requests.exceptions.ConnectionError) as error:
            return Answer(status=0, kind="", body=str(error))
        return Answer(
            status=reply.status_code, kind=reply.headers.get("Content-Type", ""), body=reply.text
        )

    def get(self, path: str) -> Answer:
        return self.call("GET", path)

    def delete(self, path: str) -> Answer:
        return self.call("DELETE", path)

    def submit(self, body: Any) -> Answer:
        return self.call("POST", "/jobs", json=body)

    def delegate(self, credential: Credential, lifetime: timedelta) -> Answer:
        """The whole handshake; the answer to the PUT."""
        dlg_id = self.get("/whoami").content["delegation_id"]
        request = self.get(f"/delegation/{dlg_id}/request").body
        chain = signed(request, credential, lifetime)
        return self.put_credential(dlg_id, chain)

    def put_credential(self, dlg_id: str, body: bytes, kind: str = "text/plain") -> Answer:
        return self.call(
            "PUT", f"/delegation/{dlg_id}/credential", data=body, headers={"Content-Type": kind}
        )

    def state(self, job_id: str) -> str:
        return str(self.get(f"/jobs/{job_id}/job_state").content)

    def ended(self, job_id: str, seconds: float = 90.0) -> str:
        """Wait for the job's end; its state then."""
        wait_for(lambda: self.state(job_id) in TERMINAL, seconds)
        return self.state(job_id)


def signed(request: str, issuer: Credential, lifetime: timedelta) -> bytes:
    """An RFC 3820 proxy for the request's key, with the chain, in PEM."""
    key = x509.load_pem_x509_csr(request.encode()).public_key()
    name = issuer.certificate.subject
    last = x509.RelativeDistinguishedName(pki.name(("CN", str(time.time_ns()))).rdns[0])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([*name.rdns, last]))
        .issuer_name(name)
        .public_key(key)
        .serial_number(time.time_ns())
        .not_valid_before(datetime.now(UTC) - timedelta(minutes=5))
        .not_valid_after(datetime.now(UTC) + lifetime)
        .add_extension(
            x509.UnrecognizedExtension(
                pki.PROXY_CERT_INFO, bytes.fromhex("300c300a") + pki.INHERIT_ALL
            ),
            critical=True,
        )
        .sign(issuer.key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + issuer.certificate_pem()


@dataclass(frozen=True, kw_only=True)
class Fts:
    directory: Path
    account: Account
    processes: Processes
    authority: Authority
    users: dict[str, User]
    source: gridftp.Server
    destination: gridftp.Server
    port: int

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def ca_directory(self) -> Path:
        return self.directory / "ca"

    @property
    def ca_file(self) -> Path:
        return self.directory / "ca.pem"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def start(self, **settings: Any) -> None:
        """Run it with these settings in place of the defaults; returns when it listens."""
        given = {
            "host": ports.LOOPBACK,
            "port": self.port,
            "certificate": str(self.directory / "fts.pem"),
            "key": str(self.directory / "ftskey.pem"),
            "ca_directory": str(self.ca_directory),
            "state": str(self.state),
            "interval": 0.05,
            **settings,
        }
        path = self.directory / "fts.json"
        path.write_text(json.dumps(given), encoding="utf-8")
        python = interpreter.find(self.account)
        program = Program(
            name=NAME,
            command=python.module("deliv_testbed.fts", "--config", path),
            ready=lambda: ports.accepts(self.port),
            environment=python.environment,
            directory=self.directory,
        )
        self.processes.start(program)

    def stop(self) -> None:
        self.processes.stop(NAME)

    def kill(self) -> None:
        self.processes.kill(NAME)

    def client(self, user: str | None) -> Client:
        """As the user with a certificate; None is nobody."""
        pair = None
        if user:
            pair = (str(self.users[user].certificate), str(self.users[user].key))
        return Client(self.url, self.ca_file, pair)

    def delegated(self, user: str) -> Client:
        client = self.client(user)
        answer = client.delegate(self.users[user].credential, timedelta(hours=12))
        assert answer.status == 201, answer
        return client

    @contextmanager
    def banned(self, *, dn: str = "", storage: str = "") -> Iterator[list[str]]:
        """A user (DN) or a storage (SCHEME://HOST) is banned; gives the ids of jobs so canceled."""
        path, name, value = ("/ban/dn", "user_dn", dn) if dn else ("/ban/se", "storage", storage)
        host = Client(
            self.url,
            self.ca_file,
            (str(self.directory / "fts.pem"), str(self.directory / "ftskey.pem")),
        )
        answer = host.call("POST", path, json={name: value, "message": "a test"})
        assert answer.status == 200, answer
        try:
            yield answer.content
        finally:
            answer = host.call("DELETE", path, params={name: value})
            assert answer.status == 204, answer

    @contextmanager
    def without(self, table: str) -> Iterator[None]:
        """The server's database lacks a table. Without `banned_dns`, in which each request is
        looked up first, it is as good as down."""
        self.sql(f"ALTER TABLE {table} RENAME TO away")
        try:
            yield
        finally:
            self.sql(f"ALTER TABLE away RENAME TO {table}")

    def at_source(self, name: str) -> str:
        return self.source.url_of(self.source.root / name)

    def at_destination(self, name: str) -> str:
        return self.destination.url_of(self.destination.root / name)

    def put_source(self, name: str, content: bytes | int) -> Path:
        """A file at the source: this content, or that many bytes of zeros."""
        path = self.source.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            if isinstance(content, int):
                stream.truncate(content)
            else:
                stream.write(content)
        path.chmod(0o644)
        return path

    def transfer(self, source: str, destination: str, **params: Any) -> dict[str, Any]:
        """A submission's body."""
        file = {"sources": [source], "destinations": [destination]}
        return {"files": [file], "params": params}

    def sql(self, statement: str, *values: object) -> list[Any]:
        """Run a statement in the server's database, beside the server."""
        path = self.state / "fts.sqlite"
        with closing(sqlite3.connect(path, timeout=10)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    @contextmanager
    def all_slots_taken(self, slots: int) -> Iterator[None]:
        """Bob's copies from a port that takes connections and never answers hold the slots of
        all copies from its host."""
        bob = self.delegated("bob")
        with silent_port() as port:
            source = f"gsiftp://{ports.LOOPBACK}:{port}/x"
            jobs = []
            for slot in range(slots):
                body = self.transfer(source, self.at_destination(f"{port}-{slot}"))
                jobs.append(bob.submit(body).content["job_id"])
            wait_for(lambda: all(bob.state(job) == "ACTIVE" for job in jobs))
            try:
                yield
            finally:
                for job in jobs:
                    bob.delete(f"/jobs/{job}")


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind((ports.LOOPBACK, 0))
        listener.listen()
        yield listener.getsockname()[1]


@contextmanager
def running(**settings: Any) -> Iterator[Fts]:
    """Everything up for as long as the block runs. TestbedError when something is missing."""
    account = accounts.unprivileged()
    account = account.reaching(*interpreter.directories(account))
    with tempfile.TemporaryDirectory(prefix="deliv-test-fts-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        processes = Processes(directory, account)
        fts = _build(directory, account, processes)
        try:
            for server in (fts.source, fts.destination):
                server.install(fts.authority, _grid_map(fts.users, account), account)
                processes.start(server.program())
            fts.start(**settings)
            yield fts
        finally:
            for part in processes.names():
                processes.kill(part)


@contextmanager
def running_or_skipped(**settings: Any) -> Iterator[Fts]:
    """The same; a missing program skips on a laptop and fails in CI."""
    with ExitStack() as stack:
        try:
            fts = stack.enter_context(running(**settings))
        except TestbedError as error:
            if os.environ.get("DELIV_TESTS_REQUIRE"):
                raise
            pytest.skip(str(error))
        yield fts


def _build(directory: Path, account: Account, processes: Processes) -> Fts:
    authority = Authority.create(pki.name(*GRID, ("CN", "Recorded CA")))
    authority.install(directory / "ca")
    _allow_all_subjects(authority, directory / "ca")
    pki.write(directory / "ca.pem", pki.certificate_pem(authority.certificate))
    host = authority.issue_host()
    pki.write(directory / "fts.pem", host.certificate_pem())
    pki.write(directory / "ftskey.pem", host.key_pem(), 0o600)
    (directory / "state").mkdir()
    for path in (directory / "ftskey.pem", directory / "state"):
        account.own(path)
    users = {
        "alice": _user(directory, authority, "Alice Transfer"),
        "bob": _user(directory, authority, "Bob Other"),
        "stranger": _user(
            directory, Authority.create(pki.name(("O", "nowhere"), ("CN", "CA"))), "Stranger"
        ),
    }
    numbers = ports.choose(3)
    source, destination = (
        gridftp.Server(
            name=end,
            directory=directory / end,
            root=directory / f"{end}-root",
            ca_directory=directory / "ca",
            port=port,
            data_ports=ports.choose_block(500),
        )
        for end, port in zip(("source", "destination"), numbers, strict=False)
    )
    return Fts(
        directory=directory, account=account, processes=processes, authority=authority,
        users=users, source=source, destination=destination, port=numbers[2],
    )  # fmt: skip


def _allow_all_subjects(authority: Authority, directory: Path) -> None:
    policy = authority.signing_policy("/DC=test/DC=oracle/*", f"/O={pki.ORGANISATION}/*")
    for path in directory.glob("*.signing_policy"):
        path.write_text(policy, encoding="ascii")


def _user(directory: Path, authority: Authority, name: str) -> User:
    credential = authority.issue(pki.name(*GRID, ("OU", "Users"), ("CN", name)))
    stem = name.split()[0].lower()
    user = User(
        credential=credential,
        certificate=directory / f"{stem}.pem",
        key=directory / f"{stem}key.pem",
        proxy=directory / f"{stem}proxy.pem",
    )
    pki.write(user.certificate, credential.certificate_pem())
    pki.write(user.key, credential.key_pem(), 0o600)
    pki.write(user.proxy, credential.proxy().proxy_pem(), 0o600)
    return user


def _grid_map(users: dict[str, User], account: Account) -> str:
    return gridftp.grid_map((user.credential.dn for user in users.values()), account)
