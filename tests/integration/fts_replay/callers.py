"""Who calls, what they have delegated, and paths that there are none of."""

from __future__ import annotations

import socket
import ssl
from datetime import timedelta

from integration.fts_replay.scene import FORM, Scene, section
from integration.private_fts import Client
from integration.recorded import Answer

HANDSHAKE_LIFE = timedelta(hours=3)


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


@section("GET /nosuch")
def nothing(scene: Scene) -> list[Answer]:
    return [scene.alice.get("/nosuch")]


@section("PUT /whoami (405)")
def wrong_method(scene: Scene) -> list[Answer]:
    return [scene.alice.call("PUT", "/whoami")]


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
