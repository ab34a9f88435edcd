"""From the body of a POST to the rows of a job, with FTS's checks and its words.

FTS is lenient: unknown parameters are dropped, an unknown scheme and source == destination are
taken in and fail later. What it refuses, it refuses before anything is stored.
"""

from __future__ import annotations

import json
import math
import random
import socket
import time
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from deliv_testbed.fts import clock
from deliv_testbed.fts.caller import BASE_ID, Caller
from deliv_testbed.fts.database import Row
from deliv_testbed.fts.errors import BadRequest, RestError
from deliv_testbed.fts.settings import FtsSettings

HASHES = 2**16
UNITS = {"s": 1, "m": 60, "h": 3600}
DEFAULTS: dict[str, Any] = {
    "bring_online": -1,
    "verify_checksum": False,
    "copy_pin_lifetime": -1,
    "archive_timeout": -1,
    "job_metadata": None,
    "overwrite": False,
    "overwrite_on_retry": False,
    "overwrite_when_only_on_disk": False,
    "overwrite_hop": False,
    "reuse": None,
    "multihop": False,
    "retry": 0,
    "retry_delay": 0,
    "priority": 3,
}
NO_PARAMETERS = ("none", "None")


def build(body: Any, caller: Caller, settings: FtsSettings) -> tuple[Row, list[Row]]:
    """The job and its files; RestError 400 or 405 says what is wrong with the body."""
    if not isinstance(body, dict):
        raise BadRequest("Expecting a dictionary")
    try:
        return _build(body, caller, settings)
    except ValueError as error:
        raise BadRequest(f"Invalid value within the request: {error}") from error
    except (TypeError, AttributeError) as error:
        raise BadRequest(f"Malformed request: {error}") from error
    except KeyError as error:
        raise BadRequest(f"Missing parameter: {error}") from error


