"""A real stager process over HTTPS, and a receiver of its callbacks that answers as it is set."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from cryptography import x509
from deliv_testbed import pki, ports
from deliv_testbed.products import install

from deliv.identity.x509.dn import oneline

PRODUCTS = {
    "P 1.fits": 3_000_001,
    "βeta": 10,
    "big": 64 * 2**20,
    "Many ß": {"ä/b c/d.npy": 3, "ä/empty": 0, "top.rdb": 2**20 + 1},
}
READERS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    "application/json": json.loads,
    "application/x-www-form-urlencoded": lambda body: dict(
        parse_qsl(body.decode(), strict_parsing=True)
    ),
}


def until(condition: Callable[[], Any], what: str, timeout: float = 60) -> Any:
    """The condition's first true value; looked at every 20 ms."""
    deadline, pause = time.monotonic() + timeout, threading.Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        pause.wait(0.02)
    return value


@dataclass(kw_only=True)
class Receiver:
    """deliv's place: keeps every callback's fields and the caller's DN; `answer` gives statuses."""

    context: ssl.SSLContext
    port: int = 0
    calls: list[dict[str, Any]] = field(default_factory=list)
    answer: Callable[[dict[str, Any]], int] = lambda fields: 200

    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/doneStaging"

    @contextmanager
    def running(self) -> Iterator[Receiver]:
        server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        server.daemon_threads = True
        server.socket = self.context.wrap_socket(server.socket, server_side=True)
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                called = {"path_called": self.path, "peer": _peer(self.connection)}
                fields = READERS[self.headers["Content-Type"]](body) | called
                receiver.calls.append(fields)
                self.send_response(receiver.answer(fields))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        return Handler


def _peer(connection: Any) -> str:
    subject = connection.getpeercert()["subject"]
    return str(dict(pair for rdn in subject for pair in rdn)["commonName"])


@dataclass(kw_only=True)
class Bench:
    directory: Path
    port: int
    client: ssl.SSLContext
    receiver: Receiver
    process: subprocess.Popen[bytes] | None = None

    @property
    def staging(self) -> Path:
        return self.directory / "staging"

    def start(self) -> None:
        config = self.directory / "stager.json"
        with (self.directory / "stager.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deliv_testbed.stager", "--config", config], stderr=log
            )
        until(self._healthy, "the stager is up")

    def stop(self, *, kill: bool = False) -> int:
        assert self.process
        (self.process.kill if kill else self.process.terminate)()
        return self.process.wait(60)

    def acting_as(self, owner: str) -> Bench:
        """The same stager, called with the credential of another owner."""
        return replace(self, client=context(self.directory, owner, ssl.PROTOCOL_TLS_CLIENT))

    def call(self, method: str, path: str, document: object = None) -> tuple[int, Any]:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=self.client, timeout=60
        )
        try:
            connection.request(method, path, json.dumps(document) if document else None)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def stage(
        self, job_id: str, product_id: str, authcode: str = "c0de", callback: str = ""
    ) -> int:
        document = {
            "job_id": job_id,
            "product_id": product_id,
            "authcode": authcode,
            "callback": callback or self.receiver.url(),
        }
        return self.call("POST", "/stage", document)[0]

    def listed(self, job_id: str) -> dict[str, Any]:
        _, stagings = self.call("GET", "/stage")
        return next((s for s in stagings if s["job_id"] == job_id), {})

    def wait_told(self, job_id: str) -> dict[str, Any]:
        until(lambda: self.listed(job_id).get("told"), f"the callback of {job_id} is answered")
        return self.listed(job_id)

    def calls_for(self, job_id: str) -> list[dict[str, Any]]:
        return [call for call in self.receiver.calls if call["job_id"] == job_id]

    def _healthy(self) -> bool:
        assert self.process
        assert self.process.poll() is None, (self.directory / "stager.log").read_text()
        try:
            return self.call("GET", "/healthz")[0] == 200
        except OSError:
            return False


def install_bench(directory: Path) -> Bench:
    """PKI, archive and settings of a stager, not yet started; the receiver not yet running."""
    authority = pki.Authority.create()
    authority.install(directory / "certificates")
    for owner, credential in {
        "host": authority.issue_host(),
        "stager": authority.issue(pki.service_name("stager")),
        "deliv": authority.issue(pki.service_name("deliv")),
        "operator": authority.issue(pki.user_name("operator")).proxy(),
        "stranger": authority.issue(pki.user_name("stranger")),
    }.items():
        pki.write_credential(directory / f"{owner}.pem", directory / f"{owner}.key", credential)
    install(directory / "archive", PRODUCTS)
    port, back = ports.choose(2)
    receiver = Receiver(context=context(directory, "host", ssl.PROTOCOL_TLS_SERVER), port=back)
    _settings(directory, port, receiver)
    return Bench(
        directory=directory,
        port=port,
        client=context(directory, "deliv", ssl.PROTOCOL_TLS_CLIENT),
        receiver=receiver,
    )


def context(directory: Path, owner: str, protocol: int) -> ssl.SSLContext:
    made = ssl.SSLContext(protocol)
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(capath=directory / "certificates")
    made.load_cert_chain(directory / f"{owner}.pem", directory / f"{owner}.key")
    return made


def _settings(directory: Path, port: int, receiver: Receiver) -> None:
    settings = {
        "host": "127.0.0.1",
        "port": port,
        "certificate": str(directory / "host.pem"),
        "key": str(directory / "host.key"),
        "ca_directory": str(directory / "certificates"),
        "clients": [_dn(directory, "deliv"), _dn(directory, "operator")],
        "callbacks": [receiver.url()],
        "client_certificate": str(directory / "stager.pem"),
        "client_key": str(directory / "stager.key"),
        "archive_root": str(directory / "archive"),
        "gridftp": "127.0.0.1:2811",
        "staging_directory": str(directory / "staging"),
        "staging_path": "/archive/staging",
        "state_directory": str(directory / "state"),
    }
    (directory / "stager.json").write_text(json.dumps(settings), encoding="utf-8")


def _dn(directory: Path, owner: str) -> str:
    """The DN of a user, whether there is a proxy in their file or not."""
    *_, certificate = x509.load_pem_x509_certificates((directory / f"{owner}.pem").read_bytes())
    return oneline(certificate.subject)
