"""Why FTS failed: its `SCOPE [errno] text` as one of deliv's error classes. Pure, by tables.

SCOPE says which end failed (SOURCE, DESTINATION), or that the copy itself did (TRANSFER), or
FTS (AGENT, GENERAL_FAILURE). The number is a Linux errno of gfal2, often only ECOMM; what the
GridFTP server said stands in the text. So the text is looked at first, then the numbers.

Sources: the recordings of a real FTS 3.13; fts3's src/url-copy/UrlCopyProcess.cpp (scopes and
the order of a transfer's steps) and src/url-copy/heuristics.cpp; the Linux errno names.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from types import MappingProxyType

from deliv.failures import ErrorClass

FULL, DENIED = ErrorClass.DESTINATION_FULL, ErrorClass.NO_PERMISSION
EXISTS, MISSING = ErrorClass.EXISTS, ErrorClass.SOURCE_MISSING
CREDENTIAL, CHECKSUM = ErrorClass.CREDENTIAL, ErrorClass.CHECKSUM
TIMEOUT, UNREACHABLE = ErrorClass.TIMEOUT, ErrorClass.UNREACHABLE
CANCELLED, OTHER = ErrorClass.CANCELLED, ErrorClass.OTHER

SOURCE, DESTINATION, TRANSFER = "SOURCE", "DESTINATION", "TRANSFER"

_FORM = re.compile(r"\s*([A-Z_]+) \[(\d+)\]\s*(.*)", re.DOTALL)
_REMOTE_ERRNO = re.compile(r"GridFTP-Errno: (\d+)")


@dataclass(frozen=True, kw_only=True)
class Reason:
    """A file's `reason` taken apart; `scope` and `number` are empty and 0 where FTS gave none."""

    scope: str = ""
    number: int = 0
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """`pattern` in the text (any case) of an error at one of `scopes` (all, when empty).

    `copying`: this can only happen once the copy has begun to write at the destination.
    """

    pattern: str
    error_class: ErrorClass
    scopes: frozenset[str] = frozenset()
    copying: bool = False

    def matches(self, reason: Reason) -> bool:
        if self.scopes and reason.scope not in self.scopes:
            return False
        return re.search(self.pattern, reason.text, re.IGNORECASE) is not None


AT_SOURCE = frozenset({SOURCE})

# The first that matches decides; what the text is more certain about stands first.
RULES = (
    Rule(pattern=r"stayed in the queue for too long", error_class=TIMEOUT),
    Rule(pattern=r"cancell?ed (by|because)|\b(banned|blacklisted)\b", error_class=CANCELLED),
    Rule(pattern=r"checksums?.*(mismatch|do not match|are different)", error_class=CHECKSUM),
    Rule(pattern=r"file size mismatch", error_class=CHECKSUM, copying=True),
    Rule(pattern=r"(user specified|user-defined).*size.*(mismatch|differ)", error_class=CHECKSUM),
    Rule(pattern=r"overwrite is not enabled|\bfile exists\b", error_class=EXISTS),
    Rule(
        pattern=r"no space left|quota exceeded|\bover quota\b|no free space|not enough space"
        r"|insufficient (disk )?space|\bdisk (is )?full\b",
        error_class=FULL,
    ),
    Rule(
        pattern=r"(certificate|proxy|credentials?|crl)\b.{0,40}\bexpired|expired (proxy|credential)"
        r"|certificate verify failed|certificate (is )?not yet valid|untrusted|unknown ca\b"
        r"|(ssl|tls|gss|security).{0,40}handshake|handshake.{0,20}(fail|error)"
        r"|globus_gsi_|could not (load|read|find).{0,40}(proxy|credential)"
        r"|authentication (failed|error)|gss (major|minor) status",
        error_class=CREDENTIAL,
    ),
    Rule(
        pattern=r"permission denied|operation not permitted|not authorized|access denied"
        r"|login incorrect|gridmap lookup failure|read-only file system|not allowed",
        error_class=MISSING,
        scopes=AT_SOURCE,
    ),
    Rule(
        pattern=r"permission denied|operation not permitted|not authorized|access denied"
        r"|login incorrect|gridmap lookup failure|read-only file system|not allowed",
        error_class=DENIED,
    ),
    Rule(
        pattern=r"no such file or directory|file not found|path_not_found",
        error_class=MISSING,
        scopes=AT_SOURCE,
    ),
    # The source had been found when the copy began: what is missing then is the directory.
    Rule(pattern=r"no such file or directory|path_not_found|not a directory", error_class=DENIED),
    Rule(
        pattern=r"unable to connect|connection refused|no route to host|network is unreachable"
        r"|host is down|name or service not known|could not resolve|unknown host|host not found"
        r"|temporary failure in name resolution|connection timed out|connection reset"
        r"|broken pipe|end[- ]of[- ]file|connection (was )?closed|too many connections"
        r"|service not available|can ?not determine address",
        error_class=UNREACHABLE,
    ),
    Rule(
        pattern=r"forced-killed because it was stalled|forcefully killed|performance marker",
        error_class=TIMEOUT,
        copying=True,
    ),
    Rule(pattern=r"\btime(d)?[- ]?out\b|timeout|probably stalled", error_class=TIMEOUT),
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
        errno.ECOMM: UNREACHABLE,
        errno.ENOKEY: CREDENTIAL,
        errno.EKEYEXPIRED: CREDENTIAL,
        errno.EKEYREVOKED: CREDENTIAL,
        errno.EKEYREJECTED: CREDENTIAL,
        errno.ECANCELED: CANCELLED,
    }
)
# At the source these mean that the staged copy can't be read, which is the archive's to mend.
UNREADABLE = frozenset(
    {errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EROFS}
)


def parse(text: str | None) -> Reason:
    """Take a `reason` apart; one of another form is all text."""
    match = _FORM.fullmatch(text or "")
    if match is None:
        return Reason(text=" ".join((text or "").split()))
    return Reason(scope=match[1], number=int(match[2]), text=" ".join(match[3].split()))


def classify(reason: Reason) -> ErrorClass:
    """The class of a failure; OTHER when nothing is known about it."""
    rule = _rule(reason)
    if rule is not None:
        return rule.error_class
    remote = _REMOTE_ERRNO.search(reason.text)
    for number in (int(remote[1]) if remote else 0, reason.number):
        if reason.scope == SOURCE and number in UNREADABLE:
            return MISSING
        if number in NUMBERS:
            return NUMBERS[number]
    return OTHER


def left_partial(reason: Reason, throughput: float | None) -> bool:
    """Whether the failed copy may have left a file at the destination that was not there before.

    FTS looks at the destination before it copies, so an error of the copy itself can only leave
    what the copy wrote. Of an error before that, nothing is; a file found then is somebody else's.
    """
    if classify(reason) is EXISTS:
        return False
    rule = _rule(reason)
    return reason.scope == TRANSFER or bool(throughput) or (rule is not None and rule.copying)


def _rule(reason: Reason) -> Rule | None:
    return next((rule for rule in RULES if rule.matches(reason)), None)
