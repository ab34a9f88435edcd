"""One caller's requests on many connections.

python flood.py PORT CA_FILE CREDENTIAL CONNECTIONS ONCE

The request is the first line of standard input, a JSON string. Each connection sends it again and
again until standard input ends, or once when ONCE is 1. "here" is printed when each connection has
sent its first one, and at the end how often each status was answered, as a JSON object.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

ENDS_WITHIN = 120  # seconds, all requests under way included


class Flood:
    """One that runs; `answers` is filled when it has ended."""

    def __init__(self, process: Popen[bytes]) -> None:
        self._process = process
        self.answers: Counter[int] = Counter()

    def end(self) -> None:
        """Wait for what is under way, and send no more."""
        output, _ = self._process.communicate(timeout=ENDS_WITHIN)
        self.answers.update({int(status): times for status, times in json.loads(output).items()})
        assert self._process.returncode == 0


@contextmanager
def flood(
    port: int, ca_file: Path, credential: Path, request: bytes, *, connections: int, once: bool
) -> Iterator[Flood]:
    """A process that floods from now on, ended with the block at the latest."""
    values = (port, ca_file, credential, connections, int(once))
    command = [sys.executable, __file__, *map(str, values)]
    with Popen(command, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(json.dumps(request.decode("latin-1")).encode() + b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"here\n"
            yield Flood(process)
        finally:
            if process.poll() is None:
                process.kill()


async def main(port: int, ca_file: str, credential: str, connections: int, once: bool) -> None:
    request = json.loads(sys.stdin.readline()).encode("latin-1")
    context = ssl.create_default_context(cafile=ca_file)
    context.load_cert_chain(credential)
    answers: Counter[int] = Counter()
    stopping, sent = asyncio.Event(), asyncio.Semaphore(0)

    async def send() -> None:
        while True:
            try:  # a busy machine may not get all handshakes done in time
                reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
                break
            except OSError:
                continue
        first = True
        while first or not (once or stopping.is_set()):
            writer.write(request)
            if first:
                sent.release()
            first = False
            answers[await status(reader)] += 1
        writer.close()

    sending = [asyncio.create_task(send()) for _ in range(connections)]
    for _ in sending:
        await sent.acquire()
    print("here", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    stopping.set()
    await asyncio.gather(*sending)
    print(json.dumps(answers))


async def status(reader: asyncio.StreamReader) -> int:
    """Of the next answer, which is read to its end."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)\r\n", head)
    assert length, head
    await reader.readexactly(int(length[1]))
    return int(head.split(maxsplit=2)[1])


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:4], int(sys.argv[4]), sys.argv[5] == "1"))
