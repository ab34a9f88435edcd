"""The policy is asked again before an accepted job goes on to the stager, and before FTS has it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.private_mariadb import Server
from support.samples import ALICE, HOST, admitted, staged, transferring

from deliv import config
from deliv.db.database import Database
from deliv.delivery import permission
from deliv.delivery.ending.cleanup import Cleanup
from deliv.delivery.engine import Engine
from deliv.delivery.permission import Permission
from deliv.delivery.stage import Staging
from deliv.identity.policy import LivePolicy
from deliv.model.error_classes import ErrorClass
from deliv.model.job import Job, TransferIdentity
from deliv.model.states import Status
from deliv.ops.audit import AuditLog
from deliv.store import Store
from integration.fts_bench import EXAMPLE, Bench, bench
from integration.scripted_fts import Grid, reply
from integration.test_stager_gateway import stagers

MEMBERS = "/skao/meerkat"
RULE = {"dn": ALICE, "roles": ["submitter"], "destinations": [HOST]}
BY_ATTRIBUTE = {"fqan": MEMBERS, "roles": ["submitter"], "destinations": [HOST]}
FORBIDDING = {
    "no rule": [],
    "other hosts": [{**RULE, "destinations": ["*.example.com"]}],
    "another role": [{"dn": ALICE, "roles": ["operator"]}],
    "another identity": [{**RULE, "copy_as": "user"}],
}
ALLOWING = {
    "another rule": [{**RULE, "dn": "/DC=org/DC=example/*"}],
    "a full quota": [{**RULE, "quota": 1}],
    "deliv's identity": [{**RULE, "copy_as": "service"}],
}


@dataclass
class Service:
    engine: Engine
    store: Store
    bench: Bench
    asked: Callable[[], list[str]]
    policy: Path
    audit_file: Path

    def rules(self, *rules: dict[str, Any], deny: Sequence[dict[str, str]] = ()) -> None:
        replace(self.policy, json.dumps({"rules": rules, "deny": deny}))

    async def attended(self, job: Job) -> Job:
        await self.engine.attend(job.job_id)
        return await self.bench.now(job)

    def audited(self) -> list[dict[str, Any]]:
        text = self.audit_file.read_text("ascii") if self.audit_file.exists() else ""
        return [json.loads(line) for line in text.splitlines()]


def replace(path: Path, text: str) -> None:
    written = path.with_suffix(".new")
    written.write_text(text)
    written.replace(path)


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules end a job as soon as they are in force."""
    monkeypatch.setattr(permission, "SETTLED", timedelta(0))


Opened = AbstractAsyncContextManager[Service]


@pytest.fixture
def opened(grid: Grid, database: Database, tmp_path: Path) -> Opened:
    return service(grid, database, tmp_path)


@asynccontextmanager
async def service(grid: Grid, database: Database, directory: Path) -> AsyncIterator[Service]:
    """All that moves jobs, with a stager and an FTS that take everything."""
    settings = config.load(EXAMPLE)
    policy, audit_file = directory / "policy.yaml", directory / "audit.log"
    policy.write_text(yaml.safe_dump({"rules": [RULE, BY_ATTRIBUTE]}))
    async with bench(grid, database, directory) as here, stagers(grid) as (stager, server):
        server.on("POST", "/stage", reply({}))
        live = LivePolicy(policy)
        staging = Staging(here.store, stager, here.failures, settings)
        cleanup = Cleanup(here.store, stager, here.parts.withdrawal, settings)
        log = AuditLog(audit_file)
        allowed = Permission(here.store, live, here.cancellation, log)
        engine = Engine(
            here.store,
            staging,
            here.transfers,
            here.cancellation,
            cleanup,
            allowed,
            here.parts.patience,
            settings,
        )

        def asked() -> list[str]:
            return [f"{one.method} {one.path}" for one in server.asked]

        yield Service(engine, here.store, here, asked, policy, audit_file)
        log.close()


