"""The document of POST /stage, checked."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec

from deliv.errors import InvalidRequest
from deliv_testbed.stager.register import StagingRequest

JOB = r"[0-9A-Fa-f-]{36}"


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """Unknown members are ignored."""

    job_id: str
    product_id: str
    authcode: str
    callback: str


def parse(body: bytes) -> StagingRequest:
    """The request in a body; InvalidRequest says what is wrong with it."""
    try:
        document = msgspec.json.decode(body, type=Body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(str(error)) from error
    if not re.fullmatch(JOB, document.job_id):
        raise InvalidRequest("job_id must be a UUID")
    try:
        url = urlsplit(document.callback)
        is_https = url.scheme == "https" and bool(url.hostname) and url.port != 0
    except ValueError:
        is_https = False
    if not is_https:
        raise InvalidRequest("callback must be an https URL")
    return StagingRequest(**msgspec.structs.asdict(document))
