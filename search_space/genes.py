"""The genes of one part of a space: which there are, and how its part of a genotype is read and written.

A part's genes stand side by side, so a slice of the genotype says all about it. What was read from a slice is kept:
decoding is the inner loop of a search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar, cast

from search_space.blocks import Block
from search_space.component import Component
from search_space.template import Option, StageTemplate, Template

Genotype = tuple[int, ...]
_K = TypeVar("_K")
_V = TypeVar("_V")
_MOST_KEPT = 10_000


@dataclass(frozen=True)
class Gene:
    """One choice: its name, as `stages[2].blocks[1].kernel_size`, and its options."""

    name: str
    options: tuple[Option, ...]


class _Part(NamedTuple):
    part: Component
    active: Genotype
    canonical: Genotype


class PartGenes:
    """The genes of a stem or a head, from index `start` on."""

    def __init__(self, prefix: str, template: Template, start: int) -> None:
        self._template = template
        self._fields = template.open_fields()
        self.genes = _genes(prefix, template, self._fields)
        self.span = slice(start, start + len(self.genes))
        self._parts: dict[Genotype, _Part] = {}

    def part(self, genotype: Genotype) -> Component:
        """The part with the picked options."""
        return self._read(genotype).part

    def active(self, genotype: Genotype) -> Genotype:
        """Indices of the genes that have an effect, in order."""
        return self._read(genotype).active

    def canonical(self, genotype: Genotype) -> Genotype:
        """The part's first genes that give the same part."""
        return self._read(genotype).canonical

    def _read(self, genotype: Genotype) -> _Part:
        picked = genotype[self.span]
        read = self._parts.get(picked)
        if read is None:
            part = self._template.make(dict(zip(self._fields, picked, strict=True)))
            active = tuple([self.span.start + index for index in _in_use(self._template, self._fields, part)])
            read = _keep(self._parts, picked, _Part(part, active, tuple(self._template.variants[part].values())))
        return read

    def write(self, genotype: list[int], picked: Mapping[str, int]) -> None:
        """Write the options of the open fields into a genotype."""
        genotype[self.span] = [picked[name] for name in self._fields]


class _Made(NamedTuple):
    """A block with the positions, among the stage's and the block's own open fields, of those it uses."""

    block: Block
    of_stage: tuple[int, ...]
    of_block: tuple[int, ...]


