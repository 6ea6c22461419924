"""A search space of one network's scaled forms: coefficients of compound scaling as choices.

So a grid of coefficients is searched as any space is, with the same record, and a family has latency tables as any
space has.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from search_space.abstract_space import SearchSpace
from search_space.architecture import ARCHITECTURE_RULES, Architecture
from search_space.architecture_file import SHARED_NUMBERS, load_architecture, parse_architecture, top_level
from search_space.choice_file import read_choice, read_description
from search_space.documents import Document
from search_space.errors import InputError
from search_space.genes import Gene, Genotype
from search_space.graph import PartGraph
from search_space.listed_graph import ListedGraph
from search_space.rules import NAME, Rule
from search_space.scaling import COEFFICIENT, PHI, CompoundRule, Member
from search_space.template import Choice

COEFFICIENTS: dict[str, Rule] = {"phi": PHI, "alpha": COEFFICIENT, "beta": COEFFICIENT, "gamma": COEFFICIENT}
KEYS = {
    **dict.fromkeys(("schema_version", "name", "base", "scaling"), True),
    **dict.fromkeys(("description", "num_classes"), False),
}
MOST_NETWORKS = 20_000
"""Each of them is made when the size is asked for."""


@dataclass(frozen=True, eq=False)
class ScalingSpace(SearchSpace):
    """`base` scaled by every combination of coefficients; see `CompoundRule`. Made by `load_space` or `scaling_space`.

    Many combinations round to the same network. Of those the one stands for it (`coefficients`) whose alpha · beta² ·
    gamma² is nearest to `ratio`: it promises for other phi what it gives at this one.
    """

    name: str
    description: str
    base: Architecture
    choices: Mapping[str, Choice]
    """Of `phi`, `alpha`, `beta`, `gamma`."""
    plain: Mapping[str, Any]
    ratio: ClassVar[float] = 2.0

    @property
    def constants(self) -> dict[str, Any]:  # type: ignore[override]
        """The base's; its dropout grows, and is none of them."""
        return {name: getattr(self.base, name) for name in SHARED_NUMBERS if name != "drop_path_rate"}

    @property
    def reference_px(self) -> int:  # type: ignore[override]
        """The base's resolution."""
        return self.base.resolution

    def with_constants(self, **constants: Any) -> ScalingSpace:
        """The same of a base with other constants, as the number of classes of the user's data."""
        base = self.base.replace(**constants)
        return dataclasses.replace(self, base=base, plain={**self.plain, "base": base.to_dict()})

    @functools.cached_property
    def genes(self) -> tuple[Gene, ...]:
        """Those with something to choose."""
        return tuple(Gene(name, choice.options) for name, choice in self.choices.items() if choice.is_open)

    @property
    def size(self) -> int:
        """How many distinct networks there are."""
        return len(self._spelt)

    @functools.cached_property
    def resolutions(self) -> tuple[int, ...]:
        """All resolutions of its networks, in px."""
        return tuple(sorted({self.decode(genotype).resolution for genotype in self._spelt.values()}))

    def decode(self, genotype: Sequence[int]) -> Architecture:
        """The base, scaled."""
        return self._member(tuple(genotype)).architecture

    def encode(self, architecture: Architecture) -> Genotype:
        """The combination that stands for this network."""
        if architecture.arch_id not in self._spelt:
            raise InputError(f"{architecture.name} is not in space {self.name}", architecture.arch_id)
        return self._spelt[architecture.arch_id]

    def active(self, genotype: Sequence[int]) -> Genotype:
        """All of them."""
        return tuple(range(len(self.genes)))

    def canonical(self, genotype: Sequence[int]) -> Genotype:
        """The combination that stands for this one's network."""
        return self._spelt[self.decode(genotype).arch_id]

    def graph(self, *, resolutions: Sequence[int] | None = None, num_classes: Sequence[int] | None = None) -> PartGraph:
        networks = [self.decode(genotype) for genotype in self._spelt.values()]
        return ListedGraph(networks, resolutions=resolutions, num_classes=num_classes)

    def describe(self) -> list[Mapping[str, Any]]:
        """One row: the base's name and classes, and its coefficients."""
        coefficients = {name: choice.describe() for name, choice in self.choices.items()}
        return [{"part": self.base.name, "num_classes": self.all_constants()["num_classes"], **coefficients}]

    def coefficients(self, architecture: Architecture) -> dict[str, float]:
        """`phi`, `alpha`, `beta` and `gamma` that stand for this network. Raises `InputError`."""
        return self._picked(self.encode(architecture))

    def _picked(self, genotype: Genotype) -> dict[str, float]:
        options = iter(genotype)
        return {
            name: cast(float, choice.options[next(options) if choice.is_open else 0])
            for name, choice in self.choices.items()
        }

    @functools.cached_property
    def _members(self) -> dict[Genotype, Member]:
        return {}

    def _member(self, genotype: Genotype) -> Member:
        member = self._members.get(genotype)
        if member is None:
            picked = self._picked(genotype)
            rule = CompoundRule(picked["alpha"], picked["beta"], picked["gamma"])
            try:
                member = self._members[genotype] = rule.member(self.base, picked["phi"])
            except InputError as error:
                raise error.located(f"{self.name}: " + ", ".join(f"{k} {v:g}" for k, v in picked.items())) from None
        return member

    @functools.cached_property
    def _spelt(self) -> dict[str, Genotype]:
        """`arch_id` -> the combination that stands for the network, in order of the first one that gives it."""
        best: dict[str, tuple[float, Genotype]] = {}
        for index in range(self.num_genotypes):
            genotype = self._at(index)
            picked = self._picked(genotype)
            off = abs(math.log(picked["alpha"] * picked["beta"] ** 2 * picked["gamma"] ** 2 / self.ratio))
            arch_id = self.decode(genotype).arch_id
            if arch_id not in best or (off, genotype) < best[arch_id]:
                best[arch_id] = (off, genotype)
        return {arch_id: genotype for arch_id, (_, genotype) in best.items()}

    def _at(self, index: int) -> Genotype:
        genotype = []
        for gene in reversed(self.genes):
            index, option = divmod(index, len(gene.options))
            genotype.append(option)
        return tuple(reversed(genotype))


