"""Whether an accepted job may go on: the policy as it is now, asked about the submission as it was.

VOMS attributes and the kind of proxy are those with which the job was accepted. That they have
ended meanwhile does not end the job; a rule that is gone does, once it is gone for a moment. Rules
older than the submission only hold it: a new policy comes to one host after another. The quota
bounds submissions alone.
A job of a release that did not record them goes on, unless a deny rule is for its submitter's name.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from deliv.delivery.ending.cancellation import Cancellation
from deliv.identity.policy import Decision, LivePolicy
from deliv.identity.policy_rules import Action, CopyAs
from deliv.model.job import Job, TransferIdentity
from deliv.model.rest import WAITING
from deliv.ops.audit import AuditEntry, AuditEvent, AuditLog, AuditOutcome
from deliv.store import Store

log = structlog.get_logger()

# How old rules must be to end a job: a file may be seen while it is written.
SETTLED = timedelta(seconds=5)
CLOCKS = timedelta(seconds=2)  # by which this host's and the database's may differ
WITHHELD = f"{WAITING}the policy does not allow it here just now: "
LATER = 5.0  # seconds until a job that has to wait is looked at again
MISFITS = {(CopyAs.USER, TransferIdentity.SERVICE), (CopyAs.SERVICE, TransferIdentity.USER)}


class Permission:
    def __init__(
        self, store: Store, policy: LivePolicy, cancellation: Cancellation, audit: AuditLog
    ) -> None:
        self._store = store
        self._policy = policy
        self._cancellation = cancellation
        self._audit = audit

    async def granted(self, job: Job) -> Job | None:
        """The job, which may go on; None when it may not: it waits then, or has been ended."""
        decision = self._decide(job)
        if decision is None or decision.allowed:
            waited = (job.detailed_status or "").startswith(WITHHELD)
            return await self._store.update(job, detailed_status=None) if waited else job
        changed = self._policy.changed
        # Rules older than the submission do not end it: an instance with other ones accepted it.
        newer = job.time_submitted < changed + CLOCKS
        if newer and changed + SETTLED <= datetime.now(UTC):
            await self._cancellation.forbid(job, decision.reason)
            self._record(job, decision)
        else:
            log.warning("a job waits for the policy", job_id=job.job_id, reason=decision.reason)
            status = f"{WITHHELD}{decision.reason}"
            await self._store.update(job, delay=LATER, detailed_status=status, turn_since=None)
        return None

    def allows(self, job: Job) -> bool:
        """As the policy is now, for what is under way already."""
        decision = self._decide(job)
        return decision is None or decision.allowed

    def _decide(self, job: Job) -> Decision | None:
        if job.submitter_fqans is None:
            return self._policy.denial(job.submitter, ())
        decision = self._policy.reconsider(
            job.submitter,
            fqans=job.submitter_fqans,
            limited=job.submitter_limited,
            destination_host=job.destination_host,
        )
        if decision.allowed and (decision.copy_as, job.copied_as) in MISFITS:
            reason = f"it was accepted to be copied as {job.copied_as}, not as {decision.copy_as}"
            return replace(decision, allowed=False, reason=reason)
        return decision

    def _record(self, job: Job, decision: Decision) -> None:
        self._audit.write(
            AuditEntry(
                event=AuditEvent.DECISION,
                outcome=AuditOutcome.REFUSED,
                dn=job.submitter,
                limited=job.submitter_limited,
                action=Action.SUBMIT.value,
                rule=decision.rule,
                job_id=job.job_id,
                destination_host=job.destination_host,
                reason=decision.reason,
            )
        )
