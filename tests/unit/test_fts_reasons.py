"""Every row of the tables, by texts of a real FTS 3.13 or of gfal2 2.21 where there is one."""

from __future__ import annotations

import errno

import pytest

from deliv.gateways.fts.reasons import NUMBERS, RULES, UNREADABLE, Reason, classify, kind, parse
from deliv.model.error_classes import ErrorClass as E

ERROR = "globus_ftp_client: the server responded with an error"
MISSING_SOURCE = (
    f"SOURCE [2] {ERROR} 550 550-GlobusError: v=1 c=PATH_NOT_FOUND  550-GridFTP-Errno: 2  "
    "550-GridFTP-Reason: System error in stat  550-GridFTP-Error-String: No such file or "
    "directory  550 End.   "
)
REFUSED_PORT = (
    "{} [70] globus_xio: Unable to connect to localhost:21819 globus_xio: System error in connect:"
    " Connection refused globus_xio: A system call failed: Connection refused "
)
GSS = (
    f"{ERROR} 530 530-globus_xio: Authentication Error  530-GSS failure:   530-GSS Major Status: "
    "Authentication Failed  530-GSS Minor Status Error Chain:  530-globus_gsi_gssapi: SSL "
    "handshake problems  530-OpenSSL Error: ../ssl/statem/statem_srvr.c:3530: in library: SSL "
    "routines, function (null): certificate verify failed  530-globus_gsi_callback_module: {}"
)
UNMAPPED = (
    f"{{}} [13] {ERROR} 530 530-Login incorrect. : globus_gss_assist: Gridmap lookup failure: "
    "Could not map /O=deliv testbed/OU=users/CN=eve  530-  530 End."
)
OPEN_FAILED = (
    f"{ERROR} 500 500-Command failed. : globus_l_gfs_file_open failed.  500-globus_xio: Unable to "
    "open file /data/x  500-globus_xio: System error in open: Permission denied  500-globus_xio: "
    "A system call failed: Permission denied  500 End."
)

