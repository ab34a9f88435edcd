"""The FTS client against scripted answers: those recorded, and those that no dummy gives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from deliv_testbed import pki

from deliv import config
from deliv.errors import DelegationNeeded, Refused, Unavailable, Unreachable
from deliv.gateways.fts import BreakerState, Endpoint, Fts, Transfer, Verdict
from deliv.gateways.fts.client import BULK, MOMENT
from deliv.gateways.https import HttpsClient
from deliv.model.error_classes import ErrorClass
from integration import recorded
from integration.scripted_delegation import DLG, REST, WHOAMI, CredentialDelegation, as_recorded
from integration.scripted_fts import Asked, Grid, Reply, ScriptedFts, html, reply

DELEGATION = recorded.sections("deleg.txt")
SID = recorded.sections("sid.txt")
DOWN = recorded.sections("dbdown.txt")

JOB = "261516c0-8cb2-59d9-be55-cb038e8fe9a2"  # of the sid below, as the real FTS computed it
TRANSFER = Transfer(sid="deliv-tx-0001", source="gsiftp://archive/a", destination="gsiftp://user/a")
UNKNOWN = "00000000-0000-0000-0000-000000000000"
CUT_OFF = Reply(body=b"[")
NOT_FOUND = {"job_id": JOB, "http_status": "404 Not Found", "http_message": "No job"}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return Grid(tmp_path_factory.mktemp("grid"))


@dataclass
class Scene:
    server: ScriptedFts
    endpoint: Endpoint
    delegating: CredentialDelegation


@asynccontextmanager
async def scene(
    grid: Grid, credential: config.CredentialFiles | None = None, **settings: object
) -> AsyncIterator[Scene]:
    """A server that knows deliv and delegates, and deliv's client of it."""
    https = HttpsClient(credential or grid.credential, grid.ca_directory)
    async with ScriptedFts(grid) as server:
        delegating = CredentialDelegation()
        delegating.install(server)
        server.on("GET", "/whoami", reply(WHOAMI))
        options = {"request_timeout": config.Seconds(30), **settings}
        fts = Fts(
            config.FtsSettings(endpoints={"one": config.HttpsUrl(server.url)}, **options), https
        )
        try:
            yield Scene(server, fts.endpoint("one"), delegating)
        finally:
            https.close()


# --- identity


async def test_whoami_is_asked_once(grid: Grid) -> None:
    async with scene(grid) as s:
        for _ in range(3):
            identity = await s.endpoint.whoami()
        assert identity.user_dn == "/DC=test/DC=oracle/OU=Users/CN=Alice Transfer"
        assert await s.endpoint.job_id("deliv-tx-0001") == JOB
        assert len(s.server.calls("GET", "/whoami")) == 1


async def test_whoami_is_asked_again_for_a_new_certificate(grid: Grid) -> None:
    credential = grid.write("changing", grid.authority.issue(pki.user_name("old")))
    async with scene(grid, credential) as s:
        await s.endpoint.whoami()
        grid.write("changing", grid.authority.issue(pki.user_name("new")))
        await s.endpoint.whoami()
        assert len(s.server.calls("GET", "/whoami")) == 2


