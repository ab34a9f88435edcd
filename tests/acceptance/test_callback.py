"""The stager's callback, by everybody who might make it: only the stager's own counts, once."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from joserfc.jwk import ECKey
from support.posing import Caller, unsigned
from support.running_stack import Answer, Stack, Target, brought_up, until

from acceptance.test_audit_log import audited, holds

Make = Callable[[Caller], str | None]
Fields = dict[str, str]


@pytest.fixture
def caller(stack: Stack) -> Caller:
    return Caller(stack)


SIZES = itertools.count(10_001)  # of products, each of which one test alone has staged


@pytest.fixture
def waiting(stack: Stack, target: Target) -> Iterator[str]:
    """A job that is staged, of which the stager says nothing."""
    with stack.client() as client:
        job_id = client.submit(f"silent-synthetic-{next(SIZES)}", target.url)
    yield job_id
    stack.curl("/cancelTransfer", "--data", f"job_id={job_id}")


def row(stack: Stack, job_id: str) -> tuple[Any, ...]:
    """Everything about a job that a callback could change."""
    ((*columns,),) = stack.query(
        "SELECT status, attempt, stager_callback, stager_path, stager_hostname, time_staged, "
        "detailed_status, checksum FROM jobs WHERE job_id = %s",
        job_id,
    )
    return tuple(columns)


def without_effect(stack: Stack, job_id: str, call: Callable[[], Answer]) -> dict[str, Any]:
    """A call that is refused, on record, and changes nothing; its audit line."""
    before = row(stack, job_id)
    answer = call()
    assert (answer.status, answer.document["error"]) == (403, True)
    entry = audited(stack, answer)
    assert holds(entry, outcome="refused", action="stage_report", call="POST /doneStaging")
    assert entry["reason"]
    assert row(stack, job_id) == before
    return entry


# --- tokens


def tampered(caller: Caller) -> str:
    """A longer life, with the signature for the shorter one."""
    head, payload, signature = caller.token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "==")) | {"exp": 2**40}
    changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"{head}.{changed}.{signature}"


def strangers_key(caller: Caller) -> str:
    kid = caller.keys()[-1].kid
    return caller.minted(signer=ECKey.generate_key("P-256", {"kid": kid or ""}))


def claims_of(**changes: Any) -> Make:
    return lambda caller: caller.minted(**changes)


def header_of(**changes: Any) -> Make:
    return lambda caller: caller.minted(header=changes)


NOW = int(time.time())
TOKENS: dict[str, Make] = {
    "tampered with": tampered,
    "signed by a stranger": strangers_key,
    "signed by an unknown key": header_of(kid="unknown"),
    "without a key's name": header_of(kid=""),
    "not an access token": header_of(typ="JWT"),
    "critical": header_of(crit=["kid"]),
    "without a signature": lambda caller: caller.token.rpartition(".")[0] + ".",
    "alg none": lambda caller: unsigned(alg="none", typ="at+jwt", kid=caller.keys()[-1].kid),
    "alg HS256": lambda caller: unsigned(alg="HS256", typ="at+jwt", kid=caller.keys()[-1].kid),
    "alg RS256": lambda caller: unsigned(alg="RS256", typ="at+jwt", kid=caller.keys()[-1].kid),
    "expired": claims_of(exp=NOW - 3600),
    "without an end": claims_of(exp=None),
    "of tomorrow": claims_of(nbf=NOW + 86400),
    "issued tomorrow": claims_of(iat=NOW + 86400),
    "of another issuer": claims_of(iss="https://127.0.0.1:1"),
    "for somebody else": claims_of(aud="somebody else"),
    "for nobody": claims_of(aud=None),
    "without its client": claims_of(client_id=None),
    "bound to another certificate": claims_of(cnf={"x5t#S256": "A" * 43}),
    "bound to nothing": claims_of(cnf=None),
    "bound to another kind of key": claims_of(cnf={"jkt": "A" * 43}),
    "garbage": lambda caller: "garbage",
    "empty": lambda caller: " ",
    "too long": lambda caller: "A" * 12000,
    "not ASCII": lambda caller: "t\u00f6ken",
}


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_that_is_not_good(stack: Stack, waiting: str, caller: Caller, name: str) -> None:
    fields, token = caller.staged(waiting), TOKENS[name](caller)
    entry = without_effect(stack, waiting, lambda: caller.report(fields, token))
    assert "token" in entry["reason"]
    assert "client_id" not in entry
    answer = caller.report(fields, token)
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (token or "-") not in answer.body.decode() or not (token or "").strip()


def test_a_token_without_the_scope(stack: Stack, waiting: str, caller: Caller) -> None:
    token = caller.minted(scope="something.else")
    fields = caller.staged(waiting)
    without_effect(stack, waiting, lambda: caller.report(fields, token))
    answer = caller.report(fields, token)
    assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'


@pytest.mark.parametrize("authorization", [None, "Basic c3RhZ2VyOng=", "Bearer", "Token x", ""])
def test_no_token(stack: Stack, waiting: str, caller: Caller, authorization: str | None) -> None:
    fields = caller.staged(waiting)
    entry = without_effect(
        stack, waiting, lambda: caller.report(fields, None, authorization=authorization)
    )
    assert "token" in entry["reason"]


def test_a_token_as_a_parameter(stack: Stack, waiting: str, caller: Caller) -> None:
    fields = caller.staged(waiting) | {"access_token": caller.token}
    assert caller.report(fields, None).status == 400


# --- certificates


@pytest.mark.parametrize("user", ["alice", "operator"])
def test_the_stagers_token_and_code_with_anothers_certificate(
    stack: Stack, waiting: str, caller: Caller, user: str
) -> None:
    """Not even bound to that certificate."""
    fields = caller.staged(waiting)
    entry = without_effect(stack, waiting, lambda: caller.report(fields, user=user))
    assert entry["dn"] == stack.user(user).dn
    with pytest.raises(KeyError):
        caller.asked_for(user)["access_token"]


# --- codes


def other_job(stack: Stack, target: Target, caller: Caller) -> Fields:
    with stack.client() as client:
        return caller.staged(client.submit(f"silent-synthetic-{next(SIZES)}", target.url))


@pytest.mark.parametrize(
    "changes",
    [
        {"authcode": "0" * 32},
        {"authcode": "0"},
        {"authcode": "0" * 1000},
        {"product_id": "005"},
        {"product_id": "{mine} "},
        {"product_id": "{MINE}"},
        {"staged_to": "elsewhere.example:2811"},
        {"staged_to": "127.0.0.1:1"},
        {"job_id": "01900000-0000-7000-8000-000000000001"},
        {"success": "false", "authcode": "0" * 32},
    ],
)
def test_a_report_that_is_not_about_this(
    stack: Stack, waiting: str, caller: Caller, changes: Fields
) -> None:
    fields = caller.staged(waiting)
    mine = fields["product_id"]
    fields |= {name: text.format(mine=mine, MINE=mine.upper()) for name, text in changes.items()}
    entry = without_effect(stack, waiting, lambda: caller.report(fields))
    assert entry["client_id"] == "stager"


def test_a_place_that_is_refused_is_told(
    stack: Stack, waiting: str, target: Target, caller: Caller
) -> None:
    fields = caller.staged(waiting) | {"staged_to": "elsewhere.example:2811"}
    without_effect(stack, waiting, lambda: caller.report(fields))
    with stack.client() as client:
        shown = client.status(waiting)["stager_status"]
    assert shown.startswith("its report was refused: staged_to names elsewhere.example:2811")


def test_one_jobs_code_for_another(
    stack: Stack, waiting: str, target: Target, caller: Caller
) -> None:
    mine, other = caller.staged(waiting), other_job(stack, target, caller)
    for job_id, fields in (
        (waiting, mine | {"authcode": other["authcode"]}),
        (waiting, other | {"job_id": waiting}),
        (other["job_id"], other | {"authcode": mine["authcode"]}),
    ):
        without_effect(stack, job_id, lambda fields=fields: caller.report(fields))  # type: ignore[misc]


def test_an_earlier_attempts_code(stack: Stack, waiting: str, caller: Caller) -> None:
    """The staging is made to have run out of time, so that it begins again."""
    first = caller.staged(waiting)
    accepted = "SELECT 1 FROM jobs WHERE job_id = %s AND stager_accepted IS NOT NULL"
    until(lambda: stack.query(accepted, waiting), "the stager has accepted the request")
    stack.query(
        "UPDATE stagings SET accepted = accepted - INTERVAL 2 DAY, due_at = NOW(6) "
        "WHERE staging_id = %s",
        stack.staging_id(waiting),
    )
    until(lambda: caller.staged(waiting)["authcode"] != first["authcode"], "a second attempt")
    until(lambda: row(stack, waiting)[1] == 2, "it counts as one")
    without_effect(stack, waiting, lambda: caller.report(first))
    without_effect(stack, waiting, lambda: caller.report(first | {"success": "false"}))


def test_the_true_report_counts_once(stack: Stack, waiting: str, caller: Caller) -> None:
    fields = caller.staged(waiting)
    for token in (caller.minted(exp=NOW - 3600), tampered(caller)):
        assert caller.report(fields, token).status == 403
    assert caller.report(fields | {"authcode": "1" * 32}).status == 403
    taken = caller.report(fields)
    assert taken.status == 200
    entry = audited(stack, taken)
    assert holds(entry, outcome="allowed", action="stage_report", client_id="stager")
    assert entry["token_id"] == caller.claims["jti"]
    for replay in (fields, fields | {"success": "false", "msg": "lost"}):
        assert caller.report(replay).status == 403
    with stack.client() as client:
        answer = client.wait(waiting, timeout=400)
    assert (answer["status"], answer["attempt"]) == ("SUCCESS", 1)
    without_effect(stack, waiting, lambda: caller.report(fields))


# --- the stager's own tokens


def test_a_stager_whose_first_token_is_bad(stack: Stack, target: Target) -> None:
    with stack.client() as client:
        answer = client.wait(client.submit("badtoken-synthetic-32", target.url), timeout=400)
    assert (answer["status"], answer["attempt"]) == ("SUCCESS", 1)
    assert target.holds_synthetic(32)


@pytest.fixture(scope="module")
def own() -> Iterator[Stack]:
    """A stack whose issuer may be disturbed."""
    with brought_up() as stack:
        yield stack


def delivered(stack: Stack, product: str, target: Target) -> bool:
    with stack.client() as client:
        answer = client.wait(client.submit(product, target.url), timeout=400)
    return answer["status"] == "SUCCESS"


@pytest.mark.own_stack
def test_the_issuers_key_changes(own: Stack) -> None:
    """What was signed by the last key stays good, and what the new one signs is at once."""
    caller = Caller(own)
    old, (first,) = caller.token, caller.keys()
    os.kill(own.testbed["pids"]["issuer"], signal.SIGHUP)
    until(lambda: len(caller.keys()) == 2, "there is a new key")
    new = Caller(own)
    assert new.keys()[-1].kid != first.kid
    assert delivered(own, "synthetic-33", own.target())
    for token in (old, new.token):
        answer = caller.report(
            {"job_id": "x", "product_id": "y", "authcode": "z", "success": "0"}, token
        )
        assert "no staging" in answer.document["msg"]


@pytest.mark.own_stack
def test_without_an_issuer(own: Stack) -> None:
    """Whoever has keys and a token goes on; who has no keys yet waits, and loses nothing."""
    assert delivered(own, "synthetic-34", own.target())
    own.control("kill", "issuer")
    assert delivered(own, "synthetic-35", own.target())
    own.control("kill", "deliv@1")
    own.control("start", "deliv@1")
    until(lambda: "issuer" in own.ready().get("waiting_for", ()), "deliv waits for the issuer")
    with own.client() as client:
        job_id = client.submit("synthetic-36", own.target().url)
        until(lambda: _called_in_vain(own), "the stager has called in vain")
        assert client.status(job_id)["status"] == "STAGING"
        own.control("start", "issuer")
        assert client.wait(job_id, timeout=400)["status"] == "SUCCESS"


def _called_in_vain(stack: Stack) -> bool:
    log = stack.directory / "log" / "stager.log"
    return "deliv answered 503" in log.read_text(encoding="utf-8")


# --- other ways to show who the stager is


@contextmanager
def configured(stack: Stack, callback: dict[str, Any]) -> Iterator[Caller]:
    """A deliv with another `stager.callback`, for a while."""
    path = Path(stack.testbed["config"])
    before = path.read_text(encoding="utf-8")
    document = yaml.safe_load(before)
    document["stager"]["callback"] = callback
    try:
        _restart(stack, path, yaml.safe_dump(document))
        yield Caller(stack)
    finally:
        _restart(stack, path, before)


def _restart(stack: Stack, path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    stack.control("kill", "deliv@1")
    stack.control("start", "deliv@1")
    until(lambda: stack.ready().get("status") == "ready", "deliv is ready again")


def silently_staged(stack: Stack, caller: Caller, size: int) -> Fields:
    with stack.client() as client:
        return caller.staged(client.submit(f"silent-synthetic-{size}", stack.target().url))


@pytest.mark.own_stack
def test_the_certificates_role_alone(own: Stack) -> None:
    with configured(own, {"certificate": True}) as caller:
        fields = silently_staged(own, caller, 34)
        assert caller.report(fields, None, user="alice").status == 403
        assert caller.report(fields | {"authcode": "0" * 32}, None).status == 403
        assert caller.report(fields, None, authorization="Bearer nonsense").status == 200
        assert caller.report(fields, None).status == 403


@pytest.mark.own_stack
def test_a_token_alone(own: Stack) -> None:
    """From whomever TLS lets in; what is bound is good with its certificate only."""
    config = yaml.safe_load(Path(own.testbed["config"]).read_text(encoding="utf-8"))
    token = config["stager"]["callback"]["token"] | {"bound": False}
    with configured(own, {"certificate": False, "token": token}) as caller:
        fields = silently_staged(own, caller, 35)
        for bad in (None, caller.minted(exp=NOW - 3600), caller.minted(scope="other")):
            assert caller.report(fields, bad).status == 403
        assert caller.report(fields, user="bob").status == 403
        unbound = caller.minted(cnf=None)
        assert caller.report(fields | {"authcode": "0" * 32}, unbound).status == 403
        assert caller.report(fields, unbound, user="bob").status == 200
