"""The graph of part shapes against the listing of every network, on spaces small enough for that."""

from __future__ import annotations

import functools
import json
import zlib

import numpy as np
import pytest
from support import SMALL_SPACE, TINY_SPACE, space
from test_small_spaces import SPACES, genotypes, space_of

from search_space import Architecture, SearchSpace, load_space
from search_space.cost import part_cost
from search_space.graph import SpaceGraph
from search_space.parts import PartShape, parts

NAMES = [*SPACES, SMALL_SPACE, TINY_SPACE]
all_spaces = pytest.mark.parametrize("name", NAMES, ids=[*SPACES, "small", "tiny"])


@functools.cache
def searched(name: str) -> SearchSpace:
    return space_of(name) if name in SPACES else space(name)


@functools.cache
def networks(name: str) -> list[Architecture]:
    """Every network of the space."""
    decoded = map(searched(name).decode, genotypes(searched(name)))
    return list({architecture.arch_id: architecture for architecture in decoded}.values())


def noise(shape: PartShape) -> float:
    """A measure that neither grows nor falls with anything."""
    part, *numbers = shape
    return zlib.crc32(json.dumps([part.to_dict(), *numbers]).encode()) / 2**32 - 0.5


@all_spaces
def test_shapes_are_those_of_all_networks(name: str) -> None:
    shapes = SpaceGraph(searched(name)).shapes()
    assert len(set(shapes)) == len(shapes)
    assert set(shapes) == {shape for network in networks(name) for shape in parts(network)}


@all_spaces
def test_shapes_at_other_resolutions_and_numbers_of_classes(name: str) -> None:
    graph = SpaceGraph(searched(name), resolutions=[40, 33], num_classes=[7, 5])
    expected = {
        shape
        for network in networks(name)
        for resolution in (40, 33)
        for classes in (7, 5)
        for shape in parts(network.replace(resolution=resolution, num_classes=classes))
    }
    assert set(graph.shapes()) == expected


@all_spaces
def test_the_cover_has_every_shape_and_stays_in_the_space(name: str) -> None:
    graph = SpaceGraph(searched(name))
    seen: set[PartShape] = set()
    for network in graph.cover(np.random.default_rng(0)):
        searched(name).encode(network)  # raises if it is outside
        assert not set(parts(network)) <= seen, "a network that adds nothing"
        seen |= set(parts(network))
    assert seen == set(graph.shapes())


def test_the_cover_has_every_number_of_classes() -> None:
    small = space()
    graph = SpaceGraph(small, resolutions=[16], num_classes=[10, 100])
    cover = list(graph.cover(np.random.default_rng(0)))
    assert {network.num_classes for network in cover} == {10, 100}
    assert {network.resolution for network in cover} == {16}
    assert {shape for network in cover for shape in parts(network)} == set(graph.shapes())
    for network in cover:
        small.encode(network.replace(num_classes=small.all_constants()["num_classes"]))


def test_the_cover_follows_its_generator() -> None:
    graph = SpaceGraph(space())
    first, again, other = ([n.arch_id for n in graph.cover(np.random.default_rng(seed))] for seed in (0, 0, 1))
    assert first == again != other


def test_few_networks_cover_the_preset() -> None:
    graph = SpaceGraph(load_space("mobilenetv3"), resolutions=[224])
    cover = list(graph.cover(np.random.default_rng(0)))
    assert len(cover) < 600
    assert {shape for network in cover for shape in parts(network)} == set(graph.shapes())


@all_spaces
def test_reach_is_that_of_all_networks(name: str) -> None:
    graph = SpaceGraph(searched(name))
    params = [sum(part_cost(shape).params for shape in parts(network)) for network in networks(name)]
    assert graph.reach(lambda shape: part_cost(shape).params) == (min(params), max(params))
    sums = [sum(map(noise, parts(network))) for network in networks(name)]
    assert graph.reach(noise) == pytest.approx((min(sums), max(sums)))


def test_samples_are_of_the_space_at_what_was_asked_for() -> None:
    small = space()
    graph = SpaceGraph(small, resolutions=[16], num_classes=[7, 8])
    rng = np.random.default_rng(0)
    drawn = [graph.sample(rng) for _ in range(40)]
    assert {network.resolution for network in drawn} == {16}
    assert {network.num_classes for network in drawn} == {7, 8}  # one is missed once in 5e11 generators
    for network in drawn:
        assert set(parts(network)) <= set(graph.shapes())
