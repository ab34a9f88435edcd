"""What a caller may ask for: product ids, destination URLs, staged paths. Pure checks.

GridFTP URLs are kept percent-encoded (RFC 3986), so that no server or library on the way reads a
space, a `?` or a `#` of a file name as syntax.

A directory has one normal form, whatever its spelling: host, port and path of it are what the
policy, the caps, the key of the one writer per file, and FTS see. What a spelling can't tell is not
seen: two names of one server, links on its disks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import PurePosixPath
from urllib.parse import quote, unquote_to_bytes, urlsplit

from deliv.errors import InvalidRequest
from deliv.gateways.fts import LONGEST_URL
from deliv.identity import hosts
from deliv.model.job import Job
from deliv.model.phase import AT_FTS, phase
from deliv.model.states import Status

MAX_PRODUCT_ID = 1024
MAX_URL = LONGEST_URL - 100  # of a directory, so that a file name finds room
SAFE_IN_PATH = "/-._~!$&'()*+,;=:@"
DEFAULT_PORT = 2811  # IANA's gsiftp
REMEMBERED = 256  # directories: the items of a campaign name few
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # surrogates, too
# No text beside the brackets and no zone in them, which not every reader of URLs sees alike.
AUTHORITY = re.compile(r"(\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]|[^][:/@\s]*)(?::([0-9]{0,5}))?")


@dataclass(frozen=True, kw_only=True)
class Directory:
    """A GridFTP directory: `url` in its normal form, and its `host`.

    The root alone has a slash at its end.
    """

    url: str
    host: str

    def file(self, name: str) -> str:
        """The URL of the file `name` (not encoded) in this directory."""
        return f"{self.url.rstrip('/')}/{quote(name, safe=SAFE_IN_PATH.replace('/', ''))}"


def check_product_id(value: str) -> str:
    """The product id itself; InvalidRequest when empty, too long or with control characters."""
    if not value.strip():
        raise InvalidRequest("product_id is empty")
    _no_control_characters("product_id", value)
    if len(value) > MAX_PRODUCT_ID:
        raise InvalidRequest(f"product_id is longer than {MAX_PRODUCT_ID} characters")
    return value


@lru_cache(REMEMBERED)
def parse_directory(value: str) -> Directory:
    """The normal form of a destination: gsiftp://HOST[:PORT]/DIRECTORY and nothing else."""
    if not value.strip():
        raise InvalidRequest("destination_path is empty")
    _no_control_characters("destination_path", value)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise InvalidRequest(
            "destination_path is not a well-formed URL: write gsiftp://HOST[:PORT]/DIRECTORY, with "
            "a port from 1 to 65535"
        ) from error
    if parts.scheme != "gsiftp":
        given = parts.scheme or "a bare path"
        raise InvalidRequest(f"destination_path must be a gsiftp:// URL (GridFTP), not {given}")
    if "@" in parts.netloc:
        raise InvalidRequest("destination_path must not carry user information before the host")
    authority = AUTHORITY.fullmatch(parts.netloc)
    if not authority:
        raise InvalidRequest("destination_path must name a HOST or [IPV6-ADDRESS], then :PORT")
    if "?" in value or "#" in value:
        raise InvalidRequest(
            "destination_path must not have a query or a fragment: write %3F or %23"
        )
    if port == 0:
        raise InvalidRequest("destination_path must have a port from 1 to 65535, or none")
    path = _canonical_path("destination_path", parts.path)
    name = check_host("destination_path", authority[1].strip("[]"))
    host = f"[{name}]" if ":" in name else name
    suffix = "" if port in {None, DEFAULT_PORT} else f":{port}"
    url = f"gsiftp://{host}{suffix}{path.rstrip('/') or '/'}"
    _no_longer_than(MAX_URL, "destination_path", url)
    return Directory(url=url, host=name)


def check_host(field: str, host: str) -> str:
    """See hosts.normal; InvalidRequest."""
    if not host:
        raise InvalidRequest(f"{field} names no host")
    try:
        return hosts.normal(host)
    except ValueError as error:
        raise InvalidRequest(f"{field}: {error}") from error


