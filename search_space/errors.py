"""The errors that users see as one line, shared by every package.

InputError (ValueError)   a value, file or request breaks a rule; `str()` is one line:
                          RULE, got VALUE (WHERE); REMEDY
WorkFailed (Exception)    the request was right, but the work could not be done; `str()` is one line
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

_MISSING: Any = object()


class InputError(ValueError):
    """A value that breaks a rule, said in one line.

    `field` names the offending field inside the value being made (used to find its line in a file),
    `where` the place in the user's own words (file and line, option, argument).
    """

    def __init__(self, rule: str, value: Any = _MISSING, *, field: str = "", where: str = "", remedy: str = "") -> None:
        super().__init__(rule)
        self.rule = rule
        self.value = value
        self.field = field
        self.where = where
        self.remedy = remedy

    def located(self, where: str) -> InputError:
        """The same error with its place filled in."""
        return InputError(self.rule, self.value, field=self.field, where=where, remedy=self.remedy)

    def __str__(self) -> str:
        text = self.rule
        if self.value is not _MISSING:
            text += f", got {short(self.value)}"
        if self.where:
            text += f" ({self.where})"
        if self.remedy:
            text += f"; {self.remedy}"
        return one_line(text)

    def __reduce__(self) -> tuple[Any, ...]:
        # The sentinel and the keyword arguments would be lost by the default pickling of exceptions.
        given = () if self.value is _MISSING else (self.value,)
        return (_rebuild, (self.rule, given, self.field, self.where, self.remedy))


class WorkFailed(Exception):
    """The request was right, but the work could not be done: out of memory, an operation that is not there, …"""


def _rebuild(rule: str, given: tuple[Any, ...], field: str, where: str, remedy: str) -> InputError:
    return InputError(rule, *given, field=field, where=where, remedy=remedy)


def one_line(text: str) -> str:
    """`text` with line breaks and other control characters folded to spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def short(value: Any, limit: int = 60) -> str:
    """`repr(value)` on one line, at most `limit` characters."""
    try:
        text = one_line(repr(value))
    except ValueError:  # Python refuses to print integers of many thousand digits
        text = f"{type(value).__name__} too long to print"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def listed(options: Iterable[Any]) -> str:
    """Options as people list them: `3, 5 or 7`."""
    words = [str(option) for option in options]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def did_you_mean(word: Any, options: Iterable[str]) -> str:
    """A remedy that names the nearest option, else all of them."""
    known = sorted(options)
    close = difflib.get_close_matches(str(word), known, n=1)
    return f"did you mean {close[0]}?" if close else f"use {listed(known)}"
