"""After a full run: no password, one-time code, key or token in anything that is written or shown.

The secrets are taken from where they belong: the files of passwords and keys, the stager's
register. They are looked for in every log, every table, every answer, and the command line and
environment of every process there was.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from support.posing import Caller
from support.running_stack import Stack, Target, until

PEM_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+(.+?)-----END", re.DOTALL)
MARKS = {
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s*[A-Za-z0-9+/]{20}"),
    "a token": re.compile(rb"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{20,}"),
}
PRODUCTS = (
    "synthetic-4001",
    "twice-synthetic-4002",
    "badcode-synthetic-4003",
    "badtoken-synthetic-4004",
    "fail-synthetic-4005",
    "nothing-of-that-name",
)
SILENT = "silent-synthetic-4006"  # whose staging no other test has open
TOKEN = ".".join(("eyJhbGciOiJub25lIn0", "eyJpc3MiOiJtZSJ9", "c2lnbmF0dXJlIG9mIG5vYm9keQ"))


@dataclass
class Watch:
    """What there is for a moment only: processes, as /proc shows them, and one-time codes.

    The stager forgets a code when its copy is released.
    """

    stack: Stack
    seen: dict[str, bytes] = field(default_factory=dict)
    codes: set[bytes] = field(default_factory=set)

    @contextmanager
    def kept(self) -> Iterator[None]:
        stop = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(stop,))
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(0.05):
            self.codes |= codes(self.stack)
            for pid in self._family():
                for name in ("cmdline", "environ"):
                    self._keep(pid, name)

    def _keep(self, pid: int, name: str) -> None:
        try:
            content = Path(f"/proc/{pid}/{name}").read_bytes()
        except OSError:  # it has ended
            return
        if content:
            self.seen[f"/proc/{pid}/{name} {len(content)}"] = content

    def _family(self) -> set[int]:
        parents = dict(filter(None, map(_parent, Path("/proc").glob("[0-9]*/stat"))))
        family, before = set(self.stack.testbed["pids"].values()), 0
        while len(family) > before:
            before = len(family)
            family |= {pid for pid, parent in parents.items() if parent in family}
        return family


def _parent(stat: Path) -> tuple[int, int] | None:
    try:
        fields = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None
    return int(stat.parent.name), int(fields[1])


# --- what is secret


def secrets_of(stack: Stack) -> dict[bytes, str]:
    """Each secret, and whose it is."""
    directory, found = stack.directory, dict[bytes, str]()
    for file in (directory / "secrets").iterdir():
        found[file.read_bytes().strip()] = f"the password in {file.name}"
    for file in directory.glob("rabbitmq/**/.erlang.cookie"):
        found[file.read_bytes().strip()] = "RabbitMQ's cookie"
    for file in key_files(directory):
        for number, part in enumerate(key_parts(file.read_bytes())):
            found[part] = f"part {number} of the key in {file.relative_to(directory)}"
    return found


def codes(stack: Stack) -> set[bytes]:
    """Every code that the stager has now; it forgets those of earlier attempts."""
    with closing(register_of(stack)) as register:
        return {code.encode() for (code,) in register.execute("SELECT authcode FROM stagings")}


def key_files(directory: Path) -> list[Path]:
    places = ("pki", "authority", "fts/proxies", "issuer", "gridftp-archive", "gridftp-destination")
    files = [file for place in places for file in (directory / place).rglob("*") if file.is_file()]
    return [file for file in files if key_parts(file.read_bytes())]


def key_parts(content: bytes) -> list[bytes]:
    """Lines out of the middle of each PEM key, and the private numbers of each JSON one."""
    lines = [key.split() for key in PEM_KEY.findall(content)]
    parts = [one[number] for one in lines for number in (len(one) // 3, len(one) // 2)]
    return parts + re.findall(rb'"d": *"([A-Za-z0-9_-]{20,})"', content)


def register_of(stack: Stack) -> sqlite3.Connection:
    file = stack.directory / "stager" / "stager.sqlite"
    return sqlite3.connect(f"file:{file}?mode=ro", uri=True)


# --- where it must not be


def places(stack: Stack, watch: Watch) -> Iterator[tuple[str, bytes]]:
    for pattern in ("log/**/*", "rabbitmq/log/**/*", "fts/logs/**/*"):
        for file in stack.directory.glob(pattern):
            if file.is_file():
                yield str(file.relative_to(stack.directory)), file.read_bytes()
    for (table,) in stack.query("SHOW TABLES"):
        rows = stack.query(f"SELECT * FROM `{table}`")  # noqa: S608 - a name from the server
        yield f"table {table}", b"\n".join(shown(value) for row in rows for value in row)
    yield from watch.seen.items()
    yield from answers(stack)


def shown(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def answers(stack: Stack) -> Iterator[tuple[str, bytes]]:
    for (job_id,) in stack.query("SELECT job_id FROM jobs ORDER BY job_id DESC LIMIT 20"):
        yield (
            f"status of {job_id}",
            stack.curl(f"/transferStatus?job_id={job_id}", user="operator").body,
        )
    for path in ("ready", "metrics"):
        url = f"{stack.testbed['monitoring_url']}/{path}"
        with build_opener(ProxyHandler({})).open(url, timeout=30) as answer:
            yield path, answer.read()


# --- the run


def misuse(stack: Stack, job_id: str, code: str) -> None:
    """The right code in every wrong way, and a token where none belongs."""
    right = {"job_id": job_id, "product_id": SILENT, "authcode": code, "success": "true"}
    form = "&".join(f"{name}={value}" for name, value in right.items())
    broken = json.dumps(right)[:-1]
    bearer = ("-H", f"Authorization: Bearer {TOKEN}")
    calls = [
        ("stager", "/doneStaging", ["-d", form.replace(SILENT, "other")]),
        ("stager", "/doneStaging", ["-d", form, *bearer]),
        ("stager", "/doneStaging", ["-d", f"{form}&{code}"]),
        ("stager", "/doneStaging", ["-d", f"{form}&authcode={code}"]),
        ("stager", "/doneStaging", ["-d", broken, "-H", "Content-Type: application/json"]),
        ("stager", f"/doneStaging?authcode={code}&access_token={TOKEN}", ["-d", form]),
        ("stager", "/doneStaging", ["-d", form.replace("success=true", f"success={code}")]),
        ("alice", "/doneStaging", ["-d", form, *bearer]),
        ("alice", "/submitTransfer", ["-d", "product_id=005", *bearer]),
    ]  # fmt: skip
    for user, path, options in calls:
        answer = stack.curl(path, *options, user=user)
        assert answer.status in {400, 401, 403}, (path, options, answer)
        assert code.encode() not in answer.body
        assert TOKEN.encode() not in answer.body
    caller, quoted = Caller(stack), {"staged_to": "localhost", "path": f"/copy/{code}"}
    assert caller.report(right | quoted).status == 400
    assert caller.report(right | {"success": "false", "msg": f"no {code}"}).status == 200


def test_no_secret_is_written_or_shown(stack: Stack, target: Target) -> None:
    watch = Watch(stack)
    with watch.kept(), stack.client() as client:
        jobs = [client.submit(product, target.url) for product in PRODUCTS]
        silent = client.submit(SILENT, target.url)
        code = until(lambda: code_of(stack, silent), "the stager was asked")
        misuse(stack, silent, code)
        for job_id in jobs:
            client.wait(job_id, timeout=400)
        assert "[redacted]" in client.status(silent)["detailed_status"]
    assert len(watch.codes) >= len(PRODUCTS)
    secrets = secrets_of(stack) | {one: "a one-time code" for one in watch.codes}
    secrets |= {code.encode(): "the misused code", TOKEN.encode(): "the misused token"}
    searched = dict(places(stack, watch))
    assert holds_what_a_run_writes(searched)
    assert list(leaks(secrets, searched)) == []


def code_of(stack: Stack, job_id: str) -> str | None:
    with closing(register_of(stack)) as register:
        question = "SELECT authcode FROM stagings WHERE job_id = ?"
        row = register.execute(question, (job_id,)).fetchone()
    return str(row[0]) if row else None


def leaks(secrets: dict[bytes, str], searched: dict[str, bytes]) -> Iterator[str]:
    for place, content in searched.items():
        for secret, owner in secrets.items():
            if secret in content:
                yield f"{owner} in {place}"
        for what, mark in MARKS.items():
            if mark.search(content):
                yield f"{what} in {place}"


def holds_what_a_run_writes(searched: dict[str, bytes]) -> bool:
    """So that an empty search is not taken for a good one."""
    copying = any(b"copier" in content for content in searched.values())
    kinds = ("log/audit.log", "log/deliv@1.log", "table job_events", "/proc/", "status of", "ready")
    return copying and all(any(place.startswith(kind) for place in searched) for kind in kinds)


def test_the_search_finds_what_is_there(stack: Stack) -> None:
    secrets = secrets_of(stack)
    owners = " ".join(secrets.values())
    assert min(map(len, secrets)) >= 16
    for kind in ("password", "cookie", "pki/users/alice", "authority/ca.key", "issuer"):
        assert kind in owners
    files = {
        "secrets/deliv": (stack.directory / "secrets" / "deliv").read_bytes(),
        "x": TOKEN.encode(),
    }
    files |= {str(file): file.read_bytes() for file in key_files(stack.directory)}
    found = list(leaks(secrets, files))
    assert "a token in x" in found
    assert "the password in deliv in secrets/deliv" in found
    assert len(found) > 2 * len(key_files(stack.directory))
