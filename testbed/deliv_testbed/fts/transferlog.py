"""The log that FTS keeps of each copy, and names in the file's `log_file`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deliv_testbed.fts import clock
from deliv_testbed.fts.database import Row


def path(directory: Path, file: Row) -> Path:
    """Day, pair of hosts, and a name with the minute, the hosts, the file and the job."""
    now = time.gmtime()
    hosts = "__".join(urlsplit(file[end]).hostname or "" for end in ("source_se", "dest_se"))
    minute = time.strftime("%Y-%m-%d-%H%M", now)
    name = f"{minute}__{hosts}__{file['file_id']}__{file['job_id']}"
    return directory / time.strftime("%Y-%m-%d", now) / hosts / name


def write(log: Path, event: dict[str, Any]) -> None:
    """One line: the time, the event and its details."""
    log.parent.mkdir(parents=True, exist_ok=True)
    details = " ".join(f"{key}={value}" for key, value in event.items() if key != "event")
    with log.open("a", encoding="utf-8") as stream:
        stream.write(f"{clock.now()} {event['event']} {details}\n")
