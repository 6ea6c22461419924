"""The space of one network's scaled forms, as searches, tables and files see it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import NO_CHOICE, space

from search_space import InputError, SearchSpace
from search_space.documents import Document, parse_document, to_yaml
from search_space.parts import parts
from search_space.scaling import CompoundRule
from search_space.scaling_space import ScalingSpace, scaling_space
from search_space.space_file import parse_space

BASE = space(NO_CHOICE).decode(())
GRID = {"alpha": [1, 1.5, 2], "beta": [1, 1.1, 1.5], "gamma": [1, 1.05, 1.5], "phi": 1}


@pytest.fixture(scope="module")
def grid() -> ScalingSpace:
    return scaling_space(BASE, GRID)


def test_it_has_the_networks_of_all_combinations(grid: ScalingSpace) -> None:
    assert [gene.name for gene in grid.genes] == ["alpha", "beta", "gamma"]
    assert grid.num_genotypes == 27
    expected = {
        CompoundRule(a, b, g).member(BASE, 1).architecture.arch_id
        for a, b, g in itertools.product(*(GRID[name] for name in ("alpha", "beta", "gamma")))  # type: ignore[arg-type]
    }
    decoded = [grid.decode(genotype) for genotype in itertools.product(range(3), repeat=3)]
    assert {one.arch_id for one in decoded} == expected
    assert grid.size == len(expected) < 27
    assert set(grid.resolutions) == {one.resolution for one in decoded}
    assert BASE.arch_id in expected


def test_of_equal_networks_the_one_stands_that_promises_twice_the_cost(grid: ScalingSpace) -> None:
    """1.5 and 2 times one layer are two layers, and 1.05 times 16 px are 16 px."""
    alike = grid.decode((1, 0, 0))
    assert alike == grid.decode((2, 0, 0)) == grid.decode((2, 0, 1))
    picked = grid.coefficients(alike)
    assert picked == {"phi": 1, "alpha": 2, "beta": 1, "gamma": 1}
    assert grid.canonical((1, 0, 1)) == grid.encode(alike) == (2, 0, 0)
    assert all(grid.decode(grid.canonical(g)) == grid.decode(g) for g in itertools.product(range(3), repeat=3))


def test_what_samplers_need(grid: ScalingSpace) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        genotype = grid.check(grid.sample(rng))
        assert grid.genotype(grid.params(genotype)) == genotype
        assert grid.active(genotype) == (0, 1, 2)
        networks = [grid.decode(neighbour).arch_id for neighbour in grid.neighbours(genotype)]
        assert len(networks) == len(set(networks))
    with pytest.raises(InputError, match="is not in space"):
        grid.encode(BASE.replace(resolution=99))


def test_it_is_read_back_from_what_a_run_records(grid: ScalingSpace) -> None:
    again = parse_space(parse_document(to_yaml(grid.plain), "run.yaml"))
    assert isinstance(again, ScalingSpace)
    assert again.base == grid.base
    assert again.genes == grid.genes
    assert again.plain == grid.plain
    ten = grid.with_constants(num_classes=7)
    assert {ten.decode((0, 0, 0)).num_classes, ten.all_constants()["num_classes"]} == {7}
    assert parse_space(Document(ten.plain)).decode((0, 0, 0)) == ten.decode((0, 0, 0))


def test_its_part_shapes(grid: ScalingSpace) -> None:
    networks = [grid.decode(genotype) for genotype in itertools.product(range(3), repeat=3)]
    expected = {shape for network in networks for shape in parts(network)}
    graph = grid.graph()
    assert set(graph.shapes()) == expected
    covering = list(graph.cover(np.random.default_rng(0)))
    assert {shape for network in covering for shape in parts(network)} == expected
    assert len(covering) < grid.size
    totals = [sum(shape.size for shape in parts(network)) for network in networks]
    assert graph.reach(lambda shape: shape.size) == (min(totals), max(totals))
    assert graph.sample(np.random.default_rng(1)) in networks
    at_16 = grid.graph(resolutions=[16], num_classes=[3, 5])
    assert {shape.size for shape in at_16.shapes() if shape.part.kind == "stem"} == {16}
    assert {shape.out_channels for shape in at_16.shapes() if shape.part.kind == "head"} == {3, 5}
    with pytest.raises(InputError, match="no network of the space has such a resolution"):
        grid.graph(resolutions=[17])


def test_a_file_may_name_its_base() -> None:
    text = (
        "schema_version: 1\nname: family\nbase: mobilenetv3-small\nscaling: {phi: {choice: [0, 1, 2]}}\nnum_classes: 10"
    )
    family: SearchSpace = parse_space(parse_document(text, "family.yaml"))
    assert [gene.name for gene in family.genes] == ["phi"]
    assert [family.decode((phi,)).resolution for phi in range(3)] == [224, 256, 296]
    assert family.size == 3
    assert family.all_constants()["num_classes"] == 10
    coefficients = {"phi": {"choice": [0, 1, 2]}, "alpha": 1.2, "beta": 1.1, "gamma": 1.15}
    assert family.describe() == [{"part": "mobilenetv3-small", "num_classes": 10, **coefficients}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scaling": {"delta": 1}}, "has no field of this name, got 'delta'"),
        ({"scaling": {"alpha": 0.5}}, "alpha must be 1 to 4, got 0.5"),
        ({"scaling": {"alpha": "much"}}, "alpha must be a number"),
        ({"scaling": {"alpha": {"choice": [1.1, 1.1]}}}, "the options of alpha must differ"),
        ({"scaling": {"alpha": {"choice": []}}}, "at least one item"),
        ({"scaling": {"alpha": {"choice": [1, 2], "per": "block"}}}, "chosen once for the network"),
        ({"scaling": {"phi": 101}}, "phi must be -100 to 100"),
        ({"scaling": 3}, "scaling must be a mapping"),
        ({"base": "mobilenetv33"}, "did you mean mobilenetv"),
        ({"base": {"name": "x"}}, "needs"),
        ({"base": 3}, "mapping"),
        ({"stages": []}, "has no field of this name, got 'stages'"),
        ({"num_classes": 0}, "num_classes must be 1 to"),
        ({"name": ""}, "name must be text"),
        (
            {"scaling": {name: {"choice": [1 + i / 100 for i in range(60)]} for name in ("alpha", "beta", "gamma")}},
            "may combine to at most 20,000 networks",
        ),
    ],
)
def test_bad_files(grid: ScalingSpace, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_space(parse_document(to_yaml({**grid.plain, **change}), "family.yaml"))


def test_a_combination_that_cannot_be_is_refused_by_name() -> None:
    impossible = scaling_space(BASE, {"alpha": [1, 4], "beta": [1, 4], "phi": 9})
    with pytest.raises(InputError, match=r"at most 1,000 blocks, .* \(fixed-scaling: phi 9, alpha 4, beta 1"):
        impossible.decode((1, 0))
