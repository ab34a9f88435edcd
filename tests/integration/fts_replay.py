"""The requests behind the recordings, sent to the dummy FTS in the recorded order.

One function for each recorded section, under the section's title; it returns what was answered.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from integration.private_fts import JSON, UNKNOWN, Client, Fts
from integration.recorded import Answer

FORM = "application/x-www-form-urlencoded"
SIZE = 1_000_000
DEAD = "gsiftp://localhost:1/x"
HANDSHAKE_LIFE = timedelta(hours=3)


@dataclass
class Scene:
    """The players, and the ids that one section leaves to the next."""

    fts: Fts
    alice: Client
    bob: Client
    nobody: Client
    ids: dict[str, str] = field(default_factory=dict)

    def url(self, name: str) -> str:
        return self.fts.at_source(name)

    def target(self, name: str) -> str:
        return self.fts.at_destination(name)

    def copy(self, source: str, target: str, **params: Any) -> Answer:
        return self.alice.submit(self.fts.transfer(self.url(source), self.target(target), **params))

    def post(self, source: str, target: str) -> list[Answer]:
        return [self.alice.submit(self.fts.transfer(source, target))]

    def ended(self, answer: Answer, files: str) -> list[Answer]:
        """The answer to a submission, and the job with these fields of its files at its end."""
        job_id = answer.content["job_id"]
        self.alice.ended(job_id)
        return [answer, self.alice.get(f"/jobs/{job_id}?files={files}")]


Section = Callable[[Scene], list[Answer]]
SECTIONS: dict[str, Section] = {}


def section(title: str) -> Callable[[Section], Section]:
    def register(function: Section) -> Section:
        SECTIONS[title] = function
        return function

    return register


# --- rest.txt: identity and delegation


@section("GET / (cert)")
def entry(scene: Scene) -> list[Answer]:
    return [scene.alice.get("/")]


@section("GET /whoami (cert)")
def whoami(scene: Scene) -> list[Answer]:
    return [scene.alice.get("/whoami")]


@section("GET /whoami (RFC3820 proxy)")
def whoami_with_proxy(scene: Scene) -> list[Answer]:
    proxy = str(scene.fts.users["alice"].proxy)
    answer = Client(scene.fts.url, scene.fts.ca_file, (proxy, proxy)).get("/whoami")
    # The proxy's own CN is its serial number; the recorded proxy had another.
    serial = answer.content["dn"][1].rpartition("=")[2]
    return [Answer(status=answer.status, kind=answer.kind,
                   body=answer.body.replace(serial, "586249352"))]  # fmt: skip


@section("GET /whoami (no cert)")
def whoami_anonymous(scene: Scene) -> list[Answer]:
    return [scene.nobody.get("/whoami")]


def refused_handshake(scene: Scene, newest: ssl.TLSVersion) -> list[Answer]:
    """What TLS says to a certificate of an unknown CA.

    Without a word of HTTP: under TLS 1.3 the client learns it when it first reads.
    """
    user = scene.fts.users["stranger"]
    context = ssl.create_default_context(cafile=str(scene.fts.ca_file))
    context.maximum_version = newest
    context.load_cert_chain(user.certificate, user.key)
    try:
        with (
            socket.create_connection(("localhost", scene.fts.port), timeout=60) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            connection.recv(1)
    except ssl.SSLError as error:
        return [Answer(status=0, kind="", body=str(error))]
    raise AssertionError("let in")


@section("GET /whoami (cert of an unknown CA): TLS alert, no HTTP")
def stranger(scene: Scene) -> list[Answer]:
    return refused_handshake(scene, ssl.TLSVersion.TLSv1_3)


@section("GET /whoami (TLS 1.2, unknown CA)")
def stranger_with_old_tls(scene: Scene) -> list[Answer]:
    return refused_handshake(scene, ssl.TLSVersion.TLSv1_2)


@section("POST /jobs, no cert")
def submit_anonymously(scene: Scene) -> list[Answer]:
    return [scene.nobody.submit({})]


@section("POST /jobs, Bob never delegated")
def submit_undelegated(scene: Scene) -> list[Answer]:
    return [scene.bob.submit(scene.fts.transfer(scene.url("f1m"), scene.target("b")))]


def delegation_id(client: Client) -> str:
    return str(client.get("/whoami").content["delegation_id"])


@section("GET /delegation/<own id> without a delegation (Bob)")
def no_delegation(scene: Scene) -> list[Answer]:
    return [scene.bob.get(f"/delegation/{delegation_id(scene.bob)}")]


@section("GET /delegation/<someone else's id>")
def other_delegation(scene: Scene) -> list[Answer]:
    return [scene.bob.get(f"/delegation/{delegation_id(scene.alice)}")]


@section("GET /delegation/<wrong id>/request")
def wrong_delegation(scene: Scene) -> list[Answer]:
    return [scene.bob.get("/delegation/0123456789abcdef/request")]


@section("PUT /delegation/<id>/credential before any request (Bob)")
def credential_unasked(scene: Scene) -> list[Answer]:
    return [scene.bob.put_credential(delegation_id(scene.bob), b"x")]


@section("PUT credential: garbage")
def garbage(scene: Scene) -> list[Answer]:
    dlg_id = delegation_id(scene.alice)
    scene.alice.get(f"/delegation/{dlg_id}/request")
    return [scene.alice.put_credential(dlg_id, b"garbage")]


@section("PUT credential: proxy for another key (Alice's own proxy)")
def other_key(scene: Scene) -> list[Answer]:
    proxy = scene.fts.users["alice"].proxy.read_bytes()
    return [scene.alice.put_credential(delegation_id(scene.alice), proxy)]


@section(
    "PUT credential with curl's default Content-Type (x-www-form-urlencoded: "
    "flask hands the app an empty body)"
)
def form(scene: Scene) -> list[Answer]:
    proxy = scene.fts.users["alice"].proxy.read_bytes()
    return [scene.alice.put_credential(delegation_id(scene.alice), proxy, FORM)]


@section("GET /delegation/dc50f980e1a9a3a2 (delegated)")
def delegated(scene: Scene) -> list[Answer]:
    scene.alice.delegate(scene.fts.users["alice"].credential, timedelta(hours=48))
    return [scene.alice.get("/delegation/dc50f980e1a9a3a2")]


# --- rest.txt: a job's life


@section("POST ok")
def submit(scene: Scene) -> list[Answer]:
    """And the three looks at the job while nothing has happened to it yet."""
    with scene.fts.all_slots_taken(1):
        answer = scene.copy("f1m", "t1", overwrite=True)
        job = scene.ids["J1"] = answer.content["job_id"]
        names = "file_state,dest_surl,throughput,filesize,reason,retry,finish_time,nosuchfield"
        for title, path in (
            ("GET /jobs/J1 at once", f"/jobs/{job}"),
            ("GET /jobs/J1/files at once", f"/jobs/{job}/files"),
            (f"GET /jobs/J1?files={names}", f"/jobs/{job}?files={names}"),
        ):
            at_once = scene.alice.get(path)
            SECTIONS[title] = lambda _, at_once=at_once: [at_once]
    return [answer]


@section("GET /jobs/J1 finished")
def finished(scene: Scene) -> list[Answer]:
    scene.alice.ended(scene.ids["J1"])
    return [scene.alice.get(f"/jobs/{scene.ids['J1']}")]


@section("GET /jobs/J1/files finished")
def files_finished(scene: Scene) -> list[Answer]:
    answer = scene.alice.get(f"/jobs/{scene.ids['J1']}/files")
    scene.ids["F1"] = answer.content[0]["file_id"]
    return [answer]


@section("GET /jobs/J1/job_state")
def one_field(scene: Scene) -> list[Answer]:
    return [scene.alice.get(f"/jobs/{scene.ids['J1']}/job_state")]


@section("GET /jobs/J1/nosuchfield")
def no_field(scene: Scene) -> list[Answer]:
    return [scene.alice.get(f"/jobs/{scene.ids['J1']}/nosuchfield")]


@section("GET /jobs/J1/files/8872474435/retries")
def no_retries(scene: Scene) -> list[Answer]:
    return [scene.alice.get(f"/jobs/{scene.ids['J1']}/files/{scene.ids['F1']}/retries")]


@section("GET /jobs/J1/dm")
def data_management(scene: Scene) -> list[Answer]:
    return [scene.alice.get(f"/jobs/{scene.ids['J1']}/dm")]


@section("DELETE /jobs/J1 (finished)")
def cancel_finished(scene: Scene) -> list[Answer]:
    return [scene.alice.delete(f"/jobs/{scene.ids['J1']}")]


@section("DELETE /jobs/J1/files/8872474435 (finished)")
def cancel_finished_file(scene: Scene) -> list[Answer]:
    return [scene.alice.delete(f"/jobs/{scene.ids['J1']}/files/{scene.ids['F1']}")]


@section("POST J2")
def submit_and_cancel(scene: Scene) -> list[Answer]:
    """And its cancelling, before it has a slot."""
    with scene.fts.all_slots_taken(1):
        answer = scene.copy("f1m", "t2", overwrite=True)
        job = scene.ids["J2"] = answer.content["job_id"]
        canceled = scene.alice.delete(f"/jobs/{job}")
        SECTIONS["DELETE /jobs/J2 (SUBMITTED)"] = lambda _: [canceled]
    return [answer]


@section("GET /jobs/J2/files after cancel")
def files_canceled(scene: Scene) -> list[Answer]:
    return [scene.alice.get(f"/jobs/{scene.ids['J2']}/files")]


@section("DELETE /jobs/J2 again")
def cancel_again(scene: Scene) -> list[Answer]:
    return [scene.alice.delete(f"/jobs/{scene.ids['J2']}")]


@section("GET /jobs/J1,J2 bulk, all known")
def bulk(scene: Scene) -> list[Answer]:
    return [scene.alice.get(f"/jobs/{scene.ids['J1']},{scene.ids['J2']}")]


@section("GET /jobs/J1,unknown bulk")
def bulk_with_unknown(scene: Scene) -> list[Answer]:
    return [scene.alice.get(f"/jobs/{scene.ids['J1']},{UNKNOWN}?files=file_state")]


@section("DELETE /jobs/J1,J2,unknown bulk")
def cancel_bulk(scene: Scene) -> list[Answer]:
    return [scene.alice.delete(f"/jobs/{scene.ids['J1']},{scene.ids['J2']},{UNKNOWN}")]


@section("GET /jobs/unknown")
def unknown(scene: Scene) -> list[Answer]:
    return [scene.alice.get(f"/jobs/{UNKNOWN}")]


@section("GET /jobs/not-a-uuid")
def not_an_id(scene: Scene) -> list[Answer]:
    return [scene.alice.get("/jobs/not-a-uuid")]


@section("GET /jobs/unknown/files")
def files_of_unknown(scene: Scene) -> list[Answer]:
    return [scene.alice.get(f"/jobs/{UNKNOWN}/files")]


@section("DELETE /jobs/unknown")
def cancel_unknown(scene: Scene) -> list[Answer]:
    return [scene.alice.delete(f"/jobs/{UNKNOWN}")]


@section("GET /jobs/J1 as Bob (other VO)")
def job_of_another(scene: Scene) -> list[Answer]:
    return [scene.bob.get(f"/jobs/{scene.ids['J1']}")]


@section("GET /jobs/J1/files as Bob")
def files_of_another(scene: Scene) -> list[Answer]:
    return [scene.bob.get(f"/jobs/{scene.ids['J1']}/files")]


@section("DELETE /jobs/J1 as Bob")
def cancel_another(scene: Scene) -> list[Answer]:
    return [scene.bob.delete(f"/jobs/{scene.ids['J1']}")]


@section("GET /jobs/J1 without cert")
def job_anonymously(scene: Scene) -> list[Answer]:
    return [scene.nobody.get(f"/jobs/{scene.ids['J1']}")]


# --- rest.txt: what a submission is refused for, and what it is not


@section("POST bad source URL (no scheme)")
def no_scheme(scene: Scene) -> list[Answer]:
    return scene.post("/some/file", scene.target("x"))


@section("POST bad URL (no host)")
def no_host(scene: Scene) -> list[Answer]:
    return scene.post("gsiftp:/x", scene.target("x"))


@section("POST bad URL (no path)")
def no_path(scene: Scene) -> list[Answer]:
    return scene.post("gsiftp://localhost", scene.target("x"))


@section("POST unknown scheme")
def unknown_scheme(scene: Scene) -> list[Answer]:
    return scene.post("foo://localhost/x", scene.target("x"))


@section("POST file:// URL")
def local_file(scene: Scene) -> list[Answer]:
    return scene.post("file:///etc/passwd", scene.target("x"))


@section("POST source == destination")
def onto_itself(scene: Scene) -> list[Answer]:
    (answer,) = scene.post(scene.url("f1m"), scene.url("f1m"))
    return scene.ended(answer, "file_state,reason")


def post_raw(scene: Scene, body: str, kind: str = JSON) -> list[Answer]:
    return [scene.alice.call("POST", "/jobs", data=body, headers={"Content-Type": kind})]


@section("POST not JSON")
def not_json(scene: Scene) -> list[Answer]:
    return post_raw(scene, "{not json")


@section("POST JSON without files")
def without_files(scene: Scene) -> list[Answer]:
    return post_raw(scene, '{"params": {}}')


@section("POST empty files")
def empty_files(scene: Scene) -> list[Answer]:
    return post_raw(scene, '{"files": []}')


@section("POST JSON list")
def json_list(scene: Scene) -> list[Answer]:
    return post_raw(scene, "[1, 2]")


@section("POST unknown param / bad type")
def bad_type(scene: Scene) -> list[Answer]:
    return [scene.copy("f1m", "x", nosuchparameter=1, retry="many")]


@section("POST without Content-Type json")
def as_form(scene: Scene) -> list[Answer]:
    return post_raw(scene, '{"files": []}', FORM)


@section("POST bad checksum option")
def bad_checksum_option(scene: Scene) -> list[Answer]:
    answer = scene.copy("f1m", "t1", verify_checksum="perhaps")
    scene.alice.ended(answer.content["job_id"])
    return [answer]


@section("POST metadata too big")
def big_metadata(scene: Scene) -> list[Answer]:
    return [scene.copy("f1m", "x", job_metadata={"x": "y" * 5000})]


@section("POST two files, one missing -> FINISHEDDIRTY")
def two_files(scene: Scene) -> list[Answer]:
    pairs = (("f1m", "t3"), ("missing", "t4"))
    files = [{"sources": [scene.url(source)], "destinations": [scene.target(target)]}
             for source, target in pairs]  # fmt: skip
    params = {"overwrite": True, "verify_checksum": "both"}
    answer = scene.alice.submit({"files": files, "params": params})
    names = "file_index,file_state,reason,checksum,filesize,throughput,retry,recoverable"
    return scene.ended(answer, names)


@section("POST wrong checksum")
def wrong_checksum(scene: Scene) -> list[Answer]:
    file = {"sources": [scene.url("f1m")], "destinations": [scene.target("t5")],
            "checksum": "ADLER32:00000001"}  # fmt: skip
    params = {"overwrite": True, "verify_checksum": "both"}
    answer = scene.alice.submit({"files": [file], "params": params})
    return scene.ended(answer, "file_state,reason,checksum,retry,recoverable")


@section("GET /jobs?state_in=FINISHED&time_window=1&limit=2&fields=job_id,job_state,submit_time")
def listing(scene: Scene) -> list[Answer]:
    """The title has lost something: both recorded jobs are FAILED, so that was asked for."""
    query = "state_in=FINISHED,FAILED&time_window=1&limit=2&fields=job_id,job_state,submit_time"
    return [scene.alice.get(f"/jobs?{query}")]


@section("POST the same destination twice (CheckDuplicates off = upstream default)")
def same_destination(scene: Scene) -> list[Answer]:
    """And the list of what is not finished, while neither is."""
    with scene.fts.all_slots_taken(1):
        answers = [scene.copy("f1m", "t6", overwrite=True) for _ in range(2)]
        active = scene.alice.get("/jobs")
        SECTIONS["GET /jobs (active only)"] = lambda _: [active]
    for answer in answers:
        scene.alice.ended(answer.content["job_id"])
    return answers


@section("GET /nosuch")
def nothing(scene: Scene) -> list[Answer]:
    return [scene.alice.get("/nosuch")]


@section("PUT /whoami (405)")
def wrong_method(scene: Scene) -> list[Answer]:
    return [scene.alice.call("PUT", "/whoami")]


# --- deleg.txt


def handshake(scene: Scene, life: timedelta) -> list[Answer]:
    """Bob's: the answer to the PUT, and what he then has."""
    answer = scene.bob.delegate(scene.fts.users["bob"].credential, life)
    dlg_id = delegation_id(scene.bob)
    return [Answer(status=answer.status, kind="", body=""), scene.bob.get(f"/delegation/{dlg_id}")]


