"""What a user notices of a thousand connections that only wait."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from support.another_instance import another_instance
from support.beside_a_crowd import beside_a_crowd, measure
from support.running_stack import Stack

from bench.figures import Figure

ROUNDS = 3  # of which the least disturbed counts


def figures(stack: Stack) -> Iterator[Figure]:
    with (
        tempfile.TemporaryDirectory() as directory,
        another_instance(stack, Path(directory)) as instance,
    ):
        measure(instance)  # warm
        pairs = [(measure(instance), beside_a_crowd(instance)) for _ in range(ROUNDS)]
    alone, beside = min(pairs, key=lambda pair: pair[1].p95 / pair[0].p95)
    yield Figure(
        what="a submission beside 1,000 that wait, p95", value=beside.p95 * 1000,
        against="alone", base=alone.p95 * 1000, unit="ms", most=2,
    )  # fmt: skip
