"""Size and checksum of a file on a GridFTP server.

gfal2 is there for the system's Python alone, and blocks. So each file is read by a process of its
own (reader.py), within bounds of time and output. The credential goes to it through a pipe and is
in no file.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import msgspec

from deliv import config
from deliv.errors import Unavailable, Unreachable

READER = Path(__file__).with_name("reader.py")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
MOST_OUTPUT = 64 * 2**10
FIND_OUT = 30.0  # seconds to find out whether gfal2 is there
CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
PRIVATE_KEY = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----.*?-----END (?:[A-Z]+ )?PRIVATE KEY-----", re.DOTALL
)


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """`size` in bytes; `checksum` in hex, read only where the size is the expected one.

    `modified`: when it was last written to, in seconds since 1970 by its server's clock.
    """

    size: int
    checksum: str | None = None
    modified: int | None = None


class _Order(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    size: int
    beginning: bool
    algorithm: str
    credential: str
    ca_directory: str
    seconds: int


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    size: int | None = None
    checksum: str | None = None
    modified: int | None = None
    errno: int = 0
    message: str = ""
    missing: str | None = None


class GridFtp:
    def __init__(self, settings: config.GridFtpSettings, ca_directory: Path) -> None:
        self._python = settings.python
        self._timeout = float(settings.timeout)
        self._slots = asyncio.Semaphore(settings.at_once)
        self._ca_directory = ca_directory

    async def read(
        self, url: str, *, size: int, algorithm: str, credential: tuple[bytes, bytes]
    ) -> FileFacts:
        """What is at a gsiftp URL; the checksum only of a file of `size` bytes.

        `credential`: the certificate with its chain, and the key, in PEM. Unavailable when it can't
        be read; what a server said then is in the message of Unreachable, not in its `kind`.
        """
        return await self._read(url, size, algorithm, credential, beginning=False)

    async def read_beginning(
        self, url: str, *, size: int, algorithm: str, credential: tuple[bytes, bytes]
    ) -> FileFacts:
        """As `read`, with the checksum of the first `size` bytes, at least one, of a larger one."""
        return await self._read(url, size, algorithm, credential, beginning=True)

    async def check_ready(self) -> None:
        """Unavailable when files can't be read here."""
        await self._ask(b"{}", FIND_OUT)

    async def _read(
        self,
        url: str,
        size: int,
        algorithm: str,
        credential: tuple[bytes, bytes],
        *,
        beginning: bool,
    ) -> FileFacts:
        order = _Order(
            url=url,
            size=size,
            beginning=beginning,
            algorithm=algorithm,
            credential=_proxy_file(*credential).decode("ascii"),
            ca_directory=str(self._ca_directory),
            seconds=math.ceil(self._timeout),
        )
        async with self._slots:
            answer = await self._ask(msgspec.json.encode(order), self._timeout)
        if answer.size is None:
            kind = f"its server did not say what it is ({os.strerror(answer.errno)})"
            raise Unreachable(f"{url}: {answer.message}", kind=kind)
        return FileFacts(size=answer.size, checksum=answer.checksum, modified=answer.modified)

    async def _ask(self, order: bytes, timeout: float) -> _Answer:
        try:
            async with asyncio.timeout(timeout), self._process() as process:
                stdin = cast(asyncio.StreamWriter, process.stdin)
                stdout = cast(asyncio.StreamReader, process.stdout)
                with contextlib.suppress(ConnectionError):  # it has ended; its answer says why
                    stdin.write(order)
                    await stdin.drain()
                stdin.close()
                output = b""
                while len(output) <= MOST_OUTPUT and (more := await stdout.read(4096)):
                    output += more
        except TimeoutError:
            raise Unavailable(f"it took longer than {timeout:g} s") from None
        except OSError as error:
            raise Unavailable(f"{self._python} can't be run: {error.strerror}") from error
        try:
            answer = msgspec.json.decode(output, type=_Answer)
        except msgspec.DecodeError as error:
            raise Unavailable(f"{self._python} gave no usable answer: {error}") from error
        if answer.missing is not None:
            raise Unavailable(f"{self._python} has no gfal2: {answer.missing}")
        return answer

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """It is gone at the end, with all that it has started."""
        process = await asyncio.create_subprocess_exec(
            self._python,
            "-I",
            READER,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # What is still in its output would keep asyncio waiting for its end.
            while process.stdout is not None and await process.stdout.read(MOST_OUTPUT):
                pass
            await process.wait()


def _proxy_file(certificate: bytes, key: bytes) -> bytes:
    """In the order of a proxy file, which Globus reads: the key behind the first certificate."""
    certificates = CERTIFICATE.findall(certificate)
    keys = PRIVATE_KEY.findall(key)[:1]
    return b"\n".join([*certificates[:1], *keys, *certificates[1:], b""])
