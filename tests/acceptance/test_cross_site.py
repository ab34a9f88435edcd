"""Requests that a web page of another site makes a browser send, with its user's certificate."""

from __future__ import annotations

import pytest
from support.running_stack import Answer, Stack, Target

from acceptance.test_audit_log import audited, holds

FORM = "product_id=005&destination_path={url}"
EVIL = "Origin: https://evil.example"


def submit(stack: Stack, target: Target, *headers: str) -> Answer:
    options = [option for header in headers for option in ("-H", header)]
    return stack.curl("/submitTransfer", "-d", FORM.format(url=target.url), *options)


def of(stack: Stack, before: str = "https://", after: str = "") -> str:
    """The stack's own origin, written in a way of the test's own."""
    return f"Origin: {before}{stack.url.removeprefix('https://')}{after}"


@pytest.mark.parametrize(
    "headers",
    [
        (EVIL,),
        ("Origin: null",),
        ("Origin;",),  # curl's way to send an empty one
        ("Sec-Fetch-Site: cross-site",),
        ("Sec-Fetch-Site: same-site",),  # another host of the same domain
        ("Sec-Fetch-Site: same-origin", EVIL),
        ("Sec-Fetch-Site: none", "Origin: http://localhost"),
        ("Sec-Fetch-Site: Same-Origin",),
    ],
)
def test_another_sites_page_submits_nothing(
    stack: Stack, target: Target, headers: tuple[str, ...]
) -> None:
    before = stack.how_many_jobs()
    answer = submit(stack, target, *headers)
    assert (answer.status, answer.document["job_id"]) == (403, None)
    assert "web page" in answer.document["msg"]
    assert stack.url in answer.document["msg"]
    assert stack.how_many_jobs() == before
    entry = audited(stack, answer)
    assert holds(entry, outcome="refused", dn=stack.user("alice").dn)
    assert "web page" in entry["reason"]


@pytest.mark.parametrize(
    ("before", "after"),
    [("http://", ""), ("https://www.", ""), ("https://", "0"), ("https://", "@evil.example")],
)
def test_an_origin_is_the_same_by_scheme_host_and_port(
    stack: Stack, target: Target, before: str, after: str
) -> None:
    assert submit(stack, target, of(stack, before, after)).status == 403


def test_two_origins_are_none(stack: Stack, target: Target) -> None:
    assert submit(stack, target, of(stack), EVIL).status == 403


def test_every_call_that_changes_something_is_guarded(stack: Stack) -> None:
    calls = [
        ("/cancelTransfer", "POST", "alice"),
        ("/retryTransfer", "POST", "alice"),
        ("/doneStaging", "POST", "stager"),
        ("/delegation/0123456789abcdef", "DELETE", "alice"),
        ("/delegation/0123456789abcdef/credential", "PUT", "alice"),
    ]
    for path, method, user in calls:
        answer = stack.curl(path, "-X", method, "-H", EVIL, "-d", "x=1", user=user)
        assert answer.status == 403, (path, answer)
        assert "web page" in answer.document["msg"]


def test_pages_of_its_own_and_programs_go_on(stack: Stack, target: Target) -> None:
    own = ("Sec-Fetch-Site: same-origin", of(stack))
    for headers in (own, (of(stack, "HTTPS://"),), ("Sec-Fetch-Site: none",), ()):
        assert submit(stack, target, *headers).status == 202, headers


def test_a_link_from_elsewhere_may_look(stack: Stack) -> None:
    """A page can't read the answer: there is no Access-Control-Allow-Origin."""
    own = stack.curl("/whoami").document["delegation_id"]
    for path in ("/transfers", f"/delegation/{own}/request"):
        answer = stack.curl(path, "-H", EVIL, "-H", "Sec-Fetch-Site: cross-site")
        assert answer.status == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_link_from_elsewhere_changes_no_request_for_a_proxy(stack: Stack) -> None:
    """The one thing that a look may store is a key, where there is none."""
    request = f"/delegation/{stack.curl('/whoami').document['delegation_id']}/request"
    before = stack.curl(request).body
    assert stack.curl(request, "-H", EVIL, "-H", "Sec-Fetch-Site: cross-site").body == before
    assert stack.curl(request).body == before
