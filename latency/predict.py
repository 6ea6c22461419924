"""Predicting a network's latency from a table: the calibrated sum over its parts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from latency.interpolate import Interpolation
from latency.signature import label
from latency.table import LatencyTable
from search_space import Architecture, InputError, SearchSpace
from search_space.parts import PartShape, parts


class MissingSignature(InputError):
    """The table lacks some of a network's (or a space's) part shapes; `shapes` are they."""

    def __init__(self, shapes: list[PartShape], table: LatencyTable, what: str, *, interpolating: bool) -> None:
        named = "; ".join(label(shape) for shape in shapes[:3])
        more = f"; and {len(shapes) - 3:,} more" if len(shapes) > 3 else ""
        rule = f"the latency table {table.name} lacks {len(shapes):,} of the parts of {what}: {named}{more}"
        super().__init__(rule, remedy=_remedy(shapes, table, interpolating=interpolating))
        self.shapes = shapes


def _remedy(shapes: list[PartShape], table: LatencyTable, *, interpolating: bool) -> str:
    sizes = sorted({shape.size for shape in shapes if shape.part.kind == "stem"})
    classes = sorted({shape.out_channels for shape in shapes if shape.part.kind == "head"})
    command = "nas latency build --space SPACE"
    if sizes:
        command += f" --resolution {','.join(map(str, sizes))}"
    if classes:
        command += f" --num-classes {','.join(map(str, classes))}"
    own = ",".join(map(str, table.resolutions))
    at = f", or keep to its resolutions: --resolution {own}" if sizes and own else ""
    fill = "they have no measured neighbours on both sides" if interpolating else "or fill them in with --interpolate"
    return f"measure them: `{command}` with a space that has them{at}; {fill}"


@dataclass(frozen=True)
class PartLatency:
    """A part's share of a network's latency, calibrated."""

    shape: PartShape
    latency_ms: float
    interpolated: bool


@dataclass(frozen=True)
class Prediction:
    """A network's latency in ms: the sum of `parts` and `fixed_overhead_ms`."""

    latency_ms: float
    parts: tuple[PartLatency, ...]
    fixed_overhead_ms: float
    interpolation_error_percent: float
    """Mean error of the interpolated parts where the table knows the truth; 0 if none was interpolated."""


class Predictor:
    """Predicts from one table. `latency_ms` is the fast path: a dictionary look-up a part."""

    def __init__(self, table: LatencyTable, *, interpolate: bool = False) -> None:
        self.table = table
        self._scale = table.calibration.scale
        self._overhead = table.calibration.fixed_overhead_ms
        self._part_ms = {shape: ms * self._scale for shape, ms in table.part_ms.items()}
        self._interpolation = Interpolation(table) if interpolate else None
        self._filled: dict[PartShape, float] = {}
        """Interpolated part shapes, with the stated error of each in percent."""

    def latency_ms(self, architecture: Architecture) -> float:
        """Predicted latency. Raises `MissingSignature`."""
        part_ms = self._part_ms
        try:
            return sum([part_ms[shape] for shape in parts(architecture)], self._overhead)
        except KeyError:
            self._fill(parts(architecture), architecture.name)
            return sum([part_ms[shape] for shape in parts(architecture)], self._overhead)

    def predict(self, architecture: Architecture) -> Prediction:
        """Predicted latency, part by part. Raises `MissingSignature`."""
        total = self.latency_ms(architecture)
        shapes = parts(architecture)
        filled = [self._filled[shape] for shape in shapes if shape in self._filled]
        return Prediction(
            total,
            tuple(PartLatency(shape, self._part_ms[shape], shape in self._filled) for shape in shapes),
            self._overhead,
            sum(filled) / len(filled) if filled else 0.0,
        )

    def interpolated_parts(self, architecture: Architecture) -> int:
        """How many of a network's parts are not measured but interpolated."""
        self.latency_ms(architecture)
        return sum(shape in self._filled for shape in parts(architecture))

    def reach_ms(self, space: SearchSpace) -> tuple[float, float]:
        """The least and the greatest latency in a space, exactly. Raises `MissingSignature`."""
        graph = space.graph()
        self._fill(graph.shapes(), f"space {space.name}")
        least, greatest = graph.reach(self._part_ms.__getitem__)
        return least + self._overhead, greatest + self._overhead

    def _fill(self, shapes: Iterable[PartShape], what: str) -> None:
        """Interpolate what is missing, where that is wanted and possible."""
        missing = [shape for shape in dict.fromkeys(shapes) if shape not in self._part_ms]
        left = []
        for shape in missing:
            base = shape.at_inference()
            if base not in self._part_ms:
                estimate = self._interpolation.estimate(base) if self._interpolation is not None else None
                if estimate is None:
                    left.append(shape)
                    continue
                self._part_ms[base] = estimate.ms * self._scale
                self._filled[base] = estimate.error_percent
            # Remembered under its own name, too, so that the fast path finds it.
            self._part_ms[shape] = self._part_ms[base]
            if base in self._filled:
                self._filled[shape] = self._filled[base]
        if left:
            raise MissingSignature(left, self.table, what, interpolating=self._interpolation is not None)
