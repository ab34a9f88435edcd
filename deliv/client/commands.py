"""The commands for callers: `deliv submit` and what asks about jobs, cancels and repeats them."""

from __future__ import annotations

import argparse
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, TypeAlias

from rich.text import Text

from deliv.client import show
from deliv.client.api import LARGEST_PAGE, PATIENCE, Client, delivered, ended
from deliv.client.campaign_submission import submit_file
from deliv.client.command_run import CommandRun, Options
from deliv.client.errors import Answered, ClientError, Unavailable, answered

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

LOOKED_THROUGH = 10_000  # jobs, for those of a submitter of whom only a part of the DN is known
CONFLICT = 409
MISSING = ("FAILED", "ASSIGNED", "WAITING")  # those with a reason first
UNFINISHED = ("SUBMITTED", "STAGING", "TRANSFERRING")
RELATIVE = re.compile(r"([0-9]+)([mhdw])")
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
PAST, FUTURE = -1, 1
DEADLINE = (
    "stop the job if it has not ended by then: ISO 8601, local time unless it says more; or from "
    "now on: 90m, 24h, 2d, 1w"
)
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
    submit = _add(subparsers, "submit", _submit, "have products delivered to a GridFTP directory")
    submit.usage = (
        "deliv submit [options] PRODUCT DESTINATION\n"
        "       deliv submit [options] --from FILE [DESTINATION]"
    )
    positionals = [
        submit.add_argument("product", metavar="PRODUCT", help="the product's id in the archive"),
        submit.add_argument(
            "destination", metavar="DESTINATION", help="gsiftp://HOST[:PORT]/DIRECTORY"
        ),
    ]
    submit.add_argument(
        "--from",
        dest="source",
        metavar="FILE",
        action=_in_place_of(positionals),
        help="a line for each product: CSV (product_id, destination_path, deadline, label; a first "
        "line may name the columns) or a JSON object; - is the standard input. DESTINATION and "
        "--label are for lines without. The same command again, as after Ctrl-C, goes on and "
        "doubles nothing",
    )
    submit.add_argument("--label", metavar="LABEL", help="the name of the campaign it is of")
    submit.add_argument(
        "--idempotency-key",
        metavar="KEY",
        help="repeated submissions with the same key are one job (default: a new one); with "
        "--from: the name of the run (default: made from the file's content)",
    )
    submit.set_defaults(run=lambda options: _checked_submit(submit, options))
    status = _add(subparsers, "status", _status, "show the state of a delivery")
    status.add_argument("job", metavar="JOB", help="the job id that submit printed")
    for parser in (submit, status):
        parser.add_argument("--wait", action="store_true", help="until the job has ended")
        parser.add_argument("--timeout", type=_seconds, metavar="S", help="wait at most S seconds")
    listing = _add(subparsers, "list", _list, "list your deliveries, the last submitted first")
    listing.add_argument("--status", metavar="STATUS", help="only these: SUBMITTED, STAGING, ...")
    listing.add_argument("--product", metavar="PRODUCT", dest="product_id", help="only this one's")
    listing.add_argument(
        "--label", metavar="LABEL", help="only this campaign's; its totals are on the error output"
    )
    listing.add_argument(
        "--submitter",
        metavar="NAME",
        help="for operators: only this user's. A whole DN, or a part of it, in any case, which is "
        f"looked for among the last {LOOKED_THROUGH} jobs",
    )
    for name, text in (("since", "submitted then or later"), ("until", "submitted before")):
        listing.add_argument(
            f"--{name}",
            type=_moment(PAST),
            metavar="TIME",
            help=f"{text}: ISO 8601, local time unless it says more; or ago: 90m, 24h, 2d, 1w",
        )
    listing.add_argument(
        "--limit", type=_count, default=50, metavar="N", help="at most (%(default)s)"
    )
    events = _add(subparsers, "events", _events, "show what happened to a delivery, and when")
    events.add_argument("job", metavar="JOB", help="the job id that submit printed")
    files = _add(subparsers, "files", _files, "list the files of a product that has several")
    files.add_argument("job", metavar="JOB", help="the job id that submit printed")
    only = files.add_mutually_exclusive_group()
    only.add_argument(
        "--state", metavar="STATE", help="only these: WAITING, ASSIGNED, FINISHED or FAILED"
    )
    only.add_argument(
        "--missing", action="store_true", help="only those that have not arrived, FAILED ones first"
    )
    cancel = _add(subparsers, "cancel", _cancel, "withdraw deliveries that have not ended")
    which = cancel.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "jobs", metavar="JOB", nargs="*", default=[], help="the job ids that submit printed"
    )
    which.add_argument(
        "--submitter",
        metavar="DN",
        help="all of this user's that have not ended, by the whole DN; of others: for operators",
    )
    which.add_argument(
        "--label", metavar="LABEL", help="all of your campaign's that have not ended"
    )
    retry = _add(subparsers, "retry", _retry, "submit once more what failed")
    repeated = retry.add_mutually_exclusive_group(required=True)
    repeated.add_argument(
        "jobs", metavar="JOB", nargs="*", default=[], help="the job ids that submit printed"
    )
    repeated.add_argument("--label", metavar="LABEL", help="all of your campaign's that failed")
    for parser in (submit, retry):
        parser.add_argument("--deadline", type=_moment(FUTURE), metavar="TIME", help=DEADLINE)


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
        return CommandRun(options).run(_submit)
    if options.destination is not None:
        parser.error("with --from there is no PRODUCT")
    options.destination = options.product  # the one that is given, if there is one
    for name in ("wait", "timeout", "deadline"):
        if getattr(options, name):
            parser.error(f"--{name} does not go with --from")
    return CommandRun(options).run(submit_file)


