"""The reading process: what one file on a GridFTP server is, with gfal2.

    /usr/bin/python3 -I reader.py < ORDER > ANSWER

Runs under the system's Python, which has gfal2, and imports nothing of deliv. Order and answer are
JSON: client.py has their fields. An empty order asks only whether gfal2 is there. The credential is
kept in anonymous memory, so that nothing of it is left however the process ends; and it ends in
time by itself, even if deliv is gone.
"""

import json
import os
import signal
import sys
from typing import Any


def main() -> None:
    order = json.load(sys.stdin)
    signal.alarm(order.get("seconds", 60))
    credential = os.memfd_create("credential")
    os.fchmod(credential, 0o600)
    os.write(credential, order.get("credential", "").encode())
    os.environ["X509_USER_PROXY"] = f"/proc/self/fd/{credential}"
    os.environ["X509_CERT_DIR"] = order.get("ca_directory", "")
    try:
        answer = read(order)
    except ImportError as error:
        answer = {"missing": str(error)}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)  # gfal2 may crash when it is taken down after an error


def read(order: dict[str, Any]) -> dict[str, object]:
    import gfal2

    if not order:
        return {}
    context = gfal2.creat_context()
    try:
        found = context.stat(order["url"])
        answer = {"size": found.st_size, "modified": found.st_mtime}
        file, wanted = (order["url"], order["algorithm"]), order["size"]
        if found.st_size == wanted:
            answer["checksum"] = context.checksum(*file)
        elif order.get("beginning") and found.st_size > wanted > 0:
            answer["checksum"] = context.checksum(*file, 0, wanted)
        return answer
    except gfal2.GError as error:
        return {"errno": error.code, "message": error.message}


if __name__ == "__main__":
    main()