def check_place(staged_to: str, path: str) -> None:
    """Whether FTS can take a copy that is staged there; InvalidRequest if not."""
    _no_longer_than(LONGEST_URL, "path", staged_url(staged_to, path))


def staged_url(staged_to: str, path: str) -> str:
    """The source URL of a staged copy: `staged_to` is HOST[:PORT], `path` absolute, not encoded."""
    match = AUTHORITY.fullmatch(staged_to)
    if not match or (match[2] is not None and not 0 < int(match[2] or 0) < 65536):
        raise InvalidRequest("staged_to must be HOST or HOST:PORT")
    check_host("staged_to", match[1].strip("[]"))
    _no_control_characters("path", path)
    if not path.startswith("/") or path.endswith("/"):
        raise InvalidRequest("path must be absolute and name a file")
    _no_dot_segments("path", path)
    return f"gsiftp://{staged_to}{quote(path, safe=SAFE_IN_PATH)}"


def destination_file(job: Job) -> str:
    """The URL of the file that a staged job delivers; of its directory while the name is open.

    Of a job with several files that of the directory which they are delivered to.
    """
    if job.files_directory is not None:
        return job.files_directory
    return _file(job, Directory(url=job.destination_path, host=job.destination_host))


def destination_key(job: Job) -> bytes:
    """SHA-256 of that URL in its normal form: the same for all spellings of one file.

    In a job of an earlier release `destination_path`, which never changes, may have another form.
    """
    return url_key(_file(job, _canonical_directory(job)))


def files_directory(job: Job, staged: str, several: bool) -> str:
    """The URL of the directory below which the files of the staged directory are delivered.

    Several get a directory of that name; a single one is delivered as if it had been staged alone.
    """
    directory = _canonical_directory(job)
    return directory.file(PurePosixPath(staged).name) if several else directory.url


def file_url(directory: str, name: str) -> str:
    """The URL of a file below a directory; `name` is relative, not encoded."""
    return f"{directory.rstrip('/')}/{quote(name, safe=SAFE_IN_PATH)}"


def url_key(url: str) -> bytes:
    """What keeps other writers from the file of this URL, which is in its normal form."""
    return sha256(url.encode()).digest()


def writes_destination(job: Job) -> bool:
    """Whether FTS may be writing its only destination file, so that no other job may."""
    return phase(job) in AT_FTS and job.report is None


def may_keep_destination(job: Job) -> bool:
    """Whether it may keep its destination file from other jobs: from its first transfer on."""
    again = job.status in {Status.SUBMITTED, Status.STAGING} and job.attempt > 1
    return again or job.status is Status.TRANSFERRING


def _canonical_directory(job: Job) -> Directory:
    try:
        return parse_directory(f"{job.destination_path}/")
    except InvalidRequest:  # the earlier release took more; no new job can have this destination
        return Directory(url=job.destination_path, host=job.destination_host)


def _file(job: Job, directory: Directory) -> str:
    name = PurePosixPath(job.stager_path or "").name
    return directory.file(name) if name else directory.url


def _canonical_path(field: str, path: str) -> str:
    if not path.startswith("/"):
        raise InvalidRequest(f"{field} names no directory: write gsiftp://HOST/DIRECTORY")
    if re.search(r"%(?![0-9A-Fa-f]{2})", path):
        raise InvalidRequest(f"{field} has a % that starts no percent-encoding: write %25")
    try:
        plain = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{field} is not UTF-8 behind its percent-encoding") from error
    _no_control_characters(field, plain)
    _no_dot_segments(field, plain)
    plain = re.sub("/+", "/", plain)
    if plain.startswith("/~"):
        raise InvalidRequest(
            f"{field} starts in a home directory (~), which depends on who copies: write it out"
        )
    return quote(plain, safe=SAFE_IN_PATH)


def _no_longer_than(most: int, field: str, url: str) -> None:
    if len(url) > most:
        raise InvalidRequest(f"{field} is longer than {most} characters as a percent-encoded URL")


def _no_dot_segments(field: str, path: str) -> None:
    if any(segment in {".", ".."} for segment in path.split("/")):
        raise InvalidRequest(f"{field} must not have . or .. segments")


def _no_control_characters(field: str, value: str) -> None:
    if CONTROL.search(value):
        raise InvalidRequest(f"{field} has control characters")
