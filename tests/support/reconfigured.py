"""A running stack with other settings: of deliv, and of the dummy stager."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from support.running_stack import Stack, until


def with_staging_limits(stack: Stack, limits: Mapping[str, Any]) -> None:
    """deliv starts again with these `limits.staging`; the stager has an hour."""
    path = Path(stack.testbed["config"])
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["stager"]["timeout"] = "1h"
    document["limits"] = {"staging": dict(limits)}
    stack.stop("deliv@1")
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    stack.control("start", "deliv@1")
    until(lambda: stack.ready().get("status") == "ready", "deliv is ready")


def with_capacity(stack: Stack, capacity: int) -> None:
    """The stager starts again, and refuses what passes so many bytes."""
    path = stack.directory / "stager.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    stack.stop("stager")
    path.write_text(json.dumps(settings | {"capacity": capacity}), encoding="utf-8")
    stack.control("start", "stager")
