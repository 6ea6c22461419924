"""Scaling a network: from one to a family of sizes.

Scaling goes by what fields are declared to be, never by the names of block types: every `Width` field is multiplied by
the width multiplier, stages are deepened by repeating their blocks (or inside, where a block has a `Depth` of its own),
every `DropRate` grows. The rules are those of the EfficientNet authors' code:

    widths       to the nearest multiple of 8 (or what the type needs), never more than 10 % down
    layers       rounded up
    resolution   to the nearest multiple of 8 px

A multiplier of 1 leaves everything exactly as it is.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from search_space.architecture import MAX_BLOCKS, Architecture, Stage
from search_space.blocks import Block
from search_space.component import Component, field_rules
from search_space.errors import InputError
from search_space.layers import round_channels
from search_space.rules import Depth, DropRate, Number, Rule, Width

_C = TypeVar("_C", bound=Component)
RESOLUTION_MULTIPLE = 8
"""Coarser ones miss the resolution asked for by up to a tenth, finer ones are of no use to vector units."""
PHI = Number(-100, 100)
COEFFICIENT = Number(1, 4)
_MOST_DROPPED = 0.5
_HAIR = 1e-9  # 1.1 · 10 layers are 11, whatever floating point says


@dataclass(frozen=True)
class Growth:
    """By how much each part of a network grows, and to which resolution in px."""

    stages: tuple[tuple[float, float], ...]
    """(depth, width) multipliers of each stage."""
    stem: float
    """Width multiplier of the stem."""
    head: float
    """Width multiplier of the head."""
    resolution: int
    dropout: float = 1.0
    """Multiplier of the dropout rates of blocks and head."""
    drop_path: float = 1.0
    """Multiplier of the stochastic-depth rate."""


@dataclass(frozen=True)
class Member:
    """One network of a family."""

    architecture: Architecture
    phi: float | None
    """None if it was not asked for by phi."""
    depth_mult: float
    width_mult: float
    ratio_asked: float
    """What its cost should be, the base's being 1: depth · width² · resolution², or what the rule was made for."""


class ScalingRule(ABC):
    """What phi means. A rule is a value; `member(base, 0)` is the base."""

    name: ClassVar[str]
    sought: ClassVar[tuple[int, int, float]] = (-12, 12, 0.01)
    """The least and the greatest phi among which one is sought for a wanted cost, and in which steps."""

    @abstractmethod
    def member(self, base: Architecture, phi: float) -> Member:
        """The network at `phi`. Raises `InputError` for one that cannot be."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The rule's name and coefficients, as plain data."""


@dataclass(frozen=True)
class CompoundRule(ScalingRule):
    """Depth alpha^phi, width beta^phi, resolution gamma^phi. Tan & Le 2019, arXiv:1905.11946, equation 3.

    The head's widths grow as all others. Dropout and stochastic depth grow by a quarter of the base's rate for each
    phi, to 0.5 at most: as B0 to B6 do at even phi, from 0.2 to 0.5.
    """

    name: ClassVar[str] = "compound"
    alpha: float = 1.2
    beta: float = 1.1
    gamma: float = 1.15
    ratio: float | None = None
    """By how much the cost grows for each phi, if the coefficients were fitted to that; else what they promise."""

    def __post_init__(self) -> None:
        for field in ("alpha", "beta", "gamma"):
            object.__setattr__(self, field, COEFFICIENT.check(field, getattr(self, field)))

    @property
    def promised(self) -> float:
        """alpha · beta² · gamma²: by how much multiply–adds grow for each phi, if nothing were rounded."""
        return self.alpha * self.beta**2 * self.gamma**2

    def member(self, base: Architecture, phi: float) -> Member:
        phi = PHI.check("phi", phi)
        depth, width = self.alpha**phi, self.beta**phi
        dropped = max(0.0, 1 + phi / 4)
        growth = Growth(
            stages=((depth, width),) * len(base.stages),
            stem=width,
            head=width,
            resolution=scaled_resolution(base, self.gamma**phi),
            dropout=dropped,
            drop_path=dropped,
        )
        origin = {**self.describe(), "phi": phi}
        ratio = self.promised if self.ratio is None else self.ratio
        return Member(named(grow(base, growth), base, f"phi{phi:g}", origin), phi, depth, width, ratio**phi)

    def describe(self) -> dict[str, Any]:
        return {"rule": self.name, "alpha": self.alpha, "beta": self.beta, "gamma": self.gamma}


