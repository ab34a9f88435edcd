"""Keys at rest: what is sealed opens only in its own row, and only with the key."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deliv.errors import ConfigError
from deliv.identity.sealing import KeySealer, SealBroken

OLD, NEW = b"o" * 32, b"n" * 32
SEALER = KeySealer([NEW, OLD])


def broken(sealer: KeySealer, sealed: bytes, context: str = "row") -> str:
    with pytest.raises(SealBroken) as caught:
        sealer.open(sealed, context)
    return str(caught.value)


@given(st.binary(max_size=3000), st.text(st.characters(codec="utf-8")))
def test_what_was_sealed_opens(secret: bytes, context: str) -> None:
    sealed = SEALER.seal(secret, context)
    assert SEALER.open(sealed, context) == secret
    assert len(secret) < 8 or secret not in sealed


def test_the_same_secret_is_sealed_differently_each_time() -> None:
    assert len({SEALER.seal(b"secret", "row") for _ in range(100)}) == 100


def test_not_in_another_row() -> None:
    assert "something else" in broken(SEALER, SEALER.seal(b"secret", "row"), "other row")


def test_every_byte_counts() -> None:
    sealed = SEALER.seal(b"secret", "row")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        broken(SEALER, bytes(changed))
    for short in range(len(sealed)):
        broken(SEALER, sealed[:short])


def test_keys_change() -> None:
    before = KeySealer([OLD]).seal(b"secret", "row")
    assert SEALER.open(before, "row") == b"secret"
    after = SEALER.seal(b"secret", "row")
    assert "not in the file" in broken(KeySealer([OLD]), after)
    assert KeySealer([NEW]).open(after, "row") == b"secret"


def test_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("\n".join(base64.b64encode(key).decode() for key in (NEW, OLD)) + "\n")
    sealer = KeySealer.load(file)
    assert sealer.open(SEALER.seal(b"secret", "row"), "row") == b"secret"


@pytest.mark.parametrize(
    "content", ["", "\n", "secret", base64.b64encode(b"x" * 16).decode(), "ä" * 44, "=" * 44]
)
def test_a_file_that_has_no_keys(tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match="32 random bytes in base64"):
        KeySealer.load(file)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        KeySealer.load(tmp_path / "none")
