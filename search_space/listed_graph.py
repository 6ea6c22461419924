"""The part shapes of a space small enough that its networks can be listed."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from search_space.architecture import Architecture
from search_space.errors import InputError
from search_space.graph import Combine, PartGraph
from search_space.parts import PartShape, parts


class ListedGraph(PartGraph):
    """The part shapes of given networks, at some of their resolutions, for several numbers of classes or their own."""

    def __init__(
        self,
        networks: Sequence[Architecture],
        *,
        resolutions: Sequence[int] | None = None,
        num_classes: Sequence[int] | None = None,
    ) -> None:
        self.resolutions = tuple(sorted(set(resolutions or [network.resolution for network in networks])))
        kept = [network for network in networks if network.resolution in self.resolutions]
        if not kept:
            raise InputError("no network of the space has such a resolution", list(self.resolutions))
        self._networks = [
            network.replace(num_classes=classes) for network in kept for classes in num_classes or [network.num_classes]
        ]
        self._rows = [parts(network) for network in self._networks]

    def shapes(self) -> list[PartShape]:
        return list(dict.fromkeys(shape for row in self._rows for shape in row))

    def reach(self, measure: Callable[[PartShape], float], combine: Combine = operator.add) -> tuple[float, float]:
        value = functools.cache(measure)
        totals = [functools.reduce(combine, map(value, row)) for row in self._rows]
        return min(totals), max(totals)

    def cover(self, rng: np.random.Generator) -> Iterator[Architecture]:
        """Always the network with the most shapes still missing, of equals a random one."""
        missing = set(self.shapes())
        rows = [set(row) for row in self._rows]
        order = rng.permutation(len(rows)).tolist()
        while missing:
            best = max(order, key=lambda index: len(rows[index] & missing))
            missing -= rows[best]
            yield self._networks[best]

    def sample(self, rng: np.random.Generator) -> Architecture:
        return self._networks[rng.integers(len(self._networks))]
