"""What the commands for callers do: submit, ask about jobs, cancel and repeat them.

Each takes the run of its command and returns the exit code.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from itertools import islice
from typing import Any

from rich.text import Text

from deliv.client import show
from deliv.client.api import LARGEST_PAGE, Client, delivered, ended
from deliv.client.command_run import CommandRun
from deliv.client.errors import Answered, ClientError, Unavailable, answered

LOOKED_THROUGH = 10_000  # jobs, for those of a submitter of whom only a part of the DN is known
CONFLICT = 409
MISSING = ("FAILED", "ASSIGNED", "WAITING")  # those with a reason first
UNFINISHED = ("SUBMITTED", "STAGING", "TRANSFERRING")


def submit(session: CommandRun) -> int:
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


def status(session: CommandRun) -> int:
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


def list_jobs(session: CommandRun) -> int:
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


def list_events(session: CommandRun) -> int:
    with session.client() as client:
        events = client.events(session.options.job)
    if session.options.json:
        session.print_json({"job_id": session.options.job, "events": events})
    else:
        show.show_events(events, session.out)
    return 0


def list_files(session: CommandRun) -> int:
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


def cancel(session: CommandRun) -> int:
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


def retry(session: CommandRun) -> int:
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