def _submit(session: CommandRun) -> int:
    options = session.options
    given = options.idempotency_key
    session.key = uuid.uuid4().hex if given is None else given
    with session.client() as client:
        session.job_id = client.submit(
            options.product,
            options.destination,
            idempotency_key=session.key,
            deadline=options.deadline,
            label=options.label,
        )
        if options.wait:
            session.say(f"job {session.job_id}")
            return _wait(session, client, session.job_id)
    if options.json:
        session.print_json({"job_id": session.job_id, "error": False})
    else:
        session.out.print(session.job_id)
    return 0


def _status(session: CommandRun) -> int:
    with session.client() as client:
        if session.options.wait:
            return _wait(session, client, session.options.job)
        answer = client.status(session.options.job)
    if session.options.json:
        session.print_json(answer)
    else:
        show.show_status(answer, session.out)
        _name_missing(session, answer)
    return _exit_code(answer)


def _list(session: CommandRun) -> int:
    options = session.options
    names = ("status", "product_id", "submitter", "label")
    filters = {name: getattr(options, name) for name in names}
    for name in ("since", "until"):
        moment = getattr(options, name)
        filters[name] = moment.isoformat() if moment else None
    submitter, found = options.submitter, []
    with session.client() as client:
        if not submitter or submitter.startswith("/"):
            jobs = client.transfers(**filters, limit=str(min(options.limit, LARGEST_PAGE)))
            found = list(islice(jobs, options.limit))
        if submitter and not found:  # no whole DN, or one without such jobs
            jobs = client.transfers(**{**filters, "submitter": None}, limit=str(LARGEST_PAGE))
            for job in islice(jobs, LOOKED_THROUGH):
                if submitter.casefold() in str(job.get("submitter", "")).casefold():
                    found.append(job)
                if len(found) == options.limit:
                    break
            else:
                if next(jobs, None) is not None:
                    session.say(
                        f"only the last {LOOKED_THROUGH} jobs were looked at for {submitter!r}",
                        "give the whole DN, or --since and --until, for more",
                    )
        totals = client.totals(options.label, submitter) if options.label else None
        own = "" if options.json else client.whoami()["user_dn"]
    if options.json:
        session.print_json({"transfers": found} | ({} if totals is None else {"totals": totals}))
        return 0
    show.show_list(found, session.out, own)
    if totals is not None:
        session.say(f"{options.label}: {show.totals(totals)}")
    return 0


def _events(session: CommandRun) -> int:
    with session.client() as client:
        events = client.events(session.options.job)
    if session.options.json:
        session.print_json({"job_id": session.options.job, "events": events})
    else:
        show.show_events(events, session.out)
    return 0


def _files(session: CommandRun) -> int:
    """Each page as it comes: there may be very many."""
    options = session.options
    with session.client() as client:
        states = MISSING if options.missing else (options.state,)
        files = (file for state in states for file in client.files(options.job, state))
        if options.json:
            session.print_json_list("files", files)
            session.print_json({"job_id": options.job})
        elif not show.show_files(files, session.out) and states == (None,):
            session.say(
                f"no files are known of job {options.job}",
                "it was not staged yet, or its product is one file: deliv status "
                f"{options.job} describes it",
            )
    return 0


