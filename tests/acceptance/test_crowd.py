"""A thousand connections that only wait, and another user's submissions meanwhile."""

from __future__ import annotations

from pathlib import Path

from support.another_instance import another_instance
from support.beside_a_crowd import beside_a_crowd, measure
from support.running_stack import Stack


def test_others_are_served_while_a_crowd_waits(stack: Stack, tmp_path: Path) -> None:
    """Each of their submissions is taken; how fast is for `make bench` to say."""
    with another_instance(stack, tmp_path) as instance:
        measure(instance)  # warm
        alone, beside = measure(instance), beside_a_crowd(instance)
    assert beside.memory <= 1.5 * alone.memory
