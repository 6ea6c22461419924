"""What a field may hold: rules that check one value and bring it to its canonical type.

A rule is attached to a dataclass field as `Annotated[int, Integer(1, 8)]`. It raises `InputError` with the rule, the
value and a remedy; `Component` applies all of them whenever a value is made.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol

from search_space.errors import InputError, did_you_mean


class Rule(Protocol):
    """One check of one field."""

    def check(self, name: str, value: Any) -> Any:
        """The canonical form of `value`; raises `InputError` naming field `name`."""
        ...


@dataclass(frozen=True)
class Integer:
    """A whole number in [minimum, maximum], odd where asked."""

    minimum: int
    maximum: int
    odd: bool = False

    def check(self, name: str, value: Any) -> int:
        remedy = f"use {'an odd' if self.odd else 'a'} whole number from {self.minimum} to {self.maximum}"
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise InputError(f"{name} must be a whole number", value, field=name, remedy=remedy)
        number = operator.index(value)
        if self.odd and number % 2 == 0:
            near = [n for n in (number - 1, number + 1) if self.minimum <= n <= self.maximum]
            remedy = f"use {' or '.join(map(str, near))}" if near else remedy
            raise InputError(f"{name} must be odd", value, field=name, remedy=remedy)
        if not self.minimum <= number <= self.maximum:
            raise InputError(f"{name} must be {self.minimum} to {self.maximum}", value, field=name, remedy=remedy)
        return number


@dataclass(frozen=True)
class Number:
    """A finite real number in [minimum, maximum]; `below` excludes the maximum itself."""

    minimum: float
    maximum: float
    below: bool = False

    def check(self, name: str, value: Any) -> float:
        remedy = f"use a number from {self.minimum:g} to {'below ' if self.below else ''}{self.maximum:g}"
        if isinstance(value, bool) or not isinstance(value, Real):
            raise InputError(f"{name} must be a number", value, field=name, remedy=remedy)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not self.minimum <= number <= self.maximum or (self.below and number == self.maximum):
            raise InputError(
                f"{name} must be {self.minimum:g} to {'below ' if self.below else ''}{self.maximum:g}",
                value,
                field=name,
                remedy=remedy,
            )
        return number


@dataclass(frozen=True)
class Width(Integer):
    """A number of channels or features; 0 leaves the layer out. Scaling a network multiplies every such field."""


@dataclass(frozen=True)
class Depth(Integer):
    """A number of equal layers inside a block. Scaling a network multiplies it, instead of repeating the block."""


@dataclass(frozen=True)
class DropRate(Number):
    """A dropout or stochastic-depth rate. It grows as a network is scaled up."""


@dataclass(frozen=True)
class OneOf:
    """One of a few names."""

    options: tuple[str, ...]

    def check(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in self.options:
            raise InputError(
                f"{name} must be one of its known names", value, field=name, remedy=did_you_mean(value, self.options)
            )
        return value


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def check(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise InputError(f"{name} must be true or false", value, field=name, remedy="write true or false")
        return value


@dataclass(frozen=True)
class Text:
    """A word or a few, on one line."""

    longest: int

    def check(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > self.longest:
            rule = f"{name} must be text on one line, 1 to {self.longest} characters"
            raise InputError(rule, value, field=name, remedy="write a word or a few")
        return value


@dataclass(frozen=True)
class PlainMapping:
    """A mapping of words to what YAML and JSON can hold."""

    def check(self, name: str, value: Any) -> Mapping[str, Any]:
        if not isinstance(value, Mapping) or not _is_plain(dict(value)):
            remedy = "use mappings, lists, text, numbers, true, false and null"
            raise InputError(f"{name} must be plain data", value, field=name, remedy=remedy)
        return dict(value)


def _is_plain(value: Any, depth: int = 0) -> bool:
    if depth > 20:
        return False
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item, depth + 1) for key, item in value.items())
    if isinstance(value, list):
        return all(_is_plain(item, depth + 1) for item in value)
    if isinstance(value, int):
        return abs(value) < 2**63
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)
    return value is None or (isinstance(value, float) and math.isfinite(value))


# Bounds shared by the block types. They are generous; they exist so that a slip of the keyboard in a file is refused
# in one line instead of exhausting the machine's memory.
CHANNELS = Width(1, 65_536)
CHANNELS_OR_NONE = Width(0, 65_536)
# Not widths: groups are a choice of design, and stay as they are when a network is scaled.
GROUP_SIZE = Integer(0, 65_536)
GROUPS = Integer(1, 65_536)
KERNEL_SIZE = Integer(1, 31, odd=True)
STRIDE = Integer(1, 4)
EXPAND_RATIO = Number(0.25, 64)
NAME = Text(200)
RATIO = Number(0, 1)
RATE = DropRate(0, 1, below=True)
