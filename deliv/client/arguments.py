"""The command lines for callers: what `deliv submit` and the others take."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from deliv.client import commands
from deliv.client.api import PATIENCE
from deliv.client.campaign_submission import submit_file
from deliv.client.command_run import CommandRun, Options

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

RELATIVE = re.compile(r"([0-9]+)([mhdw])")
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
PAST, FUTURE = -1, 1
JOB = "the job id that submit printed"
JOBS = "the job ids that submit printed"
EPILOG = """\
exit codes:
  0    accepted or delivered; of status: known, and not failed
  1    the delivery failed or was cancelled
  2    wrong usage, or a request that deliv rejects as wrong
  3    refused: credential, permission, or a server that is not trusted
  4    no answer from deliv, or none for now
  5    no such job
  6    --timeout is over, the job goes on
  7    too late to cancel, the job has ended
  8    the result could not be written; if a job was submitted, its id is on the error output
  130  interrupted; the job goes on
  141  the reader of the output has left (a closed pipe)
  143  terminated; the job goes on

environment:
  DELIV_URL                        deliv's address, as --url
  X509_USER_PROXY                  a proxy file, as --cert
  X509_USER_CERT, X509_USER_KEY    certificate and key, as --cert and --key
  X509_CERT_DIR                    directory of trusted CAs, as --ca
Without these: /tmp/x509up_uUID, else ~/.globus/usercert.pem and userkey.pem;
/etc/grid-security/certificates.

