"""Templates: stems, stages and heads with choices left open. A search space is a row of them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from search_space.blocks import Block
from search_space.component import Component, component_type, field_rules

Option = str | int | float
Picked = Mapping[str, int]
"""Field name -> index of the option picked."""


@dataclass(frozen=True)
class Choice:
    """The options of one field, in the order of the file; a fixed field has one. `per_block`: each block picks."""

    options: tuple[Option, ...]
    per_block: bool = False

    @property
    def is_open(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.options) > 1

    def describe(self) -> Any:
        """The fixed value, or the options, as a file has them."""
        if not self.is_open:
            return self.options[0]
        return {"choice": list(self.options), "per": "block"} if self.per_block else {"choice": list(self.options)}


@dataclass(frozen=True, eq=False)
class Template:
    """A component of kind `kind` whose `type` and fields are choices."""

    kind: str
    fields: Mapping[str, Choice]
    """Field name -> choice, `type` or `op` among them. Fields left out have their default."""
    operations: Mapping[str, Mapping[str, Option]]
    """What the options of `op` stand for: the `type`, and the fields that go with it."""

    def describe(self) -> dict[str, Any]:
        """Field -> what may be picked; then `op NAME` -> what the operation is, for each."""
        meanings = {f"op {name}": _meaning(operation) for name, operation in self.operations.items()}
        return {**{name: choice.describe() for name, choice in self.fields.items()}, **meanings}

    def applies(self, field: str, type_name: Any) -> bool:
        """Whether components of this type have the field."""
        return field in ("type", "op") or field in field_rules(component_type(self.kind, type_name))

    def make(self, picked: Picked, **fixed: Any) -> Component:
        """The component with the picked options; fields that its type lacks are passed over."""
        values = {name: choice.options[picked.get(name, 0)] for name, choice in self.fields.items()}
        if self.operations:
            values |= self.operations[cast(str, values.pop("op"))]
        component = component_type(self.kind, values.pop("type"))
        rules = field_rules(component)
        return component(**{name: value for name, value in (values | fixed).items() if name in rules})

    def open_fields(self, *, per_block: bool = False) -> tuple[str, ...]:
        """Names of the fields with something to choose, per stage or per block."""
        return tuple(n for n, choice in self.fields.items() if choice.is_open and choice.per_block == per_block)

    def picks(self, *, per_block: bool = False) -> list[dict[str, int]]:
        """All combinations of options of the open fields, in order, the last field fastest."""
        names = self.open_fields(per_block=per_block)
        ranges = [range(len(self.fields[name].options)) for name in names]
        return [dict(zip(names, indices, strict=True)) for indices in itertools.product(*ranges)]

    @functools.cached_property
    def variants(self) -> dict[Component, dict[str, int]]:
        """Every distinct component it can become, with the first combination of options that gives it."""
        made: dict[Component, dict[str, int]] = {}
        for picked in self.picks():
            made.setdefault(self.make(picked), picked)
        return made


def _meaning(operation: Mapping[str, Option]) -> str:
    """`mbconv, kernel_size 3, expand_ratio 6`."""
    return ", ".join(
        [str(operation["type"]), *(f"{name} {value}" for name, value in operation.items() if name != "type")]
    )


@dataclass(frozen=True, eq=False)
class StageTemplate(Template):
    """A stage of `num_layers` blocks; `fields["stride"]` is the stride of the first."""

    num_layers: Choice

    @property
    def max_layers(self) -> int:
        """Blocks in the deepest choice."""
        return max(cast(Sequence[int], self.num_layers.options))

    def block(self, picked: Picked, *, first: bool) -> Block:
        """The block with the picked options, the stage's first or a later one."""
        return cast(Block, self.make(picked) if first else self.make(picked, stride=1))

    @functools.cached_property
    def settings(self) -> list[StageSetting]:
        """All combinations of the options chosen per stage, with the blocks that each allows."""
        per_block = self.picks(per_block=True)
        settings = []
        for stage_picks in self.picks():
            first: dict[Block, dict[str, int]] = {}
            rest: dict[Block, dict[str, int]] = {}
            for block_picks in per_block:
                first.setdefault(self.block({**stage_picks, **block_picks}, first=True), block_picks)
                rest.setdefault(self.block({**stage_picks, **block_picks}, first=False), block_picks)
            settings.append(StageSetting(stage_picks, first, rest))
        return settings


@dataclass(frozen=True)
class StageSetting:
    """One combination of the options chosen per stage: its possible first blocks, and its possible later ones."""

    picked: dict[str, int]
    first: dict[Block, dict[str, int]]
    rest: dict[Block, dict[str, int]]

    def allowed(self, position: int) -> dict[Block, dict[str, int]]:
        """Block -> per-block options, for the block at `position` of the stage."""
        return self.rest if position else self.first

    def idle(self, position: int) -> Mapping[int, Block]:
        """Channels -> a block that may stand at `position` and does nothing to that many channels."""
        return self._idle[min(position, 1)]

    @functools.cached_property
    def _idle(self) -> tuple[dict[int, Block], dict[int, Block]]:
        first, rest = (
            {block.out_channels: block for block in reversed(allowed) if block.does_nothing(block.out_channels)}
            for allowed in (self.first, self.rest)
        )
        return first, rest
