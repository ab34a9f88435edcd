"""`deliv queue rest`: what an operator asks for is refused where it would not come true."""

from __future__ import annotations

import argparse
import asyncio
from typing import cast

import pytest

from deliv.assembly import Parts
from deliv.commands import rests
from deliv.errors import ConfigError


def test_a_rest_whose_end_is_over_is_not_begun() -> None:
    """It would end at once, after the operator was told that the host rests."""
    parser = argparse.ArgumentParser()
    rests.add_rest(parser)
    options = parser.parse_args(
        ["dtn.example.org", "--reason", "a new disk", "--until", "2020-01-07T08:00:00Z"]
    )
    with pytest.raises(ConfigError, match="--until 2020-01-07T08:00:00Z is over"):
        asyncio.run(rests.rest(cast(Parts, None), options))
