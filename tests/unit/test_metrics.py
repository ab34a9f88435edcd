"""The alerts that the documents propose are on metrics that there are."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import Counter, Gauge

from deliv.ops import metrics

OPERATE = Path(__file__).parents[2] / "docs" / "operate.md"


def test_each_alert_is_on_a_metric_with_these_labels() -> None:
    _, table = OPERATE.read_text(encoding="utf-8").split("| alert on |")
    alerts = [row.split(" | ")[0] for row in table.split("\n\n")[0].splitlines()[2:]]
    asked = [found for row in alerts for found in re.findall(r"(deliv_\w+)(?:\{(\w+))?", row)]
    assert len(asked) > 8
    declared = [one for one in vars(metrics).values() if isinstance(one, Counter | Gauge)]
    known = {
        name: one._labelnames for one in declared for name in (one._name, f"{one._name}_total")
    }
    assert [name for name, _ in asked if name not in known] == []
    assert [name for name, label in asked if label and label not in known[name]] == []
