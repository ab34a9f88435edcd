"""The copying process: third-party GridFTP copies with gfal2, one after the other.

    /usr/bin/python3 copier.py < ORDERS > EVENTS

Runs under the system's Python, which has gfal2, and imports nothing of deliv. Orders and events
are JSON, one a line. An order's keys are those of the class Order. Its events are `size` or
`active` (with the file size), `progress` (with the throughput), and finally `done` or `failed`.
An order to look at a storage has `look` (stat or list) and `url`, and is `done` with the `answer`.
X509_USER_PROXY and X509_CERT_DIR are in the environment. The process ends with its input, and
dies with its parent.

The steps are those of FTS's fts_url_copy: stat of the source (SOURCE), stat of the destination
(DESTINATION), the copy (TRANSFER), stat of the destination (DESTINATION). gfal2's own copy
repeats these checks at a login each, because its sessions don't outlive a change of server. So
each end has a context here, whose login is kept, and the copy itself is strict, that is, nothing
but a copy. Even that one logs in at the destination each time, so a small file is read and written
here, over the kept logins. Whatever is out of the ordinary goes through gfal2's full copy after
all, so that the error is in gfal2's words.
"""

from __future__ import annotations

import ctypes
import errno
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from stat import S_ISDIR
from typing import Any, TypeVar

import gfal2

Result = TypeVar("Result")

MODES = {
    "s": gfal2.checksum_mode.source,
    "t": gfal2.checksum_mode.target,
    "b": gfal2.checksum_mode.both,
}
MIB = 2**20
SMALL = MIB
BASE_TIMEOUT = 600
SECONDS_PER_MIB = 2
DIRECTORY_MODE = 0o700
PR_SET_PDEATHSIG = 1
# What gfal2 says when the server at the other end of a kept login has gone.
STALE = {errno.ECOMM, errno.EPIPE, errno.ECONNRESET}


@dataclass(frozen=True)
class Order:
    """What to copy where.

    `mode` is the checksum mode: n(one), s(ource), t(arget), b(oth); `checksum` may be empty.
    `timeout` is in seconds, 0 for one by the file's size.
    """

    source: str
    destination: str
    overwrite: bool
    mode: str
    algorithm: str
    checksum: str
    timeout: int
    strict: bool


class Failure(Exception):
    """The scope, errno and words with which a copy failed."""

    def __init__(self, scope: str, code: int, message: str) -> None:
        super().__init__(message)
        self.scope, self.code, self.message = scope, code, message


class Context:
    """A gfal2 context for one kind of work, renewed when its login has gone stale."""

    def __init__(self) -> None:
        self._context: Any = None

    def do(self, work: Callable[[Any], Result]) -> Result:
        """Work with the context; what fails over a kept login is done again over a new one."""
        kept = self._context is not None
        try:
            return work(self._open())
        except gfal2.GError as error:
            if error.code not in STALE:
                raise
            self._context = None
            if not kept:
                raise
        return work(self._open())

    def _open(self) -> Any:
        if self._context is None:
            self._context = gfal2.creat_context()
            self._context.set_opt_boolean("GRIDFTP PLUGIN", "SESSION_REUSE", True)
        return self._context


