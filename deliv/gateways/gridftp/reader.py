"""The reading process: size and checksum of one file on a GridFTP server, with gfal2.

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


def read(order: dict[str, str]) -> dict[str, object]:
    import gfal2

    if not order:
        return {}
    context = gfal2.creat_context()
    try:
        size = context.stat(order["url"]).st_size
        if size != order["size"]:
            return {"size": size}
        return {"size": size, "checksum": context.checksum(order["url"], order["algorithm"])}
    except gfal2.GError as error:
        return {"errno": error.code, "message": error.message}


if __name__ == "__main__":
    main()
