"""python -m tools.tls_scan HOST:PORT --cert PROXY --ca FILE

One line for each check; exit code 1 when one fails.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.tls_scan.checks import Target, scan


def main() -> int:
    parser = argparse.ArgumentParser(prog="tls_scan", description="Check a server's TLS.")
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--cert", required=True, type=Path, help="client certificate, key, chain")
    parser.add_argument("--ca", required=True, type=Path, help="the server's CA, in PEM")
    args = parser.parse_args()
    host, _, port = args.address.rpartition(":")
    target = Target(host=host, port=int(port), cert=args.cert, ca=args.ca)
    failed = 0
    for name, (good, detail) in scan(target):
        print(f"{'ok  ' if good else 'FAIL'} {name}: {detail}", flush=True)
        failed += not good
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
