"""What every instance shows in its metrics as of now: jobs, what rests, when its files end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from cryptography import x509

from deliv.config import StagingLimits
from deliv.errors import Unavailable
from deliv.model.rest import PLACES
from deliv.model.states import Status
from deliv.ops import metrics
from deliv.store import Store


class Trust(Protocol):
    """What callers are believed by."""

    @property
    def certificate(self) -> bytes: ...

    @property
    def crl_ends(self) -> Mapping[str, datetime]: ...

    @property
    def missing_lists(self) -> Mapping[str, str]: ...


class Gauges:
    """`credential`: the PEM of deliv's certificate for the stager and FTS, Unavailable for none."""

    def __init__(
        self, store: Store, trust: Trust, credential: Callable[[], bytes], limits: StagingLimits
    ) -> None:
        self._store = store
        self._limits = limits
        self._trust = trust
        self._certificates = {"rest": lambda: trust.certificate, "credential": credential}

    async def count_once(self) -> None:
        counts = await self._store.counts()
        for status in Status:
            metrics.JOBS.labels(status=status.value).set(counts.get(status, 0))
        area = await self._store.staging_area()
        metrics.STAGING_JOBS.labels(state="asked").set(area.asked)
        metrics.STAGING_JOBS.labels(state="staged").set(area.held - area.asked)
        metrics.STAGING_BYTES.labels(size="reported").set(area.bytes)
        expected = (area.copies - area.sized) * area.expected(self._limits)
        metrics.STAGING_BYTES.labels(size="expected").set(expected)
        places = await self._store.fts_places()
        metrics.FTS_JOBS.labels(state="placed").set(places.given)
        metrics.FTS_JOBS.labels(state="waiting").set(places.waiting)
        resting = await self._store.resting()
        for cause in PLACES:
            metrics.RESTING.labels(waiting_for=cause.value).set(resting.get(cause, 0))

    def show_ends(self) -> None:
        for of, certificate in self._certificates.items():
            try:
                end = _end(certificate())
            except (Unavailable, ValueError):  # it can't be used or read; whoever needs it says so
                continue
            metrics.CERTIFICATE_END.labels(of=of).set(end.timestamp())
        metrics.CRL_END.clear()
        for file, end in self._trust.crl_ends.items():
            metrics.CRL_END.labels(file=file).set(end.timestamp())
        metrics.CRL_MISSING.clear()
        for file, ca in self._trust.missing_lists.items():
            metrics.CRL_MISSING.labels(file=file, ca=ca).set(1)


def _end(pem: bytes) -> datetime:
    return min(one.not_valid_after_utc for one in x509.load_pem_x509_certificates(pem))
