"""The gridsite delegation calls as FTS offers them, so that its clients delegate to deliv as well.

    GET /                             what they ask first
    GET /whoami                       the caller, and the id of their delegation
    GET /delegation/ID                when what is delegated ends; null when there is nothing
    GET /delegation/ID/request        a certificate request, to sign a proxy for
    PUT /delegation/ID/credential     that proxy and its chain, in PEM
    DELETE /delegation/ID             forget it, here and at FTS

Errors have the fields of deliv's and of FTS's.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from deliv.delivery.delegation import CredentialDelegation
from deliv.errors import Forbidden, NotFound
from deliv.http import types
from deliv.http.call.answers import Answer, DoneAnswer
from deliv.http.call.base import Call
from deliv.http.call.parameters import Parameters
from deliv.identity.policy_rules import Role
from deliv.model.job import delegation_id

# Of the REST interface that is offered here, in FTS's own form. Its clients read it.
ENTRY = {
    "delegation": {"major": 1, "minor": 0, "patch": 0},
    "api": {"major": 3, "minor": 0, "patch": 0},
    "_links": {"fts:whoami": {"href": "/whoami", "title": "Check user certificate"}},
}
BASE_ID = uuid.UUID("6b1d2e5c-5d5f-4c0e-9f0a-64656c697600")  # FTS has one, and its clients show it
Uuid = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]


class FtsCall(Call[Parameters]):
    """A call that an FTS client makes."""

    @property
    def delegation(self) -> CredentialDelegation:
        if self.services.delegation is None:
            raise NotFound("no credentials are delegated to this deliv")
        return self.services.delegation

    def own(self, given: str) -> CredentialDelegation:
        """The use cases, for the caller's own delegation; Forbidden for another's."""
        self.authorise("delegate")
        if given != delegation_id(self.identity.dn):
            raise Forbidden("the delegation of this id is not yours")
        return self.delegation

    def error_document(self, status: int, message: str) -> dict[str, Any]:
        named = f"{status} {HTTPStatus(status).phrase}"
        return super().error_document(status, message) | {"status": named, "message": message}


# FTS's clients put two slashes before a path.


class Entry(FtsCall):
    path = "/+"

    async def get(self) -> None:
        self.write(ENTRY)


class CallerAnswer(Answer, frozen=True, kw_only=True):
    """FTS's fields, and `roles`, the caller's in deliv's policy."""

    user_dn: types.Dn
    dn: Annotated[list[types.Dn], Meta(min_length=1, max_length=2)]
    base_id: Uuid
    voms_cred: Annotated[
        list[types.Fqan],
        Meta(
            description=(
                "The VOMS attributes (FQANs) that count, without `/Role=NULL` and "
                "`/Capability=NULL`."
            )
        ),
    ]
    vos: Annotated[
        list[str],
        Meta(
            description=(
                "The virtual organisations of these; without any, one of the caller's own."
            ),
            min_length=1,
        ),
    ]
    vos_id: Annotated[list[Uuid], Meta(min_length=1)]
    voms_refused: (
        Annotated[str, Meta(description="Why other attributes do not count.", min_length=1)]
        | UnsetType
    ) = UNSET
    roles: Annotated[list[Role], Meta(extra_json_schema={"uniqueItems": True})]
    level: Annotated[list[str], Meta(max_length=0)]
    delegation_id: types.DelegationId
    method: Annotated[str, Meta(extra_json_schema={"const": "certificate"})] = "certificate"
    is_root: Annotated[bool, Meta(extra_json_schema={"const": False})] = False
    limited: bool
    certificate_expires: types.FtsTime
    termination_time: (
        Annotated[
            types.FtsTime | None,
            Meta(description="The end of what is delegated; left out where nothing can be."),
        ]
        | UnsetType
    ) = UNSET
    warning: (
        Annotated[str, Meta(description="What is delegated ends soon.", min_length=1)] | UnsetType
    ) = UNSET


class Whoami(FtsCall):
    """GET /whoami: FTS's fields, and the caller's roles in the policy."""

    path = "/+whoami"

    async def get(self) -> None:
        self.authorise("whoami")
        caller, attributes = self.identity, self.identity.attributes
        own = delegation_id(caller.dn)
        vos = attributes.vos or (own,)
        answer = CallerAnswer(
            user_dn=caller.dn,
            dn=[caller.dn, *([caller.subject] if caller.is_proxy else [])],
            base_id=str(BASE_ID),
            voms_cred=list(attributes.fqans),
            vos=list(vos),
            vos_id=[str(uuid.uuid5(BASE_ID, vo)) for vo in vos],
            voms_refused=attributes.refused or UNSET,
            roles=[Role(role) for role in sorted(self.services.policy.roles(caller))],
            level=[],
            delegation_id=own,
            limited=caller.limited,
            certificate_expires=fts_time(caller.not_after),
        )
        if self.services.delegation is not None:
            known = await self.services.delegation.held(caller.dn)
            answer = msgspec.structs.replace(
                answer,
                termination_time=fts_time(known.expires) if known and known.expires else None,
                warning=(known and self.services.delegation.about(known)) or UNSET,
            )
        self.answer(answer)


class DelegationAnswer(Answer, frozen=True, kw_only=True):
    termination_time: types.FtsTime | None
    voms_attrs: Annotated[
        list[Annotated[str, Meta(pattern=f"^({types.FQAN})?$")]],
        Meta(
            description="Its VOMS attributes that count; one that is empty where there are none.",
            min_length=1,
        ),
    ]


class Delegated(FtsCall):
    path = "/+delegation/([^/]+)"

    async def get(self, given: str) -> None:
        known = await self.own(given).held(self.identity.dn)
        if known is None:
            self.finish("null")
            return
        attributes = self.services.identities.attributes((known.proxy or "").encode())
        voms_attrs = list(attributes.fqans) or [""]  # FTS's way to say none
        end = fts_time(known.expires) if known.expires else None
        self.answer(DelegationAnswer(termination_time=end, voms_attrs=voms_attrs))

    async def delete(self, given: str) -> None:
        self.own(given)
        dropped, reasons = await self.services.endpoints.undelegate(self.identity.dn)
        if not dropped:
            raise NotFound("nothing is delegated")
        if not reasons:
            self.set_status(HTTPStatus.NO_CONTENT)
            return
        msg = f"forgotten here; an FTS keeps its proxy until that expires: {'; '.join(reasons)}"
        self.answer(DoneAnswer(msg=msg))


class ProxyRequest(FtsCall):
    path = "/+delegation/([^/]+)/request"

    async def get(self, given: str) -> None:
        request = await self.own(given).request(self.identity.dn)
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.set_header("X-Delegation-ID", given)
        self.finish(request)


class ProxyCredential(FtsCall):
    path = "/+delegation/([^/]+)/credential"

    async def put(self, given: str) -> None:
        delegation = self.own(given)
        tls = self.services.identities
        presented = tls.chain(self._connection.stream)
        await delegation.accept(self.identity.dn, self.body(), presented, tls.identify)
        self.set_status(HTTPStatus.CREATED)

    post = put


def fts_time(time: datetime) -> str:
    """UTC without a zone, in whole seconds: FTS's own notation."""
    return f"{time:%Y-%m-%dT%H:%M:%S}"