def _build(body: Mapping[str, Any], caller: Caller, settings: FtsSettings) -> tuple[Row, list[Row]]:
    parameters = _parameters(body.get("params") or {})
    metadata = _metadata(
        parameters["job_metadata"], "Job Submission Refused, metadata", settings.metadata_limit
    )
    if body.get("delete") is not None:
        raise RestError(405, "Deletion jobs are no longer supported by FTS")
    if body.get("files") is None:
        raise BadRequest("No transfers operations specified")
    job = {
        **_job(parameters, caller),
        "job_id": _job_id(parameters, caller),
        "job_metadata": {**(metadata or {}), "auth_method": "certificate"},
    }
    files = [
        row
        for index, file in enumerate(body["files"])
        for row in _files(file, index, job, settings)
    ]
    if not files:
        raise BadRequest("No valid pairs available")
    job["verify_checksum"] = _checksum_mode(parameters["verify_checksum"], body["files"])
    job["source_se"] = _common(files, "source_se")
    job["dest_se"] = _common(files, "dest_se")
    if job["job_type"] == "Y" and None in (job["source_se"], job["dest_se"]):
        raise BadRequest(
            "Reuse jobs must only contain transfers for the same source ad destination storage"
        )
    return job, files


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults, overridden by what is given and not null."""
    return DEFAULTS | {key: value for key, value in given.items() if value is not None}


def _job(parameters: Mapping[str, Any], caller: Caller) -> Row:
    kind = "Y" if _flag(parameters["reuse"]) else "N"
    return {
        "job_state": "SUBMITTED",
        "job_type": "H" if parameters["multihop"] else kind,
        "submit_host": socket.gethostname(),
        "submit_time": clock.now(),
        "user_dn": caller.user_dn,
        "cred_id": caller.delegation_id,
        "vo_name": caller.vo,
        "overwrite_flag": _overwrite(parameters),
        "retry": int(parameters["retry"]),
        "retry_delay": int(parameters["retry_delay"]),
        "priority": min(max(int(parameters["priority"]), 1), 5),
        "bring_online": int(parameters["bring_online"]),
        "copy_pin_lifetime": int(parameters["copy_pin_lifetime"]),
        "archive_timeout": int(parameters["archive_timeout"]),
        "source_spacetoken": parameters.get("source_spacetoken"),
        "destination_spacetoken": parameters.get("destination_spacetoken"),
        "dst_file_report": _flag(parameters.get("dst_file_report")),
        "cancel_job": False,
        "internal_job_params": _internal(parameters),
        "max_time_in_queue": _expiry(parameters.get("max_time_in_queue")),
    }


def _job_id(parameters: Mapping[str, Any], caller: Caller) -> str:
    if parameters.get("id_generator") != "deterministic":
        return str(uuid.uuid1())
    sid = parameters.get("sid")
    if sid is None:
        raise BadRequest("Need sid for deterministic job id generation")
    return str(uuid.uuid5(caller.vo_id, sid))


def _overwrite(parameters: Mapping[str, Any]) -> str | None:
    names = ("overwrite", "overwrite_on_retry", "overwrite_when_only_on_disk", "overwrite_hop")
    given = [name for name in names if _flag(parameters[name])]
    if len(given) > 1:
        raise BadRequest("Incompatible overwrite flags used at the same time")
    letters = dict(zip(names, "YRDM", strict=True))
    return letters[given[0]] if given else None


def _internal(parameters: Mapping[str, Any]) -> str | None:
    """The transfer parameters of the job, as FTS writes them into one string."""
    names = {"nostreams": "nostreams", "timeout": "timeout", "buffer_size": "buffersize"}
    parts = [f"{word}:{int(parameters[key])}" for key, word in names.items() if parameters.get(key)]
    parts += ["strict"] if parameters.get("strict_copy") else []
    return ",".join(parts) or None


def _expiry(value: object) -> int | None:
    """When (epoch) the time in the queue is over; a bare number is in hours, 0 is no limit."""
    if isinstance(value, int) and value:
        seconds = value * 3600
    elif isinstance(value, str) and value[:-1].isdigit() and value[-1].lower() in UNITS:
        seconds = int(value[:-1]) * UNITS[value[-1].lower()]
    else:
        return None
    return math.ceil(time.time() + seconds)


def _files(
    file: Mapping[str, Any], index: int, job: Mapping[str, Any], settings: FtsSettings
) -> list[Row]:
    """One row for each pair of source and destination."""

    def metadata(name: str, what: str) -> Any:
        return _metadata(file.get(name), what, settings.metadata_limit)

    common = {
        "file_index": index,
        "file_state": "SUBMITTED",
        "file_state_initial": "",
        "retry": 0,
        "vo_name": job["vo_name"],
        "priority": job["priority"],
        "user_filesize": int(float(file.get("filesize") or 0)),
        "activity": file.get("activity") or "default",
        "selection_strategy": file.get("selection_strategy", "auto"),
        "checksum": file.get("checksum") or "ADLER32",
        "scitag": file.get("scitag"),
        "file_metadata": metadata("metadata", "File metadata"),
        "staging_metadata": metadata("staging_metadata", "Staging metadata"),
        "archive_metadata": metadata("archive_metadata", "Archive metadata"),
        "hashed_id": random.randrange(HASHES),  # noqa: S311 - spreads load, keeps no secret
    }
    rows = []
    for source in file["sources"]:
        for destination in file["destinations"]:
            start, end = _url(source), _url(destination)
            row = {
                **common,
                "source_surl": start.geturl(),
                "dest_surl": end.geturl(),
                "source_se": _storage(start),
                "dest_se": _storage(end),
                "dest_surl_uuid": str(uuid.uuid5(BASE_ID, end.geturl()))
                if settings.check_duplicates
                else None,
            }
            rows.append(row)
    return rows


def _url(text: str) -> SplitResult:
    url = urlsplit(text.strip())
    if not url.scheme:
        raise ValueError(f"Missing scheme ({url.geturl()})")
    if url.scheme == "file":
        raise ValueError(f"Can not transfer local files ({url.geturl()})")
    if not url.path or (url.path == "/" and not url.query):
        raise ValueError(f"Missing path ({url.geturl()})")
    if not url.hostname:
        raise ValueError(f"Missing host ({url.geturl()})")
    return url


def _storage(url: SplitResult) -> str:
    return f"{url.scheme}://{url.hostname}"


def _common(files: list[Row], column: str) -> str | None:
    """The value all files share; null when there are several."""
    values = {file[column] for file in files}
    return values.pop() if len(values) == 1 else None


def _checksum_mode(value: Any, files: list[Mapping[str, Any]]) -> str:
    """The first letter of none, source, target or both; true is both.

    Without it the target is checked when a checksum is given, be it the name of an algorithm
    alone; of several files the last one that has a checksum (an empty one is none) decides.
    """
    if isinstance(value, bool):
        given = [file["checksum"] for file in files if file.get("checksum") is not None]
        return "b" if value else "t" if given and given[-1] else "n"
    return str(value[0])


def _metadata(value: Any, what: str, limit: int) -> Any:
    """Metadata as JSON; a plain string becomes {"label": string}, as FTS has it."""
    if value is None or value in NO_PARAMETERS:
        return None
    if len(json.dumps(value)) > limit:
        raise ValueError(f"{what} exceeds size limit of {limit}")
    return value if isinstance(value, dict) else {"label": value}


def _flag(value: object) -> bool:
    """True, 1, "Y", "yes" are set."""
    return value[:1].upper() == "Y" if isinstance(value, str) else bool(value)
