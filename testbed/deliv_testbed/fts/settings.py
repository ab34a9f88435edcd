"""The dummy FTS's settings: one JSON file, every key named here."""

from __future__ import annotations

from pathlib import Path

from deliv_testbed.settings import ServerSettings


class FtsSettings(ServerSettings, frozen=True, kw_only=True):
    """How the dummy copies.

    `state` is a directory of its own: database, delegated proxies, logs of the copies. At most
    `slots` copies run at once between the same two hosts, whatever their ports, and `processes` in
    all, each in a process of `python`, which must have gfal2. Each `optimizer_interval` a pair of
    hosts for which as many files wait gets one slot more, up to `most_slots`; by default there are
    no more.

    Times are in seconds. `interval` is the scheduler's, 2 at the real one. A copy that failed for
    a passing reason is tried again `retries` times after `retry_delay`, where the job doesn't say
    (the real one waits 120). A copy whose process is gone is FAILED after `stalled_after`, and
    holds its slot until then. A copying process without work ends after `idle`. Finished jobs are
    moved to the archive after `archive_after`. A connection is closed after `keep_alive` without
    a request, and after `connection_requests` of them. A look at a storage (/dm) may last for
    `look_timeout`.

    `check_duplicates` refuses a second transfer to a destination; FTS has it off by default.
    `metadata_limit` in bytes for each piece of metadata, as FTS's sample configuration has it.
    """

    state: Path
    slots: int = 8
    most_slots: int = 0
    optimizer_interval: float = 60.0
    processes: int = 32
    python: Path = Path("/usr/bin/python3")
    interval: float = 0.2
    retries: int = 0
    retry_delay: float = 1.0
    stalled_after: float = 900.0
    idle: float = 10.0
    archive_after: float = 7 * 86400.0
    keep_alive: float = 5.0
    connection_requests: int = 100
    look_timeout: float = 30.0
    check_duplicates: bool = False
    metadata_limit: int = 2048