class Copy:
    """One order on its way."""

    def __init__(
        self, order: Order, contexts: dict[str, Context], emit: Callable[..., None]
    ) -> None:
        self._order = order
        self._source = contexts["source"]
        self._destination = contexts["destination"]
        self._between = contexts["between"]
        self._emit = emit
        self._unclosed: Any = None  # see `read`

    def run(self) -> None:
        """From beginning to end; Failure says what went wrong."""
        size = self._size(self._source, self._order.source, "SOURCE")
        self._emit("size", filesize=size)
        ready = self._order.strict or self._prepare()
        timeout = self._order.timeout or default_timeout(size)
        self._emit("active", filesize=size, timeout=timeout)
        started = time.monotonic()
        if not (ready and self._quick(size, timeout)):
            parameters = self._parameters(timeout)
            parameters.create_parent = True
            parameters.overwrite = True
            if self._order.mode in MODES:
                mode = MODES[self._order.mode]
                parameters.set_checksum(mode, self._order.algorithm, self._order.checksum)
            self._copy(parameters)
        elapsed = time.monotonic() - started
        if self._size(self._destination, self._order.destination, "DESTINATION") != size:
            words = "Source and destination file size mismatch"
            raise Failure("DESTINATION", errno.EINVAL, words)
        self._emit("done", tx_duration=elapsed)

    def _prepare(self) -> bool:
        """Whether the destination is ready for a strict copy.

        Failure when the file is there and must not be replaced.
        """
        target = self._order.destination
        try:
            self._destination.do(lambda context: context.stat(target))
        except gfal2.GError as error:
            if error.code == errno.ENOENT:
                return self._attempt(lambda context: make_directory(context, parent(target)))
            raise Failure("DESTINATION", error.code, error.message) from error
        if not self._order.overwrite:
            words = "Destination file exists and overwrite is not enabled"
            raise Failure("DESTINATION", errno.EEXIST, words)
        return self._attempt(lambda context: context.unlink(target))

    def _quick(self, size: int, timeout: int) -> bool:
        """Just a copy, checksums around it; False where the full copy must say what is wrong."""
        expected = self._order.checksum
        if self._order.mode in "sb":
            found = self._checksum(self._source, self._order.source)
            if not agree(expected or found, found):
                return False
            expected = expected or found
        if size > SMALL or not self._carry(size):
            parameters = self._parameters(timeout)
            parameters.strict_copy = True
            self._copy(parameters)
        if self._order.mode not in "tb":
            return True
        return agree(expected, self._checksum(self._destination, self._order.destination))

    def _carry(self, size: int) -> bool:
        """Read it and write it; False where it did not arrive whole, and a copy must say why."""
        source, target = self._order.source, self._order.destination
        try:
            content, self._unclosed = self._source.do(lambda context: read(context, source, size))
            self._destination.do(lambda context: context.open(target, "w").write(content))
            return int(self._destination.do(lambda context: context.stat(target)).st_size) == size
        except gfal2.GError:
            return False

    def _copy(self, parameters: Any) -> None:
        order = self._order
        try:
            self._between.do(
                lambda context: context.filecopy(parameters, order.source, order.destination)
            )
        except gfal2.GError as error:
            if error.code != errno.EEXIST:
                self._attempt(lambda context: context.unlink(order.destination))
            raise Failure("TRANSFER", error.code, error.message) from error

    def _size(self, end: Context, url: str, scope: str) -> int:
        """In bytes."""
        try:
            return int(end.do(lambda context: context.stat(url)).st_size)
        except gfal2.GError as error:
            raise Failure(scope, error.code, error.message) from error

    def _attempt(self, work: Callable[[Any], object]) -> bool:
        """Whether it could be done at the destination."""
        try:
            self._destination.do(work)
        except gfal2.GError:
            return False
        return True

    def _checksum(self, end: Context, url: str) -> str:
        """Empty when there is none to be had."""
        try:
            return str(end.do(lambda context: context.checksum(url, self._order.algorithm)))
        except gfal2.GError:
            return ""

    def _parameters(self, timeout: int) -> Any:
        parameters = gfal2.creat_context().transfer_parameters()
        parameters.timeout = timeout
        parameters.monitor_callback = self._progress
        return parameters

    def _progress(
        self, source: str, destination: str, average: int, now: int, moved: int, elapsed: int
    ) -> None:
        """Called by gfal2 at each performance marker; average in bytes per second."""
        self._emit("progress", throughput=average / MIB)


def read(context: Any, url: str, size: int) -> tuple[bytes, Any]:
    """A file of that size, up to its end, and the file, which is closed when nothing holds it.

    A login does not outlast a file that is closed before the server's last reply on it, which may
    come long after the last byte.
    """
    file = context.open(url, "r")
    return bytes(file.read_bytes(size) + file.read_bytes(1)), file


def stat(context: Any, url: str) -> dict[str, int]:
    """As FTS's /dm/stat shows it."""
    found = context.stat(url)
    names = ("mode", "nlink", "size", "atime", "mtime", "ctime")
    return {name: getattr(found, f"st_{name}") for name in names}


def listing(context: Any, url: str) -> dict[str, dict[str, int]]:
    """As FTS's /dm/list shows it: directories have a slash at their end."""
    directory = context.opendir(url)
    found = {}
    while (entry := directory.readpp())[0]:
        name, status = entry[0].d_name, entry[1]
        mode = status.st_mode
        name += "/" if S_ISDIR(mode) else ""
        found[name] = {"size": status.st_size, "mode": mode, "mtime": status.st_mtime}
    return found


LOOKS: dict[str, Callable[[Any, str], object]] = {"stat": stat, "list": listing}


def look(order: dict[str, str], end: Context) -> None:
    try:
        emit("done", answer=end.do(lambda context: LOOKS[order["look"]](context, order["url"])))
    except gfal2.GError as error:
        raise Failure("", error.code, error.message) from error


def default_timeout(size: int) -> int:
    """FTS's: two seconds for each MiB and ten minutes more."""
    return math.ceil(SECONDS_PER_MIB * size / MIB) + BASE_TIMEOUT


def parent(url: str) -> str:
    return url.rpartition("/")[0]


def make_directory(context: Any, url: str) -> None:
    try:
        context.stat(url)
    except gfal2.GError as error:
        if error.code != errno.ENOENT:
            raise
        context.mkdir_rec(url, DIRECTORY_MODE)


def agree(one: str, other: str) -> bool:
    """Whether two checksums are there and the same, leading zeros and case aside."""
    return bool(one and other) and one.lstrip("0").lower() == other.lstrip("0").lower()


def emit(event: str, **details: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **details}) + "\n")
    sys.stdout.flush()


def serve() -> None:
    contexts = {name: Context() for name in ("source", "destination", "between")}
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if "look" in order:
                look(order, contexts["destination"])
            else:
                Copy(Order(**order), contexts, emit).run()
        except Failure as failure:
            emit("failed", scope=failure.scope, code=failure.code, message=failure.message)


def die_with_parent() -> None:
    """Ask Linux for SIGKILL at the parent's death; nothing to wait for if it is dead already."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:
        sys.exit(0)


if __name__ == "__main__":
    die_with_parent()
    serve()
