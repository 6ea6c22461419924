"""The preset `nasbench-macro` against the benchmark's own description and, where it is at hand, its table."""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search_space import Architecture, SearchSpace, build_model, count_cost, load_space
from search_space.cost import part_cost
from search_space.graph import SpaceGraph
from search_space.parts import parts
from search_space.reach import cost_range
from search_space.space import Genotype


@functools.cache
def preset() -> SearchSpace:
    return load_space("nasbench-macro")


@functools.cache
def networks() -> dict[Genotype, Architecture]:
    """Every genotype, decoded."""
    return {genotype: preset().decode(genotype) for genotype in itertools.product(range(3), repeat=8)}


@functools.cache
def distinct() -> dict[str, Architecture]:
    return {network.arch_id: network for network in networks().values()}


def test_it_has_3969_networks() -> None:
    # Stages of 2, 3 and 3: the first block is one of three, and the others that do something one of two each.
    assert preset().size == 3 * (1 + 2) * (3 * (1 + 2 + 4)) ** 2 == 3969
    assert len(distinct()) == 3969
    assert [gene.options for gene in preset().genes] == [("identity", "k3e3", "k5e6")] * 8


def test_params_and_macs_of_all_networks_are_those_of_the_table(nasbench_macro: Path) -> None:
    table = json.loads(nasbench_macro.read_text())
    assert len(table) == 3**8
    for key, entry in table.items():
        cost = count_cost(networks()[tuple(map(int, key))])
        assert (cost.params, cost.macs) == (entry["params"], entry["flops"]), key


def test_equal_networks_have_one_canonical_genotype_which_is_what_they_are_encoded_to() -> None:
    assert len({preset().canonical(genotype) for genotype in networks()}) == 3969
    for genotype, network in networks().items():
        assert preset().encode(network) == preset().canonical(genotype)
        assert networks()[preset().canonical(genotype)].arch_id == network.arch_id


@pytest.mark.parametrize("metric", ["params", "macs", "activations", "memory_mb"])
def test_reach_is_that_of_all_networks(metric: str) -> None:
    costs = [count_cost(network).metrics()[metric] for network in distinct().values()]
    assert cost_range(preset(), metric) == (min(costs), max(costs))


def test_the_graph_has_the_shapes_of_all_networks() -> None:
    graph = SpaceGraph(preset())
    expected = {shape for network in distinct().values() for shape in parts(network)}
    assert set(graph.shapes()) == expected
    covered = {shape for network in graph.cover(np.random.default_rng(0)) for shape in parts(network)}
    assert covered == expected
    assert all(part_cost(shape).params for shape in expected)


class Plain(nn.Module):
    """A network of the benchmark, from the description of its authors."""

    def __init__(self, genotype: Genotype) -> None:
        super().__init__()
        self.layers = nn.ModuleList([conv(3, 32, 3), nn.ReLU()])
        channels = 32
        for position, option in enumerate(genotype):
            stride, width = (2, 2 * channels) if position in (0, 2, 5) else (1, channels)
            if option == 0 and stride == 2:
                self.layers.append(conv(channels, width, 1, stride))
            elif option:
                kernel, wide = ((3, 3 * channels), (5, 6 * channels))[option - 1]
                block = nn.Sequential(
                    conv(channels, wide, 1),
                    nn.ReLU(),
                    conv(wide, wide, kernel, stride, groups=wide),
                    nn.ReLU(),
                    conv(wide, width, 1),
                )
                block.shortcut = stride == 1  # type: ignore[assignment]
                self.layers.append(block)
            channels = width
        self.layers += [conv(256, 1280, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 10)]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x) + x if getattr(layer, "shortcut", False) else layer(x)
        return x


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


@pytest.mark.parametrize("key", ["00000000", "12012021", "02010102", "22222222"])
@torch.no_grad()
def test_logits_are_those_of_the_described_network(key: str) -> None:
    genotype = tuple(map(int, key))
    torch.manual_seed(0)
    model, plain = build_model(networks()[genotype]).eval(), Plain(genotype).eval()
    ours, theirs = list(model.state_dict().values()), plain.state_dict()
    assert [tuple(value.shape) for value in ours] == [tuple(value.shape) for value in theirs.values()]
    plain.load_state_dict(dict(zip(theirs, ours, strict=True)))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images), plain(images))
