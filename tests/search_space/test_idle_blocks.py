"""Blocks that do nothing are no part of a network, wherever they were written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import space

from search_space import (
    Architecture,
    InputError,
    Stage,
    build_model,
    dump_architecture,
    load_architecture,
    save_architecture,
)
from search_space.blocks.conv import Conv
from search_space.blocks.identity import Identity
from search_space.blocks.mbconv import MBConv
from search_space.documents import parse_document
from search_space.head import PooledHead
from search_space.parts import parts
from search_space.space_file import parse_space
from search_space.stem import ConvStem


def network(*blocks: Identity | Conv | MBConv) -> Architecture:
    stages = tuple(Stage((block,)) for block in blocks)
    return Architecture("a", ConvStem(out_channels=8), stages, PooledHead(), resolution=32, drop_path_rate=0.2)


KEEP_8, KEEP_16 = Identity(out_channels=8), Identity(out_channels=16)
PLAIN = network(MBConv(out_channels=8), MBConv(out_channels=16, stride=2), MBConv(out_channels=16))


@pytest.mark.parametrize(
    "spelt",
    [
        network(KEEP_8, MBConv(out_channels=8), MBConv(out_channels=16, stride=2), MBConv(out_channels=16)),
        network(MBConv(out_channels=8), KEEP_8, KEEP_8, MBConv(out_channels=16, stride=2), MBConv(out_channels=16)),
        network(MBConv(out_channels=8), MBConv(out_channels=16, stride=2), KEEP_16, MBConv(out_channels=16)),
        network(MBConv(out_channels=8), MBConv(out_channels=16, stride=2), MBConv(out_channels=16), KEEP_16),
    ],
)
@torch.no_grad()
def test_they_make_no_difference(spelt: Architecture) -> None:
    assert spelt == PLAIN
    assert spelt.arch_id == PLAIN.arch_id
    assert hash(spelt) == hash(PLAIN)
    assert parts(spelt) == parts(PLAIN)
    models = []
    for architecture in (spelt, PLAIN):
        torch.manual_seed(0)
        models.append(build_model(architecture))
    images = torch.randn(4, 3, 32, 32)
    outputs = []
    for model in models:  # in training mode, where the rates of stochastic depth count
        torch.manual_seed(1)
        outputs.append(model(images))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("changed", [Identity(out_channels=16), Identity(out_channels=8, stride=2)])
def test_one_that_changes_the_shape_is_a_convolution(changed: Identity) -> None:
    found = network(changed, Conv(out_channels=8))
    assert list(found.blocks) == [changed, Conv(out_channels=8)]
    model = build_model(found)
    assert sum(p.numel() for p in model.blocks[0].parameters()) == 8 * changed.out_channels + 2 * changed.out_channels
    assert model.blocks[0](torch.randn(2, 8, 9, 9)).shape[1:] == (changed.out_channels, *[changed.out_size(9)] * 2)


def test_it_depends_on_what_stands_before() -> None:
    assert len(list(network(KEEP_8, KEEP_16, KEEP_16, KEEP_8).blocks)) == 2
    shallow = network(KEEP_16, Conv(out_channels=16))
    assert len(list(shallow.blocks)) == 2
    assert len(list(shallow.replace(stem=ConvStem(out_channels=16)).blocks)) == 1


def test_rows_of_identities_in_files(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    save_architecture(network(Identity(out_channels=16, stride=2), Conv(out_channels=16)), path)
    text = path.read_text()
    assert "- {type: identity, num_layers: 1, out_channels: 16, stride: 2}" in text
    path.write_text(text.replace("{type: identity, num_layers: 1", "{type: identity, num_layers: 3"))
    assert dump_architecture(load_architecture(path)) == text


def test_a_network_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a network needs 1 to 1,000 blocks that do something, got 0"):
        network(KEEP_8, KEEP_8)
    path = tmp_path / "a.yaml"
    save_architecture(network(Identity(out_channels=16)), path)
    path.write_text(path.read_text().replace("out_channels: 16", "out_channels: 8"))
    with pytest.raises(InputError, match=r"blocks that do something, got 0 \(.*a.yaml:\d+, stages\)"):
        load_architecture(path)


SPACE = """schema_version: 1
name: thin
resolution: 32
stem: {type: conv, out_channels: {choice: [4, 8]}}
head: {type: pooled}
stages:
- num_layers: {choice: [2, 1]}
  out_channels: {choice: [8, 12]}
  op: {choice: {none: {type: identity}, k: {type: conv}}}
- LAST
"""


@pytest.mark.parametrize(
    "last",
    [
        "{type: identity, out_channels: 8}",
        "{type: {choice: [conv, identity], per: block}, out_channels: {choice: [4, 8]}, num_layers: 3}",
        "{type: {choice: [conv, identity], per: block}, out_channels: 8, num_layers: 2, stride: {choice: [2, 1]}}",
    ],
)
def test_a_space_with_a_network_of_nothing_is_refused(last: str) -> None:
    with pytest.raises(InputError, match=r"every block of a network could do nothing.* \(space.yaml:6, stages\); chan"):
        space(SPACE.replace("LAST", last))


@pytest.mark.parametrize(
    "last",
    [
        "{type: identity, out_channels: 12}",
        "{type: identity, out_channels: 8, stride: 2}",
        "{type: conv, out_channels: 8}",
        "{type: {choice: [conv, identity]}, out_channels: 8, num_layers: 3, stride: 2}",
    ],
)
def test_a_space_whose_networks_all_have_a_block_is_not(last: str) -> None:
    made = parse_space(parse_document(SPACE.replace("LAST", last)))
    assert made.size > 1
