"""The role lab_service as the stager on a bare host: staging, callbacks, no other clients."""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from cryptography import x509
from deliv_testbed import pki

from deploy.booting import Boot
from deploy.fleet import Fleet
from deploy.observe import connects, ports, security_score
from deploy.roles import AUTHORITIES, GRID, RolePlay, certify, served_certificate, trust
from tools.hosts.programs import wait

PORT, BACK = 8444, 8443
UNIT = "deliv-stager"
CALLS = PurePosixPath("/root/calls")
# In place of deliv: records the fields of every callback whose caller has a certificate.
RECEIVER = f"""
import http.server, json, ssl, urllib.parse
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        fields = dict(urllib.parse.parse_qsl(body))
        fields["subject"] = str(self.connection.getpeercert()["subject"])
        with open("{CALLS}", "a") as file:
            print(json.dumps(fields), file=file)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.verify_mode = ssl.CERT_REQUIRED
context.load_verify_locations(capath="{AUTHORITIES}")
context.load_cert_chain("{GRID}/hostcert.pem", "{GRID}/hostkey.pem")
server = http.server.ThreadingHTTPServer(("", {BACK}), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


class Archive:
    """`archive` has the stager; `deliv` its callers, and the receiver of its callbacks."""

    def __init__(self, fleet: Fleet, directory: Path) -> None:
        self.fleet, self.authority = fleet, pki.Authority.create()
        self._deliv = self.authority.issue(pki.service_name("deliv"))
        self.play = RolePlay(
            fleet, directory, "lab_service", on="deliv_stager",
            groups={"deliv_stager": ["archive"], "deliv_service": ["deliv"]},
            variables={
                "lab_service_name": "stager",
                "lab_service_settings": {"stager": {"clients": [self._deliv.dn]}},
                "common_time_sync": False,
            },
        )  # fmt: skip

    def equip(self) -> None:
        """Credentials for all, and the receiver of callbacks."""
        trust(self.fleet, "archive", "deliv", authority=self.authority)
        self.renew_client()
        self._put("deliv", PurePosixPath("/root/deliv"), self._deliv)
        eve = self.authority.issue(pki.user_name("eve"))
        self._put("deliv", PurePosixPath("/root/eve"), eve)
        self.fleet.execute("deliv", "systemd-run", "--unit=receiver", "python3", "-c", RECEIVER)
        wait(lambda: BACK in ports(self.fleet, "deliv"), "callbacks can be received", 30)

    def renew_client(self) -> None:
        """A new credential for the stager's callbacks."""
        credential = self.authority.issue(pki.service_name("stager"))
        self._put("archive", GRID / "stager", credential)

    def call(self, user: str, method: str, path: str, document: object = None) -> tuple[int, Any]:
        """The stager's HTTP status and JSON; the status is 0 without an answer."""
        home = f"/root/{user}"
        body = ["--data-raw", json.dumps(document)] if document else []
        done = self.fleet.execute(
            "deliv", "curl", "--silent", "--max-time", "20", "--capath", str(AUTHORITIES),
            "--cert", f"{home}/cert.pem", "--key", f"{home}/key.pem", "--request", method,
            "--write-out", "\n%{http_code}", *body,
            f"https://{self.fleet.address('archive')}:{PORT}{path}", check=False,
        )  # fmt: skip
        answer, _, code = done.stdout.rpartition("\n")
        return int(code), json.loads(answer) if answer else None

    def stage(self, user: str, job: str, product: str, callback: str = "") -> int:
        back = callback or f"https://deliv:{BACK}/doneStaging"
        document = {"job_id": job, "product_id": product, "authcode": "c0de", "callback": back}
        return self.call(user, "POST", "/stage", document)[0]

    def wait_for_callback(self, job: str) -> dict[str, str]:
        wait(lambda: self._calls(job), f"the callback of job {job}", 30)
        return self._calls(job)[0]

    def staged(self, job: str) -> Path:
        return self.fleet.root("archive") / "srv/archive/staging" / job

    def certificate(self) -> x509.Certificate:
        """The certificate that it uses now."""
        return served_certificate(self.fleet, "deliv", "archive", PORT)

    def _calls(self, job: str) -> list[dict[str, str]]:
        file = self.fleet.root("deliv") / CALLS.relative_to("/")
        lines = file.read_text().splitlines() if file.exists() else []
        return [call for call in map(json.loads, lines) if call["job_id"] == job]

    def _put(self, host: str, directory: PurePosixPath, credential: pki.Credential) -> None:
        self.fleet.put(host, directory / "cert.pem", credential.certificate_pem())
        self.fleet.put(host, directory / "key.pem", credential.key_pem(), mode=0o400)


