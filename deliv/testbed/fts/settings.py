"""The dummy FTS's settings: one JSON file, every key named here."""

from __future__ import annotations

from pathlib import Path

import msgspec

from deliv.testbed import settings


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Listens on `host` and `port` with `certificate` and `key`; trusts the CAs in `ca_directory`.

    `state` is a directory of its own: database, delegated proxies, logs of the copies. At most
    `slots` copies run at once, each in a process of `python`, which must have gfal2.

    Times are in seconds. `interval` is the scheduler's, 2 at the real one. A copy that failed for
    a passing reason is tried again `retries` times after `retry_delay`, where the job doesn't say
    (the real one waits 120). A copying process without work ends after `idle`. Finished jobs are
    moved to the archive after `archive_after`. A connection is closed after `keep_alive` without
    a request, and after `connection_requests` of them.

    `check_duplicates` refuses a second transfer to a destination; FTS has it off unless told.
    """

    host: str
    port: int
    certificate: Path
    key: Path
    ca_directory: Path
    state: Path
    slots: int = 8
    python: Path = Path("/usr/bin/python3")
    interval: float = 0.2
    retries: int = 0
    retry_delay: float = 1.0
    idle: float = 10.0
    archive_after: float = 7 * 86400.0
    keep_alive: float = 5.0
    connection_requests: int = 100
    check_duplicates: bool = False


def load(path: Path) -> Settings:
    return settings.read(path, Settings)
