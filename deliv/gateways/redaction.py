"""What deliv sent in confidence is removed from the answers that it gets.

    redaction = Redaction(code)
    redaction.text(f"bad request: authcode={code}")     "bad request: authcode=[redacted]"

Found are a secret as it is, in other case, with characters written as URLs, JSON, C or HTML escape
them, one that is cut off after at least KNOWN characters, and one with white space, signs or tags
between its characters. An encoding of the whole, such as base64, is not.
"""

from __future__ import annotations

import re
from functools import cached_property

KNOWN = 8  # first characters by which a cut-off secret is known: random, so met by no chance
INSTEAD = "[redacted]"
BETWEEN = "(?:<[^<>]{0,64}>|[^0-9A-Za-z<>]){0,8}?"  # as few as can be: % may begin an escape
ESCAPES = re.compile(r"[%\\&<>]")  # their first characters, and tags
SIGNS = re.compile("[^0-9A-Za-z]+")


class Redaction:
    """`secrets` are ASCII."""

    def __init__(self, *secrets: str) -> None:
        self._secrets = tuple(filter(None, secrets))

    def text(self, text: str) -> str:
        return self._expression.sub(INSTEAD, text) if self._may_be_in(text) else text

    def content(self, content: bytes) -> bytes:
        """The same of text in an encoding that extends ASCII."""
        return self.text(content.decode("latin-1")).encode("latin-1")

    def found(self, text: str) -> bool:
        return self._may_be_in(text) and self._expression.search(text) is not None

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        """To compile it for each secret would cost more than the call that has the secret."""
        return re.compile("|".join(map(_expression, self._secrets)), re.IGNORECASE)

    def _may_be_in(self, text: str) -> bool:
        """False for a text without escapes, tags and foreign letters that lacks a KNOWN part."""
        if not self._secrets:
            return False
        if ESCAPES.search(text) or not text.isascii():
            return True
        letters = _letters(text)
        return any(_letters(secret[:KNOWN]) in letters for secret in self._secrets)


def _letters(text: str) -> str:
    return SIGNS.sub("", text).lower()


def _expression(secret: str) -> str:
    written = []
    for character in secret:
        code = ord(character)
        escapes = f"%{code:02x}|\\\\u{code:04x}|\\\\x{code:02x}|&#(?:0*{code}|x0*{code:x});"
        written.append(f"(?:\\\\?{re.escape(character)}|{escapes})")
    known = BETWEEN.join(written[:KNOWN])
    return known + "".join(f"(?:{BETWEEN}{one})?" for one in written[KNOWN:])
