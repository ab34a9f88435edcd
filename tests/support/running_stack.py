"""A running stack as seen from outside: testbed.json, curl, the client, the files, the tables."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pymysql
from deliv_testbed import control, synthetic
from deliv_testbed.layout import Layout

from deliv.client import Client

CALL_TIMEOUT = 300
PATIENCE = 400.0
ONE_AT_A_TIME = threading.Lock()  # the testbed refuses a command beside another


def until(condition: Callable[[], Any], what: str, timeout: float = 200) -> Any:
    """The condition's first true value; looked at every 100 ms."""
    deadline, pause = time.monotonic() + timeout, threading.Event()
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        pause.wait(0.1)
    return value


@dataclass(frozen=True, kw_only=True)
class User:
    cert: str
    key: str
    proxy: str
    dn: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document


@dataclass(frozen=True, kw_only=True)
class Target:
    """A directory of one test's own at the destination: its URL, and where its files are."""

    url: str
    directory: Path

    def names(self) -> set[str]:
        return {path.name for path in self.directory.iterdir()}

    def put(self, name: str, content: bytes) -> Path:
        """A file of the user's own, which the copies' identity could replace."""
        self.directory.mkdir(exist_ok=True)
        self.directory.chmod(0o777)
        file = self.directory / name
        file.write_bytes(content)
        file.chmod(0o666)
        return file

    def holds_synthetic(self, size: int) -> bool:
        content = (self.directory / f"synthetic-{size}").read_bytes()
        return content == b"".join(synthetic.chunks(size))


