"""A crowd that holds connections: python crowd.py PORT SILENT DRIPPING GREETED

So many connections that say nothing, that say a byte of a TLS greeting each second, and that say
all of a greeting and then nothing. Whoever is closed comes again after a second. "here" is printed
when all have come; it ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import resource
import ssl
import sys

PAUSE = 1.0


def greeting() -> bytes:
    lax = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        lax.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake without an answer")


async def hold(port: int, said: bytes, dripping: bool, here: asyncio.Semaphore) -> None:
    """One connection, again and again."""
    first = True
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**12)
            if first:
                here.release()
                first = False
            await linger(reader, writer, said, dripping)
            writer.close()
        except OSError:
            pass  # turned away: come again
        await asyncio.sleep(PAUSE)


async def linger(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytes, dripping: bool
) -> None:
    """Until the other side closes."""
    ended = asyncio.ensure_future(reader.read())
    ended.add_done_callback(lambda done: done.cancelled() or done.exception())
    if not dripping:
        writer.write(said)
    for byte in said * dripping:
        if not ended.done():
            writer.write(bytes([byte]))
            await asyncio.wait([ended], timeout=PAUSE)
    await asyncio.wait([ended])


async def main(port: int, silent: int, dripping: int, greeted: int) -> None:
    here, said = asyncio.Semaphore(0), greeting()
    kinds = [(b"", False)] * silent + [(said, True)] * dripping + [(said, False)] * greeted
    holding = [asyncio.create_task(hold(port, what, drips, here)) for what, drips in kinds]
    for _ in holding:
        await here.acquire()
    print("here", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for one in holding:
        one.cancel()
    await asyncio.gather(*holding, return_exceptions=True)


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    asyncio.run(main(*map(int, sys.argv[1:])))
