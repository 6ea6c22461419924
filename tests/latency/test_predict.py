"""Predictions are the calibrated sum; what the table lacks is named, or filled in and said to be."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable

import numpy as np
import pytest
from fakes import hand_made, one_line, true_ms
from support import SMALL_SPACE, TINY_SPACE, space

from latency import MissingSignature, Predictor
from latency.interpolate import Interpolation
from search_space import Architecture, InputError, SearchSpace
from search_space.cost import part_cost
from search_space.graph import SpaceGraph
from search_space.parts import PartShape, parts

SCALE, OVERHEAD_MS = 1.25, 0.05


@pytest.fixture
def searched() -> SearchSpace:
    return space()


def draw(searched: SearchSpace, count: int = 20) -> list[Architecture]:
    rng = np.random.default_rng(1)
    return [searched.decode(searched.sample(rng)) for _ in range(count)]


def test_a_prediction_is_the_calibrated_sum(searched: SearchSpace) -> None:
    predictor = Predictor(hand_made(searched, scale=SCALE, overhead_ms=OVERHEAD_MS))
    for network in draw(searched):
        expected = SCALE * sum(true_ms(shape) for shape in parts(network)) + OVERHEAD_MS
        assert predictor.latency_ms(network) == pytest.approx(expected)
        prediction = predictor.predict(network)
        assert prediction.latency_ms == predictor.latency_ms(network)
        assert prediction.fixed_overhead_ms == OVERHEAD_MS
        assert [part.shape for part in prediction.parts] == parts(network)
        for part in prediction.parts:
            assert part.latency_ms == pytest.approx(SCALE * true_ms(part.shape))
            assert not part.interpolated
        assert prediction.interpolation_error_percent == 0
        assert predictor.interpolated_parts(network) == 0


@pytest.mark.parametrize("described", [SMALL_SPACE, TINY_SPACE])
def test_reach_is_that_of_all_networks(described: str) -> None:
    searched = space(described)
    predictor = Predictor(hand_made(searched))
    genotypes = itertools.product(*(range(len(gene.options)) for gene in searched.genes))
    latencies = [predictor.latency_ms(searched.decode(genotype)) for genotype in genotypes]
    assert predictor.reach_ms(searched) == pytest.approx((min(latencies), max(latencies)))


# What the table lacks.


def test_a_missing_resolution_is_named_with_its_remedy(searched: SearchSpace) -> None:
    predictor = Predictor(hand_made(searched, networks=0, leave_out=at_resolution(searched, 32)))
    network = next(network for network in draw(searched) if network.resolution == 32)
    with pytest.raises(MissingSignature, match=r"nas latency build --space SPACE --resolution 32") as caught:
        predictor.latency_ms(network)
    assert one_line(caught.value, "small", network.name, "32", "--interpolate")
    assert set(caught.value.shapes) <= set(parts(network))
    assert isinstance(caught.value, InputError)


def at_resolution(searched: SearchSpace, resolution: int) -> Callable[[PartShape], bool]:
    others = set(SpaceGraph(searched, resolutions=[r for r in (16, 32) if r != resolution]).shapes())
    return lambda shape: shape not in others


def test_missing_classes_are_named_with_their_remedy(searched: SearchSpace) -> None:
    predictor = Predictor(hand_made(searched))
    network = draw(searched)[0].replace(num_classes=37)
    with pytest.raises(MissingSignature, match=r"--num-classes 37") as caught:
        predictor.predict(network)
    assert caught.value.shapes == [parts(network)[-1]]
    assert one_line(caught.value, "lacks 1 of", "pooled", "37")


def test_a_missing_block_is_named(searched: SearchSpace) -> None:
    network = draw(searched)[0]
    missing = parts(network)[1]
    predictor = Predictor(hand_made(searched, networks=0, leave_out=lambda shape: shape == missing))
    for call in (predictor.latency_ms, predictor.predict, predictor.interpolated_parts):
        with pytest.raises(MissingSignature) as caught:
            call(network)
        assert caught.value.shapes == [missing]
        assert one_line(caught.value, missing.part.type, missing.size)


def test_a_space_that_the_table_lacks_parts_of_has_no_reach(searched: SearchSpace) -> None:
    table = hand_made(space(TINY_SPACE))
    with pytest.raises(MissingSignature, match="space small") as caught:
        Predictor(table).reach_ms(searched)
    assert one_line(caught.value, "more")
    assert set(caught.value.shapes) == set(SpaceGraph(searched).shapes()) - set(table.times)


# Interpolation.

WIDE = """\
schema_version: 1
name: wide
resolution: {choice: [64, 96, 128, 160, 192]}
stem: {type: conv, out_channels: 16, stride: 2}
stages:
- {type: mbconv, out_channels: {choice: [16, 24, 32, 40]}, stride: 2, kernel_size: {choice: [3, 5, 7]},
   expand_ratio: {choice: [3, 4, 6]}, num_layers: {choice: [1, 2]}, se_ratio: {choice: [0, 0.25]}}
