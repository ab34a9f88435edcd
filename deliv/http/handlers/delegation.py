"""The gridsite delegation calls as FTS offers them, so that its clients delegate to deliv as well.

    GET /                             what they look at first
    GET /whoami                       the caller, and the id of their delegation
    GET /delegation/ID                when what is delegated ends; null when there is nothing
    GET /delegation/ID/request        a certificate request, to sign a proxy for
    PUT /delegation/ID/credential     that proxy and its chain, in PEM
    DELETE /delegation/ID             forget it, here and at FTS

Errors have deliv's form and FTS's at once.
"""

from __future__ import annotations

import json
import uuid
from http import HTTPStatus
from typing import Any

from deliv.delivery.delegation import CredentialDelegation, delegation_id
from deliv.errors import Forbidden, NotFound
from deliv.http.call.base import Call
from deliv.model.job import Delegation

# Of the REST interface that is offered here, in FTS's own form. Its clients read it.
ENTRY = {
    "delegation": {"major": 1, "minor": 0, "patch": 0},
    "api": {"major": 3, "minor": 0, "patch": 0},
    "_links": {"fts:whoami": {"href": "/whoami", "title": "Check user certificate"}},
}
BASE_ID = uuid.UUID("6b1d2e5c-5d5f-4c0e-9f0a-64656c697600")  # FTS has one, and its clients show it


class FtsCall(Call):
    """A call that an FTS client makes."""

    @property
    def delegating(self) -> CredentialDelegation:
        if self.services.delegating is None:
            raise NotFound("no credentials are delegated to this deliv")
        return self.services.delegating

    def own(self, given: str) -> CredentialDelegation:
        """The use cases, for the caller's own delegation; Forbidden for another's."""
        self.authorise("delegate")
        if given != delegation_id(self.identity.dn):
            raise Forbidden("the delegation of this id is not yours")
        return self.delegating

    def error_document(self, status: int, message: str) -> dict[str, Any]:
        named = f"{status} {HTTPStatus(status).phrase}"
        return super().error_document(status, message) | {"status": named, "message": message}


class Entry(FtsCall):
    async def get(self) -> None:
        self.write(ENTRY)


class Whoami(FtsCall):
    """GET /whoami: FTS's fields, and the caller's roles in the policy."""

    async def get(self) -> None:
        self.authorise("whoami")
        self.write(self._identity() | await self._delegated())

    def _identity(self) -> dict[str, Any]:
        caller, attributes = self.identity, self.identity.attributes
        own = delegation_id(caller.dn)
        vos = attributes.vos or (own,)
        refused = {"voms_refused": attributes.refused} if attributes.refused else {}
        return {
            "user_dn": caller.dn,
            "dn": [caller.dn, *([caller.subject] if caller.is_proxy else [])],
            "base_id": str(BASE_ID),
            "voms_cred": attributes.fqans,
            "vos": vos,
            "vos_id": [str(uuid.uuid5(BASE_ID, vo)) for vo in vos],
            "roles": sorted(self.services.policy.roles(caller)),
            "level": [],
            "delegation_id": own,
            "method": "certificate",
            "is_root": False,
            "limited": caller.limited,
            "certificate_expires": _naive(caller.not_after),
            **refused,
        }

    async def _delegated(self) -> dict[str, Any]:
        if self.services.delegating is None:
            return {}
        known = await self.services.delegating.held(self.identity.dn)
        if known is None:
            return {"termination_time": None}
        warning = self.services.delegating.about(known)
        return _view(known) | ({"warning": warning} if warning else {})


class Delegated(FtsCall):
    async def get(self, given: str) -> None:
        known = await self.own(given).held(self.identity.dn)
        self.finish(json.dumps(self._delegated(known) if known else None))

    def _delegated(self, known: Delegation) -> dict[str, Any]:
        attributes = self.services.identities.attributes((known.proxy or "").encode())
        return {**_view(known), "voms_attrs": attributes.fqans or ("",)}  # FTS's way to say none

    async def delete(self, given: str) -> None:
        self.own(given)
        dropped, reasons = await self.services.copiers.undelegate(self.identity.dn)
        if not dropped:
            raise NotFound("nothing is delegated")
        if not reasons:
            self.set_status(HTTPStatus.NO_CONTENT)
            return
        msg = f"forgotten here; an FTS keeps its proxy until that expires: {'; '.join(reasons)}"
        self.write({"error": False, "msg": msg})


class ProxyRequest(FtsCall):
    async def get(self, given: str) -> None:
        request = await self.own(given).request(self.identity.dn)
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.set_header("X-Delegation-ID", given)
        self.finish(request)


class ProxyCredential(FtsCall):
    async def put(self, given: str) -> None:
        delegating = self.own(given)
        tls = self.services.identities
        presented = tls.chain(self._connection.stream)
        await delegating.accept(self.identity.dn, self.body(), presented, tls.identify)
        self.set_status(HTTPStatus.CREATED)

    post = put


def _view(known: Delegation) -> dict[str, Any]:
    return {"termination_time": _naive(known.expires)}


def _naive(time: Any) -> str | None:
    """UTC without a zone, in whole seconds: FTS's own notation."""
    return f"{time:%Y-%m-%dT%H:%M:%S}" if time else None