async def test_nobody_to_fts(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("GET", "/whoami", as_recorded(REST["GET /whoami (no cert)"][0]))
        with pytest.raises(Refused, match="did not accept deliv's certificate") as caught:
            await s.endpoint.whoami()
        assert caught.value.code == 403


async def test_probe(grid: Grid) -> None:
    async with scene(grid) as s:
        assert (await s.endpoint.probe()).endswith("Alice Transfer, nothing delegated yet")
        await s.endpoint.ensure_delegated()
        assert "delegated for 24.0 h" in await s.endpoint.probe()


# --- delegation


async def test_many_callers_delegate_once(grid: Grid) -> None:
    async with scene(grid) as s:
        await asyncio.gather(*(s.endpoint.ensure_delegated() for _ in range(20)))
        await s.endpoint.ensure_delegated()
        (chain,) = s.delegating.put
        proxy, issuer = x509.load_pem_x509_certificates(chain)
        assert issuer == grid.robot.certificate
        proxy.verify_directly_issued_by(issuer)
        assert proxy.subject.rdns[:-1] == issuer.subject.rdns
        info = proxy.extensions.get_extension_for_oid(pki.PROXY_CERT_INFO)
        assert info.critical
        life = proxy.not_valid_after_utc - datetime.now(UTC)
        assert timedelta(hours=23, minutes=59) < life <= timedelta(hours=24)
        starts = proxy.not_valid_before_utc  # FTS's clock may be behind
        assert issuer.not_valid_before_utc <= starts < datetime.now(UTC) - timedelta(hours=1.9)


async def test_a_delegation_starts_no_earlier_than_the_certificate(grid: Grid) -> None:
    new = grid.authority.issue(pki.user_name("new"), starts=datetime.now(UTC) - timedelta(hours=1))
    async with scene(grid, grid.write("young", new)) as s:
        await s.endpoint.ensure_delegated()
        proxy, issuer = x509.load_pem_x509_certificates(s.delegating.put[0])
        assert proxy.not_valid_before_utc == issuer.not_valid_before_utc


async def test_one_that_lasts_is_left(grid: Grid) -> None:
    async with scene(grid) as s:
        s.delegating.until = datetime.now(UTC) + timedelta(hours=5)
        await s.endpoint.ensure_delegated()
        assert s.delegating.put == []


async def test_one_that_is_short_is_renewed(grid: Grid) -> None:
    async with scene(grid) as s:
        s.delegating.until = datetime.now(UTC) + timedelta(hours=3)
        await s.endpoint.ensure_delegated()
        assert len(s.delegating.put) == 1


async def test_a_proxy_delegates_its_whole_chain_and_no_longer_than_it_lives(grid: Grid) -> None:
    proxy = grid.robot.proxy(lifetime=timedelta(hours=3)).proxy(lifetime=timedelta(hours=8))
    async with scene(grid, grid.write_proxy("short", proxy)) as s:
        for _ in range(3):
            await s.endpoint.ensure_delegated()
        (chain,) = s.delegating.put
        certificates = x509.load_pem_x509_certificates(chain)
        assert len(certificates) == 4
        assert certificates[0].not_valid_after_utc <= certificates[1].not_valid_after_utc


async def test_a_certificate_that_ends_before_the_lifetime_asked_for(grid: Grid) -> None:
    brief = grid.authority.issue(pki.user_name("brief"), lifetime=timedelta(hours=2))
    async with scene(grid, grid.write("brief", brief)) as s:
        await s.endpoint.ensure_delegated()
        (proxy, *_) = x509.load_pem_x509_certificates(s.delegating.put[0])
        assert proxy.not_valid_after_utc <= brief.certificate.not_valid_after_utc


async def test_an_expired_certificate_is_ours_to_renew(grid: Grid) -> None:
    past = datetime.now(UTC) - timedelta(days=2)
    old = grid.authority.issue(pki.user_name("old"), starts=past, lifetime=timedelta(days=1))
    async with scene(grid, grid.write("expired", old)) as s:
        with pytest.raises(Unavailable):
            await s.endpoint.ensure_delegated()
        assert s.delegating.put == []


async def test_fts_refuses_the_delegation(grid: Grid) -> None:
    async with scene(grid) as s:
        refusal = as_recorded(REST["PUT credential: garbage"][0])
        s.server.on("PUT", f"{DLG}/credential", refusal)
        with pytest.raises(Refused, match="Malformed proxy") as caught:
            await s.endpoint.ensure_delegated()
        assert caught.value.code == 400


async def test_fts_goes_away_while_delegating(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on(
            "GET", f"{DLG}/request", as_recorded(DOWN["MariaDB down: GET /jobs/x and POST"][0])
        )
        with pytest.raises(Unreachable, match="answered 500: text/html"):
            await s.endpoint.ensure_delegated()
        s.delegating.install(s.server)
        await s.endpoint.ensure_delegated()
        assert len(s.delegating.put) == 1


# --- submitting


async def test_submit(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("POST", "/jobs", reply({"job_id": JOB}))
        assert await s.endpoint.submit(TRANSFER) == JOB
        (asked,) = s.server.calls("POST", "/jobs")
        assert asked.headers["Content-Type"] == "application/json"
        assert json.loads(asked.body)["params"]["sid"] == "deliv-tx-0001"


async def test_the_same_sid_again_is_the_same_job(grid: Grid) -> None:
    duplicated = SID[
        'deterministic job id: params {"id_generator":"deterministic","sid":"deliv-tx-0001"}, '
        "posted twice"
    ][1]
    async with scene(grid) as s:
        s.server.on("POST", "/jobs", as_recorded(duplicated))
        s.server.on("GET", f"/jobs/{JOB}", reply({"job_id": JOB, "job_state": "CANCELED"}))
        assert await s.endpoint.submit(TRANSFER) == JOB


async def test_somebody_elses_transfer_to_that_destination(grid: Grid) -> None:
    busy = {"status": "409 Conflict", "message": "The submission is duplicated for job(s): [x]"}
    async with scene(grid) as s:
        s.server.on("POST", "/jobs", reply(busy, 409))
        s.server.on("GET", f"/jobs/{JOB}", reply(NOT_FOUND, 404))
        with pytest.raises(Refused, match="The submission is duplicated") as caught:
            await s.endpoint.submit(TRANSFER)
        assert caught.value.code == 409


async def test_a_conflict_that_can_not_be_told_stays_open(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("POST", "/jobs", reply({"status": "409", "message": "x"}, 409))
        s.server.on("GET", f"/jobs/{JOB}", html(500))
        with pytest.raises(Unreachable):
            await s.endpoint.submit(TRANSFER)


@pytest.mark.parametrize(
    "needed",
    [
        REST["POST /jobs, Bob never delegated"][0],
        DELEGATION["delegate Bob for 30 min, POST"][2],
    ],
)
async def test_419_delegates_once_for_all_and_tries_again(
    grid: Grid, needed: recorded.Answer
) -> None:
    async with scene(grid) as s:
        s.delegating.until = datetime.now(UTC) + timedelta(hours=20)  # and FTS lost it all the same
        wanting = [as_recorded(needed)] * 3

        def answer(asked: Asked) -> Reply:
            if s.delegating.put:
                return reply({"job_id": JOB})
            return wanting.pop() if wanting else reply({}, 500)

        s.server.on("POST", "/jobs", answer)
        ids = await asyncio.gather(*(s.endpoint.submit(TRANSFER) for _ in range(3)))
        assert ids == [JOB] * 3
        assert len(s.delegating.put) == 1


async def test_419_again_is_told(grid: Grid) -> None:
    async with scene(grid) as s:
        needed = as_recorded(DELEGATION["delegate Bob for 30 min, POST"][2])
        s.server.on("POST", "/jobs", needed)
        with pytest.raises(DelegationNeeded, match="less than one hour left") as caught:
            await s.endpoint.submit(TRANSFER)
        assert caught.value.code == 419
        assert len(s.server.calls("POST", "/jobs")) == 2


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (REST["POST /jobs, no cert"][0], 403),
        (REST["POST bad source URL (no scheme)"][0], 400),
        (REST["POST metadata too big"][0], 400),
    ],
)
async def test_refusals_carry_code_and_message(
    grid: Grid, answer: recorded.Answer, code: int
) -> None:
    async with scene(grid) as s:
        s.server.on("POST", "/jobs", as_recorded(answer))
        with pytest.raises(Refused) as caught:
            await s.endpoint.submit(TRANSFER)
        assert caught.value.code == code
        assert answer.content["message"] in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        as_recorded(DOWN["MariaDB down: GET /jobs/x and POST"][1]),
        as_recorded(REST["GET /jobs/J1 without cert"][0]),
        html(404),
        html(503),
        reply({"status": "429 Too Many Requests", "message": "slow down"}, 429),
        html(200),
        reply(["not", "a", "job"]),
        reply({"no": "id"}),
        Reply(drop=True),
        reply({"job_id": JOB}, delay=600),
    ],
)
async def test_what_is_no_answer_of_fts_leaves_the_outcome_open(grid: Grid, answer: Reply) -> None:
    patience = 3.0 if answer.delay else 30.0
    async with scene(grid, request_timeout=config.Seconds(patience)) as s:
        await s.endpoint.whoami()
        s.server.on("POST", "/jobs", answer)
        with pytest.raises(Unreachable) as caught:
            await s.endpoint.submit(TRANSFER)
        assert caught.value.sent


