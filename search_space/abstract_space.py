"""What every search space owes: genes, and the networks that their options stand for."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from search_space.architecture import Architecture
from search_space.architecture_file import SHARED_NUMBERS
from search_space.errors import InputError, listed
from search_space.genes import Gene, Genotype
from search_space.graph import PartGraph
from search_space.template import Option

Params = dict[str, Option]


class SearchSpace(ABC):
    """A set of architectures, each spelt by at least one genotype."""

    name: str
    description: str
    constants: Mapping[str, Any]
    """Fields that all architectures of the space share, as `num_classes` and `norm_eps`."""
    plain: Mapping[str, Any]
    """The file's own data, kept so that a run can be repeated from its folder alone."""
    reference_px: int = 0
    """If not 0, a network's resolution is one of the things searched for: a proxy, whose images are smaller than what
    the network is meant for, shows them at its own resolution to a network of this one, and to others in proportion."""

    @property
    @abstractmethod
    def genes(self) -> tuple[Gene, ...]:
        """All genes, in the order of the genotype."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many distinct architectures (distinct `arch_id`s) there are, exactly."""

    @property
    @abstractmethod
    def resolutions(self) -> tuple[int, ...]:
        """All resolutions of its networks, in px."""

    @abstractmethod
    def decode(self, genotype: Sequence[int]) -> Architecture:
        """The architecture of a genotype."""

    @abstractmethod
    def encode(self, architecture: Architecture) -> Genotype:
        """A genotype that decodes to this architecture.

        Raises `InputError`, naming the first part that does not fit, if the architecture is not in the space.
        """

    @abstractmethod
    def active(self, genotype: Sequence[int]) -> Genotype:
        """Indices of the genes that have an effect, in order."""

    @abstractmethod
    def canonical(self, genotype: Sequence[int]) -> Genotype:
        """The same network, spelt in one way as far as can be told without making it."""

    @abstractmethod
    def with_constants(self, **constants: Any) -> SearchSpace:
        """The same choices with other constants, as the number of classes of the user's data."""

    @abstractmethod
    def graph(self, *, resolutions: Sequence[int] | None = None, num_classes: Sequence[int] | None = None) -> PartGraph:
        """Its part shapes, at all its resolutions or given ones, for its number of classes or given ones."""

    @abstractmethod
    def describe(self) -> list[Mapping[str, Any]]:
        """A row for each part of the space: its name as `part` and, by field, the fixed value or the options."""

    # What follows from these.

    @property
    def num_genotypes(self) -> int:
        """The product of the numbers of options: how many genotypes there are, those with equal networks included."""
        return math.prod(len(gene.options) for gene in self.genes)

    def all_constants(self) -> dict[str, Any]:
        """The fields that all architectures of the space share, those left at their default included."""
        defaults = {f.name: f.default for f in dataclasses.fields(Architecture)}
        return {name: self.constants.get(name, defaults[name]) for name in SHARED_NUMBERS}

    def check(self, genotype: Sequence[int]) -> Genotype:
        """The genotype as a tuple; raises `InputError` if it is not one of this space."""
        checked = tuple(int(index) for index in genotype)
        if len(checked) != len(self.genes):
            raise InputError(f"a genotype of {self.name} has {len(self.genes)} genes", len(checked))
        for gene, index in zip(self.genes, checked, strict=True):
            if not 0 <= index < len(gene.options):
                raise InputError(f"{gene.name} has options 0 to {len(gene.options) - 1}", index)
        return checked

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
