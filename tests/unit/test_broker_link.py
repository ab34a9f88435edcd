"""The pause between attempts, and what is said about a failed one."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorAMQPHandshakeError,
    AMQPConnectorSocketConnectError,
)
from pika.exceptions import (
    AMQPConnectionError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    StreamLostError,
)

from deliv.gateways.broker.link import BACKOFF_CAP, pause
from deliv.gateways.broker.session import explain

REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


@given(st.integers(min_value=0, max_value=10**6))
def test_the_pause_grows_to_its_cap_and_never_vanishes(failures: int) -> None:
    longest = min(BACKOFF_CAP, 0.5 * 2 ** min(failures, 20))
    assert longest / 2 <= pause(failures) <= longest


def test_pauses_differ() -> None:
    assert len({pause(10) for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (REFUSED, "Connection refused"),
        (
            AMQPConnectionError(
                AMQPConnectionWorkflowFailed([AMQPConnectorSocketConnectError(REFUSED)])
            ),
            "Connection refused",
        ),
        (
            AMQPConnectionWorkflowFailed(
                [
                    AMQPConnectorSocketConnectError(TimeoutError("first address")),
                    AMQPConnectorAMQPHandshakeError(
                        ProbableAccessDeniedError(ConnectionClosedByBroker(530, "NOT_ALLOWED"))
                    ),
                ]
            ),
            "NOT_ALLOWED",
        ),
        (ChannelClosedByBroker(404, "NOT_FOUND - no queue"), "NOT_FOUND - no queue"),
        (StreamLostError("Transport indicated EOF"), "Transport indicated EOF"),
        (AMQPConnectionError(), "AMQPConnectionError"),
    ],
)
def test_the_innermost_reason_is_said(error: Exception, said: str) -> None:
    assert said in explain(error)
