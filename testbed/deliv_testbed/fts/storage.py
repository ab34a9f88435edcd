"""A user's storage, looked at under the delegated proxy: /dm/stat and /dm/list."""

from __future__ import annotations

import asyncio
import errno
from typing import Any
from urllib.parse import urlsplit

from deliv_testbed.fts.caller import Caller
from deliv_testbed.fts.delegation import Delegation
from deliv_testbed.fts.errors import BadRequest, RestError
from deliv_testbed.fts.settings import FtsSettings
from deliv_testbed.fts.workers import Workers

# Source: fts-rest's datamanagement.py; whatever else went wrong is a 500.
STATUSES = {
    errno.EPERM: 403,
    errno.EACCES: 403,
    errno.ENOENT: 404,
    errno.EAGAIN: 503,
    errno.EBUSY: 503,
    errno.ETIMEDOUT: 503,
    errno.ENOTDIR: 400,
    errno.EPROTONOSUPPORT: 400,
}


class Storage:
    def __init__(self, settings: FtsSettings, delegation: Delegation, workers: Workers) -> None:
        self._settings = settings
        self._delegation = delegation
        self._workers = workers

    async def look(self, caller: Caller, how: str, surl: str) -> Any:
        """What gfal2 finds there, `how` being stat or list; RestError with gfal2's words."""
        if not surl:
            raise BadRequest("Missing surl parameter")
        if urlsplit(surl).scheme == "file":
            raise BadRequest("Forbiden SURL scheme")
        worker = await self._workers.acquire(
            self._workers.write_proxy(*self._delegation.current(caller))
        )
        try:
            async with asyncio.timeout(self._settings.look_timeout):
                (event,) = [event async for event in worker.work({"look": how, "url": surl})]
        except TimeoutError as error:
            raise _refused(errno.ETIMEDOUT, "Timeout expired") from error
        finally:
            self._workers.release(worker)
        if event["event"] == "failed":
            raise _refused(event["code"], event["message"])
        return event["answer"]


def _refused(code: int, message: str) -> RestError:
    return RestError(STATUSES.get(code, 500), f"[{code}] {message}")
