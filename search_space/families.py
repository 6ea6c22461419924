"""Scaling as published families were: EfficientNet B0 to B7, EfficientNetV2, MobileNet's multipliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from search_space.architecture import ARCHITECTURE_RULES, Architecture, Stage
from search_space.errors import InputError, did_you_mean, listed
from search_space.rules import Number
from search_space.scaling import PHI, Growth, Member, ScalingRule, grow, layers, named, scaled_resolution, widened

WIDTH_MULT = Number(0.05, 16)


@dataclass(frozen=True)
class _Published:
    """A row of coefficients, relative to the first one's network."""

    width: float
    depth: float
    resolution: int
    dropout: float


@dataclass(frozen=True)
class EfficientNetV1(ScalingRule):
    """B0 to B7 by the coefficients of the authors' code (Tan & Le 2019), which are not alpha^phi: phi is the number.

    From `efficientnet-b0` they give the published networks; from another one, networks that differ from it as Bn
    differs from B0. Resolution is multiplied as theirs, and not rounded. Stochastic depth stays as it is.
    """

    name: ClassVar[str] = "efficientnet-v1"
    sought: ClassVar[tuple[int, int, float]] = (0, 7, 1)
    _ROWS: ClassVar[tuple[_Published, ...]] = (
        _Published(1.0, 1.0, 224, 0.2),
        _Published(1.0, 1.1, 240, 0.2),
        _Published(1.1, 1.2, 260, 0.3),
        _Published(1.2, 1.4, 300, 0.3),
        _Published(1.4, 1.8, 380, 0.4),
        _Published(1.6, 2.2, 456, 0.4),
        _Published(1.8, 2.6, 528, 0.5),
        _Published(2.0, 3.1, 600, 0.5),
    )

    def member(self, base: Architecture, phi: float) -> Member:
        if phi not in range(len(self._ROWS)):
            rule = f"phi must be a whole number from 0 to {len(self._ROWS) - 1} in family {self.name}"
            raise InputError(rule, phi, remedy="leave out --family for any other phi")
        row, first = self._ROWS[int(phi)], self._ROWS[0]
        size = row.resolution / first.resolution
        growth = Growth(
            stages=((row.depth, row.width),) * len(base.stages),
            stem=row.width,
            head=row.width,
            resolution=round(base.resolution * size),
            dropout=row.dropout / first.dropout,
        )
        architecture = named(grow(base, growth), base, f"b{phi:g}", {**self.describe(), "phi": phi})
        return Member(architecture, float(phi), row.depth, row.width, row.depth * row.width**2 * size**2)

    def describe(self) -> dict[str, Any]:
        return {"rule": self.name}


@dataclass(frozen=True)
class EfficientNetV2(ScalingRule):
    """Not all stages alike: later ones gain layers first, resolution ends at a cap. Phi 0, 1, 2 are S, M, L.

    Tan & Le 2021, arXiv:2104.00298, section 3.3, say: compound scaling, but with the image size restricted, "as a
    heuristic, we also gradually add more layers to later stages". How much they do not say. This rule was fitted to
    their M and L; docs/scaling.md tells how near it comes. Depth lags `LAG` phi behind but in the last third of the
    stages, width only in the first third (and the stem). From phi 1 on, a share of the last stage's layers is a stage
    of its own, wider; the head stays. Dropout grows by half the base's rate for each phi, stochastic depth stays.
    """

    name: ClassVar[str] = "efficientnet-v2"
    sought: ClassVar[tuple[int, int, float]] = (0, 6, 0.01)
    ALPHA: ClassVar[float] = 1.445
    BETA: ClassVar[float] = 1.2
    GAMMA: ClassVar[float] = 1.25
    CAP_PX: ClassVar[int] = 480
    LAG: ClassVar[float] = 0.75
    TAIL_SHARE: ClassVar[float] = 0.215
    TAIL_WIDTH: ClassVar[float] = 5 / 3

    def member(self, base: Architecture, phi: float) -> Member:
        phi = PHI.check("phi", phi)
        if phi < 0:
            raise InputError(f"phi must be at least 0 in family {self.name}", phi, remedy="leave out --family")
        behind = max(0.0, phi - self.LAG)
        count = len(base.stages)
        thirds = [3 * index // count for index in range(count)]
        growth = Growth(
            stages=tuple(
                (self.ALPHA ** (phi if third == 2 else behind), self.BETA ** (phi if third else behind))
                for third in thirds
            ),
            stem=self.BETA**behind,
            head=1.0,
            resolution=min(scaled_resolution(base, self.GAMMA**phi), max(base.resolution, self.CAP_PX)),
            dropout=1 + phi / 2,
        )
        grown = grow(base, growth)
        architecture = named(
            self._with_tail(grown) if phi >= 1 else grown, base, f"phi{phi:g}", {**self.describe(), "phi": phi}
        )
        depth, width = self.ALPHA**phi, self.BETA**phi
        return Member(
            architecture, phi, depth, width, depth * width**2 * (architecture.resolution / base.resolution) ** 2
        )

    def _with_tail(self, grown: Architecture) -> Architecture:
        *before, last = grown.stages
        tail = min(layers(1, self.TAIL_SHARE * len(last.blocks)), len(last.blocks) - 1)
        if not tail:
            return grown
        return grown.replace(
            stages=(*before, Stage(last.blocks[:-tail]), Stage(widened(last.blocks[-tail:], self.TAIL_WIDTH)))
        )

    def describe(self) -> dict[str, Any]:
        return {"rule": self.name, "alpha": self.ALPHA, "beta": self.BETA, "gamma": self.GAMMA, "cap_px": self.CAP_PX}


FAMILIES: dict[str, ScalingRule] = {rule.name: rule for rule in (EfficientNetV1(), EfficientNetV2())}
"""Published families by name."""


def family(name: str) -> ScalingRule:
    """The family of this name. Raises `InputError`."""
    if name not in FAMILIES:
        remedy = f"{did_you_mean(name, FAMILIES)} (there are {listed(FAMILIES)})"
        raise InputError("--family must be a known name", name, remedy=remedy)
    return FAMILIES[name]


def multiplied(base: Architecture, width_mult: float, resolution: int | None = None) -> Member:
    """The network with MobileNet's two multipliers: all widths times one number, and another resolution in px.

    Howard et al. 2017 (MobileNetV1), section 3.3 and 3.4. As MobileNetV2's authors do (Sandler et al. 2018, section
    6.1), the head's widths grow with a multiplier above 1, but do not shrink below it. Depth and dropout stay.
    """
    width_mult = WIDTH_MULT.check("--width-mult", width_mult)
    pixels = ARCHITECTURE_RULES["resolution"].check(
        "--resolution", base.resolution if resolution is None else resolution
    )
    growth = Growth(
        stages=((1.0, width_mult),) * len(base.stages), stem=width_mult, head=max(1.0, width_mult), resolution=pixels
    )
    origin = {"rule": "multipliers", "width_mult": width_mult, "resolution": pixels}
    architecture = named(grow(base, growth), base, f"w{width_mult:g}-r{pixels}", origin)
    return Member(architecture, None, 1.0, width_mult, width_mult**2 * (pixels / base.resolution) ** 2)
