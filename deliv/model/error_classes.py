"""Why a delivery failed: the classes, and the sentence that tells the submitter what to do."""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType


class ErrorClass(StrEnum):
    DESTINATION_FULL = "destination full"
    NO_PERMISSION = "no permission"
    EXISTS = "exists"
    SOURCE_MISSING = "source missing"
    CREDENTIAL = "credential"
    CHECKSUM = "checksum"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    CANCELLED = "cancelled"
    BANNED = "banned"
    STAGER = "stager"
    DEADLINE = "deadline"
    POLICY = "policy"
    OTHER = "other"


# Also of the class `exists`: another copy to the file is under way, whether it is there or not.
IN_USE = (
    "A file has one writer at a time: wait until the other has ended, or choose another directory, "
    "then submit again."
)
ADVICE = MappingProxyType(
    {
        ErrorClass.DESTINATION_FULL: "The destination has no space left: free some or choose "
        "another directory, then submit again.",
        ErrorClass.NO_PERMISSION: "The destination refused the write: check that the directory "
        "exists and that deliv's identity may write there, then submit again.",
        ErrorClass.EXISTS: "The destination already has a file of this name, and deliv never "
        "overwrites: move it away or choose another directory, then submit again.",
        ErrorClass.SOURCE_MISSING: "The archive's staged copy could not be read, which nothing at "
        "the destination can change: report the product id and the job id to the archive's "
        "operators.",
        ErrorClass.CREDENTIAL: "A grid credential was refused or has expired: if it is the one "
        "that you delegated, delegate again, else the operators of deliv have to renew theirs; "
        "then submit again.",
        ErrorClass.CHECKSUM: "The copy differs from the archived product and was not accepted: "
        "submit again; if it persists, report the product id to the archive's operators.",
        ErrorClass.TIMEOUT: "The work did not finish in time: check the host name and port of the "
        "destination and that its GridFTP server answers; if they are right, submit again later.",
        ErrorClass.UNREACHABLE: "A GridFTP server could not be reached: check the host name and "
        "port of the destination and that a GridFTP server is up there, then submit again.",
        ErrorClass.CANCELLED: "The transfer was cancelled on the FTS server: ask its operators "
        "why, then submit again.",
        ErrorClass.BANNED: "FTS's operators have banned this storage or identity: ask them why. "
        "If it is your destination's storage, choose one on another server; then submit again.",
        ErrorClass.STAGER: "The archive could not stage the product: check the product id; if it "
        "is right, report it to the archive's operators.",
        ErrorClass.DEADLINE: "The work was stopped: submit again with a later deadline, or "
        "without one.",
        ErrorClass.POLICY: "The policy of this service changed after the job was accepted: ask its "
        "operators.",
        ErrorClass.OTHER: "The reason is given above as FTS reported it: if it means nothing to "
        "you, report the job id to the operators of deliv.",
    }
)
