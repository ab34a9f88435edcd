"""The types of parameters and answers: how a parameter is read, and its schema.

Each name here that has an own schema is a component of deliv/http/openapi.yaml.
"""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import Annotated

from msgspec import Meta

from deliv.delivery import destination
from deliv.delivery.deadline import parse_deadline, parse_moment
from deliv.delivery.submit import MAX_KEY, check_key
from deliv.errors import InvalidRequest
from deliv.http.call.parameters import Reader

USUAL, MOST = 50, 100  # jobs on a page
UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
DATE_TIME = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
LABEL = "[A-Za-z0-9][A-Za-z0-9._:+-]{0,63}"
# The attempt and the number of the last file, and which job and state they are of.
FILE_CURSOR = "[0-9]{1,9}-[0-9]{1,9}(-[0-9a-f]{8})?"
FQAN = "(/[A-Za-z0-9_.-]+)+(/Role=[A-Za-z0-9_.-]+)?(/Capability=[A-Za-z0-9_. -]+)?"
TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def read_job_id(name: str, text: str) -> str:
    if not text:
        raise InvalidRequest(f"{name}: an id is empty")
    return text


def read_product_id(name: str, text: str) -> str:
    return destination.check_product_id(text)


def read_directory(name: str, text: str) -> destination.Directory:
    return destination.parse_directory(text)


def read_key(name: str, text: str) -> str:
    return check_key(name, text)


def read_deadline(name: str, text: str) -> datetime:
    return parse_deadline(text)


def read_boolean(name: str, text: str) -> bool:
    try:
        return TRUTH[text.lower()]
    except KeyError as error:
        raise InvalidRequest(f"{name} must be true or false") from error


