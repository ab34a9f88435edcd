"""The HTTPS client against real servers: what it trusts, sends, waits for and gives up."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from deliv_testbed import pki

from deliv import config
from deliv.errors import Unavailable, Unreachable
from deliv.gateways.https import HttpsClient, Response
from integration.scripted_fts import Grid, Reply, ScriptedFts, reply

OTHER_CA = pki.name(("O", "elsewhere"), ("CN", "other CA"))


@asynccontextmanager
async def client(
    grid: Grid, credential: config.CredentialFiles | None = None, **options: object
) -> AsyncIterator[HttpsClient]:
    options = {"ca_directory": grid.ca_directory, "connect_timeout": 2.0, **options}
    https = HttpsClient(credential or grid.credential, **options)
    try:
        yield https
    finally:
        https.close()


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """Takes connections and says nothing; its port."""
    writers = list[asyncio.StreamWriter]()

    def accepted(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


def optional_certificate(grid: Grid) -> ssl.SSLContext:
    context = grid.server_context()
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


async def unreachable(https: HttpsClient, url: str, **options: object) -> Unreachable:
    with pytest.raises(Unreachable) as caught:
        await https.request("GET", url, **options)
    return caught.value


# --- what comes back


@pytest.mark.parametrize("status", [200, 207, 302, 404, 419, 500])
async def test_every_status_is_an_answer(grid: Grid, status: int) -> None:
    async with ScriptedFts(grid) as server, client(grid) as https:
        server.on("GET", "/x", reply({"status": status}, status))
        answer = await https.request("GET", f"{server.url}/x")
        assert (answer.status, answer.json()) == (status, {"status": status})
        assert answer.headers["content-type"] == "application/json"
        assert len(server.asked) == 1


async def test_body_and_content_type_go_out(grid: Grid) -> None:
    async with ScriptedFts(grid) as server, client(grid) as https:
        server.on("PUT", "/x", Reply(status=201))
        body = b"-----BEGIN CERTIFICATE-----\n"
        answer = await https.request("PUT", f"{server.url}/x", body=body, content_type="text/plain")
        assert (answer.status, answer.body) == (201, b"")
        (asked,) = server.asked
        assert (asked.body, asked.headers["Content-Type"]) == (body, "text/plain")
        assert asked.headers["User-Agent"].startswith("deliv/")
        assert "Expect" not in asked.headers


def test_html_is_no_json() -> None:
    answer = Response(status=500, headers={"Content-Type": "text/html"}, body=b"<html>")
    with pytest.raises(Unreachable, match="answered 500 with text/html instead of JSON"):
        answer.json()


async def test_connections_are_kept(grid: Grid) -> None:
    async with ScriptedFts(grid) as server, client(grid) as https:
        server.on("GET", "/x", reply({}))
        for _ in range(5):
            await https.request("GET", f"{server.url}/x")
        assert len({asked.connection for asked in server.asked}) == 1


# --- whom it trusts


async def test_the_ca_directory_alone_is_trusted(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(pki.certificate_pem(grid.authority.certificate))
    for variable in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(variable, str(bundle))
    monkeypatch.setenv("SSL_CERT_DIR", str(grid.ca_directory))
    pki.Authority.create(OTHER_CA).install(tmp_path / "others")
    async with ScriptedFts(grid) as server:
        server.on("GET", "/x", reply({}))
        for directory in (tmp_path / "others", tmp_path / "absent"):
            async with client(grid, ca_directory=directory) as https:
                error = await unreachable(https, f"{server.url}/x")
            assert "certificate" in str(error)
            assert not error.sent
        assert server.asked == []


async def test_a_ca_file_is_trusted_in_its_place(grid: Grid, tmp_path: Path) -> None:
    own, others = tmp_path / "own.pem", tmp_path / "others.pem"
    own.write_bytes(pki.certificate_pem(grid.authority.certificate))
    others.write_bytes(pki.certificate_pem(pki.Authority.create(OTHER_CA).certificate))
    async with ScriptedFts(grid) as server:
        server.on("GET", "/x", reply({}))
        async with client(grid, ca_file=own, ca_directory=tmp_path / "absent") as https:
            assert (await https.request("GET", f"{server.url}/x")).status == 200
        async with client(grid, ca_file=others) as https:
            assert "certificate" in str(await unreachable(https, f"{server.url}/x"))


async def test_without_a_credential_none_is_shown(grid: Grid) -> None:
    https = HttpsClient(None, grid.ca_directory)
    async with ScriptedFts(grid) as server, ScriptedFts(grid, optional_certificate(grid)) as open_:
        open_.on("GET", "/x", lambda asked: reply({"subject": asked.subject}))
        assert (await https.request("GET", f"{open_.url}/x")).json() == {"subject": ""}
        await unreachable(https, f"{server.url}/x")
    https.close()


async def test_a_closed_client_opens_nothing(grid: Grid) -> None:
    async with ScriptedFts(grid) as server, client(grid) as https:
        server.on("GET", "/x", reply({}))
        await https.request("GET", f"{server.url}/x")
        https.close()
        error = await unreachable(https, f"{server.url}/x")
        assert not error.sent
        assert len(server.asked) == 1


async def test_an_answer_that_is_too_large_is_none(grid: Grid) -> None:
    async with ScriptedFts(grid) as server, client(grid, max_body=1000) as https:
        server.on("GET", "/x", Reply(body=b"x" * 1000), Reply(body=b"x" * 1001))
        assert len((await https.request("GET", f"{server.url}/x")).body) == 1000
        assert "max_body_size" in str(await unreachable(https, f"{server.url}/x"))


async def test_the_environment_can_not_break_trust(
    grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"):
        monkeypatch.setenv(variable, "/nonexistent")
    for variable in ("https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    async with ScriptedFts(grid) as server, client(grid) as https:
        server.on("GET", "/x", reply({}))
        assert (await https.request("GET", f"{server.url}/x")).status == 200


async def test_the_hosts_name_has_to_be_in_its_certificate(grid: Grid) -> None:
    elsewhere = grid.authority.issue(pki.host_name("elsewhere"), hosts=("elsewhere.example",))
    context = grid.server_context(grid.write("elsewhere", elsewhere))
    async with ScriptedFts(grid, context=context) as server, client(grid) as https:
        server.on("GET", "/x", reply({}))
        error = await unreachable(https, f"{server.url}/x")
        assert "localhost" in str(error)
        assert not error.sent


async def test_plain_http_is_not_spoken(grid: Grid) -> None:
    async with client(grid) as https:
        assert not (await unreachable(https, "http://localhost:1/x")).sent


# --- who it is


async def test_a_proxys_whole_chain_is_sent(grid: Grid) -> None:
    credential = grid.write_proxy("nested", grid.robot.proxy().proxy())
    async with ScriptedFts(grid) as server, client(grid, credential) as https:
        server.on("GET", "/x", reply({}))
        assert (await https.request("GET", f"{server.url}/x")).status == 200
        assert server.asked[0].subject.count("commonName") == 3


async def test_a_renewed_credential_is_used_from_the_next_request_on(grid: Grid) -> None:
    credential = grid.write("renewed", grid.authority.issue(pki.user_name("old")))
    async with ScriptedFts(grid) as server, client(grid, credential) as https:
        server.on("GET", "/x", reply({}))
        await https.request("GET", f"{server.url}/x")
        first = https.credential_version
        grid.write("renewed", grid.authority.issue(pki.user_name("new")))
        await https.request("GET", f"{server.url}/x")
        assert https.credential_version == first + 1
        before, after = server.asked
        assert "old" in before.subject
        assert "new" in after.subject


async def test_half_a_renewal_is_passed_over(grid: Grid) -> None:
    credential = grid.write("half", grid.authority.issue(pki.user_name("whole")))
    async with ScriptedFts(grid) as server, client(grid, credential) as https:
        server.on("GET", "/x", reply({}))
        await https.request("GET", f"{server.url}/x")
        assert https.broken is None
        pki.write(credential.certificate, grid.host.certificate_pem())
        await https.request("GET", f"{server.url}/x")
        assert f"{credential.key} is not the key of" in str(https.broken)
        credential.certificate.unlink()
        assert "No such file" in str(https.broken)
        await https.request("GET", f"{server.url}/x")
        assert all("whole" in asked.subject for asked in server.asked)


@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
async def test_without_a_usable_credential(grid: Grid, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "robot.pem"
    if content is not None:
        path.write_bytes(content)
    credential = config.CredentialFiles(certificate=path, key=path)
    async with client(grid, credential) as https:
        with pytest.raises(Unavailable, match="deliv's own credential can't be used"):
            await https.request("GET", "https://localhost:1/x")


async def test_a_credential_the_server_refuses(grid: Grid) -> None:
    stranger = pki.Authority.create(OTHER_CA).issue(pki.user_name("stranger"))
    async with (
        ScriptedFts(grid) as server,
        client(grid, grid.write("stranger", stranger)) as https,
    ):
        error = await unreachable(https, f"{server.url}/x")
        assert f"localhost:{server.port}" in str(error)
        assert server.asked == []


# --- what it does not wait for


async def test_nobody_listens(grid: Grid) -> None:
    async with client(grid) as https:
        error = await unreachable(https, "https://localhost:1/x")
        assert "localhost:1" in str(error)
        assert not error.sent


async def test_no_such_host(grid: Grid) -> None:
    async with client(grid) as https:
        error = await unreachable(https, "https://no-such-host.invalid/x")
        assert "no-such-host.invalid" in str(error)
        assert not error.sent


async def test_a_server_that_says_nothing(grid: Grid) -> None:
    async with silent_server() as port, client(grid, connect_timeout=0.3) as https:
        error = await unreachable(https, f"https://localhost:{port}/x")
        assert "timed out" in str(error)
        assert not error.sent


async def test_a_late_answer_leaves_the_outcome_open(grid: Grid) -> None:
    async with ScriptedFts(grid) as server, client(grid) as https:
        server.on("GET", "/x", reply({}, delay=600))
        async with asyncio.timeout(120):
            error = await unreachable(https, f"{server.url}/x", timeout=4)
        assert error.sent


async def test_a_dropped_connection_leaves_the_outcome_open(grid: Grid) -> None:
    async with ScriptedFts(grid) as server, client(grid) as https:
        server.on("GET", "/x", Reply(drop=True))
        assert (await unreachable(https, f"{server.url}/x")).sent


async def test_the_wait_for_a_connection_counts(grid: Grid) -> None:
    async with ScriptedFts(grid) as server, client(grid, max_clients=1) as https:
        server.on("GET", "/slow", reply({}, delay=600))
        slow = asyncio.create_task(https.request("GET", f"{server.url}/slow", timeout=600))
        while not server.asked:
            await asyncio.sleep(0.01)
        error = await unreachable(https, f"{server.url}/x", timeout=0.2)
        assert "1 requests wait for its answer already" in str(error)
        assert not error.sent
        assert not slow.done()
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)


async def test_a_busy_host_does_not_delay_another(grid: Grid) -> None:
    async with (
        ScriptedFts(grid) as busy,
        ScriptedFts(grid) as idle,
        client(grid, max_clients=2) as https,
    ):
        busy.on("GET", "/slow", reply({}, delay=600))
        idle.on("GET", "/x", reply({}))
        waiting = [
            asyncio.create_task(https.request("GET", f"{busy.url}/slow", timeout=600))
            for _ in range(4)
        ]
        assert (await https.request("GET", f"{idle.url}/x", timeout=60)).status == 200
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_closing_lets_a_request_end(grid: Grid) -> None:
    async with ScriptedFts(grid) as server, client(grid) as https:
        server.on("GET", "/slow", reply({}, delay=0.5))
        slow = asyncio.create_task(https.request("GET", f"{server.url}/slow"))
        while not server.asked:
            await asyncio.sleep(0.01)
        https.close()
        assert (await slow).status == 200