async def test_a_job_under_another_id_is_withdrawn(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("POST", "/jobs", reply({"job_id": UNKNOWN}))
        s.server.on(
            "DELETE", f"/jobs/{UNKNOWN}", reply({"job_id": UNKNOWN, "job_state": "CANCELED"})
        )
        with pytest.raises(Refused, match="deliv's identity changed"):
            await s.endpoint.submit(TRANSFER, JOB)
        assert len(s.server.calls("DELETE", f"/jobs/{UNKNOWN}")) == 1
        await s.endpoint.whoami()
        assert len(s.server.calls("GET", "/whoami")) == 1  # asked anew: a noted id needed none


# --- lists


async def test_what_finished_lately(grid: Grid) -> None:
    answer = REST[
        "GET /jobs?state_in=FINISHED&time_window=1&limit=2&fields=job_id,job_state,submit_time"
    ][0]
    async with scene(grid) as s:
        s.server.on("GET", "/jobs", as_recorded(answer))
        assert await s.endpoint.finished(125) == {
            "ce023ca2-e7ca-11f1-8f40-02fc00000001": "FAILED",
            "ca3d9404-e7ca-11f1-8f40-02fc00000001": "FAILED",
        }
        (asked,) = s.server.calls("GET", "/jobs")
        assert asked.query == (
            "state_in=FINISHED,FAILED,FINISHEDDIRTY,CANCELED&time_window=2:5"
            "&fields=job_id,job_state"
        )


async def test_what_is_unfinished(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("GET", "/jobs", as_recorded(REST["GET /jobs (active only)"][0]))
        assert set((await s.endpoint.unfinished()).values()) == {"SUBMITTED"}
        s.server.on("GET", "/jobs", reply([]))
        assert await s.endpoint.unfinished() == {}


@pytest.mark.parametrize("answer", [html(200), reply({"a": 1}), CUT_OFF])
async def test_a_list_that_is_none(grid: Grid, answer: Reply) -> None:
    async with scene(grid) as s:
        s.server.on("GET", "/jobs", answer)
        with pytest.raises(Unreachable):
            await s.endpoint.unfinished()


Call = Callable[[Endpoint], Awaitable[object]]
CALLS: dict[str, Call] = {
    "submit": lambda endpoint: endpoint.submit(TRANSFER, JOB),
    "finished": lambda endpoint: endpoint.finished(2),
    "unfinished": lambda endpoint: endpoint.unfinished(),
    "details": lambda endpoint: endpoint.details([JOB, UNKNOWN]),
    "origins": lambda endpoint: endpoint.origins([JOB, UNKNOWN]),
    "cancel": lambda endpoint: endpoint.cancel(JOB),
}


@pytest.mark.parametrize("name", CALLS)
async def test_an_answer_that_fts_breaks_off_is_an_outage(grid: Grid, name: str) -> None:
    """A 200 of one character: its database lost a table after the answer had begun."""
    async with scene(grid) as s:
        for method, path in (
            ("POST", "/jobs"),
            ("GET", "/jobs"),
            ("GET", f"/jobs/{JOB},{UNKNOWN}"),
            ("DELETE", f"/jobs/{JOB}"),
        ):
            s.server.on(method, path, CUT_OFF)
        for _ in range(3):
            with pytest.raises(Unreachable):
                await CALLS[name](s.endpoint)
        one = s.endpoint
        breaker = one.cancel_breaker if name == "cancel" else one.breaker
        assert breaker.state is BreakerState.OPEN
        assert "broke off" in breaker.reason


async def test_an_archive_that_breaks_off_loses_no_job(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("GET", f"/jobs/{JOB}", reply(NOT_FOUND, 404))
        s.server.on("GET", f"/archive/{JOB}", CUT_OFF)
        assert (await s.endpoint.details([JOB]))[JOB].verdict is Verdict.UNKNOWN
        s.server.on("GET", f"/archive/{JOB}", reply({"job_id": JOB, "job_state": "FINISHED"}))
        s.server.on("GET", f"/archive/{JOB}/files", CUT_OFF)
        assert (await s.endpoint.details([JOB]))[JOB].verdict is Verdict.UNKNOWN


# --- details


async def test_a_bulk_with_an_unknown_id(grid: Grid) -> None:
    answer = REST["GET /jobs/J1,unknown bulk"][0]
    known = answer.content[0]["job_id"]
    async with scene(grid) as s:
        s.server.on("GET", f"/jobs/{known},{UNKNOWN}", as_recorded(answer))
        s.server.on("GET", f"/archive/{UNKNOWN}", as_recorded(REST["GET /nosuch"][0]))
        details = await s.endpoint.details([known, UNKNOWN, known])
        assert details.keys() == {known}
        assert details[known].verdict is Verdict.FINISHED  # CANCELED after its file had finished


async def test_one_id_comes_bare(grid: Grid) -> None:
    answer = DELEGATION["retries of the dead-port job"][0]
    job_id = answer.content["job_id"]
    async with scene(grid) as s:
        s.server.on("GET", f"/jobs/{job_id}", as_recorded(answer))
        outcome = (await s.endpoint.details([job_id]))[job_id]
        assert outcome.verdict is Verdict.FAILED
        assert outcome.error_class is ErrorClass.UNREACHABLE
        assert outcome.reason.startswith("SOURCE [70] globus_xio: Unable to connect")


async def test_one_unknown_id_is_looked_up_in_the_archive(grid: Grid) -> None:
    archived = {"job_id": JOB, "job_state": "FAILED", "reason": "generic"}
    async with scene(grid) as s:
        s.server.on("GET", f"/jobs/{JOB}", reply(NOT_FOUND, 404))
        s.server.on("GET", f"/archive/{JOB}", reply(archived))
        s.server.on(
            "GET",
            f"/archive/{JOB}/files",
            reply([{"file_state": "FAILED", "reason": "DESTINATION [28] No space left on device"}]),
        )
        outcome = (await s.endpoint.details([JOB]))[JOB]
        assert outcome.error_class is ErrorClass.DESTINATION_FULL


async def test_an_archived_job_without_files(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("GET", f"/jobs/{JOB}", reply(NOT_FOUND, 404))
        s.server.on("GET", f"/archive/{JOB}", reply({"job_id": JOB, "job_state": "FINISHED"}))
        s.server.on("GET", f"/archive/{JOB}/files", reply(NOT_FOUND, 404))
        assert (await s.endpoint.details([JOB]))[JOB].verdict is Verdict.FINISHED


async def test_a_web_servers_404_is_no_miss(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("GET", f"/jobs/{JOB}", html(404))
        with pytest.raises(Unreachable):
            await s.endpoint.details([JOB])
        s.server.on("GET", f"/jobs/{JOB}", reply(NOT_FOUND, 404))
        s.server.on("GET", f"/archive/{JOB}", html(404))
        assert (await s.endpoint.details([JOB]))[JOB].verdict is Verdict.UNKNOWN


async def test_bulks_are_small_enough_and_matched_by_id(grid: Grid) -> None:
    ids = [f"00000000-0000-0000-0000-{number:012d}" for number in range(BULK + 50)]

    def answer(asked: Asked) -> Reply:
        asked_for = asked.path.rpartition("/")[2].split(",")
        assert len(asked_for) <= BULK
        return reply(
            [
                {"job_id": one, "job_state": "FAILED", "reason": f"SOURCE [5] {one}", "files": []}
                for one in reversed(asked_for)
                if one != ids[3]
            ]
        )

    async with scene(grid) as s:
        for chunk in (ids[:BULK], ids[BULK:]):
            s.server.on("GET", f"/jobs/{','.join(chunk)}", answer)
        details = await s.endpoint.details(ids)
        assert details.keys() == set(ids)
        assert details[ids[3]].verdict is Verdict.UNKNOWN
        del details[ids[3]]
        assert all(outcome.reason.endswith(one) for one, outcome in details.items())


async def test_a_job_that_deliv_may_not_see_is_not_lost(grid: Grid) -> None:
    answer = REST["GET /jobs/J1 as Bob (other VO)"][0]
    job_id = answer.content["job_id"]
    async with scene(grid) as s:
        s.server.on("GET", f"/jobs/{job_id}", as_recorded(answer))
        outcome = (await s.endpoint.details([job_id]))[job_id]
        assert outcome.verdict is Verdict.FORBIDDEN
        assert "Not enough permissions" in outcome.reason


async def test_no_ids_are_no_call(grid: Grid) -> None:
    async with scene(grid) as s:
        assert await s.endpoint.details([]) == {}
        assert s.server.asked == []


# --- cancelling


async def test_cancel_tells_the_state(grid: Grid) -> None:
    async with scene(grid) as s:
        for title, state in (
            ("DELETE /jobs/J2 (SUBMITTED)", "CANCELED"),
            ("DELETE /jobs/J1 (finished)", "FINISHED"),
        ):
            s.server.on("DELETE", f"/jobs/{JOB}", as_recorded(REST[title][0]))
            assert await s.endpoint.cancel(JOB) == state


async def test_cancel_of_a_job_unknown_to_fts(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("DELETE", f"/jobs/{JOB}", as_recorded(REST["DELETE /jobs/unknown"][0]))
        assert await s.endpoint.cancel(JOB) is None
        s.server.on("DELETE", f"/jobs/{JOB}", html(404))
        with pytest.raises(Unreachable):
            await s.endpoint.cancel(JOB)
        s.server.on("DELETE", f"/jobs/{JOB}", as_recorded(REST["DELETE /jobs/J1 as Bob"][0]))
        with pytest.raises(Refused):
            await s.endpoint.cancel(JOB)


# --- the breaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def two_servers(
    grid: Grid, clock: Clock
) -> AsyncIterator[tuple[Fts, ScriptedFts, ScriptedFts]]:
    https = HttpsClient(grid.credential, grid.ca_directory)
    async with ScriptedFts(grid) as first, ScriptedFts(grid) as second:
        urls = {"first": config.HttpsUrl(first.url), "second": config.HttpsUrl(second.url)}
        for server in (first, second):
            server.on("GET", "/whoami", reply(WHOAMI))
        yield Fts(config.FtsSettings(endpoints=urls), https, clock), first, second
    https.close()


async def fail(server: ScriptedFts, endpoint: Endpoint) -> None:
    server.on("GET", "/jobs", html(500))
    for _ in range(3):
        with pytest.raises(Unreachable, match="answered 500"):
            await endpoint.unfinished()
    assert endpoint.breaker.state is BreakerState.OPEN


async def test_another_server_takes_new_copies_while_the_first_is_out(grid: Grid) -> None:
    clock = Clock()
    async with two_servers(grid, clock) as (fts, first, second):
        preferred, spare = fts.endpoints
        assert await fts.choose() is preferred
        await fail(first, preferred)
        assert await fts.choose() is spare
        await fail(second, spare)
        with pytest.raises(Unavailable, match=r"FTS first .*; FTS second "):
            await fts.choose()
        clock.now += 10
        assert await fts.choose() is preferred


async def test_none_is_given_to_a_server_that_has_just_gone(grid: Grid) -> None:
    """Though its breaker is closed: it is asked first, unless it was heard of a moment ago."""
    clock = Clock()
    async with two_servers(grid, clock) as (fts, first, _):
        preferred, spare = fts.endpoints
        assert await fts.choose() is preferred
        first.on("GET", "/whoami", Reply(drop=True))
        assert await fts.choose() is preferred
        clock.now += MOMENT
        assert await fts.choose() is spare
        assert preferred.breaker.state is BreakerState.CLOSED
        first.on("GET", "/whoami", reply(WHOAMI))
        asked = len(first.calls("GET", "/whoami"))
        for _ in range(3):
            assert await fts.choose() is preferred
        assert len(first.calls("GET", "/whoami")) == asked + 1


@pytest.mark.parametrize("status", [200, 302, 403, 404, 502])
async def test_a_server_behind_web_pages_is_out(grid: Grid, status: int) -> None:
    """Whatever stands before FTS is up, FTS is not; its own refusals are JSON."""
    clock = Clock()
    async with two_servers(grid, clock) as (fts, first, _):
        preferred, spare = fts.endpoints
        first.on("GET", "/whoami", html(status))
        for _ in range(3):
            clock.now += MOMENT
            assert await fts.choose() is spare
        assert preferred.breaker.state is BreakerState.OPEN
        assert f"answered {status}" in preferred.breaker.reason


async def test_a_server_that_does_not_know_deliv_gets_no_jobs(grid: Grid) -> None:
    async with two_servers(grid, Clock()) as (fts, first, _):
        first.on("GET", "/whoami", reply({"user_dn": "anon"}))
        for _ in range(3):
            assert await fts.choose() is fts.endpoint("second")


async def test_calls_that_were_given_up_open_the_breaker_too(grid: Grid) -> None:
    """As readiness gives up sooner than a call of a frozen server ends."""
    clock = Clock()
    async with two_servers(grid, clock) as (fts, first, _):
        endpoint = fts.endpoint("first")
        first.on("GET", "/jobs", reply([], delay=30))
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(endpoint.unfinished(), 0.2)
        assert endpoint.breaker.state is BreakerState.OPEN
        assert "given up" in endpoint.breaker.reason


async def test_a_failing_server_is_left_alone_for_a_while(grid: Grid) -> None:
    clock = Clock()
    async with two_servers(grid, clock) as (fts, first, _):
        endpoint = fts.endpoint("first")
        await fail(first, endpoint)
        with pytest.raises(Unreachable, match="left alone after failures: FTS first") as caught:
            await endpoint.unfinished()
        assert not caught.value.sent
        assert caught.value.retry_after == 2
        assert len(first.asked) == 3
        clock.now += 10
        first.on("GET", "/jobs", reply([]))
        assert await endpoint.unfinished() == {}
        assert endpoint.breaker.state is BreakerState.CLOSED


async def test_what_a_server_says_to_one_caller_is_not_told_to_the_next(grid: Grid) -> None:
    """Nor by /ready: it may name the file or the user of another's job."""
    async with two_servers(grid, Clock()) as (fts, first, _):
        endpoint = fts.endpoint("first")
        first.on("GET", "/jobs", reply({"message": "no room for alice"}, 500))
        for _ in range(3):
            with pytest.raises(Unreachable, match="no room for alice"):
                await endpoint.unfinished()
        with pytest.raises(Unreachable, match=r"FTS first answered 500$"):
            await endpoint.unfinished()
        assert endpoint.breaker.reason == "FTS first answered 500"


async def test_a_server_that_was_out_for_long_is_found_again_soon(grid: Grid) -> None:
    """Jobs wait for it: it is tried again every 5 s at most, however often that failed."""
    clock = Clock()
    async with two_servers(grid, clock) as (fts, first, _):
        endpoint = fts.endpoint("first")
        await fail(first, endpoint)
        for _ in range(10):
            clock.now += 5
            with pytest.raises(Unreachable, match="answered 500"):
                await endpoint.unfinished()
        first.on("GET", "/jobs", reply([]))
        clock.now += 5
        assert await endpoint.unfinished() == {}


async def test_a_server_that_fails_to_cancel_alone_goes_on_copying(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("DELETE", f"/jobs/{JOB}", html(500))
        for _ in range(3):
            with pytest.raises(Unreachable, match="answered 500"):
                await s.endpoint.cancel(JOB)
        with pytest.raises(Unreachable, match="left alone after failures"):
            await s.endpoint.cancel(JOB)
        assert s.endpoint.breaker.state is BreakerState.CLOSED
        s.server.on("GET", "/jobs", reply([]))
        assert await s.endpoint.unfinished() == {}
        assert len(s.server.calls("DELETE", f"/jobs/{JOB}")) == 3


async def test_refusals_do_not_open_the_breaker(grid: Grid) -> None:
    async with scene(grid) as s:
        s.server.on("POST", "/jobs", as_recorded(REST["POST empty files"][0]))
        for _ in range(5):
            with pytest.raises(Refused):
                await s.endpoint.submit(TRANSFER)
        assert s.endpoint.breaker.state is BreakerState.CLOSED


def test_an_endpoint_that_left_the_configuration(grid: Grid) -> None:
    fts = Fts(config.FtsSettings(endpoints={}), HttpsClient(grid.credential, grid.ca_directory))
    with pytest.raises(Unavailable, match="gone is not configured any more"):
        fts.endpoint("gone")


async def test_a_wrong_transfer_is_not_posted(grid: Grid) -> None:
    async with scene(grid) as s:
        with pytest.raises(Refused):
            await s.endpoint.submit(replace(TRANSFER, source=TRANSFER.destination))
        assert s.server.asked == []