TEXTS = (
    # recorded from FTS 3.13
    (MISSING_SOURCE, E.SOURCE_MISSING),
    (REFUSED_PORT.format("SOURCE"), E.UNREACHABLE),
    ("DESTINATION [17] Destination file exists and overwrite is not enabled", E.EXISTS),
    (
        "TRANSFER [5] TRANSFER CHECKSUM MISMATCH USER_DEFINE and SRC checksums are different. "
        "00000001 != 0f285b8e",
        E.CHECKSUM,
    ),
    ("Job canceled by the user", E.CANCELLED),
    # of gfal2 2.21 and GridFTP server 13.24
    (REFUSED_PORT.format("DESTINATION"), E.UNREACHABLE),
    (REFUSED_PORT.format("TRANSFER") + "TRANSFER", E.UNREACHABLE),
    (f"SOURCE [70] {ERROR} 500 Command failed : Path not allowed.", E.SOURCE_MISSING),
    (f"DESTINATION [70] {ERROR} 500 Command failed : Path not allowed.", E.NO_PERMISSION),
    (f"TRANSFER [13] {OPEN_FAILED}", E.SOURCE_MISSING),  # while reading for the checksum
    (f"TRANSFER [13] TRANSFER  {OPEN_FAILED}", E.NO_PERMISSION),
    (
        f"TRANSFER [13] TRANSFER  {ERROR} 550 550-GlobusError: v=1 c=PERMISSION_DENIED  "
        "550-GridFTP-Errno: 13  550-GridFTP-Reason: System error in mkdir  "
        "550-GridFTP-Error-String: Permission denied  550 End.",
        E.NO_PERMISSION,
    ),
    (
        f"TRANSFER [21] TRANSFER  {ERROR} 550 550-GlobusError: v=1 c=IS_A_DIRECTORY  "
        "550-GridFTP-Errno: 21  550-GridFTP-Reason: System error in unlink  "
        "550-GridFTP-Error-String: Is a directory  550 End.",
        E.EXISTS,
    ),
    (
        f"DESTINATION [20] {ERROR} 550 550-GlobusError: v=1 c=NOT_A_DIRECTORY  550-GridFTP-Errno: "
        "20  550-GridFTP-Reason: System error in stat  550-GridFTP-Error-String: Not a directory",
        E.NO_PERMISSION,
    ),
    (
        f"TRANSFER [70] TRANSFER  {ERROR} 500 500-Command failed. : callback failed.  "
        "500-globus_xio: System error in write: No space left on device  500 End.",
        E.DESTINATION_FULL,
    ),
    (
        f"DESTINATION [70] {ERROR} 451 451-GlobusError: v=1 c=INTERNAL_ERROR  451-GridFTP-Errno: "
        "36  451-GridFTP-Reason: System error in stat  451-GridFTP-Error-String: File name too "
        "long  451 End.",
        E.OTHER,
    ),
    (
        "DESTINATION [70] globus_xio: Unable to connect to no-such-host.invalid:2811 globus_xio: "
        "globus_libc_getaddrinfo failed. globus_common: Name or service not known ",
        E.UNREACHABLE,
    ),
    (UNMAPPED.format("SOURCE"), E.CREDENTIAL),
    (UNMAPPED.format("DESTINATION"), E.NO_PERMISSION),
    (f"SOURCE [13] {GSS.format('The certificate has expired: Credential')}", E.CREDENTIAL),
    (f"DESTINATION [13] {GSS.format('Could not verify credential')}", E.CREDENTIAL),
    ("SOURCE [2] Could not open the user certificate", E.CREDENTIAL),
    (
        "SOURCE [13] globus_ftp_control: gss_init_sec_context failed GSS failure:  GSS Major "
        "Status: Authentication Failed GSS Minor Status Error Chain: globus_gsi_gssapi: SSL "
        "handshake problems",
        E.CREDENTIAL,
    ),
    ("TRANSFER [110] TRANSFER  Operation timed out", E.TIMEOUT),
    # a port that says nothing, one of SSH, one of FTP without the grid's security
    ("DESTINATION [110] Operation timed out", E.UNREACHABLE),
    ("SOURCE [110] Operation timed out", E.TIMEOUT),
    (
        "DESTINATION [70] globus_l_ftp_control_read_cb: Error while searching for end of reply",
        E.UNREACHABLE,
    ),
    (f"DESTINATION [70] {ERROR} 530 Please login with USER and PASS.", E.UNREACHABLE),
    (f"DESTINATION [70] {ERROR} 500 AUTH not understood", E.UNREACHABLE),
    (
        "TRANSFER [70] TRANSFER  an end-of-file was reached globus_xio: An end of file occurred",
        E.UNREACHABLE,
    ),
    # of FTS's and gfal2's sources, and as seen by others
    (
        "Job has been canceled because it stayed in the queue for too long (max-time-in-queue "
        "timeout)",
        E.TIMEOUT,
    ),
    ("GENERAL_FAILURE [110] Transfer has been forced-killed because it was stalled", E.TIMEOUT),
    (
        "No FTS server has updated the transfer status the last 900 seconds. Probably stalled",
        E.TIMEOUT,
    ),
    (
        "TRANSFER [110] TRANSFER  Transfer canceled because the gsiftp performance marker timeout "
        "of 180 seconds has been exceeded, or all performance markers during that period "
        "indicated zero bytes transferred",
        E.TIMEOUT,
    ),
    ("TRANSFER [110] Timeout expired", E.TIMEOUT),
    ("The transfer was forcefully killed", E.TIMEOUT),
    ("DESTINATION [22] Source and destination file size mismatch", E.CHECKSUM),
    (
        "TRANSFER [5] Source and user-defined 00000001 checksum do not match (0f285b8e != 1)",
        E.CHECKSUM,
    ),
    (
        "TRANSFER [5] TRANSFER ERROR: Copy failed. HTTP 507 : Insufficient Storage",
        E.DESTINATION_FULL,
    ),
    ("TRANSFER [122] TRANSFER  System error in write: Disk quota exceeded", E.DESTINATION_FULL),
    ("DESTINATION [5] No space left on device", E.DESTINATION_FULL),
    (
        f"SOURCE [70] {ERROR} 421 Service busy: Connection limit exceeded. Please try again later."
        " Cleanup control connection.",
        E.UNREACHABLE,
    ),
    (
        "DESTINATION [70] globus_xio: The GSI XIO driver failed to establish a secure connection. "
        "The failure occurred during a handshake read. globus_xio: System error in recv: "
        "Connection reset by peer",
        E.UNREACHABLE,
    ),
    ("DESTINATION [70] System error in connect: Connection timed out", E.UNREACHABLE),
    ("SOURCE [70] System error in connect: No route to host", E.UNREACHABLE),
    ("TRANSFER [70] TRANSFER  System error in send: Broken pipe", E.UNREACHABLE),
    (f"TRANSFER [70] TRANSFER  {ERROR} 500 open error: Read-only file system", E.NO_PERMISSION),
    ("GENERAL_FAILURE [13] No credential found", E.CREDENTIAL),
    ("SOURCE [70] proxy expired", E.CREDENTIAL),
    ("Job has been canceled because the user is banned", E.BANNED),
    ("TRANSFER [2] DESTINATION CHECKSUM HTTP 404 : File not found", E.NO_PERMISSION),
    ("AGENT [22] Unknown exception", E.OTHER),
    ("", E.OTHER),
    ("SOURCE [x] nonsense", E.OTHER),
)


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_texts(text: str, expected: E) -> None:
    assert classify(parse(text)) is expected