def _cancel(session: CommandRun) -> int:
    """Each of them, if need be after another was refused; the exit code is that of the first."""
    if session.options.label is not None:
        return _cancel_label(session, session.options.label)
    answers: list[dict[str, Any]] = []
    exit_code = 0
    with session.client() as client:
        for job_id in session.options.jobs or _unfinished(client, session.options.submitter):
            try:
                answer = client.cancel(job_id)
            except ClientError as error:
                exit_code = exit_code or error.exit_code
                refused = {"error": True, "kind": error.kind, "msg": str(error), "job_id": job_id}
                answers.append(refused)
                if not session.options.json:
                    session.say(f"{job_id}: {error}")
                if not isinstance(error, Answered) or isinstance(error, Unavailable):
                    break  # the next call would fail in the same way
            else:
                answers.append(answer)
                if not session.options.json:
                    session.out.print(Text(show.printable(f"{job_id}: {answer.get('msg')}")))
    if session.options.json:
        session.print_json({"transfers": answers})
    if not answers:
        session.say(f"nothing of {session.options.submitter!r} is under way")
    return exit_code


def _cancel_label(session: CommandRun, label: str) -> int:
    """What has ended meanwhile is no error: it was not to be cancelled."""
    answers: list[dict[str, Any]] = []
    exit_code = 0
    with session.client() as client:
        for outcome in client.cancel_label(label):
            answers.append(outcome)
            line = f"{outcome.get('job_id')}: {outcome.get('msg')}"
            if "status" not in outcome and outcome.get("code") != CONFLICT:
                error = answered(int(outcome.get("code", 400)), line, None)
                exit_code = exit_code or error.exit_code
                if not session.options.json:
                    session.say(line)
            elif not session.options.json:
                session.out.print(Text(show.printable(line)))
    if session.options.json:
        session.print_json({"transfers": answers})
    return exit_code


def _retry(session: CommandRun) -> int:
    """Prints the ids of what is under way then, new or not, and says why something is not new.

    That a label has jobs which were repeated before is no failure, whatever became of these.
    """
    options, label = session.options, session.options.label
    answers: list[dict[str, Any]] = []
    exit_code = 0
    session.resume = "repeat the command to go on: nothing is submitted twice"
    with session.client() as client:
        outcomes = (
            client.retry(options.jobs, deadline=options.deadline)
            if label is None
            else client.retry_label(label, deadline=options.deadline)
        )
        for place, outcome in enumerate(outcomes):
            answers.append(outcome)
            if "status" not in outcome:
                error = answered(int(outcome.get("code", 400)), str(outcome.get("msg")), None)
                exit_code = exit_code or error.exit_code
            elif label is None:
                exit_code = exit_code or _exit_code(outcome)
            if options.json:
                continue
            if why := outcome.get("skipped", outcome.get("msg")):
                failed = outcome.get("retry_of", outcome.get("job_id"))
                session.say(f"{failed if label else options.jobs[place]}: {why}")
            if "status" in outcome and not ended(outcome):
                session.out.print(Text(show.printable(outcome.get("job_id"))))
    if options.json:
        session.print_json({"transfers": answers})
    elif not answers:
        session.say(f"nothing of {label!r} has failed")
    return exit_code


def _unfinished(client: Client, submitter: str) -> Iterator[str]:
    """The ids of a user's jobs that have not ended, each status in its turn."""
    for status in UNFINISHED:  # in this order: a job that goes on meanwhile is found later
        for job in client.transfers(status=status, submitter=submitter, limit=str(LARGEST_PAGE)):
            yield str(job["job_id"])


def _wait(session: CommandRun, client: Client, job_id: str) -> int:
    answer = client.wait(
        job_id, timeout=session.options.timeout, on_status=show.Progress(session.err)
    )
    if session.options.json:
        session.print_json(answer)
    else:
        show.show_result(answer, session.out)
        _name_missing(session, answer)
    return _exit_code(answer)


def _name_missing(session: CommandRun, answer: dict[str, Any]) -> None:
    """The command that lists what did not arrive of several files, when the job has ended."""
    if ended(answer) and answer.get("files_done") != answer.get("files_total"):
        command = f"deliv files --missing {session.job_id}"
        session.say(f"see which files did not arrive with: {command}")


def _exit_code(answer: dict[str, Any]) -> int:
    return 1 if ended(answer) and not delivered(answer) else 0


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
