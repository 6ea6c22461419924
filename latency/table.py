"""The latency table as a value: times by part shape, the conditions they hold under, and a calibration.

All times are milliseconds for one inference of `conditions.batch` images.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from latency.conditions import Conditions
from search_space import Architecture, InputError
from search_space.parts import PartShape

MEASURED = "p10_ms"
"""The statistic that measured tables predict with.

Of the minimum, the 10th, 25th and 50th percentile of six samples, the 10th came out best or near best both on a quiet
machine and beside other load; see docs/decisions/0006-blocks-are-timed-in-place.md."""
MAPE_OF_DOUBT_PERCENT = 10.0
"""A table whose own networks it predicts worse than this was measured while something else ran."""
PUBLISHED = "mean_ms"
"""The statistic of tables that others published."""
_LEAST_MS = 1e-6  # the last digit written: a part that a runtime optimises away takes no time, and a time is above 0


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and no greater than a float can be."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


@dataclass(frozen=True)
class Times:
    """Statistics of the times measured for one thing. `count` is how many; the others are None where unknown."""

    count: int
    min_ms: float | None = None
    p10_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    mean_ms: float | None = None
    std_ms: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or not 1 <= self.count < 2**63:
            raise InputError("count must be a whole number above 0", self.count, field="count")
        for name, value in self.to_dict().items():
            if not is_number(value) or (value <= 0 and name != "std_ms") or value < 0:
                raise InputError(f"{name} must be a time above 0", value, field=name, remedy="measure it again")
        ordered = [v for v in (self.min_ms, self.p10_ms, self.p50_ms, self.p90_ms) if v is not None]
        if ordered != sorted(ordered):
            rule = "min_ms, p10_ms, p50_ms and p90_ms must not fall: do they have one unit?"
            raise InputError(rule, ordered, remedy="write milliseconds, or measure again")

    @classmethod
    def of(cls, samples_ms: ArrayLike) -> Times:
        """The statistics of samples."""
        samples = np.maximum(np.asarray(samples_ms, dtype=float), _LEAST_MS)
        low, middle, high = np.percentile(samples, [10, 50, 90])
        numbers = [round(float(number), 6) for number in (samples.min(), low, middle, high)]
        return cls(samples.size, *numbers)

    def to_dict(self) -> dict[str, Any]:
        """The known ones, as plain data."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Measured:
    """A whole network and its times."""

    architecture: Architecture
    times: Times


@dataclass(frozen=True)
class Calibration:
    """latency = scale × (sum over parts) + fixed_overhead_ms, fitted on whole networks timed in the same session."""

    scale: float = 1.0
    fixed_overhead_ms: float = 0.0
    networks: tuple[Measured, ...] = ()
    mape_percent: float | None = None
    """Mean absolute error on those networks, each left out of the fit that predicts it."""

    def __post_init__(self) -> None:
        for name in ("scale", "fixed_overhead_ms"):
            value = getattr(self, name)
            if not is_number(value) or value < 0 or (value == 0 and name == "scale"):
                bound = "above 0" if name == "scale" else "of 0 or more"
                raise InputError(f"{name} must be a number {bound}", value, field=name, remedy="build the table again")

    @classmethod
    def fit(cls, sums_ms: Sequence[float], networks: Sequence[Measured]) -> Calibration:
        """Fit by least squares of the relative error, neither term negative."""
        sums = np.asarray(sums_ms, dtype=float)
        measured = np.asarray([network.times.p10_ms for network in networks], dtype=float)
        scale, overhead = affine(sums, measured)
        mape = None
        if len(sums) > 2:
            errors = np.abs(fitted_to_the_others(sums, measured) - measured) / measured
            mape = round(100 * float(errors.mean()), 3)
        return cls(round(scale, 6), round(overhead, 6), tuple(networks), mape)


def affine(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> tuple[float, float]:
    """a, b ≥ 0 of y ≈ a·x + b, by least squares of the relative error. No b where the x hardly differ."""
    if len(x) < 5 or x.max() < 1.1 * x.min():
        return float(np.median(y / x)), 0.0
    from scipy.optimize import nnls  # here, because loading it takes a while

    (a, b), _ = nnls(np.stack([x / y, 1 / y], axis=1), np.ones(len(x)))
    return (float(a), float(b)) if a > 0 else (float(np.median(y / x)), 0.0)


def fitted_to_the_others(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """y as an affine function of x predicts it, each left out of the fit that predicts it."""
    predicted = np.empty_like(y)
    for index in range(len(y)):
        others = np.arange(len(y)) != index
        a, b = affine(x[others], y[others])
        predicted[index] = a * x[index] + b
    return predicted


@dataclass(frozen=True)
class LatencyTable:
    """Times by part shape; see `latency.predict` for their use and docs/latency.md for the file."""

    name: str
    conditions: Conditions
    times: Mapping[PartShape, Times]
    statistic: str = MEASURED
    """Which of the `Times` predictions are made of."""
    calibration: Calibration = field(default_factory=Calibration)
    source: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from: date, space, resolutions, effort; or file and publication."""

    def __post_init__(self) -> None:
        if not self.times:
            raise InputError("a latency table needs at least one signature", remedy="build it for a space that has one")
        if self.statistic not in (MEASURED, PUBLISHED):
            raise InputError(f"statistic must be {MEASURED} or {PUBLISHED}", self.statistic, field="statistic")
        for index, times in enumerate(self.times.values()):
            if getattr(times, self.statistic) is None:
                raise InputError(f"every signature needs {self.statistic}", remedy=f"see signatures[{index}]")

    @property
    def part_ms(self) -> dict[PartShape, float]:
        """Part shape, as at inference -> its time by the table's statistic, uncalibrated."""
        return {shape.at_inference(): float(getattr(times, self.statistic)) for shape, times in self.times.items()}

    @property
    def resolutions(self) -> list[int]:
        """The resolutions that it has stems for, in px."""
        return sorted({shape.size for shape in self.times if shape.part.kind == "stem"})

    @property
    def num_classes(self) -> list[int]:
        """The numbers of classes that it has heads for."""
        return sorted({shape.out_channels for shape in self.times if shape.part.kind == "head"})
