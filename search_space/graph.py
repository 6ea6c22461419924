"""A space as a graph of part shapes: which shapes there are, and the best network by any sum over them.

A place is (channels, size in pixels) of a feature map. Picking a stem leads from an image to a place, picking a block
leads on, picking a head ends the network. Whatever is a sum over parts (latency, params, how many shapes are new) is
optimised exactly by dynamic programming over places, although the networks are far too many to be listed.
"""

from __future__ import annotations

import functools
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from search_space.architecture import Architecture, group_blocks
from search_space.blocks import Block
from search_space.head import Head
from search_space.parts import PartShape
from search_space.stem import Stem

if TYPE_CHECKING:
    from search_space.space import TemplateSpace

Place = tuple[int, int]
Group = tuple[PartShape, ...]
"""Shapes that begin at one place and end at one place: all that a network may have there."""
Combine = Callable[[float, float], float]
_Reached = dict[Place, tuple[float, Any]]
"""Place -> what the best path to it comes to, and the path: (the path before, its last group)."""


class PartGraph(ABC):
    """What a latency table has to cover, and the range of any sum over parts."""

    resolutions: tuple[int, ...]

    @abstractmethod
    def shapes(self) -> list[PartShape]:
        """Every part shape that a network of the space has, in order of appearance."""

    @abstractmethod
    def reach(self, measure: Callable[[PartShape], float], combine: Combine = operator.add) -> tuple[float, float]:
        """The least and the greatest that a network's parts come to, exactly.

        `combine` puts the measures of parts together: `operator.add`, or `max`, or anything that is associative and
        never falls when an argument rises.
        """

    @abstractmethod
    def cover(self, rng: np.random.Generator) -> Iterator[Architecture]:
        """Few networks that together have every shape of the space."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> Architecture:
        """A random network of the space."""


class SpaceGraph(PartGraph):
    """The part shapes of a space, at all its resolutions or given ones, for its number of classes or given ones."""

    def __init__(
        self,
        space: TemplateSpace,
        *,
        resolutions: Sequence[int] | None = None,
        num_classes: Sequence[int] | None = None,
    ) -> None:
        self._space = space
        self._constants = space.all_constants()
        self.resolutions = tuple(resolutions or cast("Sequence[int]", space.resolution.options))
        self.num_classes = tuple(num_classes or [self._constants["num_classes"]])
        self._begin = functools.cache(self._stems)
        self._step = functools.cache(self._blocks)
        self._end = functools.cache(self._heads)

    def shapes(self) -> list[PartShape]:
        found: dict[PartShape, None] = {}
        for resolution in self.resolutions:
            self._walk(resolution, lambda group: found.update(dict.fromkeys(group)) or 0.0)  # update returns None
        return list(found)

    def reach(self, measure: Callable[[PartShape], float], combine: Combine = operator.add) -> tuple[float, float]:
        value = functools.cache(measure)
        least = functools.cache(lambda group: -min(value(shape) for shape in group))
        greatest = functools.cache(lambda group: max(value(shape) for shape in group))
        lows = [self._walk(r, least, lambda a, b: -combine(-a, -b))[0] for r in self.resolutions]
        highs = [self._walk(r, greatest, combine)[0] for r in self.resolutions]
        return -max(lows), max(highs)

    def cover(self, rng: np.random.Generator) -> Iterator[Architecture]:
        missing = dict.fromkeys(self.shapes())
        for resolution in self.resolutions:
            while True:
                # Noise breaks ties, lest the first options be in every network.
                gain, path = self._walk(
                    resolution, lambda group: any(s in missing for s in group) + 1e-6 * rng.random()
                )
                if gain < 1:
                    break
                shapes: list[PartShape] = []
                for group in path:
                    wanted = [shape for shape in group if shape in missing] or list(group)
                    shapes.append(wanted[rng.integers(len(wanted))])
                    missing.pop(shapes[-1], None)
                yield self.network(shapes)

    def sample(self, rng: np.random.Generator) -> Architecture:
        """A random network: every gene of the space, resolution and number of classes uniform over their options."""
        architecture = self._space.decode(self._space.sample(rng))
        resolution, classes = rng.choice(self.resolutions), rng.choice(self.num_classes)
        return architecture.replace(resolution=int(resolution), num_classes=int(classes))

    def network(self, shapes: Sequence[PartShape]) -> Architecture:
        """The network with these parts."""
        stem = cast(Stem, shapes[0].part)
        return Architecture(
            name=self._space.name,
            stem=stem,
            stages=group_blocks(stem.out_channels, [cast(Block, shape.part) for shape in shapes[1:-1]]),
            head=cast(Head, shapes[-1].part),
            resolution=shapes[0].size,
            **{**self._constants, "num_classes": shapes[-1].out_channels},
        )

    def _walk(
        self, resolution: int, value: Callable[[Group], float], combine: Combine = operator.add
    ) -> tuple[float, list[Group]]:
        """The path whose groups' values combine to the most. Visits every group."""
        reached: _Reached = {}
        for place, group in self._begin(resolution).items():
            reached[place] = (value(group), (None, group))
        for stage, template in enumerate(self._space.stages):
            exits: _Reached = {}
            depths = cast("Sequence[int]", template.num_layers.options)
            for setting in range(len(template.settings)):
                current = reached
                for position in range(template.max_layers):
                    step = functools.partial(self._step, stage, setting, position == 0)
                    following: _Reached = {}
                    _extend(following, current, lambda place, step=step: step(place), value, combine)  # type: ignore[misc]
                    idle = template.settings[setting].idle(position)  # no shape, but on to the next position
                    _merge(following, {place: path for place, path in current.items() if place[0] in idle})
                    current = following
                    if position + 1 in depths:
                        _merge(exits, current)
            reached = exits
        ends: _Reached = {}
        _extend(ends, reached, self._end, value, combine)
        score, link = max(ends.values(), key=operator.itemgetter(0))
        path: list[Group] = []
        while link is not None:
            link, group = link
            path.append(group)
        return score, path[::-1]

    # Groups: where one can get from a place, and by which shapes. Each is made once.

    def _stems(self, resolution: int) -> dict[Place, Group]:
        channels = self._constants["input_channels"]
        stems = cast("list[Stem]", list(self._space.stem.variants))
        return _grouped([PartShape(stem, channels, resolution, stem.out_channels) for stem in stems])

    def _blocks(self, stage: int, setting: int, first: bool, place: Place) -> dict[Place, Group]:
        allowed = self._space.stages[stage].settings[setting].allowed(0 if first else 1)
        busy = [block for block in allowed if not block.does_nothing(place[0])]
        return _grouped([PartShape(block, *place, block.out_channels) for block in busy])

    def _heads(self, place: Place) -> dict[Place, Group]:
        heads = cast("list[Head]", list(self._space.head.variants))
        return {(0, 0): tuple(PartShape(head, *place, classes) for head in heads for classes in self.num_classes)}


def _grouped(shapes: list[PartShape]) -> dict[Place, Group]:
    groups: dict[Place, list[PartShape]] = {}
    for shape in shapes:
        place = (shape.out_channels, cast("Stem | Block", shape.part).out_size(shape.size))
        groups.setdefault(place, []).append(shape)
    return {place: tuple(group) for place, group in groups.items()}


def _extend(
    into: _Reached,
    reached: _Reached,
    step: Callable[[Place], dict[Place, Group]],
    value: Callable[[Group], float],
    combine: Combine,
) -> None:
    for place, (score, link) in reached.items():
        for end, group in step(place).items():
            total = combine(score, value(group))
            if end not in into or total > into[end][0]:
                into[end] = (total, (link, group))


def _merge(into: _Reached, reached: _Reached) -> None:
    for place, (score, link) in reached.items():
        if place not in into or score > into[place][0]:
            into[place] = (score, link)
