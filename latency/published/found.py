"""What the readers of published tables share: the entries they used, and whether the unit of the times can be right."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from latency.table import Times
from search_space import InputError
from search_space.documents import Document, Where, dotted
from search_space.parts import PartShape

UNITS = {"ms": 1.0, "us": 1e-3, "s": 1e3}
"""Unit -> milliseconds."""
_NAMES = {"ms": "milliseconds", "us": "microseconds", "s": "seconds"}
_LONGEST_MS = 1e12
# Multiply–adds a second of the median entry. A microcontroller does some 2e7 (84 MHz, a few cycles each), a core of a
# phone 1e9 to 3e10 (the Pixel 1 tables: 4e9), and a data centre's GPU stays below 1e12 for one image, as it waits for
# memory and launches. So a phone's seconds taken for milliseconds look faster than any GPU, and its microseconds slower
# than a microcontroller, but for the fastest phones.
_SLOWEST, _FASTEST = 2e7, 1e12
# Units lie 1000 apart; the entries of the Pixel 1 tables are within a factor of 2 of their median.
_MIXED = 100.0


class Entry(NamedTuple):
    """An entry of a published table that was used; `macs` are the multiply–adds of what it timed, for one image."""

    path: Where
    times: Times
    macs: int


@dataclass
class Found:
    """What a reader found in a table. The times are in ms, under the statistic `mean_ms`."""

    form: str
    device_name: str = ""
    """The device, where the form is known of one only."""
    times: dict[PartShape, Times] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    """The entries that `times` are made of, each once."""
    unmapped: list[tuple[str, str]] = field(default_factory=list)
    """(key, reason) of all other entries."""


def time_ms(value: Any, name: str, ms_per_unit: float) -> float:
    """A published time in ms; raises `InputError` if it is not a number above 0."""
    try:
        number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    except OverflowError:  # an integer of more digits than a float can have
        number = math.inf
    if not 0 < number * ms_per_unit <= _LONGEST_MS:
        raise InputError(f"{name} must be a time above 0", value, remedy="mend the file, or remove the entry")
    return number * ms_per_unit


def check_unit(document: Document, entries: list[Entry], unit: str) -> None:
    """Refuse times that cannot be in `unit`, by their multiply–adds a second. Raises `InputError`."""
    timed = [entry for entry in entries if entry.macs]
    rates = [entry.macs / (entry.times.mean_ms or math.nan) * 1e3 for entry in timed]
    median = float(np.median(rates))
    odd = [entry for entry, rate in zip(timed, rates, strict=True) if not 1 / _MIXED <= rate / median <= _MIXED]
    if odd:
        named = ", ".join(dotted(entry.path) for entry in odd[:3]) + (f" and {len(odd) - 3} more" if odd[3:] else "")
        rule = f"the times must have one unit: for their multiply-adds, these are over {_MIXED:.0f} times off: {named}"
        raise InputError(rule, where=document.where(odd[0].path), remedy="bring all times to one unit")
    if not _SLOWEST <= median <= _FASTEST:
        said = f"read as {_NAMES[unit]}, the times mean {median:.1e} multiply-adds a second, which no device does"
        other = _likeliest(median * UNITS[unit])
        if other is None:
            raise InputError(said, where=document.origin, remedy="is it a table of these layers?")
        rule = f"the times look like {_NAMES[other]}: {said}"
        raise InputError(rule, where=document.origin, remedy=f"import it with --unit {other}")


def _likeliest(rate_in_ms: float) -> str | None:
    """The unit in which the rate is a device's, and nearest to the middle of what devices do."""
    rates = {unit: rate_in_ms / ms for unit, ms in UNITS.items() if _SLOWEST <= rate_in_ms / ms <= _FASTEST}
    middle = math.sqrt(_SLOWEST * _FASTEST)
    return min(rates, key=lambda unit: abs(math.log(rates[unit] / middle)), default=None)
