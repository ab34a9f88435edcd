"""All SQL of the dummy FTS: one SQLite file in WAL mode, which survives a SIGKILL.

Columns are named and written as the REST interface shows them. Those that begin with an
underscore are ours and never shown: `_not_before` (epoch) holds a file back until its retry,
`_archived` hides a job from all but the archive.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Row = dict[str, Any]

WAITING = 0.5
JSON_COLUMNS = {"job_metadata", "file_metadata", "staging_metadata", "archive_metadata"}
FLAGS = {"dst_file_report", "cancel_job", "recoverable"}
TERMINAL = ("FINISHED", "FAILED", "FINISHEDDIRTY", "CANCELED")
RUNNING = ("READY", "ACTIVE")
UNFINISHED_FILES = (
    "SUBMITTED", "READY", "ACTIVE", "STAGING", "STARTED", "ON_HOLD", "TOKEN_PREP", "NOT_USED",
)  # fmt: skip

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    verify_checksum TEXT, submit_host TEXT, internal_job_params TEXT, user_dn TEXT,
    dst_file_report INTEGER, job_metadata TEXT, job_id TEXT PRIMARY KEY, cred_id TEXT,
    overwrite_flag TEXT, retry INTEGER, source_se TEXT, vo_name TEXT, job_finished TEXT,
    retry_delay INTEGER, dest_se TEXT, reason TEXT, copy_pin_lifetime INTEGER,
    os_project_id TEXT, source_spacetoken TEXT, job_state TEXT NOT NULL, submit_time TEXT,
    bring_online INTEGER, job_type TEXT, priority INTEGER, archive_timeout INTEGER,
    destination_spacetoken TEXT, cancel_job INTEGER, max_time_in_queue INTEGER, target_qos TEXT,
    _archived INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_finished ON jobs (job_finished) WHERE _archived = 0;
CREATE INDEX IF NOT EXISTS jobs_active ON jobs (job_state) WHERE job_state = 'ACTIVE';
CREATE INDEX IF NOT EXISTS jobs_queue ON jobs (max_time_in_queue) WHERE job_finished IS NULL;
CREATE TABLE IF NOT EXISTS files (
    file_index INTEGER, transfer_host TEXT, finish_time TEXT, throughput REAL,
    bringonline_token TEXT, job_id TEXT NOT NULL REFERENCES jobs, source_surl TEXT,
    start_time TEXT, retry INTEGER, log_file TEXT, dest_surl_uuid TEXT UNIQUE, dest_surl TEXT,
    archive_start_time TEXT, user_filesize INTEGER, activity TEXT, log_debug INTEGER,
    vo_name TEXT, staging_host TEXT, archive_finish_time TEXT, file_metadata TEXT, scitag INTEGER,
    recoverable INTEGER, source_se TEXT, reason TEXT, internal_file_params TEXT,
    staging_metadata TEXT, src_token_id TEXT, dest_se TEXT, filesize INTEGER, pid INTEGER,
    archive_metadata TEXT, dst_token_id TEXT, file_id INTEGER PRIMARY KEY AUTOINCREMENT,
    priority INTEGER, checksum TEXT, staging_start TEXT, staging_finished TEXT,
    file_state_initial TEXT, hashed_id INTEGER, file_state TEXT NOT NULL, tx_duration REAL,
    selection_strategy TEXT,
    _not_before REAL NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS files_job ON files (job_id);
CREATE INDEX IF NOT EXISTS files_job_state ON files (job_id, file_state);
CREATE INDEX IF NOT EXISTS files_queue
    ON files (file_state, source_se, dest_se, vo_name, priority, file_id);
DROP INDEX IF EXISTS files_link;
CREATE INDEX IF NOT EXISTS files_unended ON files (file_id)
    WHERE file_state = 'CANCELED' AND finish_time IS NULL;
CREATE INDEX IF NOT EXISTS files_unfinished ON files (vo_name, file_id)
    WHERE finish_time IS NULL;
CREATE TABLE IF NOT EXISTS retries (
    file_id INTEGER NOT NULL REFERENCES files, attempt INTEGER NOT NULL, reason TEXT,
    log_file TEXT, datetime TEXT, transfer_host TEXT, PRIMARY KEY (file_id, attempt)
);
CREATE TABLE IF NOT EXISTS requests (
    dlg_id TEXT PRIMARY KEY, cert_request TEXT NOT NULL, priv_key TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS credentials (
    dlg_id TEXT PRIMARY KEY, dn TEXT NOT NULL, proxy TEXT NOT NULL,
    termination_time TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS banned_dns (
    dn TEXT PRIMARY KEY, addition_time TEXT, admin_dn TEXT, message TEXT
);
CREATE TABLE IF NOT EXISTS banned_ses (
    se TEXT NOT NULL, vo TEXT NOT NULL, addition_time TEXT, admin_dn TEXT, message TEXT,
    status TEXT, PRIMARY KEY (se, vo)
);
"""