def bobs_copy(scene: Scene) -> Answer:
    body = scene.fts.transfer(scene.url("f1m"), scene.target("bob"), overwrite=True)
    return scene.bob.submit(body)


@section("delegate Bob for 30 min, POST")
def short_delegation(scene: Scene) -> list[Answer]:
    return [*handshake(scene, timedelta(minutes=30)), bobs_copy(scene)]


@section("delegate Bob 3 h, POST, DELETE credential")
def delete_delegation(scene: Scene) -> list[Answer]:
    answers = [*handshake(scene, HANDSHAKE_LIFE), bobs_copy(scene)]
    scene.bob.ended(answers[-1].content["job_id"])
    path = f"/delegation/{delegation_id(scene.bob)}"
    return [*answers, scene.bob.delete(path), scene.bob.delete(path)]


@section("expired (termination_time put 2 min in the past by SQL)")
def expired(scene: Scene) -> list[Answer]:
    handshake(scene, HANDSHAKE_LIFE)
    scene.fts.sql(
        "UPDATE credentials SET termination_time = strftime('%Y-%m-%dT%H:%M:%S', 'now', ?)"
        " WHERE dlg_id = ?",
        "-2 minutes",
        delegation_id(scene.bob),
    )
    return [bobs_copy(scene)]


@section("delegating with a proxy as client cert (chain proxy->proxy->EEC)")
def delegate_with_proxy(scene: Scene) -> list[Answer]:
    proxy = scene.fts.users["alice"].credential.proxy(lifetime=timedelta(hours=20)).proxy()
    path = scene.fts.directory / "proxy-of-proxy.pem"
    path.write_bytes(proxy.proxy_pem())
    client = Client(scene.fts.url, scene.fts.ca_file, (str(path), str(path)))
    answer = client.delegate(proxy, timedelta(hours=16))
    body = scene.fts.transfer(scene.url("f1m"), scene.target("t7"), overwrite=True)
    submitted = client.submit(body)
    client.ended(submitted.content["job_id"])
    return [
        Answer(status=answer.status, kind="", body=""),
        client.get(f"/delegation/{delegation_id(client)}"),
        submitted,
    ]


