"""Policy files, and their patterns against a plain matcher of another kind."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random

from deliv.identity import dn_patterns, hosts
from deliv.identity.policy import Policy
from deliv.identity.policy_rules import Action
from fuzz.engine import Target, agree
from fuzz.mutation import CHARACTERS, Mutator, joined

EXAMPLE = Path(__file__).parents[2] / "config" / "policy.example.yaml"
RULE = """rules:
  - dn: /O=Grid/OU=users/CN=*
    roles: [submitter]
    destinations: ["*.example.org", 192.0.2.0/24, "::1"]
    quota: 5
  - {dn: "/O=Grid/**", roles: [operator], allow_limited: true}
"""
YAML_WORDS = (
    "- ", ": ", "\n", "  ", "{", "}", "[", "]", "&a ", "*a", "<<: *a",
    "!!int ", "!!python/object:os.system ",
    "!!binary ", "!!timestamp 1", "|", ">", "? ", "'", '"', "#", "---\n",
    "%YAML 9.9\n", "dn: ", "roles: ",
    "quota: ", "0x1F", "1_0", "1:30", ".nan", "null", "~", "\t", "[" * 200, "/O=Grid/CN=",
)  # fmt: skip
PIECES = (
    "/CN=",
    "/O=",
    "+CN=",
    "a",
    "b",
    "/",
    "+",
    "=",
    r"\/",
    r"\+",
    "*",
    "*",
    "?",
    "/**",
    "**",
    r"\x2F",
)
TEXTS = tuple(piece for piece in PIECES if "*" not in piece)
UNITS = re.compile(r"\\.|.", re.DOTALL)
CALLERS = ("/O=Grid/OU=users/CN=alice", "/O=Grid/CN=x/CN=y", "", "/")

Pair = tuple[str, str]


def mutated_file(random: Random) -> str:
    return _files()(random)


def check_file(text: str) -> None:
    """A policy that is accepted decides every request; a caller without a DN gets no role."""
    found = Policy.parse(text)
    for caller in CALLERS:
        for action in Action:
            found.explain(caller, action, destination_host="dtn.example.org", owner=caller)
    agree(found.explain("", Action.SUBMIT, destination_host="h").decision.allowed, False)


def generated_pattern(random: Random) -> Pair:
    pattern = "/CN=" + joined(random, PIECES, 7)
    return pattern, _like(random, pattern) if random.random() < 0.7 else _text(random)


def check_pattern(given: Pair) -> None:
    pattern, text = given
    matches = dn_patterns.compiled(pattern)
    agree(matches(text), text == pattern or _matches(pattern, text))


def generated_host(random: Random) -> Pair:
    words = (
        "a",
        "b",
        "*",
        "*",
        ".",
        "-",
        "1",
        "*.example.org",
        "192.0.2.",
        "::",
        "/24",
        "_",
        "é",
        " ",
    )
    return joined(random, words, 6).replace("**", "*"), joined(random, words, 6)


def check_host(given: Pair) -> None:
    """No star matches a dot, and none matches nothing."""
    pattern, host = given
    if not hosts.compiled(pattern)(host) or pattern == "*":
        return
    if "*" in pattern:
        agree(host.removesuffix(".").count("."), pattern.count("."))
        agree(len(host) >= len(pattern), True)


def _matches(pattern: str, text: str) -> bool:
    """By a set of places in the pattern, one unit of the text after the other."""
    below = pattern.endswith(dn_patterns.BELOW)
    parts = UNITS.findall(pattern.removesuffix(dn_patterns.BELOW))
    units = UNITS.findall(text)
    places = _on(parts, {0})
    for position, unit in enumerate(units):
        if below and len(parts) in places and _further(units[position:]):
            return True
        places = _on(parts, {to for place in places for to in _step(parts, place, unit)})
    return len(parts) in places and not below


def _on(parts: list[str], places: set[int]) -> set[int]:
    """With those behind stars, which may match nothing."""
    found = set(places)
    for place in sorted(places):
        while place < len(parts) and parts[place] == "*":
            place += 1
            found.add(place)
    return found


def _step(parts: list[str], place: int, unit: str) -> set[int]:
    if place == len(parts):
        return set()
    part = parts[place]
    if part == "*":
        return {place} if _of_a_value(unit) else set()
    if part == "?":
        return {place + 1} if _of_a_value(unit) else set()
    return {place + 1} if part == unit else set()


def _of_a_value(unit: str) -> bool:
    return unit not in ("/", "+", "\\")


def _further(units: list[str]) -> bool:
    """One or more parts, none of them empty."""
    if units[0] not in ("/", "+") or not _of_a_value(units[-1]) or "\\" in units:
        return False
    return all(_of_a_value(one) or _of_a_value(two) for one, two in pairwise(units))


def _like(random: Random, pattern: str) -> str:
    """Something that the pattern could match."""
    body = pattern.removesuffix(dn_patterns.BELOW)
    stars = {"*": ("", "a", "ab", r"\/"), "?": ("a", r"\+", "/")}
    text = "".join(random.choice(stars.get(one, (one,))) for one in UNITS.findall(body))
    return text + (joined(random, ("/CN=", "a", "+", "b"), 4) if body != pattern else "")


def _text(random: Random) -> str:
    return "/CN=" + joined(random, TEXTS, 7)


@cache
def _files() -> Mutator[str]:
    return Mutator(
        (RULE, RULE, EXAMPLE.read_text(encoding="utf-8")[-400:]), (*CHARACTERS, *YAML_WORDS * 3)
    )


TARGETS = (
    Target(
        name="policy files",
        share=0.01,
        sources=(mutated_file,),
        check=check_file,
        refusals=(ValueError,),
    ),
    Target(
        name="DN patterns",
        share=0.06,
        sources=(generated_pattern,),
        check=check_pattern,
        refusals=(ValueError,),
    ),
    Target(
        name="host patterns",
        share=0.03,
        sources=(generated_host,),
        check=check_host,
        refusals=(ValueError,),
    ),
)
