"""Search spaces: which architectures there are, and their genotypes.

A genotype is a tuple of option indices, one for each gene; genes are the choices of the space, always the same ones in
the same order, so that any sampler of fixed-length categorical vectors can search it. Genes without effect (blocks
beyond the depth, fields that the chosen block type lacks) change the genotype but not the architecture's `arch_id`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from search_space.architecture import Architecture, group_blocks
from search_space.architecture_file import SHARED_NUMBERS
from search_space.blocks import Block
from search_space.component import Component
from search_space.counting import count_sequences
from search_space.errors import InputError, listed
from search_space.head import Head
from search_space.stem import Stem
from search_space.template import Choice, Option, StageTemplate, Template

Genotype = tuple[int, ...]
Params = dict[str, Option]


@dataclass(frozen=True)
class Gene:
    """One choice: its name, as `stages[2].blocks[1].kernel_size`, and its options."""

    name: str
    options: tuple[Option, ...]


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """A set of architectures, described by templates with open choices. Made by `load_space`."""

    name: str
    description: str
    resolution: Choice
    stem: Template
    stages: tuple[StageTemplate, ...]
    head: Template
    constants: Mapping[str, Any] = field(default_factory=dict)
    """Fields that all architectures of the space share, as `num_classes` and `norm_eps`."""
    plain: Mapping[str, Any] = field(default_factory=dict)
    """The file's own data, kept so that a run can be repeated from its folder alone."""

    def with_constants(self, **constants: Any) -> SearchSpace:
        """The same choices with other constants, as the number of classes of the user's data."""
        changed = {**self.constants, **constants}
        return dataclasses.replace(self, constants=changed, plain={**self.plain, **constants})

    # Genes.

    @functools.cached_property
    def genes(self) -> tuple[Gene, ...]:
        """All genes, in the order of the genotype."""
        genes = [Gene("resolution", self.resolution.options)] if self.resolution.is_open else []
        genes += _genes("stem", self.stem)
        for index, stage in enumerate(self.stages):
            prefix = f"stages[{index}]"
            if stage.num_layers.is_open:
                genes.append(Gene(f"{prefix}.num_layers", stage.num_layers.options))
            genes += _genes(prefix, stage)
            for position in range(stage.max_layers):
                genes += _genes(f"{prefix}.blocks[{position}]", stage, per_block=True)
        return (*genes, *_genes("head", self.head))

    @functools.cached_property
    def _index(self) -> dict[str, int]:
        return {gene.name: index for index, gene in enumerate(self.genes)}

    @functools.cached_property
    def _decoders(self) -> list[_StageDecoder]:
        return [_StageDecoder(index, stage, self._index) for index, stage in enumerate(self.stages)]

    @property
    def num_genotypes(self) -> int:
        """The product of the numbers of options: how many genotypes there are, those with equal networks included."""
        return math.prod(len(gene.options) for gene in self.genes)

    @functools.cached_property
    def size(self) -> int:
        """How many distinct architectures (distinct `arch_id`s) there are, exactly."""
        sequences = count_sequences(self.stages)
        return len(self.resolution.options) * len(self.stem.variants) * len(self.head.variants) * sequences

    # Genotype <-> architecture.

    def check(self, genotype: Sequence[int]) -> Genotype:
        """The genotype as a tuple; raises `InputError` if it is not one of this space."""
        checked = tuple(int(index) for index in genotype)
        if len(checked) != len(self.genes):
            raise InputError(f"a genotype of {self.name} has {len(self.genes)} genes", len(checked))
        for gene, index in zip(self.genes, checked, strict=True):
            if not 0 <= index < len(gene.options):
                raise InputError(f"{gene.name} has options 0 to {len(gene.options) - 1}", index)
        return checked

    def decode(self, genotype: Sequence[int]) -> Architecture:
        """The architecture of a genotype."""
        return Architecture(
            name=self.name,
            stem=cast(Stem, self._decode_part("stem", self.stem, genotype)),
            stages=group_blocks(block for decoder in self._decoders for block in decoder.blocks(genotype)),
            head=cast(Head, self._decode_part("head", self.head, genotype)),
            resolution=cast(int, self.resolution.options[self._picked("resolution", genotype)]),
            **self.constants,
        )

    def _picked(self, gene: str, genotype: Sequence[int]) -> int:
        index = self._index.get(gene)
        return 0 if index is None else genotype[index]

    def _decode_part(self, prefix: str, template: Template, genotype: Sequence[int]) -> Component:
        return template.make({n: genotype[self._index[f"{prefix}.{n}"]] for n in template.open_fields()})

    def encode(self, architecture: Architecture) -> Genotype:
        """The first genotype that decodes to this architecture, genes without effect at their first option.

        Raises `InputError`, naming the first part that does not fit, if the architecture is not in the space.
        """

        def outside(what: str, value: Any, options: Sequence[Any]) -> InputError:
            remedy = f"the space has {listed(options)}" if 0 < len(options) <= 8 else ""
            return InputError(f"{what} of {architecture.name} is not in space {self.name}", value, remedy=remedy)

        genotype = [0] * len(self.genes)
        for name, value in self.all_constants().items():
            if getattr(architecture, name) != value:
                raise outside(name, getattr(architecture, name), [value])
        if architecture.resolution not in self.resolution.options:
            raise outside("resolution", architecture.resolution, self.resolution.options)
        if self.resolution.is_open:
            genotype[self._index["resolution"]] = self.resolution.options.index(architecture.resolution)
        for name, template in (("stem", self.stem), ("head", self.head)):
            part = getattr(architecture, name)
            if part not in template.variants:
                raise outside(name, part, [])
            for field_name, option in template.variants[part].items():
                genotype[self._index[f"{name}.{field_name}"]] = option
        blocks = tuple(architecture.blocks)
        furthest = [0]
        if not self._encode_stages(blocks, 0, 0, genotype, furthest, set()):
            place = furthest[0]
            if place >= len(blocks):
                raise outside("the depth", len(blocks), [])
            raise outside(f"block {place}", blocks[place], [])
        return tuple(genotype)

    def all_constants(self) -> dict[str, Any]:
        """The fields that all architectures of the space share, those left at their default included."""
        defaults = {f.name: f.default for f in dataclasses.fields(Architecture)}
        return {name: self.constants.get(name, defaults[name]) for name in SHARED_NUMBERS}

    def _encode_stages(
        self,
        blocks: tuple[Block, ...],
        stage: int,
        start: int,
        genotype: list[int],
        furthest: list[int],
        failed: set[tuple[int, int]],
    ) -> bool:
        """Split `blocks[start:]` over the stages from `stage` on, writing genes; False if there is no way."""
        furthest[0] = max(furthest[0], start)
        if stage == len(self.stages):
            return start == len(blocks)
        if (stage, start) in failed:
            return False
        template = self.stages[stage]
        for option, num_layers in enumerate(cast(Sequence[int], template.num_layers.options)):
            part = blocks[start : start + num_layers]
            for setting in template.settings:
                fits = [block in setting.allowed(position) for position, block in enumerate(part)]
                if not all(fits) or len(part) < num_layers:
                    furthest[0] = max(furthest[0], start + (fits.index(False) if False in fits else len(fits)))
                    continue
                if self._encode_stages(blocks, stage + 1, start + num_layers, genotype, furthest, failed):
                    self._decoders[stage].write(
                        genotype, option, setting.picked, [setting.allowed(i)[b] for i, b in enumerate(part)]
                    )
                    return True
        failed.add((stage, start))
        return False

    # Optuna's view: named parameters.

    def params(self, genotype: Sequence[int]) -> Params:
        """Gene name -> picked option."""
        return {gene.name: gene.options[index] for gene, index in zip(self.genes, genotype, strict=True)}

    def genotype(self, params: Mapping[str, Any]) -> Genotype:
        """The genotype of named options; raises `InputError` if one is missing or unknown."""
        indices = []
        for gene in self.genes:
            if gene.name not in params:
                raise InputError(f"params of space {self.name} need {gene.name}")
            if params[gene.name] not in gene.options:
                raise InputError(f"{gene.name} must be {listed(gene.options)}", params[gene.name])
            indices.append(gene.options.index(params[gene.name]))
        return tuple(indices)

    # Moving about.

    def sample(self, rng: np.random.Generator) -> Genotype:
        """A random genotype: every gene uniform over its options, independently."""
        return tuple(int(rng.integers(len(gene.options))) for gene in self.genes)

    def active(self, genotype: Sequence[int]) -> list[int]:
        """Indices of the genes that are in use: not those of blocks beyond the depth or of fields a type lacks."""
        active = [index for name, index in self._index.items() if not name.startswith("stages[")]
        for decoder in self._decoders:
            active += decoder.active(genotype)
        return sorted(active)

    def neighbours(self, genotype: Sequence[int]) -> Iterator[Genotype]:
        """Genotypes that differ in one active gene, one for each distinct architecture other than the given one."""
        genotype = tuple(genotype)
        seen = {self.decode(genotype).arch_id}
        for index in self.active(genotype):
            for option in range(len(self.genes[index].options)):
                neighbour = (*genotype[:index], option, *genotype[index + 1 :])
                arch_id = self.decode(neighbour).arch_id
                if arch_id not in seen:
                    seen.add(arch_id)
                    yield neighbour