@section("retries of the dead-port job")
def retries(scene: Scene) -> list[Answer]:
    body = scene.fts.transfer(DEAD, scene.target("x"), retry=2, overwrite=True)
    job = scene.alice.submit(body).content["job_id"]
    scene.alice.ended(job)
    (file,) = scene.alice.get(f"/jobs/{job}/files").content
    return [
        scene.alice.get(f"/jobs/{job}?files=file_state,reason,retry,recoverable"),
        scene.alice.get(f"/jobs/{job}/files/{file['file_id']}/retries"),
        scene.alice.get(f"/jobs/{job},"),
    ]


# --- sid.txt and dbdown.txt


@section(
    'deterministic job id: params {"id_generator":"deterministic","sid":"deliv-tx-0001"}, '
    "posted twice"
)
def deterministic(scene: Scene) -> list[Answer]:
    def post(**params: str) -> Answer:
        return scene.copy("f1m", "t8", overwrite=True, **params)

    sid = "deliv-tx-0001"
    answers = [
        post(id_generator="deterministic", sid=sid),
        post(id_generator="deterministic", sid=sid),
        post(sid=sid),
    ]
    job = answers[0].content["job_id"]
    assert job == "261516c0-8cb2-59d9-be55-cb038e8fe9a2", "uuid5(vos_id[0], sid) of the recording"
    scene.alice.delete(f"/jobs/{job}")
    return [
        *answers,
        post(id_generator="deterministic", sid=sid),
        post(id_generator="deterministic"),
    ]


@section("MariaDB down: GET /jobs/x and POST")
def database_down(scene: Scene) -> list[Answer]:
    with scene.fts.without("banned_dns"):
        return [scene.alice.get("/jobs/x"), scene.copy("f1m", "t9"), scene.alice.get("/jobs")]
