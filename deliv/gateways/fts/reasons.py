"""Why FTS failed: its `SCOPE [errno] text` as one of deliv's error classes. Pure, by tables.

SCOPE says which end failed (SOURCE, DESTINATION), that the copy did (TRANSFER) or FTS itself
(AGENT, GENERAL_FAILURE). The number is a Linux errno of gfal2, often only ECOMM; what the
GridFTP server said is in the text. So the text is looked at first, then the numbers.

Sources: recordings of a real FTS 3.13; gfal2 2.21 against GridFTP server 13.24 (what each row's
test quotes); fts3's src/url-copy/UrlCopyProcess.cpp for the steps of a transfer and their scopes,
heuristics.cpp and db/mysql/MySqlAPI.cpp for further texts.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from deliv.model.error_classes import ErrorClass

FULL, DENIED = ErrorClass.DESTINATION_FULL, ErrorClass.NO_PERMISSION
EXISTS, MISSING = ErrorClass.EXISTS, ErrorClass.SOURCE_MISSING
CREDENTIAL, CHECKSUM = ErrorClass.CREDENTIAL, ErrorClass.CHECKSUM
TIMEOUT, UNREACHABLE = ErrorClass.TIMEOUT, ErrorClass.UNREACHABLE
CANCELLED, BANNED, OTHER = ErrorClass.CANCELLED, ErrorClass.BANNED, ErrorClass.OTHER

SOURCE, DESTINATION, TRANSFER = "SOURCE", "DESTINATION", "TRANSFER"

_FORM = re.compile(r"\s*([A-Z_]+) \[(\d{1,9})\]\s*(.*)", re.DOTALL)
_REMOTE_ERRNO = re.compile(r"GridFTP-Errno: (\d{1,9})")


@dataclass(frozen=True, kw_only=True)
class Reason:
    """A file's `reason` taken apart; without the form it is all `text`, `number` is 0 then."""

    scope: str = ""
    number: int = 0
    text: str = ""

    @property
    def end(self) -> str:
        """SOURCE, DESTINATION or neither ("").

        gfal2 puts TRANSFER or DESTINATION before what went wrong while copying; without that an
        error of the copy is one of the checksum that it reads from the source first.
        """
        if self.scope != TRANSFER:
            return self.scope if self.scope in {SOURCE, DESTINATION} else ""
        first = self.text.partition(" ")[0]
        return {TRANSFER: "", DESTINATION: DESTINATION}.get(first, SOURCE)


class CopyProgress(StrEnum):
    """How far a transfer had come when it failed, as far as its reason shows that."""

    PREPARATION = "preparation"  # nothing had been written
    COPY = "copy"  # FTS had found nothing at the destination, or removed it, and begun to write
    UNCLEAR = "unclear"


@dataclass(frozen=True, kw_only=True)
class ReasonRule:
    """`pattern` is looked for in the text, in any case; `end` restricts it to one end."""

    pattern: str
    error_class: ErrorClass
    end: str = ""

    def matches(self, reason: Reason) -> bool:
        if self.end and self.end != reason.end:
            return False
        return re.search(self.pattern, reason.text, re.IGNORECASE) is not None


_REFUSED = (
    r"permission.denied|operation not permitted|not authorized|access denied|path not allowed"
    r"|read-only file system"
)
_ABSENT = r"no such file or directory|file not found|path_not_found|not.a.directory"

_IN_QUEUE = r"stayed in the queue for too long"

# The first that matches decides: what a text leaves no doubt about comes before what it may
# mention on the way.
RULES = (
    ReasonRule(pattern=_IN_QUEUE, error_class=TIMEOUT),
    ReasonRule(
        pattern=r"performance marker timeout|was stalled|probably stalled", error_class=TIMEOUT
    ),
    # Of a port that says nothing, something else than GridFTP, or FTP without the grid's security.
    ReasonRule(
        pattern=r"operation timed? ?out|error while searching for end of reply"
        r"|please login with user|\bauth\b.*not (understood|supported|implemented)",
        error_class=UNREACHABLE,
        end=DESTINATION,
    ),
    ReasonRule(pattern=r"forcefully killed|operation timed? ?out", error_class=TIMEOUT),
    ReasonRule(pattern=r"\b(banned|blacklisted)\b", error_class=BANNED),
    ReasonRule(pattern=r"cancell?ed (by|because)", error_class=CANCELLED),
    ReasonRule(
        pattern=r"checksums?\b.*(mismatch|do not match|are different)", error_class=CHECKSUM
    ),
    ReasonRule(pattern=r"\bsizes?\b.*(mismatch|do not match|differ)", error_class=CHECKSUM),
    ReasonRule(
        pattern=r"overwrite is not enabled|\bfile.exists\b|is_a_directory", error_class=EXISTS
    ),
    ReasonRule(
        pattern=r"no space left|quota exceeded|over quota|(no free|not enough|insufficient) "
        r"(disk )?(space|storage)|disk (is )?full",
        error_class=FULL,
    ),
    ReasonRule(
        pattern=r"gridmap lookup failure|login incorrect", error_class=DENIED, end=DESTINATION
    ),
    ReasonRule(
        pattern=r"unable to connect|connection refused|no route to host|network is unreachable"
        r"|host is down|name or service not known|name resolution|unknown host"
        r"|connection timed out|connection reset|broken pipe|end[- ]of[- ]file|service busy"
        r"|connection limit|too many connections"
        r"|connection (was )?closed",
        error_class=UNREACHABLE,
    ),
    ReasonRule(
        pattern=r"authentication (failed|error)|handshake|gss (failure|major|minor)|globus_gsi"
        r"|certificate verify failed|(certificate|proxy|credential|crl)s? (has )?expired"
        r"|could not (open|load|read|find).*(certificate|proxy|credential)|no credential found"
        r"|gridmap lookup failure|login incorrect",
        error_class=CREDENTIAL,
    ),
    ReasonRule(pattern=f"{_REFUSED}|{_ABSENT}", error_class=MISSING, end=SOURCE),
    # The source was there when the copy began, so what is absent is at the destination.
    ReasonRule(pattern=f"{_REFUSED}|{_ABSENT}", error_class=DENIED),
    ReasonRule(pattern=r"\btime(d|r)?[- ]?out\b|timeout (expired|exceeded)", error_class=TIMEOUT),
)

