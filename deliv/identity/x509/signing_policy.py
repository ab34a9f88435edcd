"""Which subjects a CA may certify: its signing policy (EACL) in the CA directory.

    access_id_CA   X509    '/O=Example/CN=Example CA'
    pos_rights     globus  CA:sign
    cond_subjects  globus  '"/O=Example/OU=users/*" "/O=Example/OU=hosts/*"'

Matching is Globus's: letter case does not count, `E` and `Email` are `emailAddress`, `USERID` is
`UID`. `*` matches at least one character, `?` exactly one.

Source: https://github.com/gridcf/gct, gsi/callback/source/library/oldgaa.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from deliv.errors import CredentialRefused
from deliv.identity import patterns
from deliv.identity.files import Parsed
from deliv.identity.x509 import dn

LARGEST = 2**20  # octets in one file
WORD = re.compile(
    r"""\s*(?:
        \#[^\n]*                                      # a comment, to the end of its line
        | '(?P<quoted>(?:[^'\\]|\\.)*)'(?=\s|$)       # a backslash makes any character plain
        | (?P<bare>[^\s'\#]\S*)
    )""",
    re.VERBOSE | re.DOTALL,
)
SUBJECT = re.compile(r'\s*"([^"]+)"(?=\s|$)')
SYNONYM = re.compile(r"(?<!\\)/(e|email|userid)=")
SYNONYMS = {"e": "emailaddress", "email": "emailaddress", "userid": "uid"}

Subjects = tuple[re.Pattern[str], ...]


class SigningPolicies:
    """The `HASH.signing_policy` files of a CA directory, read again when they change."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: Parsed[Mapping[str, Subjects]] = Parsed(parse)

    def check(self, issuer: bytes, subject: str) -> None:
        """CredentialRefused unless the CA (its name's DER) may certify `subject` (one line)."""
        authority = dn.oneline(issuer)
        path = self._directory / f"{dn.name_hash(issuer)}.signing_policy"
        try:
            entries = self._files.get(path)
        except ValueError as error:
            raise CredentialRefused(
                f"the signing policy of {authority} is broken: {error}"
            ) from error
        if entries is None:
            raise CredentialRefused(f"there is no signing policy of the CA {authority}")
        if not allows(entries, authority, subject):
            raise CredentialRefused(
                f"{subject} is outside the signing policy of its CA {authority}"
            )


def allows(entries: Mapping[str, Subjects], authority: str, subject: str) -> bool:
    """Whether a file's entries let this CA certify this subject."""
    name = normal(subject)
    return any(p.fullmatch(name) for p in entries.get(normal(authority), ()))


def parse(content: bytes) -> dict[str, Subjects]:
    """Each CA's subject patterns; ValueError where a file says what deliv does not implement."""
    if len(content) > LARGEST:
        raise ValueError(f"larger than {LARGEST} bytes")
    if not content.isascii():
        raise ValueError("it has other characters than ASCII")
    words = _words(content.decode("ascii"))
    if len(words) % 3:
        raise ValueError("the file ends in the middle of a statement")
    statements = [tuple(words[i : i + 3]) for i in range(0, len(words), 3)]
    entries: dict[str, Subjects] = {}
    while statements:  # an entry: CAs, then their right with its conditions
        authorities = _take(statements, "access_id_CA", "X509")
        if _take(statements, "pos_rights", "globus") != ["CA:sign"]:
            raise ValueError("expected one pos_rights globus CA:sign for each CA")
        conditions = _take(statements, "cond_subjects", "globus")
        subjects = tuple(pattern for one in conditions for pattern in _subjects(one))
        for authority in map(normal, authorities):
            entries[authority] = entries.get(authority, ()) + subjects
    if not entries:
        raise ValueError("no access_id_CA entry")
    return entries


def normal(name: str) -> str:
    """A one-line name as Globus compares it."""
    return SYNONYM.sub(lambda match: f"/{SYNONYMS[match[1]]}=", name.lower())


def _words(text: str) -> list[str]:
    """The words of a file, without its comments, quotes and backslashes."""
    words, position, end = [], 0, len(text.rstrip())
    while position < end:
        match = WORD.match(text, position, end)
        if match is None:
            raise ValueError(f"line {text.count(chr(10), 0, position) + 1}: a quote is not closed")
        if match["quoted"] is not None:
            words.append(re.sub(r"\\(.)", r"\1", match["quoted"], flags=re.DOTALL))
        elif match["bare"]:
            words.append(match["bare"])
        position = match.end()
    return words


def _take(statements: list[tuple[str, ...]], kind: str, authority: str) -> list[str]:
    """The values of the leading statements of one kind, of which there is at least one."""
    values = []
    while statements and statements[0][:2] == (kind, authority):
        values.append(statements.pop(0)[2])
    if not values:
        found = " ".join(statements[0][:2]) if statements else "the end of the file"
        raise ValueError(f"expected {kind} {authority}, found {found}")
    return values


def _subjects(condition: str) -> Subjects:
    """The pattern, or the patterns in double quotes, of one condition."""
    found = [condition]
    if '"' in condition:
        rest = SUBJECT.sub("", condition)
        if rest.strip():
            raise ValueError(f"expected patterns in double quotes, found {rest.strip()!r}")
        found = SUBJECT.findall(condition)
    return tuple(patterns.compiled(normal(subject), one=".", many=".+") for subject in found)