class Duplicate(Exception):
    """A job of that id, or an unfinished transfer to that destination, is there already."""

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column


class FtsDatabase:
    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=WAITING)
        self._connection.row_factory = _row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.executescript(SCHEMA)
        self.job_columns = self._shown_columns("jobs")
        self.file_columns = self._shown_columns("files")

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; inside another transaction a part of that one."""
        if self._connection.in_transaction:
            yield
            return
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield

    # jobs

    def insert(self, job: Mapping[str, Any], files: Sequence[Mapping[str, Any]]) -> None:
        """Store a job with its files; Duplicate says by which column it is one already."""
        try:
            with self.transaction():
                self._insert("jobs", job)
                names = [*files[0], "job_id"]
                self._connection.executemany(
                    _insertion("INSERT", "files", names),
                    (tuple(_stored({**file, "job_id": job["job_id"]})) for file in files),
                )
        except sqlite3.IntegrityError as error:
            column = "job_id" if "jobs.job_id" in str(error) else "dest_surl_uuid"
            raise Duplicate(column) from error

    def job(self, job_id: str, *, archived: bool = False) -> Row | None:
        return self._get("SELECT * FROM jobs WHERE job_id = ? AND _archived = ?", job_id, archived)

    def jobs(
        self,
        *,
        columns: Sequence[str] = (),
        equal: Mapping[str, object],
        states: Sequence[str] = (),
        finished_since: str | None = None,
        unfinished: bool = False,
        limit: int | None = None,
    ) -> list[Row]:
        """Jobs by column values, all columns or the given ones.

        With a limit the latest, otherwise all in order of submission.
        """
        conditions, values = _conditions(equal, "job_state", states)
        conditions.append("_archived = 0")
        if unfinished:
            conditions.append("job_finished IS NULL")
        if finished_since is not None:
            conditions.append("job_finished >= ?")
            values.append(finished_since)
        order = "submit_time DESC, rowid DESC LIMIT ?" if limit else "rowid"
        values.extend([limit] if limit else [])
        what, where = ", ".join(map(_name, columns)) or "*", " AND ".join(conditions)
        return self._all(f"SELECT {what} FROM jobs WHERE {where} ORDER BY {order}", *values)  # noqa: S608

    def update_job(self, job_id: str, **columns: object) -> None:
        self._update("jobs", columns, "job_id = ?", job_id)

    def expired(self, epoch: float) -> list[str]:
        """Unfinished jobs whose time in the queue is over."""
        rows = self._all(
            "SELECT job_id FROM jobs WHERE job_finished IS NULL AND max_time_in_queue < ?", epoch
        )
        return [row["job_id"] for row in rows]

    def jobs_to_end(self) -> list[str]:
        """ACTIVE jobs whose files have all ended."""
        rows = self._all(
            f"""SELECT job_id FROM jobs WHERE job_state = 'ACTIVE' AND NOT EXISTS (
                SELECT 1 FROM files WHERE files.job_id = jobs.job_id
                AND file_state IN ({_marks(UNFINISHED_FILES)}))""",  # noqa: S608
            *UNFINISHED_FILES,
        )
        return [row["job_id"] for row in rows]

    def archive(self, finished_before: str) -> None:
        self._execute(
            "UPDATE jobs SET _archived = 1 WHERE _archived = 0 AND job_finished < ?",
            finished_before,
        )

    # files

    def files(self, job_id: str, columns: Sequence[str] = ()) -> list[Row]:
        return list(self.each_file(job_id, columns))

    def each_file(self, job_id: str, columns: Sequence[str] = ()) -> Iterator[Row]:
        """The files of a job one by one, all columns or the given ones."""
        what = ", ".join(map(_name, columns)) or "*"
        yield from self._connection.execute(
            f"SELECT {what} FROM files WHERE job_id = ? ORDER BY file_id",  # noqa: S608
            (job_id,),
        )

    def file_states(self, job_id: str) -> set[str]:
        rows = self._all("SELECT DISTINCT file_state FROM files WHERE job_id = ?", job_id)
        return {row["file_state"] for row in rows}

    def file(self, file_id: int) -> Row | None:
        return self._get("SELECT * FROM files WHERE file_id = ?", file_id)

    def update_file(self, file_id: int, **columns: object) -> None:
        self._update("files", columns, "file_id = ?", file_id)

    def cancel_files(self, job_id: str, states: Sequence[str], reason: str, time: str) -> None:
        """Cancel the job's files in these states; a file that has a process ends with that."""
        self._execute(
            f"""UPDATE files SET file_state = 'CANCELED', reason = ?, dest_surl_uuid = NULL,
                finish_time = CASE WHEN pid IS NULL THEN ? END
                WHERE job_id = ? AND file_state IN ({_marks(states)})""",  # noqa: S608
            reason, time, job_id, *states,
        )  # fmt: skip

    def unfinished_files(
        self, *, equal: Mapping[str, object], states: Sequence[str], limit: int
    ) -> list[Row]:
        """The oldest files without an end, by column values."""
        conditions, values = _conditions(equal, "file_state", states)
        where = " AND ".join(["finish_time IS NULL", *conditions])
        return self._all(
            f"SELECT * FROM files WHERE {where} ORDER BY file_id LIMIT ?",  # noqa: S608
            *values, limit,
        )  # fmt: skip

    def links(self) -> list[Row]:
        """The pairs of storages that files wait for, with the numbers `waiting` and `active`.

        What one process copies, one after the other, counts once.
        """
        return self._all(
            f"""SELECT source_se, dest_se, count(*) AS waiting,
                (SELECT count(DISTINCT coalesce(nullif(pid, 0), -file_id)) FROM files
                 WHERE file_state IN ({_marks(RUNNING)})
                 AND source_se = queue.source_se AND dest_se = queue.dest_se) AS active
                FROM files AS queue WHERE file_state = 'SUBMITTED'
                GROUP BY source_se, dest_se""",  # noqa: S608
            *RUNNING,
        )

    def eligible(self, link: Mapping[str, Any], epoch: float, limit: int) -> list[Row]:
        """Files to be copied next between two storages: by priority, then by age.

        Of a VO only those of the highest priority that waits, be it a file's that is held back
        until its retry: FTS looks for that first.
        """
        vos = self._all("SELECT DISTINCT vo_name FROM jobs WHERE job_finished IS NULL")
        files = [
            file
            for vo in vos
            for file in self._all(
                """SELECT * FROM files
                   WHERE file_state = 'SUBMITTED' AND source_se = ? AND dest_se = ? AND vo_name = ?
                   AND priority = (
                       SELECT max(priority) FROM files WHERE file_state = 'SUBMITTED'
                       AND source_se = ? AND dest_se = ? AND vo_name = ?)
                   AND _not_before <= ? ORDER BY file_id LIMIT ?""",
                *(link["source_se"], link["dest_se"], vo["vo_name"]) * 2, epoch, limit,
            )
        ]  # fmt: skip
        return sorted(files, key=lambda file: (-file["priority"], file["file_id"]))[:limit]

    def waiting_files(self, job_id: str) -> list[Row]:
        return self._all(
            """SELECT * FROM files WHERE job_id = ? AND file_state = 'SUBMITTED'
               ORDER BY file_id""",
            job_id,
        )

    def files_of_user(self, dn: str, states: Sequence[str]) -> list[Row]:
        return self._all(
            f"""SELECT files.* FROM files JOIN jobs USING (job_id)
                WHERE file_state IN ({_marks(states)}) AND user_dn = ?""",  # noqa: S608
            *states, dn,
        )  # fmt: skip

    def files_of_storage(self, storage: str, states: Sequence[str]) -> list[Row]:
        """From or to it."""
        return self._all(
            f"""SELECT * FROM files
                WHERE file_state IN ({_marks(states)}) AND ? IN (source_se, dest_se)""",  # noqa: S608
            *states, storage,
        )  # fmt: skip

    def files_in(self, states: Sequence[str]) -> list[Row]:
        return self._all(
            f"SELECT * FROM files WHERE file_state IN ({_marks(states)})",  # noqa: S608
            *states,
        )

    def unended(self) -> list[int]:
        """Canceled files whose process isn't known to have ended."""
        rows = self._all(
            """SELECT file_id FROM files INDEXED BY files_unended
               WHERE file_state = 'CANCELED' AND finish_time IS NULL"""
        )
        return [row["file_id"] for row in rows]

    def active_by_host(self) -> dict[str, int]:
        rows = self._all(
            """SELECT transfer_host, count(*) AS number FROM files
               WHERE file_state = 'ACTIVE' GROUP BY transfer_host"""
        )
        return {row["transfer_host"]: row["number"] for row in rows}

    def add_retry(self, retry: Mapping[str, Any]) -> None:
        self._insert("retries", retry)

    def retries(self, file_id: int) -> list[Row]:
        return self._all("SELECT * FROM retries WHERE file_id = ? ORDER BY attempt", file_id)

    # delegation

    def request(self, dlg_id: str) -> Row | None:
        return self._get("SELECT * FROM requests WHERE dlg_id = ?", dlg_id)

    def add_request(self, request: Mapping[str, Any]) -> None:
        """Keep it unless there is one already."""
        self._insert("requests", request, "INSERT OR IGNORE")

    def credential(self, dlg_id: str) -> Row | None:
        return self._get("SELECT * FROM credentials WHERE dlg_id = ?", dlg_id)

    def put_credential(self, credential: Mapping[str, Any]) -> None:
        self._insert("credentials", credential, "INSERT OR REPLACE")

    def delete_credential(self, dlg_id: str) -> None:
        self._execute("DELETE FROM credentials WHERE dlg_id = ?", dlg_id)

    # bans

    def ban(self, table: str, ban: Mapping[str, Any]) -> None:
        """`table`: banned_dns or banned_ses."""
        self._insert(table, ban, "INSERT OR REPLACE")

    def bans(self, table: str) -> list[Row]:
        return self._all(f"SELECT * FROM {_name(table)}")  # noqa: S608

    def lift(self, table: str, key: str, value: str) -> None:
        self._execute(f"DELETE FROM {_name(table)} WHERE {_name(key)} = ?", value)  # noqa: S608

    # statements

    def _shown_columns(self, table: str) -> list[str]:
        described = self._connection.execute(f"SELECT * FROM {table} LIMIT 0").description  # noqa: S608
        return [name for name, *_ in described if not name.startswith("_")]

    def _all(self, sql: str, *values: object) -> list[Row]:
        return self._connection.execute(sql, values).fetchall()

    def _get(self, sql: str, *values: object) -> Row | None:
        row: Row | None = self._connection.execute(sql, values).fetchone()
        return row

    def _execute(self, sql: str, *values: object) -> None:
        self._connection.execute(sql, values)

    def _insert(self, table: str, row: Mapping[str, Any], verb: str = "INSERT") -> None:
        self._execute(_insertion(verb, table, row), *_stored(row))

    def _update(self, table: str, columns: Mapping[str, Any], where: str, key: object) -> None:
        sets = ", ".join(f"{_name(column)} = ?" for column in columns)
        self._execute(f"UPDATE {table} SET {sets} WHERE {where}", *_stored(columns), key)  # noqa: S608


