"""What deliv sent in confidence is removed from the answers that it gets.

    redaction = Redaction(code)
    redaction.text(f"bad request: authcode={code}")     "bad request: authcode=[redacted]"

Found are a secret as it is, in other case, with characters written as URLs, JSON, C or HTML escape
them, one that is cut off after at least KNOWN characters, and one with white space, signs or tags
between its characters. An encoding of the whole, such as base64, is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property

KNOWN = 8  # first characters by which a cut-off secret is known: random, so met by no chance
INSTEAD = "[redacted]"
BETWEEN = "(?:<[^<>]{0,64}>|[^0-9A-Za-z<>]){0,8}?"  # as few as can be: % may begin an escape


class Redaction:
    """`secrets` are ASCII."""

    def __init__(self, *secrets: str) -> None:
        self._secrets = [secret for secret in secrets if secret]

    def text(self, text: str) -> str:
        return self._whole.sub(INSTEAD, text) if self.found(text) else text

    def content(self, content: bytes) -> bytes:
        """The same of text in an encoding that extends ASCII."""
        return self.text(content.decode("latin-1")).encode("latin-1")

    def found(self, text: str) -> bool:
        return bool(self._secrets) and self._known.search(text) is not None

    # Each call to the stager has another secret, whose expression takes milliseconds to compile: of
    # the whole only when the first characters are found.

    @cached_property
    def _known(self) -> re.Pattern[str]:
        return _compiled(secret[:KNOWN] for secret in self._secrets)

    @cached_property
    def _whole(self) -> re.Pattern[str]:
        return _compiled(self._secrets)


def _compiled(secrets: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(_expression, secrets)), re.IGNORECASE)


def _expression(secret: str) -> str:
    written = []
    for character in secret:
        code = ord(character)
        escapes = f"%{code:02x}|\\\\u{code:04x}|\\\\x{code:02x}|&#(?:0*{code}|x0*{code:x});"
        written.append(f"(?:\\\\?{re.escape(character)}|{escapes})")
    known = BETWEEN.join(written[:KNOWN])
    return known + "".join(f"(?:{BETWEEN}{one})?" for one in written[KNOWN:])
