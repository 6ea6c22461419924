"""Search spaces: which architectures there are, and their genotypes.

A genotype is a tuple of option indices, one for each gene; genes are the choices of the space, always the same ones in
the same order, so that any sampler of fixed-length categorical vectors can search it. Genes without effect (blocks
beyond the depth, fields that the chosen block type lacks) change the genotype but not the architecture's `arch_id`.
Nor does it matter at which place of a stage a block stands that does nothing.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from search_space.abstract_space import Params, SearchSpace
from search_space.architecture import Architecture, group_blocks
from search_space.blocks import Block
from search_space.counting import count_sequences
from search_space.errors import InputError, listed
from search_space.genes import Gene, Genotype, PartGenes, StageGenes
from search_space.graph import SpaceGraph
from search_space.head import Head
from search_space.stem import Stem
from search_space.template import Choice, StageTemplate, Template

__all__ = ["Gene", "Genotype", "Params", "SearchSpace", "TemplateSpace"]


@dataclass(frozen=True, eq=False)
class TemplateSpace(SearchSpace):
    """A set of architectures, described by templates with open choices. Made by `load_space`."""

    name: str
    description: str
    resolution: Choice
    stem: Template
    stages: tuple[StageTemplate, ...]
    head: Template
    constants: Mapping[str, Any] = field(default_factory=dict)
    plain: Mapping[str, Any] = field(default_factory=dict)

    def with_constants(self, **constants: Any) -> TemplateSpace:
        """The same choices with other constants, as the number of classes of the user's data."""
        changed = {**self.constants, **constants}
        return dataclasses.replace(self, constants=changed, plain={**self.plain, **constants})

    @property
    def resolutions(self) -> tuple[int, ...]:
        """All resolutions of its networks, in px."""
        return cast("tuple[int, ...]", self.resolution.options)

    def graph(
        self, *, resolutions: Sequence[int] | None = None, num_classes: Sequence[int] | None = None
    ) -> SpaceGraph:
        """Its part shapes, at all its resolutions or given ones, for its number of classes or given ones."""
        return SpaceGraph(self, resolutions=resolutions, num_classes=num_classes)

    def describe(self) -> list[Mapping[str, Any]]:
        """Rows for the network, the stem, each stage and the head."""
        network = {"num_classes": self.all_constants()["num_classes"], "resolution": self.resolution.describe()}
        rows: list[Mapping[str, Any]] = [{"part": "network", **network}]
        rows.append({"part": "stem", **self.stem.describe()})
        for index, stage in enumerate(self.stages):
            rows.append({"part": f"stages[{index}]", "num_layers": stage.num_layers.describe(), **stage.describe()})
        rows.append({"part": "head", **self.head.describe()})
        return rows

    # Genes.

    @functools.cached_property
    def genes(self) -> tuple[Gene, ...]:
        """All genes, in the order of the genotype."""
        genes = [Gene("resolution", self.resolution.options)] if self.resolution.is_open else []
        for part in self._part_genes:
            genes += part.genes
        return tuple(genes)

    @functools.cached_property
    def _part_genes(self) -> list[PartGenes | StageGenes]:
        return [self._stem_genes, *self._stage_genes, self._head_genes]

    @functools.cached_property
    def _stem_genes(self) -> PartGenes:
        return PartGenes("stem", self.stem, start=int(self.resolution.is_open))

    @functools.cached_property
    def _stage_genes(self) -> list[StageGenes]:
        made: list[StageGenes] = []
        for index, stage in enumerate(self.stages):
            start = made[-1].span.stop if made else self._stem_genes.span.stop
            made.append(StageGenes(f"stages[{index}]", stage, start))
        return made

    @functools.cached_property
    def _head_genes(self) -> PartGenes:
        return PartGenes("head", self.head, start=self._stage_genes[-1].span.stop)

    @functools.cached_property
    def size(self) -> int:
        """How many distinct architectures (distinct `arch_id`s) there are, exactly."""
        widths = [cast(Stem, stem).out_channels for stem in self.stem.variants]
        return len(self.resolution.options) * len(self.head.variants) * count_sequences(self.stages, widths)

    # Genotype <-> architecture.

    def decode(self, genotype: Sequence[int]) -> Architecture:
        """The architecture of a genotype."""
        genotype = tuple(genotype)
        stem = cast(Stem, self._stem_genes.part(genotype))
        blocks = [block for genes in self._stage_genes for block in genes.blocks(genotype)]
        return Architecture(
            name=self.name,
            stem=stem,
            stages=group_blocks(stem.out_channels, blocks),
            head=cast(Head, self._head_genes.part(genotype)),
            resolution=cast(int, self.resolution.options[genotype[0] if self.resolution.is_open else 0]),
            **self.constants,
        )

    def encode(self, architecture: Architecture) -> Genotype:
        """A genotype that decodes to this architecture, genes without effect at their first option.

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
            genotype[0] = self.resolution.options.index(architecture.resolution)
        parts = (("stem", self.stem, self._stem_genes), ("head", self.head, self._head_genes))
        for name, template, genes in parts:
            part = getattr(architecture, name)
            if part not in template.variants:
                raise outside(name, part, [])
            genes.write(genotype, template.variants[part])
        blocks = tuple(architecture.blocks)
        channels = [architecture.stem.out_channels, *(block.out_channels for block in blocks)]
        furthest = [0]
        if not self._encode_stages(blocks, channels, 0, 0, genotype, furthest, set()):
            place = furthest[0]
            if place >= len(blocks):
                raise outside("the depth", len(blocks), [])
            raise outside(f"block {place}", blocks[place], [])
        return tuple(genotype)

    def _encode_stages(
        self,
        blocks: tuple[Block, ...],
        channels: Sequence[int],
        stage: int,
        start: int,
        genotype: list[int],
        furthest: list[int],
        failed: set[tuple[int, int]],
    ) -> bool:
        """Split `blocks[start:]` over the stages from `stage` on, writing genes; False if there is no way.

        `channels[i]` are those in front of block i.
        """
        if stage == len(self.stages):
            return start == len(blocks)
        if (stage, start) in failed:
            return False
        template = self.stages[stage]
        for option, num_layers in enumerate(cast(Sequence[int], template.num_layers.options)):
            for setting in template.settings:
                # Where one can be in `blocks`, and the row of the stage's blocks that leads there: at each position
                # the next one, or one that does nothing. Those are put as far back as can be.
                rows: dict[int, list[Block]] = {start: []}
                for position in range(num_layers):
                    allowed, idle = setting.allowed(position), setting.idle(position)
                    longer: dict[int, list[Block]] = {}
                    for at, row in rows.items():
                        if at < len(blocks) and blocks[at] in allowed:
                            longer.setdefault(at + 1, [*row, blocks[at]])
                        if channels[at] in idle:
                            longer.setdefault(at, [*row, idle[channels[at]]])
                    rows = longer
                    furthest[0] = max(furthest[0], *rows, 0)
                for end, row in rows.items():
                    if self._encode_stages(blocks, channels, stage + 1, end, genotype, furthest, failed):
                        picked = [setting.allowed(position)[block] for position, block in enumerate(row)]
                        self._stage_genes[stage].write(genotype, option, setting.picked, picked)
                        return True
        failed.add((stage, start))
        return False

    def active(self, genotype: Sequence[int]) -> Genotype:
        """Indices of the genes that have an effect, in order.

        Not those of blocks beyond the depth, of fields a type lacks, or of fields without effect beside others.
        """
        genotype = tuple(genotype)
        active = [0] if self.resolution.is_open else []
        for genes in self._part_genes:
            active += genes.active(genotype)
        return tuple(active)

    def canonical(self, genotype: Sequence[int]) -> Genotype:
        """The same network, spelt in one way as far as can be told stage by stage.

        Genes without effect are at their first option; blocks that do nothing stand at the end of their stage, and
        there are as few of them as its depths allow. Different results may still be one network, where the end of one
        stage could as well be the beginning of the next.
        """
        genotype = tuple(genotype)
        canonical = [*genotype[: int(self.resolution.is_open)], *self._stem_genes.canonical(genotype)]
        channels = cast(Stem, self._stem_genes.part(genotype)).out_channels
        for genes in self._stage_genes:
            stage, channels = genes.canonical(genotype, channels)
            canonical += stage
        return (*canonical, *self._head_genes.canonical(genotype))
