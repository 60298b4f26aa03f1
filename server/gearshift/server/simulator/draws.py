"""Chance that can be repeated.

Rules: a draw is a hash of the seed and of what it is for, never the next number of a generator that others advance too:
so concurrency and the order of requests change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")

_SCALE = 2**64


class Draws:
    """Draws for one purpose; `of` gives those of a part of it. Immutable."""

    __slots__ = ("_key",)

    def __init__(self, *purpose: object) -> None:
        self._key = _digest(b"", purpose)

    def of(self, *purpose: object) -> Draws:
        """Give the draws of a part: the same words always give the same draws."""
        part = Draws.__new__(Draws)
        part._key = _digest(self._key, purpose)
        return part

    def share(self, *purpose: object) -> float:
        """Give a number from 0 up to, but not, 1."""
        return int.from_bytes(_digest(self._key, purpose)[:8], "big") / _SCALE

    def number(self, below: int, *purpose: object) -> int:
        """Give a whole number from 0 up to, but not, `below`."""
        return int.from_bytes(_digest(self._key, purpose)[:8], "big") % below

    def one_of(self, choices: Sequence[T], *purpose: object) -> T:
        """Give one of the choices, of which there must be some."""
        return choices[self.number(len(choices), *purpose)]

    def hex(self, digits: int) -> str:
        """Give so many hexadecimal digits, at most 32."""
        return self._key.hex()[:digits]


def _digest(key: bytes, purpose: tuple[object, ...]) -> bytes:
    # Each part with its length, so that ("a", "bc") and ("ab", "c") differ.
    parts = [f"{type(part).__name__}:{part}".encode("utf-8", "surrogatepass") for part in purpose]
    return blake2b(b"".join(b"%d:%s" % (len(part), part) for part in parts), key=key, digest_size=16).digest()