def ended(job: Job) -> bool:
    why = str(job.detailed_status)
    return (
        (job.status, job.error_class) == (Status.ERROR, ErrorClass.POLICY)
        and why.startswith("the delivery is not allowed any more: ")
        and "ask its operators" in why
    )


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("rules", FORBIDDING.values(), ids=FORBIDDING.keys())
async def test_a_job_that_may_not_go_on_is_not_staged(
    opened: Opened, rules: list[dict[str, Any]]
) -> None:
    async with opened as here:
        job = await admitted(here.store)
        here.rules(*rules)
        job = await here.attended(job)
        assert ended(job)
        assert here.asked() == []
        (entry,) = here.audited()
        assert (entry["event"], entry["outcome"], entry["dn"]) == ("decision", "refused", ALICE)
        assert (entry["job_id"], entry["action"]) == (job.job_id, "submit")
        assert entry["reason"] in str(job.detailed_status)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("rules", ALLOWING.values(), ids=ALLOWING.keys())
async def test_a_job_that_another_rule_allows_goes_on(
    opened: Opened, rules: list[dict[str, Any]]
) -> None:
    async with opened as here:
        job = await admitted(here.store)
        here.rules(*rules)
        job = await here.attended(job)
        assert (job.status, job.stager_status) == (Status.STAGING, "accepted")
        assert here.audited() == []


@pytest.mark.usefixtures("settled")
async def test_a_staged_job_that_may_not_go_on_is_not_copied_and_its_copy_released(
    opened: Opened,
) -> None:
    async with opened as here:
        job = await staged(here.store)
        here.rules()
        job = await here.attended(job)
        assert ended(job)
        assert job.partial is False
        assert "may be left" not in str(job.detailed_status)
        await here.attended(job)
        assert here.asked() == [f"DELETE /stage/{job.job_id}"]
        assert here.bench.server.calls("POST", "/jobs") == []


@pytest.mark.usefixtures("settled")
async def test_a_job_that_fts_may_have_taken_is_withdrawn_there(opened: Opened) -> None:
    """Its id was stored, the answer to its submission was not."""
    async with opened as here:
        job = await transferring(here.store)
        job = await here.store.update(
            job, delay=0, fts_endpoint="fts1", fts_jobid=job.job_id, stager_hostname="h"
        )
        path = f"/jobs/{job.job_id}"
        here.bench.server.on("DELETE", path, reply({"job_id": job.job_id, "job_state": "CANCELED"}))
        here.rules()
        job = await here.attended(job)
        assert ended(job)
        assert job.partial is True
        assert job.due_at is not None  # a submission that is on its way arrives before
        job = await here.store.update(job, delay=0)
        await here.attended(job)
        assert here.bench.server.calls("POST", "/jobs") == []
        assert len(here.bench.server.calls("DELETE", path)) == 1


@pytest.mark.usefixtures("settled")
async def test_what_fts_copies_goes_on(opened: Opened) -> None:
    async with opened as here:
        job = await here.bench.posted("'deliv'")
        job = await here.store.update(job, delay=0)
        here.rules()
        job = await here.attended(job)
        assert (job.status, job.due_at) == (Status.TRANSFERRING, None)


@pytest.mark.usefixtures("settled")
async def test_jobs_of_somebody_denied_end_before_the_stager_and_before_fts(opened: Opened) -> None:
    async with opened as here:
        waiting, held = await admitted(here.store), await staged(here.store)
        here.rules(RULE, deny=[{"dn": ALICE}])
        for job in (waiting, held):
            job = await here.attended(job)
            assert ended(job)
            assert f"the policy denies {ALICE} all use of deliv" in str(job.detailed_status)
        assert here.asked() == []
        assert here.bench.server.calls("POST", "/jobs") == []
        assert {entry["rule"] for entry in here.audited()} == {f"deny[0] {ALICE}"}


@pytest.mark.usefixtures("settled")
async def test_what_fts_copies_for_somebody_denied_goes_on_until_it_is_cancelled(
    opened: Opened,
) -> None:
    async with opened as here:
        job = await here.bench.posted("'deliv'")
        job = await here.store.update(job, delay=0)
        here.rules(RULE, deny=[{"dn": ALICE}])
        job = await here.attended(job)
        assert (job.status, job.due_at) == (Status.TRANSFERRING, None)


