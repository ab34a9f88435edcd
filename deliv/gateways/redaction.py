"""What deliv sent in confidence is removed from the answers that it gets.

    redaction = Redaction(code)
    redaction.text(f"bad request: authcode={code}")     "bad request: authcode=[redacted]"

Found are a secret as it is, in other case, with characters written as URLs, JSON, C or HTML escape
them, one that is cut off after at least KNOWN characters, and one with white space, signs or tags
between its characters. An encoding of the whole, such as base64, is not.
"""

from __future__ import annotations

import re

KNOWN = 8  # first characters by which a cut-off secret is known: random, so met by no chance
INSTEAD = "[redacted]"
BETWEEN = "(?:<[^<>]{0,64}>|[^0-9A-Za-z<>]){0,8}?"  # as few as can be: % may begin an escape


class Redaction:
    """`secrets` are ASCII."""

    def __init__(self, *secrets: str) -> None:
        expression = "|".join(map(_expression, filter(None, secrets)))
        self._text = re.compile(expression, re.IGNORECASE)
        self._content = re.compile(expression.encode("ascii"), re.IGNORECASE)
        self._needed = bool(expression)

    def text(self, text: str) -> str:
        return self._text.sub(INSTEAD, text) if self._needed else text

    def content(self, content: bytes) -> bytes:
        """The same of text in an encoding that extends ASCII."""
        return self._content.sub(INSTEAD.encode("ascii"), content) if self._needed else content

    def found(self, text: str) -> bool:
        return self._needed and self._text.search(text) is not None


def _expression(secret: str) -> str:
    written = []
    for character in secret:
        code = ord(character)
        escapes = f"%{code:02x}|\\\\u{code:04x}|\\\\x{code:02x}|&#(?:0*{code}|x0*{code:x});"
        written.append(f"(?:\\\\?{re.escape(character)}|{escapes})")
    known = BETWEEN.join(written[:KNOWN])
    return known + "".join(f"(?:{BETWEEN}{one})?" for one in written[KNOWN:])