def grow(base: Architecture, growth: Growth) -> Architecture:
    """The network with every part grown. Raises `InputError` for one that cannot be: too deep, too wide, too large."""
    stages = tuple(
        Stage(_deepened(widened(stage.blocks, width), depth, growth.dropout))
        for stage, (depth, width) in zip(base.stages, growth.stages, strict=True)
    )
    (stem,), (head,) = widened([base.stem], growth.stem), widened([base.head], growth.head)
    return base.replace(
        stem=_dropping(stem, growth.dropout),
        stages=stages,
        head=_dropping(head, growth.dropout),
        resolution=growth.resolution,
        drop_path_rate=_rate(base.drop_path_rate, growth.drop_path),
    )


def widened(parts: Sequence[_C], width: float) -> tuple[_C, ...]:
    """The parts with all their widths multiplied and rounded to a multiple that suits each of them."""
    if width == 1:
        return tuple(parts)
    multiple = math.lcm(*(part.width_multiple() for part in parts))
    return tuple(_changed(part, Width, lambda value: round_channels(value * width, multiple)) for part in parts)


def scaled_resolution(base: Architecture, multiplier: float) -> int:
    """The resolution in px, to the nearest multiple of `RESOLUTION_MULTIPLE`; as it is if the multiplier is 1."""
    if multiplier == 1:
        return base.resolution
    return max(1, round(base.resolution * multiplier / RESOLUTION_MULTIPLE)) * RESOLUTION_MULTIPLE


def layers(count: int, depth: float) -> int:
    """So many layers are `count` times `depth`: rounded up. Raises `InputError` for more than a network may have."""
    scaled = math.ceil(count * depth - _HAIR)
    if scaled > MAX_BLOCKS:
        rule = f"a network may have at most {MAX_BLOCKS:,} blocks"
        raise InputError(rule, scaled, field="stages", remedy="use a smaller phi")
    return scaled


def named(scaled: Architecture, base: Architecture, suffix: str, origin: dict[str, Any]) -> Architecture:
    """The network under the base's name and a suffix, with where it comes from."""
    provenance = {"scaled_from": {"name": base.name, "arch_id": base.arch_id}, "scaling": origin}
    return scaled.replace(name=f"{base.name[:150]}-{suffix}", provenance=provenance)


def _deepened(blocks: Sequence[Block], depth: float, dropout: float) -> tuple[Block, ...]:
    """A stage's blocks, its repeating ones `depth` times as many, in order.

    The first block, which leads into the stage, stays one if there are others to repeat; those then share the rest as
    evenly as can be. Blocks with a depth of their own grow inside.
    """
    inside = [_has_depth(block) for block in blocks]
    if depth == 1:
        copies = [1] * len(blocks)
    else:
        copies = _copies([block.repeats and not within for block, within in zip(blocks, inside, strict=True)], depth)
        blocks = [_changed(block, Depth, lambda value: layers(value, depth)) for block in blocks]
    row: list[Block] = []
    for block, count in zip(blocks, copies, strict=True):
        dropping = _dropping(block, dropout)
        row += [dropping] * min(count, 1) + [dataclasses.replace(dropping, stride=1)] * (count - 1)
    return tuple(row)


def _copies(repeats: Sequence[bool], depth: float) -> list[int]:
    """How often each block of a stage stands in the deepened one."""
    copies = [1] * len(repeats)
    sources = [index for index, repeating in enumerate(repeats) if repeating]
    if not sources:
        return copies
    total = layers(len(sources), depth)
    if len(sources) > 1 and sources[0] == 0:
        sources, total = sources[1:], total - 1
    for index in sources:
        copies[index] = 0
    for place in range(total):
        copies[sources[place * len(sources) // total]] += 1
    return copies


def _has_depth(block: Block) -> bool:
    return any(isinstance(rule, Depth) for rule in field_rules(type(block)).values())


def _dropping(part: _C, multiplier: float) -> _C:
    return part if multiplier == 1 else _changed(part, DropRate, lambda rate: _rate(rate, multiplier))


def _rate(rate: float, multiplier: float) -> float:
    return rate if multiplier == 1 else round(min(rate * multiplier, max(rate, _MOST_DROPPED)), 6)


def _changed(part: _C, kind: type[Rule], change: Any) -> _C:
    """The part with its fields of one kind changed; 0 stays 0: what is left out stays so."""
    fields = [name for name, rule in field_rules(type(part)).items() if isinstance(rule, kind)]
    given = {name: getattr(part, name) for name in fields}
    return dataclasses.replace(part, **{name: change(value) for name, value in given.items() if value})
