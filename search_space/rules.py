"""What a field may hold: rules that check one value and bring it to its canonical type.

A rule is attached to a dataclass field as `Annotated[int, Integer(1, 8)]`. It raises `InputError` with the rule, the
value and a remedy; `Component` applies all of them whenever a value is made.
"""

from __future__ import annotations

import math
import operator
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
class OneOf:
    """One of a few names."""

    options: tuple[str, ...]

    def check(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in self.options:
            raise InputError(
                f"{name} must be one of its known names", value, field=name, remedy=did_you_mean(value, self.options)
            )
        return value


# Bounds shared by the block types. They are generous; they exist so that a slip of the keyboard in a file is refused
# in one line instead of exhausting the machine's memory.
CHANNELS = Integer(1, 65_536)
CHANNELS_OR_NONE = Integer(0, 65_536)
KERNEL_SIZE = Integer(1, 31, odd=True)
STRIDE = Integer(1, 4)
EXPAND_RATIO = Number(0.25, 64)
RATIO = Number(0, 1)
RATE = Number(0, 1, below=True)
