"""The commands for callers: `deliv submit`, `status`, `list` and `events`."""

from __future__ import annotations

import argparse
import json
import os
import uuid
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import Any, TypeAlias

from rich.console import Console
from rich.text import Text

from deliv.client import show
from deliv.client.api import PATIENCE, Client, delivered, ended
from deliv.client.credentials import find_ca, find_credential
from deliv.client.errors import ClientError, SetupError, Unavailable, Unreachable

Options = argparse.Namespace
Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

INTERRUPTED = 130
EPILOG = """\
exit codes:
  0    accepted or delivered; of status: known, and not failed
  1    the delivery failed or was cancelled
  2    wrong usage, or a request that deliv rejects as wrong
  3    refused: credential, permission, or a server that is not trusted
  4    no answer from deliv, or none for now
  5    no such job
  6    --timeout is over, the job goes on
  130  interrupted; the job goes on

environment:
  DELIV_URL                        deliv's address, as --url
  X509_USER_PROXY                  a proxy file, as --cert
  X509_USER_CERT, X509_USER_KEY    certificate and key, as --cert and --key
  X509_CERT_DIR                    directory of trusted CAs, as --ca
Without these: /tmp/x509up_uUID, else ~/.globus/usercert.pem and userkey.pem;
/etc/grid-security/certificates.

With --json one JSON object is printed: deliv's answer, or {"error": true, "kind": ..., "msg": ...}.
"""


def add_parsers(subparsers: Subparsers) -> None:
    """Add the commands; each sets `run`, which takes the options and returns the exit code."""
    submit = _add(subparsers, "submit", _submit, "have a product delivered to a GridFTP directory")
    submit.add_argument("product", metavar="PRODUCT", help="the product's id in the archive")
    submit.add_argument("destination", metavar="DESTINATION", help="gsiftp://HOST[:PORT]/DIRECTORY")
    submit.add_argument(
        "--idempotency-key",
        metavar="KEY",
        help="repeated submissions with the same key are one job (default: a new one)",
    )
    submit.add_argument(
        "--deadline",
        type=_moment,
        metavar="TIME",
        help="stop the job if it has not ended by then: ISO 8601, local time unless it says more",
    )
    status = _add(subparsers, "status", _status, "tell how a delivery fares")
    status.add_argument("job", metavar="JOB", help="the job id that submit printed")
    for parser in (submit, status):
        parser.add_argument("--wait", action="store_true", help="until the job has ended")
        parser.add_argument("--timeout", type=_seconds, metavar="S", help="wait at most S seconds")
    _add_list(subparsers)
    events = _add(subparsers, "events", _events, "tell what happened to a delivery, and when")
    events.add_argument("job", metavar="JOB", help="the job id that submit printed")


def _add_list(subparsers: Subparsers) -> None:
    parser = _add(subparsers, "list", _list, "list your deliveries, the last submitted first")
    parser.add_argument("--status", metavar="STATUS", help="only these: SUBMITTED, STAGING, ...")
    parser.add_argument("--product", metavar="PRODUCT", dest="product_id", help="only this one's")
    parser.add_argument("--submitter", metavar="DN", help="for operators: only this user's")
    for name, text in (("since", "submitted then or later"), ("until", "submitted before")):
        parser.add_argument(
            f"--{name}", type=_moment, metavar="TIME", help=f"{text}: ISO 8601, as --deadline"
        )
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most (%(default)s)")


