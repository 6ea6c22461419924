"""The architecture of a network as a value: stem, stages of blocks, head. It builds nothing and reads no files."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from search_space.blocks import Block
from search_space.component import plain_number
from search_space.errors import InputError
from search_space.head import Head
from search_space.rules import NAME, RATE, Integer, Number, PlainMapping, Rule
from search_space.stem import Stem

MAX_BLOCKS = 1_000

ARCHITECTURE_RULES: dict[str, Rule] = {
    "resolution": Integer(1, 8_192),
    "num_classes": Integer(1, 1_000_000),
    "input_channels": Integer(1, 1_024),
    "norm_eps": Number(0, 1),
    "norm_momentum": Number(0, 1),
    "drop_path_rate": RATE,
}


@dataclass(frozen=True)
class Stage:
    """Consecutive blocks of one width and one resolution; only the first may have a stride."""

    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        if not self.blocks:
            raise InputError("a stage needs at least one block", remedy="add a block")
        for block in self.blocks[1:]:
            if block.stride != 1:
                raise InputError(
                    "only the first block of a stage may have a stride", block.stride, remedy="start a new stage"
                )
            if block.out_channels != self.out_channels:
                rule = "the blocks of a stage have equal out_channels"
                raise InputError(rule, block.out_channels, remedy=f"use {self.out_channels} or start a new stage")

    @property
    def out_channels(self) -> int:
        """Channels of the feature map after the stage."""
        return self.blocks[0].out_channels

    @property
    def stride(self) -> int:
        """By how much the stage divides height and width."""
        return self.blocks[0].stride


@dataclass(frozen=True)
class Architecture:
    """A network up to its weights.

    Two architectures are equal, and have the same `arch_id`, exactly if they are the same network: `name` and
    `provenance` do not count, and stages are kept in canonical form, which is: as long as possible, without blocks that
    do nothing. (Adjacent stages of one width without a stride between them are one stage.)

    `resolution` is the deployment resolution in pixels, at which cost and latency are counted; `norm_eps` and
    `norm_momentum` (PyTorch's convention) hold for all batch norms; `drop_path_rate` is the stochastic-depth rate:
    of n blocks, block i from 0 has rate · i / n (Huang et al. 2016, as torchvision counts).
    """

    name: str = field(compare=False)
    stem: Stem
    stages: tuple[Stage, ...]
    head: Head
    resolution: int = 224
    num_classes: int = 1000
    input_channels: int = 3
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    drop_path_rate: float = 0.0
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        NAME.check("name", self.name)
        for name, rule in ARCHITECTURE_RULES.items():
            object.__setattr__(self, name, rule.check(name, getattr(self, name)))
        for name, kind in (("stem", Stem), ("head", Head)):
            if not isinstance(getattr(self, name), kind):
                raise InputError(f"{name} must be a {kind.__name__} value", getattr(self, name), field=name)
        for stage in self.stages:
            if not isinstance(stage, Stage):
                raise InputError(
                    "stages must be Stage values", stage, field="stages", remedy="wrap blocks in Stage((…))"
                )
        object.__setattr__(self, "stages", group_blocks(self.stem.out_channels, self.blocks))
        provenance = PlainMapping().check("provenance", self.provenance)
        object.__setattr__(self, "provenance", MappingProxyType(provenance))
        if self.total_stride > self.resolution:
            raise InputError(
                f"resolution must be at least the product of all strides, {self.total_stride}",
                self.resolution,
                field="resolution",
                remedy="raise it or drop strides",
            )

    @property
    def blocks(self) -> Iterator[Block]:
        """All blocks in order."""
        return (block for stage in self.stages for block in stage.blocks)

    @property
    def total_stride(self) -> int:
        """By how much the network divides height and width in all."""
        total = self.stem.stride
        for stage in self.stages:
            total *= stage.stride
        return total

    @functools.cached_property
    def arch_id(self) -> str:
        """Content hash of the canonical form: 12 hexadecimal digits of SHA-256.

        Two distinct networks among a million share one with probability below 0.2 % (birthday bound, 48 bits).
        """
        canonical = json.dumps(self.to_dict(canonical=True), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def to_dict(self, *, canonical: bool = False) -> dict[str, Any]:
        """Plain data of the architecture file; `canonical` leaves out what does not make the network."""
        plain: dict[str, Any] = {} if canonical else {"schema_version": 1, "name": self.name}
        for name in ARCHITECTURE_RULES:
            plain[name] = plain_number(getattr(self, name))
        plain["stem"] = self.stem.to_dict()
        plain["stages"] = [row for stage in self.stages for row in stage_rows(stage)]
        plain["head"] = self.head.to_dict()
        if self.provenance and not canonical:
            plain["provenance"] = dict(self.provenance)
        return plain

    def replace(self, **changes: Any) -> Architecture:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot be pickled, and architectures travel between processes.
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["provenance"] = dict(self.provenance)
        return (_rebuild, (values,))


def _rebuild(values: dict[str, Any]) -> Architecture:
    return Architecture(**values)


def stage_rows(stage: Stage) -> list[dict[str, Any]]:
    """The rows of a stage: equal consecutive blocks share one, whose stride is that of its first block."""
    rows: list[dict[str, Any]] = []
    previous: Block | None = None
    for block in stage.blocks:
        if previous is not None and block == _with_stride_one(previous):
            rows[-1]["num_layers"] += 1
        else:
            plain = block.to_dict()
            rows.append({"type": plain.pop("type"), "num_layers": 1, **plain})
            previous = block
    return rows


def row_blocks(block: Block, num_layers: int) -> tuple[Block, ...]:
    """The blocks of a row: `block`, then `num_layers` - 1 of it with stride 1."""
    return (block, *(_with_stride_one(block),) * (num_layers - 1))


@functools.lru_cache(maxsize=65_536)
def _with_stride_one(block: Block) -> Block:
    return block if block.stride == 1 else dataclasses.replace(block, stride=1)


def group_blocks(in_channels: int, blocks: Iterable[Block]) -> tuple[Stage, ...]:
    """Group the blocks that do something into the longest possible stages, the canonical form."""
    groups: list[list[Block]] = []
    channels = in_channels
    count = 0
    for block in blocks:
        if block.does_nothing(channels):
            continue
        count += 1
        if groups and block.stride == 1 and block.out_channels == channels:
            groups[-1].append(block)
        else:
            groups.append([block])
            channels = block.out_channels
    if not 1 <= count <= MAX_BLOCKS:
        rule = f"a network needs 1 to {MAX_BLOCKS:,} blocks that do something"
        raise InputError(rule, count, field="stages", remedy="change the depths")
    return tuple(Stage(tuple(group)) for group in groups)