def scaling_space(base: Architecture, coefficients: Mapping[str, float | Sequence[float]]) -> ScalingSpace:
    """The space of `base` scaled by coefficients, each of which is one number or several to choose from."""
    scaling: dict[str, Any] = {
        coefficient: value if isinstance(value, (int, float)) else {"choice": list(value)}
        for coefficient, value in coefficients.items()
    }
    plain = base.to_dict()
    plain.pop("provenance", None)
    name = f"{base.name[:150]}-scaling"
    described = f"{base.name[:150]}, scaled by depth, width and resolution"
    return parse_scaling_space(
        Document({"schema_version": 1, "name": name, "description": described, "scaling": scaling, "base": plain})
    )


def parse_scaling_space(document: Document) -> ScalingSpace:
    """Make the space that a document describes: `base`, a network or the name of one, and `scaling`."""
    plain = dict(top_level(document, KEYS))
    with document.at(()):
        NAME.check("name", plain["name"])
        description = read_description(plain)
    if isinstance(plain["base"], str):
        with document.at(("base",)):
            base = load_architecture(plain["base"])
    else:
        base = parse_architecture(document.below("base"))
    if "num_classes" in plain:
        with document.at(("num_classes",)):
            classes = ARCHITECTURE_RULES["num_classes"].check("num_classes", plain.pop("num_classes"))
        base = base.replace(num_classes=classes)
    given = document.mapping(("scaling",), dict.fromkeys(COEFFICIENTS, False))
    rule = CompoundRule()
    defaults = {"phi": 1, "alpha": rule.alpha, "beta": rule.beta, "gamma": rule.gamma}
    choices = {
        name: read_choice(document, ("scaling", name), check) if name in given else Choice((defaults[name],))
        for name, check in COEFFICIENTS.items()
    }
    combined = math.prod(len(choice.options) for choice in choices.values())
    with document.at(("scaling",)):
        if combined > MOST_NETWORKS:
            rule_text = f"the coefficients may combine to at most {MOST_NETWORKS:,} networks"
            raise InputError(rule_text, combined, remedy="leave out some options")
        if any(choice.per_block for choice in choices.values()):
            raise InputError("coefficients are chosen once for the network", remedy="leave out `per`")
    return ScalingSpace(plain["name"], description, base, choices, {**plain, "base": base.to_dict()})