class StageGenes:
    """The genes of a stage, from index `start` on: depth, fields chosen per stage, then those of block after block."""

    def __init__(self, prefix: str, stage: StageTemplate, start: int) -> None:
        self._stage = stage
        self._stage_fields = stage.open_fields()
        self._block_fields = stage.open_fields(per_block=True)
        depth = [Gene(f"{prefix}.num_layers", stage.num_layers.options)] if stage.num_layers.is_open else []
        self._begin = len(depth)  # of the stage's fields, counted from `start`
        self._blocks_begin = self._begin + len(self._stage_fields)
        genes = [*depth, *_genes(prefix, stage, self._stage_fields)]
        for position in range(stage.max_layers):
            genes += _genes(f"{prefix}.blocks[{position}]", stage, self._block_fields)
        self.genes = tuple(genes)
        self.span = slice(start, start + len(genes))
        self._idles = any(setting.idle(position) for setting in stage.settings for position in (0, 1))
        self._made: dict[tuple[bool, Genotype], _Made] = {}
        self._read: dict[Genotype, tuple[_Made, ...]] = {}
        self._active: dict[Genotype, Genotype] = {}
        self._canonical: dict[tuple[int, Genotype], tuple[Genotype, int]] = {}

    def blocks(self, genotype: Genotype) -> list[Block]:
        """The stage's blocks, those that do nothing included."""
        return [made.block for made in self._row(genotype[self.span])]

    def active(self, genotype: Genotype) -> Genotype:
        """Indices of the genes that have an effect, in order."""
        picked = genotype[self.span]
        active = self._active.get(picked)
        if active is None:
            active = _keep(self._active, picked, tuple([self.span.start + index for index in self._in_use(picked)]))
        return active

    def canonical(self, genotype: Genotype, in_channels: int) -> tuple[Genotype, int]:
        """The canonical genes of the stage behind `in_channels` channels; and the channels after it."""
        key = (in_channels if self._idles else 0, genotype[self.span])
        return self._canonical.get(key) or _keep(self._canonical, key, self._made_canonical(*key))

    def write(
        self, genotype: list[int], depth_option: int, picked: Mapping[str, int], blocks: Sequence[Mapping[str, int]]
    ) -> None:
        """Write the options of a stage's fields, and those of its blocks, into a genotype."""
        options = [depth_option][: self._begin] + [picked[name] for name in self._stage_fields]
        options += [block[name] for block in blocks for name in self._block_fields]
        genotype[self.span.start : self.span.start + len(options)] = options

    def _row(self, picked: Genotype) -> tuple[_Made, ...]:
        row = self._read.get(picked)
        if row is None:
            depth = cast(int, self._stage.num_layers.options[picked[0] if self._begin else 0])
            row = _keep(self._read, picked, tuple([self._made_at(picked, position) for position in range(depth)]))
        return row

    def _made_at(self, picked: Genotype, position: int) -> _Made:
        begin = self._blocks_begin + position * len(self._block_fields)
        options = picked[self._begin : self._blocks_begin] + picked[begin : begin + len(self._block_fields)]
        key = (position == 0, options)
        made = self._made.get(key)
        if made is None:
            named = dict(zip((*self._stage_fields, *self._block_fields), options, strict=True))
            block = self._stage.block(named, first=position == 0)
            of_stage = _in_use(self._stage, self._stage_fields, block)
            made = self._made[key] = _Made(block, of_stage, _in_use(self._stage, self._block_fields, block))
        return made

    def _in_use(self, picked: Genotype) -> list[int]:
        """Indices into the stage's own genes of those that have an effect, in order."""
        row = self._row(picked)
        of_stage = {index for made in row for index in made.of_stage}
        in_use = [*range(self._begin), *(self._begin + index for index in sorted(of_stage))]
        begin = self._blocks_begin
        for made in row:
            in_use += [begin + index for index in made.of_block]
            begin += len(self._block_fields)
        return in_use

    def _made_canonical(self, in_channels: int, picked: Genotype) -> tuple[Genotype, int]:
        row = self._row(picked)
        out_channels = row[-1].block.out_channels
        busy = self._busy(row, in_channels)
        if len(busy) < len(row):
            tidied = self._tidied(picked, len(row), busy)
            after = self._row(tidied)
            if [row[i].block for i in busy] == [after[i].block for i in self._busy(after, in_channels)]:
                picked = tidied
        in_use = set(self._in_use(picked))
        return tuple([option if index in in_use else 0 for index, option in enumerate(picked)]), out_channels

    @staticmethod
    def _busy(row: Sequence[_Made], channels: int) -> list[int]:
        """Positions of the blocks that do something."""
        busy = []
        for position, made in enumerate(row):
            if not made.block.does_nothing(channels):
                busy.append(position)
            channels = made.block.out_channels
        return busy

    def _tidied(self, picked: Genotype, depth: int, busy: Sequence[int]) -> Genotype:
        """With the blocks that do nothing moved to the end, and as many of them left out as can be."""
        width = len(self._block_fields)
        begins = [self._blocks_begin + position * width for position in range(self._stage.max_layers)]
        idle = [position for position in range(depth) if position not in busy]
        order = [*busy, *idle, *range(depth, self._stage.max_layers)]
        moved = [option for position in order for option in picked[begins[position] : begins[position] + width]]
        depths = cast("tuple[int, ...]", self._stage.num_layers.options)
        shallowest = depths.index(min(option for option in depths if option >= len(busy)))
        return (*(shallowest,)[: self._begin], *picked[self._begin : self._blocks_begin], *moved)


def _genes(prefix: str, template: Template, fields: Sequence[str]) -> tuple[Gene, ...]:
    return tuple(Gene(f"{prefix}.{name}", template.fields[name].options) for name in fields)


def _in_use(template: Template, fields: Sequence[str], part: Component) -> tuple[int, ...]:
    """Indices of the fields that make a difference to this part."""
    unused = part.unused_fields()
    return tuple([i for i, name in enumerate(fields) if template.applies(name, part.type) and name not in unused])


def _keep(memory: dict[_K, _V], key: _K, value: _V) -> _V:
    if len(memory) >= _MOST_KEPT:
        memory.clear()
    memory[key] = value
    return value
