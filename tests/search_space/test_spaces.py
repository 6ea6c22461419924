"""The presets: their reference points, genotypes there and back, sizes, sampling and reach."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_space import InputError, SearchSpace, count_cost, load_architecture, load_space, presets
from search_space.reach import cost_range

POINTS = {
    "mobilenetv2": "mobilenetv2",
    "mobilenetv3": "mobilenetv3-large",
    "mnasnet": "mnasnet-a1",
    "efficientnet": "efficientnet-b0",
    "efficientnetv2": "efficientnetv2-s",
    "resnext": "resnext50-32x4d",
    "shufflenetv2": "shufflenetv2-x1.0",
    "convnext": "convnext-tiny",
    "mobilevit": "mobilevit-s",
}

space_of = functools.cache(load_space)
seeds = st.integers(0, 2**32 - 1)


def sample(space: SearchSpace, seed: int) -> tuple[int, ...]:
    return space.sample(np.random.default_rng(seed))


def test_presets_are_these() -> None:
    assert list(presets()) == sorted([*POINTS, "mobile-mixed", "nasbench-macro"])


@pytest.mark.parametrize(("preset", "reference"), POINTS.items())
def test_reference_is_a_point_of_its_preset(preset: str, reference: str) -> None:
    space, architecture = space_of(preset), load_architecture(reference)
    genotype = space.encode(architecture)
    assert space.check(genotype) == genotype
    assert space.decode(genotype).arch_id == architecture.arch_id


@pytest.mark.parametrize(
    ("preset", "reference"),
    [
        ("resnext", "resnet50"),
        ("shufflenetv2", "shufflenetv2-x0.5"),
        ("mobilevit", "mobilevit-xxs"),
        ("mobilevit", "mobilevit-xs"),
    ],
)
def test_so_are_others(preset: str, reference: str) -> None:
    assert space_of(preset).encode(load_architecture(reference))


def test_mobile_mixed_mixes_families() -> None:
    space = space_of("mobile-mixed")
    network = space.decode(sample(space, 0))
    types = {block.type for seed in range(20) for block in space.decode(sample(space, seed)).blocks}
    assert types == {"mbconv", "fused_mbconv", "shufflenetv2", "convnext", "mobilevit"}
    assert count_cost(network).macs > 0


@given(st.sampled_from(presets()), seeds)
def test_encode_undoes_decode(preset: str, seed: int) -> None:
    space = space_of(preset)
    architecture = space.decode(sample(space, seed))
    encoded = space.encode(architecture)
    assert space.decode(encoded).arch_id == architecture.arch_id
    assert space.encode(space.decode(encoded)) == encoded


@given(st.sampled_from(presets()), seeds)
def test_params_and_genotype_undo_each_other(preset: str, seed: int) -> None:
    space = space_of(preset)
    genotype = sample(space, seed)
    assert space.genotype(space.params(genotype)) == genotype
    assert list(space.params(genotype)) == [gene.name for gene in space.genes]


@given(st.sampled_from(presets()), seeds)
def test_inactive_genes_change_nothing(preset: str, seed: int) -> None:
    space = space_of(preset)
    genotype, other = sample(space, seed), sample(space, seed + 1)
    active = set(space.active(genotype))
    mixed = tuple(genotype[i] if i in active else other[i] for i in range(len(genotype)))
    assert space.decode(mixed).arch_id == space.decode(genotype).arch_id


@given(st.sampled_from(presets()), seeds)
def test_the_canonical_genotype_is_of_the_same_network(preset: str, seed: int) -> None:
    space = space_of(preset)
    genotype, other = sample(space, seed), sample(space, seed + 1)
    canonical = space.canonical(genotype)
    assert space.check(canonical) == canonical == space.canonical(canonical)
    assert space.decode(canonical).arch_id == space.decode(genotype).arch_id
    active = set(space.active(genotype))
    assert list(space.active(genotype)) == sorted(active)
    assert space.canonical([genotype[i] if i in active else other[i] for i in range(len(genotype))]) == canonical


@pytest.mark.parametrize("preset", sorted(POINTS))
def test_neighbours_are_other_networks_one_gene_away(preset: str) -> None:
    space = space_of(preset)
    genotype = sample(space, 0)
    neighbours = list(space.neighbours(genotype))
    ids = {space.decode(neighbour).arch_id for neighbour in neighbours}
    assert len(ids) == len(neighbours) > 20
    assert space.decode(genotype).arch_id not in ids
    assert all(sum(a != b for a, b in zip(genotype, n, strict=True)) == 1 for n in neighbours)


@pytest.mark.parametrize("preset", sorted(POINTS))
def test_size_is_between_one_and_the_number_of_genotypes(preset: str) -> None:
    assert 10**11 < space_of(preset).size <= space_of(preset).num_genotypes


def test_sample_depends_on_the_generator_alone() -> None:
    space = space_of("mobilenetv3")
    assert sample(space, 3) == sample(space_of.__wrapped__("mobilenetv3"), 3)
    assert len({sample(space, seed) for seed in range(100)}) == 100


@pytest.mark.parametrize("preset", ["mobilenetv3", "mnasnet"])
@pytest.mark.parametrize("metric", ["params", "macs"])
def test_cost_range_holds_the_reference_and_random_networks(preset: str, metric: str) -> None:
    space = space_of(preset)
    least, greatest = cost_range(space, metric)
    architectures = [space.decode(sample(space, seed)) for seed in range(20)]
    for architecture in [load_architecture(POINTS[preset]), *architectures]:
        assert least <= count_cost(architecture).metrics()[metric] <= greatest


@pytest.mark.parametrize(
    ("reference", "preset", "part"),
    [
        ("mobilenetv1", "mobilenetv2", "head"),
        ("mobilenetv2", "mobilenetv3", "norm_eps"),
        ("efficientnetv2-l", "efficientnetv2", "resolution"),
        ("mnasnet-b1", "mnasnet", "norm_momentum"),
        ("mobilenetv2", "efficientnet", "drop_path_rate"),
    ],
)
def test_encode_names_the_part_that_is_outside(reference: str, preset: str, part: str) -> None:
    with pytest.raises(InputError, match=rf"^{part} of {reference} is not in space {preset}, got ") as caught:
        space_of(preset).encode(load_architecture(reference))
    assert "\n" not in str(caught.value)


def test_encode_names_the_block_that_is_outside() -> None:
    space, outside = space_of("mobilenetv2"), load_architecture("mobilenetv2")
    stages = list(outside.stages)
    stages[2] = load_architecture("mnasnet-a1").stages[2]
    with pytest.raises(InputError, match=r"^block 3 of mobilenetv2 is not in space mobilenetv2, got MBConv"):
        space.encode(outside.replace(stages=tuple(stages)))
    with pytest.raises(InputError, match=r"^the depth of mobilenetv2 is not in space mobilenetv2, got 16"):
        space.encode(outside.replace(stages=tuple(outside.stages[:-1])))


def test_genotypes_and_params_of_other_spaces_are_refused() -> None:
    space = space_of("mobilenetv2")
    genotype = sample(space, 0)
    with pytest.raises(InputError, match=f"has {len(genotype)} genes, got {len(genotype) - 1}"):
        space.check(genotype[1:])
    with pytest.raises(InputError, match="resolution has options 0 to 2, got 3"):
        space.check((3, *genotype[1:]))
    with pytest.raises(InputError, match="resolution has options 0 to 2, got -1"):
        space.check((-1, *genotype[1:]))
    params = space.params(genotype)
    with pytest.raises(InputError, match="resolution must be 160, 192 or 224, got 200"):
        space.genotype({**params, "resolution": 200})
    with pytest.raises(InputError, match="need resolution"):
        space.genotype({name: value for name, value in params.items() if name != "resolution"})


def test_constants_reach_every_architecture() -> None:
    space = space_of("mobilenetv2").with_constants(num_classes=10, input_channels=1)
    architecture = space.decode(sample(space, 0))
    assert (architecture.num_classes, architecture.input_channels) == (10, 1)
    assert space.decode(space.encode(architecture)).arch_id == architecture.arch_id
    with pytest.raises(InputError, match="num_classes of mobilenetv2 is not in space mobilenetv2, got 1000"):
        space.encode(load_architecture("mobilenetv2"))