def _name(column: str) -> str:
    if not column.isidentifier():
        raise ValueError(f"{column!r} can't be a column")
    return column


def _insertion(verb: str, table: str, columns: Collection[str]) -> str:
    return f"{verb} INTO {table} ({', '.join(map(_name, columns))}) VALUES ({_marks(columns)})"


def _conditions(
    equal: Mapping[str, object], column: str, states: Sequence[str]
) -> tuple[list[str], list[object]]:
    """SQL with its values: columns as given, and one of `states` in `column` if there are any."""
    conditions, values = [f"{_name(name)} = ?" for name in equal], list(equal.values())
    if states:
        conditions.append(f"{_name(column)} IN ({_marks(states)})")
        values.extend(states)
    return conditions, values


def _marks(values: Iterable[object]) -> str:
    return ", ".join("?" for _ in values)


def _stored(row: Mapping[str, Any]) -> Iterator[object]:
    for column, value in row.items():
        is_json = column in JSON_COLUMNS and value is not None
        yield json.dumps(value) if is_json else value


def _row(cursor: sqlite3.Cursor, values: tuple[object, ...]) -> Row:
    row: Row = {column[0]: value for column, value in zip(cursor.description, values, strict=True)}
    for name in row.keys() & (JSON_COLUMNS | FLAGS):
        if row[name] is not None:
            row[name] = json.loads(row[name]) if name in JSON_COLUMNS else bool(row[name])
    return row