@pytest.mark.usefixtures("settled")
async def test_a_job_of_a_release_that_recorded_nothing_ends_by_its_submitters_name(
    opened: Opened, migrated: Server
) -> None:
    async with opened as here:
        job = await admitted(here.store)
        migrated.run("UPDATE jobs SET submitter_fqans = NULL")
        here.rules(RULE, deny=[{"fqan": MEMBERS}])
        assert (await here.attended(job)).stager_status == "accepted"
        here.rules(RULE, deny=[{"dn": ALICE}])
        job = await here.store.update(await here.bench.now(job), delay=0, stager_accepted=None)
        assert ended(await here.attended(job))


@pytest.mark.usefixtures("settled")
async def test_attributes_count_as_they_were_when_the_job_was_accepted(opened: Opened) -> None:
    async with opened as here:
        member = await admitted(here.store, fqans=("/skao", MEMBERS))
        here.rules(BY_ATTRIBUTE)
        member = await here.attended(member)
        assert member.stager_status == "accepted"
        other = await admitted(here.store, fqans=("/skao",))
        assert ended(await here.attended(other))
        here.rules({**BY_ATTRIBUTE, "fqan": "/skao/other"})
        again = await here.store.update(member, delay=0, stager_accepted=None)
        assert ended(await here.attended(again))


@pytest.mark.usefixtures("settled")
async def test_a_limited_proxy_needs_a_rule_for_it_still(opened: Opened) -> None:
    async with opened as here:
        here.rules({**RULE, "allow_limited": True})
        job = await here.attended(await admitted(here.store, limited=True))
        assert job.stager_status == "accepted"
        here.rules(RULE)
        job = await here.store.update(job, delay=0, stager_accepted=None)
        assert ended(await here.attended(job))


@pytest.mark.usefixtures("settled")
async def test_a_users_own_identity_may_be_taken_back(opened: Opened) -> None:
    async with opened as here:
        job = await admitted(here.store, copied_as=TransferIdentity.USER)
        here.rules({**RULE, "copy_as": "service"})
        assert ended(await here.attended(job))


@pytest.mark.usefixtures("settled")
async def test_a_job_of_a_release_that_recorded_nothing_goes_on(
    opened: Opened, migrated: Server
) -> None:
    async with opened as here:
        job = await admitted(here.store)
        migrated.run("UPDATE jobs SET submitter_fqans = NULL")
        here.rules()
        assert (await here.attended(job)).stager_status == "accepted"


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("text", ["rules: [", "", "rules: [{dn: x, roles: [king]}]"])
async def test_a_broken_policy_ends_no_job(opened: Opened, text: str) -> None:
    async with opened as here:
        job = await admitted(here.store)
        replace(here.policy, text)
        assert (await here.attended(job)).stager_status == "accepted"


async def test_a_policy_that_is_a_moment_old_holds_a_job_and_does_not_end_it(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be half written: what comes after its end is no reason to end jobs for good."""
    monkeypatch.setattr(permission, "SETTLED", timedelta(seconds=1000))
    async with opened as here:
        job = await admitted(here.store)
        here.rules()
        held = await here.attended(job)
        assert (held.status, held.stager_accepted) == (Status.STAGING, None)
        assert str(held.detailed_status).startswith("waiting: the policy does not allow it")
        assert here.asked() == []
        here.rules(RULE)
        held = await here.store.update(held, delay=0)
        assert (await here.attended(held)).stager_status == "accepted"
        assert here.audited() == []


@pytest.mark.usefixtures("settled")
async def test_rules_of_before_the_submission_only_hold_a_job(
    opened: Opened, migrated: Server
) -> None:
    """A new policy comes to one host after another: what one has accepted no other may end."""
    async with opened as here:
        here.rules()
        job = await admitted(here.store)
        # The trigger keeps the time of submission, so that the file's is moved in effect.
        migrated.run("DROP TRIGGER jobs_change")
        migrated.run("UPDATE jobs SET time_submitted = time_submitted + INTERVAL 1 HOUR")
        held = await here.attended(job)
        assert (held.status, held.stager_accepted) == (Status.STAGING, None)
        assert here.asked() == []
        here.rules(RULE)
        held = await here.store.update(held, delay=0)
        job = await here.attended(held)
        assert (job.stager_status, job.detailed_status) == ("accepted", None)
        assert here.audited() == []