@pytest.fixture(scope="module")
def archive(boot: Boot, suite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    with boot(suite, "archive", "deliv", clients=("client",)) as fleet:
        archive = Archive(fleet, tmp_path_factory.mktemp("stager"))
        archive.play.dry_run()
        archive.equip()
        archive.play.converge_idempotently()
        wait(lambda: PORT in ports(fleet, "archive"), "the stager listens", 30)
        yield archive


@pytest.fixture
def job() -> str:
    return str(uuid.uuid4())


def test_it_stages_for_deliv_and_calls_back(archive: Archive, job: str) -> None:
    assert archive.stage("deliv", job, "005") == 202
    call = archive.wait_for_callback(job)
    content = (archive.staged(job) / "005").read_bytes()
    assert call["success"] == "true"
    assert call["staged_to"] == "archive:2811"
    assert call["path"] == f"/srv/archive/staging/{job}/005"
    assert call["size"] == str(len(content)) == str(2**20)
    assert call["checksum"] == f"ADLER32:{zlib.adler32(content):08x}"
    assert "'stager'" in call["subject"]
    assert archive.call("deliv", "DELETE", f"/stage/{job}")[0] == 200
    assert not archive.staged(job).exists()


def test_what_is_staged_is_for_the_gridftp_server_to_read(archive: Archive, job: str) -> None:
    assert archive.stage("deliv", job, "synthetic-10") == 202
    archive.wait_for_callback(job)
    path = f"/srv/archive/staging/{job}"
    for name, mode in ((path, "2750"), (f"{path}/synthetic-10", "640")):
        status = archive.fleet.execute("archive", "stat", "--format=%a %U %G", name).stdout
        assert status.split() == [mode, "deliv-stager", "gridftp-archive"]


def test_it_serves_no_other_client(archive: Archive, job: str) -> None:
    assert archive.stage("eve", job, "005") == 403
    assert archive.call("eve", "GET", "/stage")[0] == 403
    assert archive.stage("deliv", job, "005", callback="https://client:8443/doneStaging") == 403
    assert not archive.staged(job).exists()
    assert connects(archive.fleet, "deliv", "archive", PORT)
    assert not connects(archive.fleet, "client", "archive", PORT)


def test_it_runs_unprivileged_and_sandboxed(archive: Archive) -> None:
    fleet = archive.fleet
    assert security_score(fleet, "archive", UNIT) <= 2.0
    assert ports(fleet, "archive") == {22, PORT}
    secret = ("/etc/deliv-stager/hostkey.pem", "/etc/deliv-stager/key.pem")
    status = fleet.execute("archive", "stat", "--format=%a %U", *secret).stdout
    assert status.splitlines() == ["400 deliv-stager"] * 2
    assert "PRIVATE KEY" not in archive.play.output


def test_it_takes_renewed_certificates(archive: Archive, job: str) -> None:
    before = archive.certificate()
    certify(archive.fleet, "archive", archive.authority)
    archive.renew_client()
    archive.play.converge()
    wait(lambda: archive.call("deliv", "GET", "/healthz")[0] == 200, "it is up again", 30)
    assert archive.certificate() != before
    assert archive.stage("deliv", job, "synthetic-1") == 202
    archive.wait_for_callback(job)


def test_requests_survive_a_restart(archive: Archive, job: str) -> None:
    """Stopped, it exits cleanly; started, it continues its requests."""
    assert archive.stage("deliv", job, "slow-2-synthetic-3") == 202
    archive.fleet.execute("archive", "systemctl", "stop", UNIT)
    result = archive.fleet.execute(
        "archive", "systemctl", "show", "--value", "--property=Result,ExecMainStatus", UNIT
    ).stdout
    assert sorted(result.split()) == ["0", "success"]
    archive.fleet.execute("archive", "systemctl", "start", UNIT)
    assert archive.wait_for_callback(job)["size"] == "3"