def _add(
    subparsers: Subparsers, name: str, action: Callable[[Session], int], text: str
) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(
        name,
        help=text,
        description=text,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    server = parser.add_argument_group("server and credential")
    server.add_argument("--url", help="deliv's address, https://HOST[:PORT]")
    server.add_argument("--cert", metavar="FILE", help="certificate or proxy, with its chain")
    server.add_argument("--key", metavar="FILE", help="private key, if not in the same file")
    server.add_argument("--ca", metavar="DIR", help="directory (or file) of trusted CAs")
    server.add_argument(
        "--patience",
        type=_seconds,
        default=PATIENCE,
        metavar="S",
        help="try again for S seconds while deliv does not answer (%(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")
    parser.set_defaults(run=lambda options: Session(options).run(action))
    return parser


class Session:
    """One run of a command: its options, its two outputs, what is known of the job so far."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.out = Console(highlight=False, soft_wrap=True)
        self.news = Console(stderr=True, highlight=False, soft_wrap=True, quiet=options.json)
        self.job_id: str | None = getattr(options, "job", None)
        self.key: str | None = None

    def run(self, action: Callable[[Session], int]) -> int:
        """The exit code; every error is told in one sentence, or as JSON."""
        try:
            return action(self)
        except ClientError as error:
            self._fail(error)
            return error.exit_code
        except KeyboardInterrupt:
            self.tell(f"interrupted{self._goes_on()}")
            return INTERRUPTED

    def client(self) -> Client:
        options = self.options
        url = options.url or os.environ.get("DELIV_URL")
        if not url:
            raise SetupError("where is deliv? name it with --url or DELIV_URL")
        credential = find_credential(options.cert, options.key)
        return Client(
            url,
            credential.cert,
            credential.key,
            find_ca(options.ca),
            patience=options.patience,
            notice=self.tell,
        )

    def tell(self, line: str) -> None:
        """For people, on the error output; nothing with --json."""
        self.news.print(Text(f"deliv: {show.printable(line)}"))

    def print_json(self, document: dict[str, Any]) -> None:
        print(json.dumps(document), flush=True)

    def _fail(self, error: ClientError) -> None:
        if self.options.json:
            self.print_json(
                {"error": True, "kind": error.kind, "msg": str(error), "job_id": self.job_id}
            )
        self.tell(f"{error}{self._goes_on()}{self._repeat_safely(error)}")

    def _goes_on(self) -> str:
        known = getattr(self.options, "wait", False) and self.job_id
        return f"\n  look again with: deliv status --wait {self.job_id}" if known else ""

    def _repeat_safely(self, error: ClientError) -> str:
        unsure = isinstance(error, Unreachable | Unavailable) and self.key and not self.job_id
        return f"\n  to repeat it safely: --idempotency-key {self.key}" if unsure else ""


def _submit(session: Session) -> int:
    options = session.options
    session.key = options.idempotency_key or uuid.uuid4().hex
    with session.client() as client:
        session.job_id = client.submit(
            options.product,
            options.destination,
            idempotency_key=session.key,
            deadline=options.deadline,
        )
        if options.wait:
            session.tell(f"job {session.job_id}")
            return _wait(session, client, session.job_id)
    if options.json:
        session.print_json({"job_id": session.job_id, "error": False})
    else:
        session.out.print(session.job_id)
    return 0


def _status(session: Session) -> int:
    with session.client() as client:
        if session.options.wait:
            return _wait(session, client, session.options.job)
        answer = client.status(session.options.job)
    if session.options.json:
        session.print_json(answer)
    else:
        show.show_status(answer, session.out)
    return _exit_code(answer)


def _list(session: Session) -> int:
    options = session.options
    filters = {name: getattr(options, name) for name in ("status", "product_id", "submitter")}
    moments = {name: getattr(options, name) for name in ("since", "until")}
    texts = {name: moment.isoformat() for name, moment in moments.items() if moment is not None}
    with session.client() as client:
        found = list(islice(client.transfers(**filters, **texts), options.limit))
    if options.json:
        session.print_json({"transfers": found})
    else:
        show.show_list(found, session.out)
    return 0


def _events(session: Session) -> int:
    with session.client() as client:
        events = client.events(session.options.job)
    if session.options.json:
        session.print_json({"job_id": session.options.job, "events": events})
    else:
        show.show_events(events, session.out)
    return 0


def _wait(session: Session, client: Client, job_id: str) -> int:
    answer = client.wait(
        job_id, timeout=session.options.timeout, on_status=show.Progress(session.news)
    )
    if session.options.json:
        session.print_json(answer)
    else:
        show.show_result(answer, session.out)
    return _exit_code(answer)


def _exit_code(answer: dict[str, Any]) -> int:
    return 1 if ended(answer) and not delivered(answer) else 0


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone()


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds")
    return seconds
