"""The gateway to the archive's stager: ask for a copy, release it."""

from __future__ import annotations

import json
from http import HTTPStatus
from urllib.parse import quote

from deliv.config import StagerSettings
from deliv.errors import Refused, Unreachable
from deliv.gateways.breaker import Breaker
from deliv.gateways.https import HttpsClient, Response
from deliv.gateways.upstream import Upstream, error_message
from deliv.model.staging import SharedStaging

NOT_OFFERED = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})
# The stager gets nothing about the user, so these are about deliv itself: for operators to repair.
UNKNOWN_DELIV = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class Stager:
    """Calls `POST /stage` and `DELETE /stage/{job_id}`; the stager answers to `callback`.

    GET, what it holds, is for stagers that offer it.
    """

    def __init__(self, settings: StagerSettings, https: HttpsClient, callback: str) -> None:
        self.breaker = Breaker()
        server = "the stager", settings.url, https, float(settings.request_timeout)
        self._upstream = Upstream(*server, self.breaker)
        self.release_breaker = Breaker()  # releases fail by themselves
        self._releases = Upstream(*server, self.release_breaker, "release")
        # A stager that does not offer them may answer by a web page, as if it were out.
        self._looks = Upstream(*server, Breaker(), "look")
        self._callback = callback

    async def stage(self, staging: SharedStaging, authcode: str) -> None:
        """Ask for its product. Refused when the stager says no, Unreachable otherwise."""
        body = {
            "job_id": staging.staging_id,
            "product_id": staging.product_id,
            "authcode": authcode,
            "callback": self._callback,
        }
        await self._call("POST", "/stage", json.dumps(body).encode(), secrets=(authcode,))

    async def release(self, job_id: str) -> None:
        """Withdraw the request and drop the staged copy; one that is gone already is fine."""
        try:
            path = f"/stage/{quote(job_id, safe='')}"
            _accepted(await self._releases.call("DELETE", path))
        except Refused as error:
            if error.code != 404:
                raise

    async def listing(self) -> dict[str, bool | None] | None:
        """The jobs it holds something for, and whether it has reported (`told`; None: not said).

        None when it offers no list of them.
        """
        try:
            answer = await self._call("GET", "/stage")
            return {str(one["job_id"]): _told(one) for one in answer.json()}
        except Refused as error:
            if error.code not in NOT_OFFERED:
                raise
            return None
        except (AttributeError, KeyError, TypeError) as error:
            raise Unreachable("the stager's list of stagings is malformed") from error

    async def holds(self, job_id: str) -> bool | None:
        """Whether it holds something for the job; None when it does not say."""
        try:
            await self._call("GET", f"/stage/{quote(job_id, safe='')}")
        except Refused as error:
            if error.code not in NOT_OFFERED:
                raise
            return False if error.code == HTTPStatus.NOT_FOUND else None
        return True

    async def has_reported(self, job_id: str) -> bool | None:
        """Whether it has reported on what it was asked for last; None when it does not say."""
        try:
            path = f"/stage/{quote(job_id, safe='')}"
            answer = _accepted(await self._looks.call("GET", path)).json()
        except Refused as error:
            if error.code not in NOT_OFFERED:
                raise
            return None
        return _told(answer) if isinstance(answer, dict) else None

    async def probe(self) -> str:
        """For readiness: Unreachable when no stager answers at the configured URL."""
        await self._upstream.check_ready()
        return "answers"

    async def _call(
        self, method: str, path: str, body: bytes | None = None, *, secrets: tuple[str, ...] = ()
    ) -> Response:
        kind = "application/json" if body else None
        return _accepted(await self._upstream.call(method, path, body, kind, secrets))


def _told(one: dict[str, object]) -> bool | None:
    told = one.get("told")
    return told if isinstance(told, bool) else None


def _accepted(answer: Response) -> Response:
    if answer.status in UNKNOWN_DELIV:
        raise Unreachable(f"the stager answered deliv {answer.status}: {error_message(answer)}")
    if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
        reason = f"the stager refused ({answer.status}): {error_message(answer)}"
        raise Refused(reason, code=answer.status)
    return answer
