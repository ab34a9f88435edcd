"""How long the leases of shared work live."""

from __future__ import annotations

from pathlib import Path

from deliv import config
from deliv.assembly import lease_ttls

EXAMPLE = Path(__file__).parents[2] / "config" / "deliv.example.yaml"


def test_a_lease_outlives_the_pause_between_two_runs() -> None:
    settings = config.load(EXAMPLE)
    assert lease_ttls(settings) == {
        "sweep": 30,
        "deadlines": 30,
        "rests": 30,
        "retention": 90,
        "delegations": 45,
        "poll:fts1": 30,
        "reconcile:fts1": 450,
    }
