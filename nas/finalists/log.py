"""What was measured of finalists, as it comes: a killed search, resumed, does nothing of it twice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search_space import InputError
from search_space.json_lines import append_line, read_lines


@dataclass(frozen=True)
class Training:
    """One training of a finalist, or why it came to nothing."""

    arch_id: str
    seed: int
    """0, 1, 2, … of the finalist's trainings."""
    metrics: Mapping[str, float]
    seconds: float
    reason: str = ""

    def __post_init__(self) -> None:
        numbers = [self.seconds, *self.metrics.values()]
        if not isinstance(self.arch_id, str) or not isinstance(self.reason, str) or not isinstance(self.seed, int):
            raise TypeError("arch_id and reason must be text, seed a number")
        if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
            raise TypeError("metrics and seconds must be finite numbers")
        if bool(self.metrics) == bool(self.reason):
            raise TypeError("a training has metrics, or a reason why it has none")


class FinalsLog:
    """`finalists.jsonl` of a run folder: a line for each training, and for each network that was timed.

    `names` are the metrics that each training has at least. Raises `InputError` if the file is not such a record.
    """

    def __init__(self, path: Path, names: Sequence[str] = ()) -> None:
        self._path, self._names = path, names
        self.trainings: dict[tuple[str, int], Training] = {}
        """(`arch_id`, seed) -> the training."""
        self.samples_ms: dict[str, list[float]] = {}
        """`arch_id` -> the times measured for it, end to end."""
        try:
            for plain in read_lines(path):
                self._take(dict(plain))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            rule = f"the record of finalists cannot be read: {type(error).__name__}: {error}"
            remedy = "remove the file, and they are trained again"
            raise InputError(rule, where=str(path), remedy=remedy) from None

    def _take(self, plain: dict[str, Any]) -> None:
        if "samples_ms" in plain:
            samples = [float(sample) for sample in plain["samples_ms"]]
            if not samples or not all(math.isfinite(sample) for sample in samples):
                raise ValueError("times must be finite numbers")
            self.samples_ms[plain["arch_id"]] = samples
        else:
            training = Training(**plain)
            if not training.reason and not training.metrics.keys() >= set(self._names):
                raise ValueError(f"a training has {', '.join(self._names)}, and one has only some: of an older version")
            self.trainings[training.arch_id, training.seed] = training

    def add_training(self, training: Training) -> None:
        """It is on the disk when this returns."""
        append_line(self._path, asdict(training))
        self.trainings[training.arch_id, training.seed] = training

    def add_times(self, arch_id: str, samples_ms: Sequence[float]) -> None:
        """It is on the disk when this returns."""
        append_line(self._path, {"arch_id": arch_id, "samples_ms": list(samples_ms)})
        self.samples_ms[arch_id] = list(samples_ms)

    @property
    def seconds(self) -> float:
        """Time spent inside trainings, summed over workers."""
        return sum(training.seconds for training in self.trainings.values())
