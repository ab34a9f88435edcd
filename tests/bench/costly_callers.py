"""Callers whose handshakes are costly: python costly_callers.py PORT CA_FILE CREDENTIAL ADDRESS...

One for each address, from there, each in a loop: a connection, one request, its answer. "here" is
printed when each has begun; it ends when its standard input does.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from support.live_client import get, lax_context


def main(port: int, ca_file: Path, credential: Path, addresses: list[str]) -> None:
    context = lax_context(ca_file, credential)
    begun = threading.Semaphore(0)

    def call(source: str) -> None:
        while True:
            get(port, context, "/whoami", source)
            begun.release()

    for address in addresses:
        threading.Thread(target=call, args=(address,), daemon=True).start()
    for _ in addresses:
        begun.acquire()
    print("here", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
