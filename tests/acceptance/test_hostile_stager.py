"""Reports of many files from a stager that means harm, or is broken: a clear answer, no effect."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.deliveries_of_trees import assert_whole, tree, wait_long_for_the_report
from support.live_client import connected, exchange
from support.posing import Caller
from support.running_stack import Answer, Stack, Target, until

PRODUCT = "tree-5-100"


@dataclass(frozen=True, kw_only=True)
class Staged:
    """A job whose tree is staged, of which the stager says nothing; `scalars` is its report."""

    stack: Stack
    job_id: str
    caller: Caller
    scalars: dict[str, Any]
    scratch: Path

    def body(self, files: object, **changes: object) -> str:
        return json.dumps(self.scalars | changes | {"files": files})

    def post(self, body: str | bytes, user: str = "stager") -> Answer:
        document = self.scratch / f"{id(body)}.json"
        document.write_bytes(body if isinstance(body, bytes) else body.encode())
        return self.caller.report({}, document=document, user=user)

    def stored(self) -> tuple[Any, ...]:
        """What a report could change, and how many files there are of any."""
        (columns,) = self.stack.query(
            "SELECT report, report_digest, status, attempt, stager_callback, time_staged, "
            "files_total, (SELECT COUNT(*) FROM job_files WHERE job_id = jobs.job_id) "
            "FROM jobs WHERE job_id = %s",
            self.job_id,
        )
        return columns

    def delivered(self, target: Target) -> None:
        """The report that counts is still taken, and the files arrive."""
        assert self.post(self.body(ALL)).status == 200
        self.whole(target)

    def whole(self, target: Target) -> None:
        with self.stack.client() as client:
            answer = client.wait(self.job_id, timeout=400)
        assert (answer["status"], answer["files_done"]) == ("SUCCESS", 5), answer
        assert_whole(target.directory / PRODUCT, tree(PRODUCT))


def listed(names: Sequence[str]) -> list[dict[str, object]]:
    return [{"name": name, "size": 100} for name in names]


ALL = listed(list(tree(PRODUCT).names))


@pytest.fixture
def staged(stack: Stack, target: Target, tmp_path: Path) -> Iterator[Staged]:
    with stack.client() as client:
        job_id = client.submit(f"silent-{PRODUCT}", target.url)
    caller = Caller(stack)
    known = caller.staged(job_id)
    wait_long_for_the_report(stack, job_id)
    scalars: dict[str, Any] = {
        name: known[name] for name in ("job_id", "product_id", "authcode", "staged_to", "path")
    }
    yield Staged(
        stack=stack,
        job_id=job_id,
        caller=caller,
        scalars=scalars | {"success": True},
        scratch=tmp_path,
    )
    stack.given_up(job_id)  # none of the next test joins its staging


def size(text: str) -> Callable[[Staged], str]:
    return lambda staged: staged.body([{"name": "a", "size": 77777}]).replace("77777", text)


def names(*given: str) -> Callable[[Staged], str]:
    return lambda staged: staged.body(listed(given))


REFUSED: dict[str, tuple[Callable[[Staged], str | bytes], int, str]] = {
    "a part above": (names("a/../../b"), 400, "has an empty, . or .. part"),
    "absolute": (names("/etc/passwd"), 400, "is absolute"),
    "a trailing slash": (names("a/"), 400, "has an empty, . or .. part"),
    "NUL": (names("a\0b"), 400, "control characters"),
    "a line": (names("a\nb"), 400, "control characters"),
    "a lone surrogate": (names("a\ud800"), 400, "control characters"),
    "a surrogate in bytes": (
        lambda staged: staged.body(listed(["a@"])).encode().replace(b"@", b"\xed\xa0\x80"),
        400,
        "UTF-8",
    ),
    "equal after NFC": (names("\u00e9", "e\u0301"), 400, "only by Unicode normalisation"),
    "directories equal after NFC": (names("\u00e9/a", "e\u0301"), 400, "of a directory, too"),
    "a file is a directory": (names("a", "b", "a/c"), 400, "is a file, and a directory of"),
    "a directory is a file": (names("a/c", "b", "a"), 400, "is that of a directory, too"),
    "a negative size": (size("-1"), 400, "must be a number of bytes"),
    "2**63": (size(str(2**63)), 400, "must be a number of bytes"),
    "very many digits": (size("9" * 5000), 400, ""),
    "1e3": (size("1e3"), 400, "must be a number of bytes"),
    "true": (size("true"), 400, "must be a number of bytes"),
    "NaN": (size("NaN"), 400, "not valid JSON"),
    "sizes beyond all bounds together": (
        lambda staged: staged.body([{"name": name, "size": 2**62} for name in "ab"]),
        400,
        "bytes together",
    ),
    "a key of a file twice": (
        lambda staged: staged.body([{"name": "a", "size": 1}]).replace("1}", '1, "size": 2}'),
        400,
        "must be an object of name, size and checksum",
    ),
    "files twice": (
        lambda staged: staged.body(ALL)[:-1] + ', "files": []}',
        400,
        "more than once",
    ),
    "the code twice": (
        lambda staged: staged.body(ALL)[:-1] + ', "authcode": "' + "0" * 32 + '"}',
        400,
        "authcode",
    ),
    "a body that ends early": (lambda staged: staged.body(ALL)[:-20], 400, "not valid JSON"),
    "something behind it": (lambda staged: staged.body(ALL) + "{}", 400, "not valid JSON"),
    "very deep": (lambda staged: staged.body([]).replace("[]", "[" * 100_000), 400, "JSON"),
    "one very long name": (names("x" * 2**20), 400, "too long"),
    "too many files": (
        lambda staged: staged.body([{"name": f"{n:x}"} for n in range(100_001)]),
        400,
        "more than 100000 files",
    ),
    "another product": (
        lambda staged: staged.body(ALL, product_id="005"),
        403,
        "not given for this product",
    ),
    "another host": (
        lambda staged: staged.body(ALL, staged_to="elsewhere.example:2811"),
        403,
        "",
    ),
    "17 MiB": (
        lambda staged: staged.body(ALL) + " " * 17 * 2**20,
        413,
        "larger than 16777216 bytes",
    ),
}  # fmt: skip


def test_what_is_refused_has_no_effect(stack: Stack, target: Target, staged: Staged) -> None:
    """And needs no memory that stays."""
    before = staged.stored()
    resident: list[int] = []
    for _ in range(3):
        for what, (make, status, said) in REFUSED.items():
            answer = staged.post(make(staged))
            assert (answer.status, said in answer.document["msg"]) == (status, True), (what, answer)
            assert answer.document["error"] is True
            assert staged.stored() == before, what
        resident.append(memory(stack))
    print(f"resident: {resident} kB")
    assert staged.post(staged.body(ALL), user="alice").status == 403
    # the last one: deliv asks for another report a minute after it
    behind_files = json.dumps({"files": ALL} | staged.scalars | {"authcode": "0" * 32})
    answer = staged.post(behind_files)
    assert answer.status == 403
    assert "no staging of this job expects this code" in answer.document["msg"]
    assert staged.stored() == before
    staged.delivered(target)


def memory(stack: Stack) -> int:
    """deliv's, in kB."""
    lines = Path(f"/proc/{stack.testbed['pids']['deliv@1']}/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return int(kilobytes)


def test_of_two_at_once_one_counts(stack: Stack, target: Target, staged: Staged) -> None:
    """Another list of files of the same product; which one is first is open."""
    both = [staged.body(ALL), staged.body(ALL[:4])]
    with ThreadPoolExecutor(2) as stagers:
        answers = list(stagers.map(staged.post, both))
    assert sorted(answer.status for answer in answers) == [200, 403]
    taken = 5 if answers[0].status == 200 else 4
    with stack.client() as client:
        answer = client.wait(staged.job_id, timeout=400)
    assert (answer["status"], answer["files_total"], answer["files_done"]) == (
        "SUCCESS", taken, taken,
    )  # fmt: skip
    assert staged.stored()[-1] == taken


def test_the_same_one_at_once_and_again(stack: Stack, target: Target, staged: Staged) -> None:
    """It is harmless at any time, and another is refused at any time."""
    body = staged.body(ALL)
    with ThreadPoolExecutor(4) as stagers:
        answers = list(stagers.map(staged.post, [body] * 4))
    assert [answer.status for answer in answers] == [200] * 4
    staged.whole(target)
    ended = staged.stored()
    assert staged.post(body).status == 200
    other = staged.post(staged.body(ALL[:4]))
    assert (other.status, "no staging of this job" in other.document["msg"]) == (403, True)
    assert staged.post(staged.body(ALL, authcode="0" * 32)).status == 403
    assert staged.stored() == ended


def test_a_body_that_stops_in_the_middle(stack: Stack, target: Target, staged: Staged) -> None:
    """Others are served meanwhile, also other reports; when it is cut off, nothing is kept."""
    before = staged.stored()
    with half_sent(staged), half_sent(staged), half_sent(staged):
        assert stack.curl(f"/transferStatus?job_id={staged.job_id}").status == 200
        assert staged.post(staged.body(listed(["../x"]))).status == 400
    for _ in range(12):
        with half_sent(staged):
            assert staged.stored() == before
    staged.delivered(target)


@contextmanager
def half_sent(staged: Staged) -> Iterator[None]:
    """A connection on which half of a good report has been sent, and no more comes."""
    who = staged.stack.user("stager")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cafile=staged.stack.testbed["ca_file"])
    context.load_cert_chain(who.cert, who.key)
    body = staged.body(ALL).encode()
    port = urlsplit(staged.stack.url).port
    assert port is not None
    with connected(port, context) as secure:
        known = f"GET /transferStatus?job_id={staged.job_id} HTTP/1.1\r\nHost: x\r\n\r\n"
        assert exchange(secure, known.encode()).status  # it is being served
        head = (
            "POST /doneStaging HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {staged.caller.token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        secure.sendall(head.encode() + body[: len(body) // 2])
        yield


def test_a_report_of_very_many_while_others_are_served(
    stack: Stack, target: Target, staged: Staged
) -> None:
    """With an error in the last file, four times at once."""
    before = staged.stored()
    many = [{"name": f"{n % 100}/{'x' * 60}/{n:06}", "size": 1} for n in range(20_000)]
    body = staged.body([*many, {"name": "../x", "size": 1}])
    start = memory(stack)
    with ThreadPoolExecutor(4) as stagers:
        posts = [stagers.submit(staged.post, body) for _ in range(4)]
        served = 0
        while not all(post.done() for post in posts):
            assert stack.curl(f"/transferStatus?job_id={staged.job_id}").status == 200
            served += 1
    assert served > 1
    assert [post.result().status for post in posts] == [400] * 4
    until(lambda: staged.stored() == before, "nothing is left")
    print(f"resident: {start} kB, {memory(stack)} kB")
    staged.delivered(target)
