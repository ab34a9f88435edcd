"""Which classes the service is built from: plain ones, or those with failpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deliv import config
from deliv.db.database import Database
from deliv.delivery.ending.failure import FailureHandler
from deliv.failpoints import wrappers
from deliv.failpoints.points import Failpoints
from deliv.gateways.broker import Message
from deliv.gateways.fts import Endpoint
from deliv.gateways.gridftp import GridFtp
from deliv.gateways.https import HttpsClient
from deliv.gateways.stager import Stager
from deliv.store import Store

Handler = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Kinds:
    """Each builds a part from the arguments of the plain class. `handler`: of broker messages."""

    database: Callable[[config.DatabaseSettings], Database] = Database
    store: Callable[[Database], Store] = Store
    stager: Callable[[config.StagerSettings, HttpsClient, str], Stager] = Stager
    endpoint: Callable[..., Endpoint] = Endpoint
    gridftp: Callable[[config.GridFtpSettings, Path], GridFtp] = GridFtp
    failures: Callable[[Store, config.Config], FailureHandler] = FailureHandler
    handler: Callable[[Handler], Handler] = lambda handler: handler


def kinds(directory: Path | None) -> Kinds:
    """Those with failpoints that are armed in `directory`; None: the plain ones."""
    if directory is None:
        return Kinds()
    points = Failpoints(directory)
    return Kinds(
        database=partial(wrappers.FailpointDatabase, points),
        store=partial(wrappers.FailpointStore, points),
        stager=partial(wrappers.FailpointStager, points),
        endpoint=partial(wrappers.FailpointEndpoint, points),
        gridftp=partial(wrappers.FailpointGridFtp, points),
        failures=partial(wrappers.FailpointFailureHandler, points),
        handler=partial(wrappers.with_failpoints, points),
    )