class Stack:
    """`directory` is where testbed.json is."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def testbed(self) -> dict[str, Any]:
        text = (self.directory / "testbed.json").read_text(encoding="utf-8")
        document: dict[str, Any] = json.loads(text)
        return document

    @property
    def url(self) -> str:
        return str(self.testbed["url"])

    @property
    def ca(self) -> str:
        return str(self.testbed["ca_dir"])

    def user(self, name: str) -> User:
        testbed = self.testbed
        return User(**(testbed["stager_user"] if name == "stager" else testbed["users"][name]))

    def client(self, user: str = "alice") -> Client:
        """Patient enough for a restart of deliv on a busy machine."""
        proxy = self.user(user).proxy
        return Client(self.url, proxy, proxy, self.ca, patience=PATIENCE)

    def target(self) -> Target:
        name = f"test-{uuid.uuid4()}"
        destination = self.testbed["gridftp"]["destination"]
        return Target(
            url=f"{destination['url']}/{name}", directory=Path(destination["root"]) / name
        )

    def curl(
        self, path: str, *options: str, user: str | None = "alice", expect: str = ""
    ) -> Answer:
        """One call with curl; CalledProcessError when there is no HTTP answer."""
        command = ["curl", "--silent", "--show-error", "--max-time", str(CALL_TIMEOUT)]
        command += [
            "--capath",
            self.ca,
            "--include",
            "--path-as-is",
            "--header",
            f"Expect:{expect}",
        ]
        if user:
            command += ["--cert", self.user(user).proxy, "--key", self.user(user).proxy]
        done = subprocess.run(
            [*command, *options, f"{self.url}{path}"],
            capture_output=True,
            check=True,
            env={"PATH": "/usr/bin:/bin"},
            timeout=CALL_TIMEOUT + 10,
        )
        return _parsed(done.stdout)

    def ready(self) -> dict[str, Any]:
        """The readiness report; empty while it does not answer."""
        url = f"{self.testbed['monitoring_url']}/ready"
        try:
            with build_opener(ProxyHandler({})).open(url, timeout=20) as answer:
                report: dict[str, Any] = json.loads(answer.read())
        except OSError as error:
            body = getattr(error, "fp", None)
            report = json.loads(body.read()) if body else {}
        return report

    def metric(self, name: str) -> float:
        """A metric as it is now, its labels in its name."""
        lines = self._metrics()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    def answers(self) -> Counter[int]:
        """How often each HTTP status was answered since the service was started."""
        answers: Counter[int] = Counter()
        for line in self._metrics():
            if found := re.match(r'deliv_http_requests_total{.*code="(\d+)".*} (\S+)', line):
                answers[int(found[1])] += int(float(found[2]))
        return answers

    def _metrics(self) -> list[str]:
        url = f"{self.testbed['monitoring_url']}/metrics"
        with build_opener(ProxyHandler({})).open(url, timeout=30) as answer:
            lines: list[str] = answer.read().decode().splitlines()
        return lines

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """By deliv's own account."""
        place = self.testbed["database"]
        with closing(self.database(place["user"], place["password"])) as connection:
            with connection.cursor() as cursor:
                cursor.execute(sql, values)
                return list(cursor.fetchall())

    def as_root(self) -> pymysql.Connection[Any]:
        """Of the database, where more is allowed than deliv may."""
        password = (self.directory / "secrets" / "root").read_text(encoding="ascii")
        return self.database("root", password)

    def database(self, user: str, password: str) -> pymysql.Connection[Any]:
        place = self.testbed["database"]
        return pymysql.connect(
            host=place["host"],
            port=place["port"],
            user=user,
            password=password,
            database=place["name"],
            autocommit=True,
            ssl_disabled=True,
        )

    def open_archive(self) -> None:
        """Rows of any kind may be put into the archive, by hand.

        The triggers also have `jobs` and its counts locked with the archive.
        """
        with self.as_root() as connection, connection.cursor() as cursor:
            for name in ("copy", "label", "label_forget"):
                cursor.execute(f"DROP TRIGGER jobs_archive_{name}")

    def how_many_jobs(self) -> int:
        ((jobs,),) = self.query("SELECT COUNT(*) FROM jobs")
        return int(jobs)

    def staging_id(self, job_id: str) -> str:
        """What the stager knows the job's staging by; the job's own id while it has none."""
        sql = "SELECT COALESCE(staging_id, job_id) FROM jobs WHERE job_id = %s"
        rows = self.query(sql, job_id)
        return str(rows[0][0]) if rows else job_id

    def staged_copy(self, job_id: str) -> Path:
        archive = Path(self.testbed["gridftp"]["archive"]["root"])
        return archive / "staging" / self.staging_id(job_id)

    def given_up(self, job_id: str, user: str = "alice") -> None:
        """The job is withdrawn, if it has not ended, and what it held is given back."""
        self.curl("/cancelTransfer", "--data", f"job_id={job_id}", user=user)
        sql = "SELECT time_released FROM jobs WHERE job_id = %s"
        until(lambda: self.query(sql, job_id) != [(None,)], "all is given back")

    def times_written(self, file: Path) -> int:
        """How often the destination's GridFTP server began to receive this file, by its log."""
        log = self.directory / "log" / "gridftp-destination.log"
        wanted = f'Starting to transfer "{file}"'
        return log.read_text(encoding="utf-8", errors="replace").count(wanted)

    def attempts_at_fts(self, part: str = "fts*") -> Counter[tuple[str, int]]:
        """How often FTS has each attempt of a job, by its own record; of all servers together.

        Of an attempt with several transfers, how often it has the one that it has most often.
        """
        transfers: Counter[tuple[str, int, int]] = Counter()
        for file in self.directory.glob(f"{part}/fts.sqlite"):
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
                for (text,) in database.execute("SELECT job_metadata FROM jobs"):
                    metadata = json.loads(text)
                    if "attempt" in metadata:  # else a test's own
                        slice_number = metadata.get("slice", 0)
                        transfers[metadata["deliv_job_id"], metadata["attempt"], slice_number] += 1
        attempts: Counter[tuple[str, int]] = Counter()
        for (job_id, attempt, _), times in transfers.items():
            attempts[job_id, attempt] = max(attempts[job_id, attempt], times)
        return attempts

    def copies_by_fts(self) -> Counter[str]:
        """How often FTS has copied to each URL to the end; of all servers together."""
        copies: Counter[str] = Counter()
        sql = "SELECT dest_surl FROM files WHERE file_state = 'FINISHED'"
        for file in self.directory.glob("fts*/fts.sqlite"):
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
                copies.update(url for (url,) in database.execute(sql))
        return copies

    def copied_by_fts(self, job_id: str, part: str = "fts") -> bool:
        """Whether a process of FTS copies for this job."""
        ((fts_jobid,),) = self.query("SELECT fts_jobid FROM jobs WHERE job_id = %s", job_id)
        sql = "SELECT 1 FROM files WHERE job_id = ? AND file_state IN ('READY', 'ACTIVE') AND pid"
        with closing(sqlite3.connect(self.directory / part / "fts.sqlite")) as database:
            return database.execute(sql, (fts_jobid,)).fetchone() is not None

    def forget_at_fts(self, job_id: str) -> None:
        """FTS, which has to be down, loses the job's present transfer."""
        ((fts_jobid,),) = self.query("SELECT fts_jobid FROM jobs WHERE job_id = %s", job_id)
        with closing(sqlite3.connect(self.directory / "fts" / "fts.sqlite")) as database, database:
            for table in ("files", "jobs"):
                database.execute(f"DELETE FROM {table} WHERE job_id = ?", (fts_jobid,))  # noqa: S608

    def stop(self, part: str) -> None:
        """End a part as its operator would, by SIGTERM."""
        pid = self.testbed["pids"][part]
        os.kill(pid, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{pid}").exists(), f"{part} ends")

    def control(self, action: str, part: str) -> None:
        """What `deliv testbed start`, `kill`, `freeze` and `thaw` do, without a process for it."""
        with ONE_AT_A_TIME, control.stack(Layout(directory=self.directory.resolve())) as stack:
            getattr(stack, action)(part)

    def command(self, *arguments: str, timeout: float = 500) -> str:
        """`deliv testbed ...` on this stack; its output."""
        done = subprocess.run(
            [sys.executable, "-m", "deliv.cli", "testbed", *arguments, "--dir", self.directory],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout


@contextmanager
def brought_up(*options: str) -> Iterator[Stack]:
    """A new stack in a directory of its own, taken down at the end."""
    with tempfile.TemporaryDirectory(prefix="deliv-stack-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # the stack may run as another user
        stack = Stack(directory)
        try:
            stack.command("up", *options)
            yield stack
        finally:
            stack.command("down")


@contextmanager
def frozen(stack: Stack, part: str) -> Iterator[None]:
    """A part is frozen, with its connections open."""
    stack.control("freeze", part)
    try:
        yield
    finally:
        stack.control("thaw", part)


def _parsed(output: bytes) -> Answer:
    head, _, body = output.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Answer(status=int(status_line.split()[1]), headers=headers, body=body)
