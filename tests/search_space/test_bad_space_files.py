"""Malformed search-space files: each is refused in one line with file, line, field path, rule, value and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_space import InputError, load_space

SPACE = """schema_version: 1
name: tiny
resolution: 32
stem: {type: conv, out_channels: 8}
stages:
- type: mbconv
  num_layers: {choice: [1, 2]}
  out_channels: {choice: [8, 16]}
  stride: 2
  kernel_size: {choice: [3, 5], per: block}
head: {type: pooled}
"""
LAYERS = "num_layers: {choice: [1, 2]}"
KERNEL = "kernel_size: {choice: [3, 5], per: block}"

# What is replaced, by what -> a piece of the message, `FILE` standing for the path.
SPACES = [
    ("name: tiny", "nmae: tiny", "the file has no field of this name, got 'nmae' (FILE:2, nmae); did you mean name?"),
    ("name: tiny", 'name: "a\\nb"', "(FILE:2, name)"),
    ("name: tiny", "name: " + "x" * 201, "(FILE:2, name)"),
    (
        "name: tiny",
        "name: tiny\ndescription: 3",
        "on one line, 1 to 1000 characters, got 3 (FILE:3, description)",
    ),
    ("name: tiny", "name: tiny\nprovenance: {}", "the file has no field of this name, got 'provenance' (FILE:3, prov"),
    (
        "version: 1",
        "version: 7",
        "schema_version must be 1, got 7 (FILE:1, schema_version); update nas, or mend the file",
    ),
    (LAYERS, "num_layers: {choice: []}", "stages[0].num_layers.choice must be a list with at least one item, got []"),
    (LAYERS, "num_layers: {choice: 3}", "at least one item, got 3 (FILE:7, stages[0].num_layers.choice); add items"),
    (LAYERS, "num_layers: {}", "stages[0].num_layers needs choice (FILE:7, stages[0].num_layers); add choice"),
    (
        LAYERS,
        "num_layers: {choices: [1]}",
        "got 'choices' (FILE:7, stages[0].num_layers.choices); did you mean choice?",
    ),
    (
        LAYERS,
        "num_layers: [1, 2]",
        "num_layers must be one value or a choice, got [1, 2] (FILE:7, stages[0].num_layers)",
    ),
    (
        LAYERS,
        "num_layers: {choice: [1, 1]}",
        "the options of num_layers must differ, got 1 (FILE:7, stages[0].num_layer",
    ),
    (
        LAYERS,
        "num_layers: {choice: [1, 0]}",
        "num_layers must be 1 to 1000, got 0 (FILE:7, stages[0].num_layers.choice[1]",
    ),
    (
        LAYERS,
        "num_layers: {choice: [1, 2], per: block}",
        "num_layers and stride belong to the stage, not to a block",
    ),
    (
        LAYERS,
        "num_layers: {choice: [1, 2], per: net}",
        "per must be one of its known names, got 'net' (FILE:7, stages[0]",
    ),
    ("stride: 2", "stride: {choice: [1, 2], per: block}", "num_layers and stride belong to the stage, not to a block"),
    (
        "stride: 2",
        "stride: 2\n  se_ratoi: 1",
        "no block type chosen here has a field of this name, got 'se_ratoi'",
    ),
    (
        "stride: 2",
        "stride: 2\n  expand_ratio: {choice: [2, 2.0]}",
        "the options of expand_ratio must differ, got 2.0",
    ),
    (
        KERNEL,
        "kernel_size: {choice: [3, 4]}",
        "kernel_size must be odd, got 4 (FILE:10, stages[0].kernel_size.choice[1]); u",
    ),
    ("  out_channels: {choice: [8, 16]}\n", "", "mbconv needs out_channels (FILE:6, stages[0]); add out_channels"),
    (
        "32\n",
        "{choice: [32, 3]}\n",
        "resolution must be at least the product of all strides, 4, got 3 (FILE:3, resolution)",
    ),
    (
        "32\n",
        "{choice: [32], per: block}\n",
        "resolution is chosen once for the network, got 'block' (FILE:3, resolution.",
    ),
    (
        "32\n",
        "[32, 64]\n",
        "resolution must be one value or a choice, got [32, 64] (FILE:3, resolution); write {choice: [",
    ),
    (
        "{type: pooled}",
        "{type: {choice: [pooled, x]}}",
        "head type must be a known name, got 'x' (FILE:11, head.type.choi",
    ),
    (
        "{type: pooled}",
        "{}",
        "a head needs a type (FILE:11, head); add `type:`, or `op:` for a choice among operations",
    ),
    (
        "type: mbconv",
        "type: {choice: [conv, mbcov]}",
        "got 'mbcov' (FILE:6, stages[0].type.choice[1]); did you mean mbconv?",
    ),
    (
        "- type: mbconv",
        "- {type: conv, out_channels: 8}\n" * 64 + "- type: mbconv",
        "a space may have at most 64 stages, got",
    ),
    (
        LAYERS,
        f"num_layers: {{choice: {list(range(1, 258))}}}",
        "a choice may have at most 256 options, got 257 (FILE:7, st",
    ),
]


OPERATIONS = SPACE.replace(
    "type: mbconv", "op: {choice: {skip: {type: identity}, k3: {type: mbconv, expand_ratio: 3}}}"
)
SKIP, K3 = "skip: {type: identity}", "k3: {type: mbconv, expand_ratio: 3}"
OPS = [
    ("- op", "- type: mbconv\n  op", "a block has either a type or an op (FILE:6, stages[0]); remove one"),
    (f"{{choice: {{{SKIP}, {K3}}}}}", "k3", "stages[0].op must be a mapping of names to values, got 'k3' (FILE:6, st"),
    (f"{{{SKIP}, {K3}}}", "[skip, k3]", "stages[0].op.choice must be a mapping of names to values, got ['skip', 'k3']"),
    (f"{{{SKIP}, {K3}}}", "{}", "op needs at least one operation (FILE:6, stages[0].op.choice); add `NAME: {type: "),
    ("{choice: {skip", "{choices: {skip", "got 'choices' (FILE:6, stages[0].op.choices); did you mean choice?"),
    (f"{{choice: {{{SKIP}, {K3}}}}}", "{per: block}", "stages[0].op needs choice (FILE:6, stages[0].op); add choice"),
    ("{choice: {skip", "{per: net, choice: {skip", "got 'net' (FILE:6, stages[0].op.per); use block or stage"),
    (SKIP, "skip: identity", "stages[0].op.choice.skip must be a mapping of names to values, got 'identity' (FILE:6"),
    (SKIP, "skip: {}", "an operation needs a type (FILE:6, stages[0].op.choice.skip); add `type:`"),
    (SKIP, "skip: {type: idendity}", "got 'idendity' (FILE:6, stages[0].op.choice.skip.type); did you mean identity?"),
    (SKIP, "skip: {type: [identity]}", "block type must be a known name, got ['identity'] (FILE:6, stages[0].op.cho"),
    (SKIP, "'': {type: identity}", "the name of an operation must be text on one line, 1 to 200 characters, got ''"),
    (SKIP, "k3: {type: identity}", "a key may stand only once, got 'k3' (FILE:6, stages[0].op.choice); remove one"),
    (
        SKIP,
        "skip: {type: identity, expand_ratio: 3}",
        "identity has no field of this name, got 'expand_ratio' (FILE:6, stages[0].op.choice.skip.expand_ratio); use",
    ),
    (
        SKIP,
        "skip: {type: mbconv, expand_ratio: 3.0}",
        "the operations of a choice must differ, got {'type': 'mbconv', 'expand_ratio': 3} (FILE:6, stages[0].op.cho",
    ),
    (
        K3,
        "a: {type: mbconv}, b: {type: mbconv, expand_ratio: 6}",
        "the operations of a choice must differ, got {'type': 'mbconv', 'expand_ratio': 6} (FILE:6, stages[0].op.cho",
    ),
    (
        "expand_ratio: 3",
        "kernel_size: 3",
        "kernel_size may not stand both in an operation and beside op (FILE:6, stages[0].op.choice.k3); remove one",
    ),
    ("expand_ratio: 3", "expand_ratio: 0", "expand_ratio must be 0.25 to 64, got 0 (FILE:6, stages[0].op.choice.k3.e"),
    (
        "expand_ratio: 3",
        "expand_ratio: {choice: [3, 6]}",
        "expand_ratio must be a number, got {'choice': [3, 6]} (FILE:6, stages[0].op.choice.k3.expand_ratio); use a",
    ),
    ("  out_channels: {choice: [8, 16]}\n", "", "identity needs out_channels (FILE:6, stages[0].op.choice.skip); add"),
    ("  stride: 2\n", "  se_ratoi: 1\n", "no block type chosen here has a field of this name, got 'se_ratoi' (FILE:9"),
    (
        "  stride: 2\n",
        "  stages: 1\n",
        "no block type chosen here has a field of this name, got 'stages' (FILE:9, stages[0].stages)",
    ),
    (
        K3,
        ", ".join(f"k{n}: {{type: mbconv, expand_ratio: {n}}}" for n in range(1, 61))
        + "".join(f", o{n}: {{type: mbconv, expand_ratio: 3.{n:03}}}" for n in range(1, 197)),
        "a choice may have at most 256 options, got 257 (FILE:6, stages[0].op.choice); leave out some",
    ),
]


def test_the_unbroken_file_with_operations_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(OPERATIONS)
    assert load_space(path).size == 2 * (1 + (2 + 4))  # width; skipping, or one or two blocks of two kernel sizes


@pytest.mark.parametrize(("old", "new", "message"), OPS)
def test_broken_operations(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in OPERATIONS
    path = tmp_path / "a.yaml"
    path.write_text(OPERATIONS.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        load_space(path)
    assert message.replace("FILE", str(path)) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_stride_belongs_to_the_stage_and_not_to_an_operation(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(OPERATIONS.replace("expand_ratio: 3", "stride: 2").replace("  stride: 2\n", ""))
    message = (
        r"num_layers and stride belong to the stage, not to an operation \(.*:6, stages\[0\]\); give stride beside"
    )
    with pytest.raises(InputError, match=message):
        load_space(path)


def test_an_operation_per_block_is_for_blocks_only(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(OPERATIONS.replace("{type: pooled}", "{op: {choice: {a: {type: pooled}}, per: block}}"))
    with pytest.raises(
        InputError, match=r"op is chosen once for the network, got 'block' \(.*:11, head.op.per\); leave"
    ):
        load_space(path)


def test_the_unbroken_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(SPACE)
    assert load_space(path).size == 2 * (2 + 4)


@pytest.mark.parametrize(("old", "new", "message"), SPACES)
def test_broken_space(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in SPACE
    path = tmp_path / "a.yaml"
    path.write_text(SPACE.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        load_space(path)
    assert message.replace("FILE", str(path)) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
