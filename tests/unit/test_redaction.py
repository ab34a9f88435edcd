"""How a secret may be written and is found all the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deliv.gateways.redaction import INSTEAD, Redaction

CODE = "8f3a61c27d905be4196ac0de3b72f548"
WRITTEN: dict[str, Callable[[str], str]] = {
    "plain": str,
    "in capitals": str.upper,
    "for a URL": lambda code: "".join(f"%{ord(one):02X}" for one in code),
    "for JSON": lambda code: "".join(f"\\u{ord(one):04x}" for one in code),
    "for C": lambda code: "".join(f"\\x{ord(one):02x}" for one in code),
    "for HTML": lambda code: "".join(f"&#{ord(one)};" for one in code),
    "for HTML in hexadecimal": lambda code: "".join(f"&#x{ord(one):X};" for one in code),
    "over two lines": lambda code: f"{code[:5]}\n  {code[5:]}",
    "with a tag in it": lambda code: f"{code[:3]}<wbr>{code[3:]}",
}


@pytest.mark.parametrize("write", WRITTEN.values(), ids=WRITTEN.keys())
@pytest.mark.parametrize("length", [8, 20, len(CODE)])
def test_a_secret_is_found_however_it_is_written(write: Callable[[str], str], length: int) -> None:
    redaction, text = Redaction(CODE), f"had ({write(CODE[:length])})."
    assert redaction.found(text)
    assert redaction.text(text) == f"had ({INSTEAD})."
    assert redaction.content(text.encode()) == f"had ({INSTEAD}).".encode()


def test_what_is_no_secret_stays() -> None:
    redaction, text = Redaction(CODE), f"job {CODE[:7]} of {CODE[1:]}"
    assert not redaction.found(text)
    assert redaction.text(text) == text
    assert Redaction().text(CODE) == CODE


@pytest.mark.parametrize("before", ["", "%", "\\", "&", "<", "é"])
@pytest.mark.parametrize("between", ["", "-", " . ", "</b>"])
def test_what_stands_before_a_secret_hides_none(before: str, between: str) -> None:
    text = before + between.join((CODE[:4], CODE[4:9], CODE[9:].upper()))
    assert Redaction("another", CODE).found(text)
    assert Redaction("another", CODE).text(text).endswith(INSTEAD)
    assert Redaction(CODE).content(text.encode()).endswith(INSTEAD.encode())
