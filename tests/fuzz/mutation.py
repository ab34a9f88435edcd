"""Changing valid samples a little, in bytes or text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import AnyStr, Generic

BYTES = tuple(bytes((octet,)) for octet in range(256))
CHARACTERS = (
    *map(chr, range(128)),
    *"\x80\x9f\xa0\xe9\u0130\u0661\u200b\u202e\u2028\u2100\ud800\udfff\uff0f\U0001f600",
)
LARGEST = 4096  # so that a doubled sample does not grow without bound


class Mutator(Generic[AnyStr]):
    """Changes one of the `samples`; `words` are those of its grammar, single units included."""

    def __init__(self, samples: Sequence[AnyStr], words: Sequence[AnyStr]) -> None:
        self._samples, self._words = samples, words
        self._steps: tuple[Callable[[Random, AnyStr], AnyStr], ...] = (
            self._insert, self._replace, self._replace, self._delete, self._double, self._cross,
        )  # fmt: skip

    def __call__(self, random: Random) -> AnyStr:
        return self.change(random, random.choice(self._samples))

    def change(self, random: Random, text: AnyStr) -> AnyStr:
        for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3, 5))):
            text = random.choice(self._steps)(random, text)[:LARGEST]
        return text

    def _insert(self, random: Random, text: AnyStr) -> AnyStr:
        at = random.randrange(len(text) + 1)
        return text[:at] + random.choice(self._words) + text[at:]

    def _replace(self, random: Random, text: AnyStr) -> AnyStr:
        at = random.randrange(len(text) + 1)
        word = random.choice(self._words)
        return text[:at] + word + text[at + len(word) :]

    def _delete(self, random: Random, text: AnyStr) -> AnyStr:
        start, end = _slice(random, text)
        return text[:start] + text[end:]

    def _double(self, random: Random, text: AnyStr) -> AnyStr:
        start, end = _slice(random, text)
        return text[:end] + text[start:]

    def _cross(self, random: Random, text: AnyStr) -> AnyStr:
        other = random.choice(self._samples)
        start, end = _slice(random, other)
        at = random.randrange(len(text) + 1)
        return text[:at] + other[start:end] + text[at:]


def joined(random: Random, words: Sequence[AnyStr], most: int) -> AnyStr:
    """Up to so many words, one after the other."""
    return words[0][:0].join(random.choices(words, k=random.randrange(most + 1)))


def _slice(random: Random, text: AnyStr) -> tuple[int, int]:
    """Mostly a short one."""
    start = random.randrange(len(text) + 1)
    return start, min(len(text), start + random.choice((1, 1, 2, 4, 16, 64)))
