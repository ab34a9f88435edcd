"""What FTS makes of a failed copy: the text of the reason, and whether it tries again."""

from __future__ import annotations

import errno

# Source: FTS's heuristics.cpp: what a message implies goes before what its errno does.
PASSING = (
    "performance marker",
    "Name or service not known",
    "Connection timed out",
    "end-of-file was reached",
    "end of file occurred",
    "was forcefully killed",
    "operation timeout",
)
LASTING = (
    "proxy expired",
    "File exists",
    "No such file or directory",
    "The certificate has expired",
    "The available CRL has expired",
    "Permission denied",
    "checksum do not match",
    "CHECKSUM MISMATCH",
)
LASTING_CODES = {errno.EPERM, errno.EACCES, errno.ENAMETOOLONG, errno.EPROTONOSUPPORT}
LASTING_BY_SCOPE = {
    "SOURCE": {errno.ENOENT, errno.EISDIR, errno.E2BIG, errno.ENOTDIR},
    "DESTINATION": {errno.EEXIST, errno.EISDIR, errno.E2BIG},
    "TRANSFER": {errno.ENOSPC, errno.EEXIST, errno.EFBIG, errno.EROFS},
}


def reason(scope: str, code: int, message: str) -> str:
    return f"{scope} [{code}] {message}"


def recoverable(scope: str, code: int, message: str) -> bool:
    """Whether a later try may do better."""
    if any(words in message for words in PASSING) or code == errno.ETIMEDOUT:
        return True
    if any(words in message for words in LASTING) or code == errno.ECANCELED:
        return False
    return code not in LASTING_CODES | LASTING_BY_SCOPE.get(scope, set())
