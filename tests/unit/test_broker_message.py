"""Work messages: what is written can be read, what can't be read is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deliv.gateways.broker import MalformedMessage, Message

TEXT = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
JOB_IDS = st.text(PRINTABLE, min_size=1, max_size=36)
PAYLOADS = st.dictionaries(TEXT.filter(lambda key: key not in ("job_id", "verb")), JSON, max_size=3)


@given(routing=st.text(min_size=1), job_id=JOB_IDS, payload=PAYLOADS)
def test_a_message_survives_the_wire(routing: str, job_id: str, payload: dict[str, object]) -> None:
    message = Message(routing=routing, job_id=job_id, payload=payload)
    assert Message.decode(message.encode()) == message


def test_the_payload_can_not_speak_for_another_job() -> None:
    message = Message(routing="stage", job_id="mine", payload={"job_id": "other", "verb": "x"})
    assert message.encode() == b'{"job_id":"mine","verb":"stage"}'


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'"text"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"verb":"stage"}', "job_id"),
        (b'{"job_id":"","verb":"stage"}', "job_id"),
        (b'{"job_id":7,"verb":"stage"}', "job_id"),
        (b'{"job_id":"' + b"x" * 37 + b'","verb":"stage"}', "job_id"),
        (rb'{"job_id":"\ud800","verb":"stage"}', "job_id"),
        (rb'{"job_id":"\u001b[2J","verb":"stage"}', "job_id"),
        ('{"job_id":"\u00fc","verb":"stage"}'.encode(), "job_id"),
        (b'{"job_id":"a"}', "verb"),
        (b'{"job_id":"a","verb":""}', "verb"),
    ],
)
def test_malformed_bodies_are_named(body: bytes, complaint: str) -> None:
    with pytest.raises(MalformedMessage, match=complaint):
        Message.decode(body)


@given(st.binary(max_size=60))
def test_no_body_raises_anything_else(body: bytes) -> None:
    try:
        Message.decode(body)
    except MalformedMessage as error:
        assert str(error)
