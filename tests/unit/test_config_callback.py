"""`stager.callback`: the ways to show who the stager is, and those that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from deliv import config
from deliv.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "config" / "deliv.example.yaml"
TOKEN = {
    "issuer": "https://tokens.test",
    "audience": "deliv",
    "scope": "report",
    "jwks_url": "https://tokens.test/jwks",
}


def load(tmp_path: Path, callback: Any) -> config.Callback:
    document = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    document["stager"]["callback"] = callback
    path = tmp_path / "deliv.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return config.load(path).stager.callback


def test_by_default_the_certificates_role(tmp_path: Path) -> None:
    assert load(tmp_path, {}) == config.Callback(certificate=True, token=None)


def test_a_token_alone_or_beside_it(tmp_path: Path) -> None:
    for certificate in (True, False):
        callback = load(tmp_path, {"certificate": certificate, "token": TOKEN})
        assert callback.token
        assert callback.token.algorithms == ("RS256", "PS256", "ES256")


@pytest.mark.parametrize(
    ("callback", "reason"),
    [
        ({"certificate": False}, "a one-time code alone is not enough"),
        ({"certificate": False, "token": None}, "a one-time code alone is not enough"),
        ({"token": {}}, "issuer"),
        ({"token": TOKEN | {"jwks_url": "http://tokens.test/jwks"}}, "https"),
        ({"token": TOKEN | {"algorithms": []}}, "algorithms"),
        ({"token": TOKEN | {"algorithms": ["none"]}}, "algorithms"),
        ({"token": TOKEN | {"algorithms": ["RS256", "HS256"]}}, "algorithms"),
        ({"token": TOKEN | {"clock_skew": 60}}, "duration"),
    ],
)
def test_what_can_not_be_meant(tmp_path: Path, callback: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load(tmp_path, callback)