NUMBERS = MappingProxyType(
    {
        errno.ENOSPC: FULL,
        errno.EDQUOT: FULL,
        errno.EACCES: DENIED,
        errno.EPERM: DENIED,
        errno.EROFS: DENIED,
        errno.ENOENT: DENIED,
        errno.ENOTDIR: DENIED,
        errno.EEXIST: EXISTS,
        errno.EISDIR: EXISTS,
        errno.ETIMEDOUT: TIMEOUT,
        errno.ETIME: TIMEOUT,
        errno.ECONNREFUSED: UNREACHABLE,
        errno.ECONNRESET: UNREACHABLE,
        errno.ECONNABORTED: UNREACHABLE,
        errno.EHOSTUNREACH: UNREACHABLE,
        errno.EHOSTDOWN: UNREACHABLE,
        errno.ENETUNREACH: UNREACHABLE,
        errno.ENETDOWN: UNREACHABLE,
        errno.EPIPE: UNREACHABLE,
        errno.ENOKEY: CREDENTIAL,
        errno.EKEYEXPIRED: CREDENTIAL,
        errno.EKEYREVOKED: CREDENTIAL,
        errno.EKEYREJECTED: CREDENTIAL,
        errno.ECANCELED: CANCELLED,
    }
)
# What comes before the first byte: the source's checksum is read, what is to be replaced removed,
# the directory made, the copy connected and logged in, the file opened.
_BEFORE_WRITING = re.compile(
    r"\bUSER_DEFINE and SRC\b|\bsource and user-defined\b"
    r"|\bsystem error in (unlink|mkdir|open)\b"
    r"|^TRANSFER (globus_xio: unable to connect|.*\blogin incorrect)",
    re.IGNORECASE,
)
# A connection that ends or times out is no proof: gfal2 says the same of the steps before.
_WHILE_WRITING = re.compile(r"\bsystem error in write\b", re.IGNORECASE)
_AFTER_WRITING = re.compile(
    r"\b(source|user-defined) and destination\b|\b(SRC|USER_DEFINE) and DST\b", re.IGNORECASE
)
# At the source these mean that the staged copy can't be read, which is for the archive to repair.
UNREADABLE = frozenset(
    {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EROFS}
)


def parse(text: str) -> Reason:
    """Take a `reason` apart."""
    plain = " ".join(text.split())
    match = _FORM.fullmatch(plain)
    if match is None:
        return Reason(text=plain)
    return Reason(scope=match[1], number=int(match[2]), text=match[3])


def kind(reason: Reason) -> str:
    """Why a destination can't be reached or written to, in words that name no file; "": unknown."""
    for rule in RULES:
        if rule.error_class in {FULL, UNREACHABLE} and rule.matches(reason):
            *_, last = re.finditer(rule.pattern, reason.text, re.IGNORECASE)  # says most
            return last[0]
    return os.strerror(reason.number) if reason.number in NUMBERS else ""


def classify(reason: Reason) -> ErrorClass:
    """The class of a failure; OTHER when nothing is known about it."""
    for rule in RULES:
        if rule.matches(reason):
            return rule.error_class
    # The GridFTP server's own errno, where its text has one, then gfal2's.
    remote = _REMOTE_ERRNO.search(reason.text)
    for number in (int(remote[1]), reason.number) if remote else (reason.number,):
        if reason.end == SOURCE and number in UNREADABLE:
            return MISSING
        if number in NUMBERS:
            return NUMBERS[number]
    return OTHER


def left_in_queue(reason: Reason) -> bool:
    """Whether FTS gave the transfer up before it was its turn."""
    return re.search(_IN_QUEUE, reason.text, re.IGNORECASE) is not None


def at_source(reason: Reason) -> bool:
    """Whether it was the server of the staged copy that failed."""
    return reason.end == SOURCE


def how_far(reason: Reason) -> CopyProgress:
    """How far the transfer had come; gfal2 itself prepares the copy within the scope TRANSFER."""
    if reason.scope == SOURCE or classify(reason) is EXISTS:
        return CopyProgress.PREPARATION
    if _BEFORE_WRITING.search(reason.text):
        return CopyProgress.PREPARATION
    written = _WHILE_WRITING.search(reason.text) or _AFTER_WRITING.search(reason.text)
    return CopyProgress.COPY if written else CopyProgress.UNCLEAR