- {type: conv, out_channels: {choice: [24, 48, 96]}, stride: 2, kernel_size: 3}
head: {type: pooled, conv_channels: 128}
"""


def smooth_ms(shape: PartShape) -> float:
    """What a device takes that works and moves data at a constant pace."""
    cost = part_cost(shape)
    return 2e-7 * cost.macs + 5e-7 * cost.activations + 1e-3


@functools.cache
def wide() -> SearchSpace:
    return space(WIDE)


@functools.cache
def wide_shapes() -> tuple[PartShape, ...]:
    return tuple(SpaceGraph(wide()).shapes())


def test_what_was_left_out_is_filled_in_well_and_said_to_be() -> None:
    """A resolution in the middle, of which not one block was measured."""
    smaller_and_larger = set(SpaceGraph(wide(), resolutions=[64, 96, 160, 192]).shapes())
    table = hand_made(wide(), ms=smooth_ms, networks=0, leave_out=lambda shape: shape not in smaller_and_larger)
    predictor = Predictor(table, interpolate=True)
    networks = [network.replace(resolution=128) for network in draw(wide(), 40)]
    errors = []
    for network in networks:
        true = 1.25 * sum(map(smooth_ms, parts(network))) + 0.05
        prediction = predictor.predict(network)
        errors.append(abs(prediction.latency_ms / true - 1))
        lacking = [shape not in table.times for shape in parts(network)]
        assert [part.interpolated for part in prediction.parts] == lacking
        assert predictor.interpolated_parts(network) == sum(lacking) > 0
        assert 0 < prediction.interpolation_error_percent < 10
        assert prediction.latency_ms == pytest.approx(sum(p.latency_ms for p in prediction.parts) + 0.05)
    assert np.mean(errors) < 0.03
    assert np.max(errors) < 0.08


def test_single_blocks_left_out_are_filled_in_well() -> None:
    blocks = [shape for shape in wide_shapes() if shape.part.kind == "block"]
    rng = np.random.default_rng(0)
    left_out = {blocks[index] for index in rng.permutation(len(blocks))[: len(blocks) // 10]}
    table = hand_made(wide(), ms=smooth_ms, networks=0, leave_out=left_out.__contains__)
    interpolation = Interpolation(table)
    errors, stated = [], []
    for shape in left_out:
        estimate = interpolation.estimate(shape)
        if estimate is not None:  # some lie at the edge
            errors.append(abs(estimate.ms / smooth_ms(shape) - 1))
            stated.append(estimate.error_percent / 100)
    assert len(errors) > len(left_out) / 2
    assert np.mean(errors) < 0.05
    assert np.mean(errors) / 5 < np.mean(stated) < 5 * np.mean(errors)


def test_what_is_measured_is_not_interpolated() -> None:
    table = hand_made(wide(), ms=smooth_ms)
    exact, interpolating = Predictor(table), Predictor(table, interpolate=True)
    for network in draw(wide()):
        assert interpolating.predict(network) == exact.predict(network)


@pytest.mark.parametrize("resolution", [64, 192])
def test_it_never_extrapolates_in_resolution(resolution: int) -> None:
    others = set(SpaceGraph(wide(), resolutions=[r for r in (64, 96, 128, 160, 192) if r != resolution]).shapes())
    table = hand_made(wide(), ms=smooth_ms, networks=0, leave_out=lambda shape: shape not in others)
    network = draw(wide())[0].replace(resolution=resolution)
    with pytest.raises(MissingSignature) as caught:
        Predictor(table, interpolate=True).latency_ms(network)
    outside = [shape for shape in parts(network)[:-1] if shape not in table.times]
    assert outside
    assert set(outside) <= set(caught.value.shapes)


def change(shape: PartShape, **fields: object) -> PartShape:
    return shape._replace(part=dataclasses.replace(shape.part, **fields))  # type: ignore[arg-type]


def test_it_neither_extrapolates_nor_mixes_what_is_not_alike() -> None:
    interpolation = Interpolation(hand_made(wide(), ms=smooth_ms))
    known = next(
        shape
        for shape in wide_shapes()
        if shape.part.to_dict().items() >= {"type": "mbconv", "expand_ratio": 4, "stride": 2, "se_ratio": 0}.items()
        and shape.size == 64
    )
    assert interpolation.estimate(change(known, expand_ratio=5)) is not None
    for fields in (
        {"expand_ratio": 2},
        {"expand_ratio": 8},
        {"kernel_size": 9},
        {"stride": 3},
        {"activation": "silu"},
        {"se_ratio": 0.5},
    ):
        assert interpolation.estimate(change(known, **fields)) is None, fields
    assert interpolation.estimate(known._replace(size=33 * 4)) is None
    assert interpolation.estimate(known._replace(in_channels=64)) is None


def test_few_neighbours_are_not_enough() -> None:
    predictor = Predictor(hand_made(space(TINY_SPACE)), interpolate=True)
    network = draw(space(TINY_SPACE))[0].replace(num_classes=500)
    with pytest.raises(MissingSignature):
        predictor.latency_ms(network)


def test_a_reach_may_be_interpolated() -> None:
    between = set(SpaceGraph(wide(), resolutions=[64, 96, 160, 192]).shapes())
    whole = Predictor(hand_made(wide(), ms=smooth_ms, networks=0))
    table = hand_made(wide(), ms=smooth_ms, networks=0, leave_out=lambda shape: shape not in between)
    assert Predictor(table, interpolate=True).reach_ms(wide()) == pytest.approx(whole.reach_ms(wide()), rel=0.05)
    with pytest.raises(MissingSignature):
        Predictor(table).reach_ms(wide())