def read_size(name: str, text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch("[0-9]{1,19}", text) or int(text) >= 2**63:
        raise InvalidRequest(f"{name} must be a number of bytes")
    return int(text)


def read_checksum(name: str, text: str) -> str | None:
    """Upper-case algorithm, eight lower-case hexadecimal digits."""
    if not text:
        return None
    match = re.fullmatch(r"(?i:adler32):([0-9A-Fa-f]{1,8})", text)
    if not match:
        raise InvalidRequest(f"{name} must be ADLER32:HEX with up to eight hexadecimal digits")
    return f"ADLER32:{match[1].lower():0>8}"


def read_dn(name: str, text: str) -> str:
    if not (text.startswith("/") and text.isascii() and text.isprintable()):
        raise InvalidRequest(f"{name} must be a DN like /DC=org/DC=example/CN=Alice")
    return text


def read_label(name: str, text: str) -> str:
    if not re.fullmatch(LABEL, text):
        raise InvalidRequest(
            f"{name} must be 1 to 64 ASCII letters, digits and . _ : + -, a letter or digit first"
        )
    return text


def read_cursor(name: str, text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise InvalidRequest(f"{name} must be the `next` of an earlier page") from error


def read_file_cursor(name: str, text: str) -> str:
    if not re.fullmatch(FILE_CURSOR, text):
        raise InvalidRequest(f"{name} must be the `next` of an earlier page")
    return text


def read_page_size(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= MOST):
        raise InvalidRequest(f"{name} must be a number from 1 to {MOST}")
    return int(text)


# What callers send.

AnyJobId = Annotated[
    str,
    Reader(parse=read_job_id),
    Meta(
        description="A job's id. What is not a UUID is 404.",
        min_length=1,
        extra_json_schema={"format": "uuid", "example": "01890a5d-ac96-774b-bcce-b302099a8057"},
    ),
]
ProductId = Annotated[
    str,
    Reader(parse=read_product_id),
    Meta(
        description="A product's name in the archive. Not blank, no control characters.",
        min_length=1,
        max_length=destination.MAX_PRODUCT_ID,
        pattern=(r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"),
    ),
]
Directory = Annotated[
    destination.Directory,
    Reader(parse=read_directory),
    Meta(
        description=(
            "A directory on a GridFTP server, gsiftp://HOST[:PORT]/DIRECTORY, at most 1000 "
            "characters when it is percent-encoded. No user information, query, fragment, `.` or "
            "`..` part, no `~` at its start; other characters as they are or percent-encoded. HOST "
            "is a name, or an address in its usual form. All spellings of a directory count, and "
            "are shown, as one."
        ),
        extra_json_schema={
            "type": "string",
            "maxLength": destination.MAX_URL,
            "pattern": (
                r"^gsiftp://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?"
                r"/[^?#\x00-\x1f\x7f-\x9f]*$"
            ),
        },
    ),
]
Moment = Annotated[
    datetime,
    Reader(parse=parse_moment),
    Meta(
        description="A time in ISO 8601 with the offset from UTC.",
        extra_json_schema={"format": "date-time"},
    ),
]
Deadline = Annotated[
    datetime,
    Reader(parse=read_deadline),
    Meta(
        description=(
            "By when the product must be there, in ISO 8601 with the offset from UTC, at most 366 "
            "days ahead. After it the job ends in ERROR, class `deadline`."
        ),
        extra_json_schema={"format": "date-time"},
    ),
]
IdempotencyKey = Annotated[
    str,
    Reader(parse=read_key),
    Meta(
        description="The same key with the same parameters gives the same job.",
        min_length=1,
        max_length=MAX_KEY,
        pattern="^[ -~]+$",
    ),
]
Boolean = Annotated[
    bool,
    Reader(parse=read_boolean, literal=True),
    Meta(extra_json_schema={"anyOf": [{"type": "boolean"}, {"enum": list(TRUTH)}]}),
]
AuthCode = Annotated[str, Meta(min_length=1, description="The one-time code of this attempt.")]
StagedTo = Annotated[str, Meta(description="HOST[:PORT] of the GridFTP server; needed on success.")]
StagedPath = Annotated[
    str,
    Meta(description="Where the copy is, absolute, not percent-encoded; needed on success."),
]
Size = Annotated[
    int,
    Reader(parse=read_size, literal=True),
    Meta(
        description="Bytes.",
        extra_json_schema={
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 2**63 - 1},
                {"type": "string", "pattern": "^[0-9]{0,18}$"},
            ]
        },
    ),
]
FileName = Annotated[
    str,
    Meta(
        description=(
            "Relative to `path`, parts separated by `/`, not percent-encoded. No empty, `.` or "
            "`..` part, no control characters; unique, also after Unicode normalisation (NFC)."
        ),
        min_length=1,
    ),
]
FileSize = Annotated[int, Meta(description="Bytes.", ge=0, le=2**63 - 1)]
Checksum = Annotated[
    str,
    Reader(parse=read_checksum),
    Meta(pattern="^((ADLER32|adler32):[0-9A-Fa-f]{1,8})?$"),
]
Cursor = Annotated[
    str,
    Reader(parse=read_cursor),
    Meta(
        description="`next` of the page before, with the same other parameters.",
        extra_json_schema={"format": "uuid"},
    ),
]
FileCursor = Annotated[
    str,
    Reader(parse=read_file_cursor),
    Meta(
        description="`next` of the page before, with the same other parameters.",
        pattern=f"^{FILE_CURSOR}$",
    ),
]
PageSize = Annotated[
    int,
    Reader(parse=read_page_size),
    Meta(description="How many at most.", ge=1, le=MOST, extra_json_schema={"default": USUAL}),
]

# What callers send and deliv answers.

Dn = Annotated[
    str,
    Reader(parse=read_dn),
    Meta(
        description="A distinguished name in the grid's one-line form.",
        pattern="^/[ -~]+$",
        max_length=1000,
    ),
]

Label = Annotated[
    str,
    Reader(parse=read_label),
    Meta(
        description="A campaign's name, which its submitter chose for several jobs.",
        pattern=f"^{LABEL}$",
    ),
]

# What deliv answers.

JobId = Annotated[
    str,
    Meta(
        description="A UUID of version 7 (RFC 9562); ids sort by the time of submission.",
        pattern=UUID,
    ),
]
CanonicalDirectory = Annotated[
    str,
    Meta(
        description=(
            "A directory in its normal form: percent-encoded, single slashes and none at its end "
            "but of the root, no port 2811, no dot behind the host."
        ),
        pattern=r"^gsiftp://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]+)?(/[!-~]*)?$",
    ),
]
Time = Annotated[
    str,
    Meta(
        description="UTC, ISO 8601, in microseconds.",
        pattern=rf"{DATE_TIME}\.[0-9]{{6}}Z$",
        extra_json_schema={"format": "date-time"},
    ),
]
FtsTime = Annotated[
    str,
    Meta(
        description="UTC without its zone, in whole seconds, as FTS writes it.",
        pattern=f"{DATE_TIME}$",
    ),
]
Fqan = Annotated[
    str,
    Meta(
        description="A VOMS attribute.",
        pattern=f"^{FQAN}$",
        max_length=255,
    ),
]
DelegationId = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Text = Annotated[str, Meta(min_length=1)]
Positive = Annotated[int, Meta(ge=1)]
