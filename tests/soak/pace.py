"""What one neighbour's trouble costs the others: their deliveries with it against those without."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime

from support.running_stack import until

from soak.faults import ALL_ALONG, DELEGATOR, WITHIN, lasting
from soak.site import Site
from soak.trouble import Trouble
from soak.under_load import beside

DELIVERED = "SELECT 1 FROM jobs WHERE status = 'SUCCESS' LIMIT 1"
LEAST = 0.8  # of the pace without the trouble


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Deliveries of jobs that the trouble does not touch, in two stretches of the same length."""

    calm: int
    troubled: int

    def complaints(self) -> list[str]:
        slow = self.troubled < LEAST * self.calm
        return [f"less than {LEAST} of the others' pace: {self}"] if slow or not self.calm else []

    def __str__(self) -> str:
        return (
            f"others' deliveries: {self.calm} in calm, {self.troubled} beside neighbours' trouble"
        )


def measure(site: Site, trouble: Trouble, seconds: float) -> Pace:
    """Under a steady load, which goes on beside it, once it has come to deliveries."""
    until(lambda: site.stack.query(DELIVERED), "the first delivery", timeout=WITHIN)
    begun = _now(site)
    threading.Event().wait(seconds)
    turned = _now(site)
    with lasting(site, ALL_ALONG), beside(trouble.run, trouble.stop):
        threading.Event().wait(seconds)
        ended = _now(site)
    return Pace(
        calm=_delivered(site, begun, turned),
        troubled=_delivered(site, turned, ended),
    )


def _now(site: Site) -> datetime:
    """By the clock that the jobs' times are of."""
    ((now,),) = site.stack.query("SELECT NOW(6)")
    assert isinstance(now, datetime)
    return now


def _delivered(site: Site, since: datetime, to: datetime) -> int:
    others = {
        job.job_id
        for job in site.accepted
        if job.user != DELEGATOR and not job.product.startswith("kept-")
    }
    rows = site.stack.query(
        "SELECT job_id FROM jobs WHERE time_success > %s AND time_success <= %s", since, to
    )
    return sum(job_id in others for (job_id,) in rows)