def test_every_rule_is_the_one_that_decides_some_text() -> None:
    deciding = set()
    for text, _ in TEXTS:
        reason = parse(text)
        deciding |= {next((rule for rule in RULES if rule.matches(reason)), None)}
    assert set(RULES) <= deciding


@pytest.mark.parametrize(("number", "expected"), NUMBERS.items())
def test_numbers_decide_where_the_text_says_nothing(number: int, expected: E) -> None:
    assert classify(parse(f"DESTINATION [{number}] something went wrong")) is expected


@pytest.mark.parametrize("number", sorted(UNREADABLE))
def test_an_unreadable_source_is_missing(number: int) -> None:
    assert classify(parse(f"SOURCE [{number}] something went wrong")) is E.SOURCE_MISSING


def test_the_servers_errno_goes_before_gfal2s() -> None:
    assert classify(parse("DESTINATION [70] GridFTP-Errno: 28 in some words")) is E.DESTINATION_FULL
    assert (
        classify(parse(f"DESTINATION [{errno.ENOSPC}] GridFTP-Errno: 9999")) is E.DESTINATION_FULL
    )


def test_parse() -> None:
    assert parse("SOURCE [2] globus:\n  550 End.   ") == Reason(
        scope="SOURCE", number=2, text="globus: 550 End."
    )
    assert parse("Job canceled by the user") == Reason(text="Job canceled by the user")


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("SOURCE [2] x", "SOURCE"),
        ("DESTINATION [2] x", "DESTINATION"),
        ("TRANSFER [2] TRANSFER x", ""),
        ("TRANSFER [2] DESTINATION CHECKSUM x", "DESTINATION"),
        ("TRANSFER [2] SOURCE CHECKSUM x", "SOURCE"),
        ("TRANSFER [2] x", "SOURCE"),
        ("AGENT [2] x", ""),
        ("x", ""),
    ],
)
def test_the_end_that_failed(text: str, end: str) -> None:
    assert parse(text).end == end


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (REFUSED_PORT.format("DESTINATION"), "Connection refused"),
        (
            "TRANSFER [70] TRANSFER  an end-of-file, /data/a: No space left on device",
            "No space left",
        ),
        ("DESTINATION [112] /data/a", "Host is down"),
        ("DESTINATION [70] /data/a", ""),
        ("/data/a", ""),
    ],
)
def test_others_are_told_the_kind_of_a_failure_without_names(text: str, words: str) -> None:
    assert kind(parse(text)) == words