With --json one JSON object is printed: deliv's answer, or {"error": true, "kind": ..., "msg": ...,
"job_id": ...}, also when interrupted after it has begun; of files these are the last fields, after
the files that had come. The progress of --wait goes to the error output.
"""


def add_parsers(subparsers: Subparsers) -> None:
    """Add the commands; each sets `run`, which takes the options and returns the exit code."""
    for add in (_submit, _status, _list, _events, _files, _cancel, _retry):
        add(subparsers)


def _submit(subparsers: Subparsers) -> None:
    text = "have products delivered to a GridFTP directory"
    parser = _add(subparsers, "submit", commands.submit, text)
    parser.usage = (
        "deliv submit [options] PRODUCT DESTINATION\n"
        "       deliv submit [options] --from FILE [DESTINATION]"
    )
    positionals = [
        parser.add_argument("product", metavar="PRODUCT", help="the product's id in the archive"),
        parser.add_argument(
            "destination", metavar="DESTINATION", help="gsiftp://HOST[:PORT]/DIRECTORY"
        ),
    ]
    parser.add_argument(
        "--from",
        dest="source",
        metavar="FILE",
        action=_in_place_of(positionals),
        help="a line for each product: CSV (product_id, destination_path, deadline, label; a first "
        "line may name the columns) or a JSON object; - is the standard input. DESTINATION and "
        "--label are for lines without. The same command again, as after Ctrl-C, goes on and "
        "doubles nothing",
    )
    parser.add_argument("--label", metavar="LABEL", help="the name of the campaign it is of")
    parser.add_argument(
        "--idempotency-key",
        metavar="KEY",
        help="repeated submissions with the same key are one job (default: a new one); with "
        "--from: the name of the run (default: made from the file's content)",
    )
    _add_waiting(parser)
    _add_deadline(parser)
    parser.set_defaults(run=lambda options: _checked_submit(parser, options))


def _status(subparsers: Subparsers) -> None:
    parser = _add(subparsers, "status", commands.status, "show the state of a delivery")
    parser.add_argument("job", metavar="JOB", help=JOB)
    _add_waiting(parser)


def _list(subparsers: Subparsers) -> None:
    text = "list your deliveries, the last submitted first"
    parser = _add(subparsers, "list", commands.list_jobs, text)
    parser.add_argument("--status", metavar="STATUS", help="only these: SUBMITTED, STAGING, ...")
    parser.add_argument("--product", metavar="PRODUCT", dest="product_id", help="only this one's")
    parser.add_argument(
        "--label", metavar="LABEL", help="only this campaign's; its totals are on the error output"
    )
    parser.add_argument(
        "--submitter",
        metavar="NAME",
        help="for operators: only this user's. A whole DN, or a part of it, in any case, which is "
        f"looked for among the last {commands.LOOKED_THROUGH} jobs",
    )
    for name, text in (("since", "submitted then or later"), ("until", "submitted before")):
        parser.add_argument(
            f"--{name}",
            type=_moment(PAST),
            metavar="TIME",
            help=f"{text}: ISO 8601, local time unless it says more; or ago: 90m, 24h, 2d, 1w",
        )
    parser.add_argument(
        "--limit", type=_count, default=50, metavar="N", help="at most (%(default)s)"
    )


def _events(subparsers: Subparsers) -> None:
    text = "show what happened to a delivery, and when"
    parser = _add(subparsers, "events", commands.list_events, text)
    parser.add_argument("job", metavar="JOB", help=JOB)


def _files(subparsers: Subparsers) -> None:
    text = "list the files of a product that has several"
    parser = _add(subparsers, "files", commands.list_files, text)
    parser.add_argument("job", metavar="JOB", help=JOB)
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--state", metavar="STATE", help="only these: WAITING, ASSIGNED, FINISHED or FAILED"
    )
    only.add_argument(
        "--missing", action="store_true", help="only those that have not arrived, FAILED ones first"
    )


def _cancel(subparsers: Subparsers) -> None:
    text = "withdraw deliveries that have not ended"
    parser = _add(subparsers, "cancel", commands.cancel, text)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("jobs", metavar="JOB", nargs="*", default=[], help=JOBS)
    which.add_argument(
        "--submitter",
        metavar="DN",
        help="all of this user's that have not ended, by the whole DN; of others: for operators",
    )
    which.add_argument(
        "--label", metavar="LABEL", help="all of your campaign's that have not ended"
    )


def _retry(subparsers: Subparsers) -> None:
    parser = _add(subparsers, "retry", commands.retry, "submit once more what failed")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("jobs", metavar="JOB", nargs="*", default=[], help=JOBS)
    which.add_argument("--label", metavar="LABEL", help="all of your campaign's that failed")
    _add_deadline(parser)


def _add(
    subparsers: Subparsers, name: str, action: Callable[[CommandRun], int], text: str
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
    parser.set_defaults(run=lambda options: CommandRun(options).run(action))
    return parser


def _add_waiting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", action="store_true", help="until the job has ended")
    parser.add_argument("--timeout", type=_seconds, metavar="S", help="wait at most S seconds")


def _add_deadline(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--deadline",
        type=_moment(FUTURE),
        metavar="TIME",
        help="stop the job if it has not ended by then: ISO 8601, local time unless it says more; "
        "or from now on: 90m, 24h, 2d, 1w",
    )


def _in_place_of(positionals: list[argparse.Action]) -> type[argparse.Action]:
    """An option with which those need not be given."""

    class InPlace(argparse.Action):
        def __call__(
            self, parser: Any, namespace: Options, values: Any, option: Any = None
        ) -> None:
            setattr(namespace, self.dest, values)
            for one in positionals:
                one.required = False

    return InPlace


def _checked_submit(parser: argparse.ArgumentParser, options: Options) -> int:
    """By the usage, of which argparse can't tell one from the other."""
    if options.source is None:
        return CommandRun(options).run(commands.submit)
    if options.destination is not None:
        parser.error("with --from there is no PRODUCT")
    options.destination = options.product  # the one that is given, if there is one
    for name in ("wait", "timeout", "deadline"):
        if getattr(options, name):
            parser.error(f"--{name} does not go with --from")
    return CommandRun(options).run(submit_file)


def _moment(direction: int) -> Callable[[str], datetime]:
    """Reads a moment: a date and time, or how long before (PAST) or after (FUTURE) now."""

    def parse(text: str) -> datetime:
        try:
            if match := RELATIVE.fullmatch(text):
                return datetime.now(UTC) + direction * timedelta(**{UNITS[match[2]]: int(match[1])})
            return datetime.fromisoformat(text).astimezone()
        except (ValueError, OverflowError) as error:
            raise argparse.ArgumentTypeError(
                "must be a time like 2030-01-31, 2030-01-31T18:00 or 2030-01-31T18:00:00Z, or "
                f"how long {'before' if direction == PAST else 'from'} now, like 90m, 24h, 2d or "
                f"1w: not {text!r}"
            ) from error

    return parse


def _count(text: str) -> int:
    if not re.fullmatch("0*[1-9][0-9]{0,8}", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"must be a number, 1 or more: not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds: not {text!r}")
    return seconds
