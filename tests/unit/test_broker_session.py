"""What is logged about a failed connection."""

from __future__ import annotations

import errno

import pytest
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

from deliv.gateways.broker.session import explain

REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


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
def test_the_innermost_reason_is_reported(error: Exception, said: str) -> None:
    assert said in explain(error)
