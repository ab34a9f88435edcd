"""Whether an accepted job may go on: the policy as it is now, asked about the submission as it was.

VOMS attributes and the kind of proxy are those with which the job was accepted. That they have
ended meanwhile does not end the job; a rule that is gone does. The quota bounds submissions alone.
A job of a release that did not record them goes on.
"""

from __future__ import annotations

from dataclasses import replace

from deliv.audit import AuditLog, Entry, Event, Outcome
from deliv.delivery.cancelling import Cancelling
from deliv.identity.policy import Action, CopyAs, Decision, LivePolicy
from deliv.model import CopiedAs, Job
from deliv.store import Store

# Seconds that rules must have been in force to end a job: a file may be seen while it is written.
SETTLED = 5.0
MISFITS = {(CopyAs.USER, CopiedAs.SERVICE), (CopyAs.SERVICE, CopiedAs.USER)}


class Permission:
    def __init__(
        self, store: Store, policy: LivePolicy, cancelling: Cancelling, audit: AuditLog
    ) -> None:
        self._store = store
        self._policy = policy
        self._cancelling = cancelling
        self._audit = audit

    async def lacking(self, job: Job) -> bool:
        """Whether the job may not go on: it waits then, or has been ended."""
        decision = self._decide(job)
        if decision is None or decision.allowed:
            return False
        unsettled = SETTLED - self._policy.age
        if unsettled > 0:
            await self._store.update(job, delay=unsettled)
        else:
            await self._cancelling.forbid(job, decision.reason)
            self._record(job, decision)
        return True

    def _decide(self, job: Job) -> Decision | None:
        if job.submitter_fqans is None:
            return None
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
            Entry(
                event=Event.DECISION,
                outcome=Outcome.REFUSED,
                dn=job.submitter,
                limited=job.submitter_limited,
                action=Action.SUBMIT.value,
                rule=decision.rule,
                job_id=job.job_id,
                destination_host=job.destination_host,
                reason=decision.reason,
            )
        )
