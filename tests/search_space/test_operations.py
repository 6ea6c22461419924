"""Choices among whole operations, as spaces of the ProxylessNAS kind are written."""

from __future__ import annotations

import json
from pathlib import Path

from support import space

from search_space import load_space
from search_space.blocks.conv import Conv
from search_space.blocks.identity import Identity
from search_space.blocks.mbconv import MBConv
from search_space.documents import Document
from search_space.space_file import parse_space

SPACE = """schema_version: 1
name: ops
resolution: 32
stem: {op: {choice: {wide: {type: conv, out_channels: 16, kernel_size: 5}, narrow: {type: conv, out_channels: 8}}}}
head: {type: pooled}
stages:
- num_layers: {choice: [1, 2]}
  out_channels: 16
  stride: 2
  activation: {choice: [silu, relu]}
  op:
    choice:
      skip: {type: identity}
      plain: {type: conv}
      k3e3: {type: mbconv, kernel_size: 3, expand_ratio: 3}
      k5e6: {type: mbconv, kernel_size: 5, expand_ratio: 6}
    per: block
- op: {choice: {conv: {type: conv, kernel_size: 1, out_channels: 24}, skip: {type: identity, out_channels: 32}}}
  num_layers: 2
"""


def test_an_operation_fixes_its_fields_and_leaves_the_others_to_the_stage() -> None:
    made = space(SPACE)
    assert [(gene.name, gene.options) for gene in made.genes] == [
        ("stem.op", ("wide", "narrow")),
        ("stages[0].num_layers", (1, 2)),
        ("stages[0].activation", ("silu", "relu")),
        ("stages[0].blocks[0].op", ("skip", "plain", "k3e3", "k5e6")),
        ("stages[0].blocks[1].op", ("skip", "plain", "k3e3", "k5e6")),
        ("stages[1].op", ("conv", "skip")),
    ]
    network = made.decode((0, 1, 1, 2, 3, 0))
    last = Conv(out_channels=24, kernel_size=1)
    assert network.stem.to_dict()["kernel_size"] == 5
    assert list(network.blocks) == [
        MBConv(out_channels=16, stride=2, kernel_size=3, expand_ratio=3, activation="relu"),
        MBConv(out_channels=16, kernel_size=5, expand_ratio=6, activation="relu"),
        last,
        last,
    ]
    assert list(made.decode((1, 1, 0, 0, 1, 1)).blocks) == [
        Identity(out_channels=16, stride=2),
        Conv(out_channels=16, activation="silu"),
        Identity(out_channels=32),  # the next one does nothing
    ]


def test_a_field_is_active_if_an_operation_has_it() -> None:
    made = space(SPACE)
    names = [gene.name for gene in made.genes]
    assert [names[index] for index in made.active((0, 1, 1, 0, 0, 0))] == [
        "stem.op",
        "stages[0].num_layers",
        "stages[0].blocks[0].op",
        "stages[0].blocks[1].op",
        "stages[1].op",
    ]
    assert names.index("stages[0].activation") in made.active((0, 1, 1, 0, 1, 0))
    assert names.index("stages[0].activation") not in made.active((0, 0, 1, 0, 1, 0))


def test_params_and_plain_data_round_trip(tmp_path: Path) -> None:
    made = space(SPACE)
    genotype = (1, 0, 1, 3, 0, 1)
    assert made.params(genotype)["stages[0].blocks[0].op"] == "k5e6"
    assert made.genotype(made.params(genotype)) == genotype
    assert parse_space(Document(made.plain)).decode(genotype) == made.decode(genotype)
    (tmp_path / "space.json").write_text(json.dumps(made.plain))
    assert load_space(tmp_path / "space.json").decode(genotype) == made.decode(genotype)


def test_operations_are_described() -> None:
    network, stem, stage, last, head = space(SPACE).describe()
    assert stem == {
        "part": "stem",
        "op": {"choice": ["wide", "narrow"]},
        "op wide": "conv, out_channels 16, kernel_size 5",
        "op narrow": "conv, out_channels 8",
    }
    assert stage["op"] == {"choice": ["skip", "plain", "k3e3", "k5e6"], "per": "block"}
    assert stage["op skip"] == "identity"
    assert stage["op k5e6"] == "mbconv, kernel_size 5, expand_ratio 6"
    assert stage["out_channels"] == 16
    assert "type" not in stage
    assert last["op conv"] == "conv, kernel_size 1, out_channels 24"
    assert "op" not in head
    assert network == {"part": "network", "num_classes": 1_000, "resolution": 32}