def _genes(prefix: str, template: Template, *, per_block: bool = False) -> list[Gene]:
    names = template.open_fields(per_block=per_block)
    return [Gene(f"{prefix}.{name}", template.fields[name].options) for name in names]


class _StageDecoder:
    """Reads and writes one stage's genes; keeps the blocks it made, since decoding is the search's inner loop."""

    def __init__(self, index: int, stage: StageTemplate, gene_index: Mapping[str, int]) -> None:
        prefix = f"stages[{index}]"
        self._stage = stage
        self._depth_gene = gene_index.get(f"{prefix}.num_layers")
        self._stage_fields = stage.open_fields()
        self._block_fields = stage.open_fields(per_block=True)
        self._fields = (*self._stage_fields, *self._block_fields)
        self._stage_genes = tuple(gene_index[f"{prefix}.{name}"] for name in self._stage_fields)
        self._block_genes = [
            tuple(gene_index[f"{prefix}.blocks[{position}].{name}"] for name in self._block_fields)
            for position in range(stage.max_layers)
        ]
        self._made: dict[tuple[bool, tuple[int, ...]], Block] = {}

    def num_layers(self, genotype: Sequence[int]) -> int:
        option = 0 if self._depth_gene is None else genotype[self._depth_gene]
        return cast(int, self._stage.num_layers.options[option])

    def blocks(self, genotype: Sequence[int]) -> tuple[Block, ...]:
        return tuple(self._block(genotype, position) for position in range(self.num_layers(genotype)))

    def _block(self, genotype: Sequence[int], position: int) -> Block:
        options = tuple([genotype[gene] for gene in (*self._stage_genes, *self._block_genes[position])])
        key = (position == 0, options)
        block = self._made.get(key)
        if block is None:
            picked = dict(zip(self._fields, options, strict=True))
            block = self._made[key] = self._stage.block(picked, first=position == 0)
        return block

    def active(self, genotype: Sequence[int]) -> list[int]:
        active = [] if self._depth_gene is None else [self._depth_gene]
        in_use: set[str] = set()
        for position, block in enumerate(self.blocks(genotype)):
            applies = {name for name in self._fields if self._stage.applies(name, block.type)}
            in_use |= applies
            genes = zip(self._block_fields, self._block_genes[position], strict=True)
            active += [gene for name, gene in genes if name in applies]
        genes = zip(self._stage_fields, self._stage_genes, strict=True)
        return active + [gene for name, gene in genes if name in in_use]

    def write(
        self, genotype: list[int], depth_option: int, picked: Mapping[str, int], blocks: Sequence[Mapping[str, int]]
    ) -> None:
        if self._depth_gene is not None:
            genotype[self._depth_gene] = depth_option
        for name, gene in zip(self._stage_fields, self._stage_genes, strict=True):
            genotype[gene] = picked[name]
        for block_picks, genes in zip(blocks, self._block_genes, strict=False):
            for name, gene in zip(self._block_fields, genes, strict=True):
                genotype[gene] = block_picks[name]
