"""Architectures as values: identity, canonical form, files, pickling, refusals."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from search_space import (
    Architecture,
    InputError,
    Stage,
    dump_architecture,
    load_architecture,
    load_space,
    presets,
    references,
    save_architecture,
)
from search_space.blocks.conv import Conv
from search_space.blocks.mbconv import MBConv
from search_space.documents import parse_document
from search_space.head import PooledHead
from search_space.stem import ConvStem

space_of = functools.cache(load_space)


def tiny(**changes: Any) -> Architecture:
    stages = (Stage((MBConv(out_channels=16, stride=2), MBConv(out_channels=16))), Stage((Conv(out_channels=24),)))
    made = Architecture("tiny", ConvStem(out_channels=8), stages, PooledHead(conv_channels=32), resolution=32)
    return made.replace(**changes)


def sampled(preset: str, seed: int) -> Architecture:
    space = space_of(preset)
    return space.decode(space.sample(np.random.default_rng(seed)))


architectures = st.builds(sampled, st.sampled_from(presets()), st.integers(0, 2**32 - 1))
ODD_NAMES = ["a", "ein Netz", "名前", "yes", "3", "null", "a: b", "# x", "'", '"', "*a", "- a", "{a}"]


def test_values_are_frozen() -> None:
    architecture = tiny()
    values = [architecture, architecture.stem, architecture.head, architecture.stages[0], next(architecture.blocks)]
    for value in values:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, 3)
    with pytest.raises(TypeError):
        architecture.provenance["a"] = 1  # type: ignore[index]


def test_identity_ignores_name_and_provenance() -> None:
    architecture = tiny()
    other = tiny(name="other", provenance={"run": 3})
    assert other.arch_id == architecture.arch_id
    assert other == architecture
    assert hash(other) == hash(architecture)


@pytest.mark.parametrize(
    "changes",
    [
        {"resolution": 33},
        {"num_classes": 10},
        {"input_channels": 1},
        {"norm_eps": 1e-3},
        {"norm_momentum": 0.01},
        {"drop_path_rate": 0.2},
        {"stem": ConvStem(out_channels=16)},
        {"stem": ConvStem(out_channels=8, activation="silu")},
        {"head": PooledHead()},
        {"head": PooledHead(conv_channels=32, dropout=0.1)},
        {"stages": tiny().stages[:1]},
        {"stages": tiny().stages[::-1]},
        {"stages": (*tiny().stages, Stage((Conv(out_channels=24),)))},
    ],
)
def test_identity_depends_on_everything_else(changes: dict[str, Any]) -> None:
    assert tiny(**changes).arch_id != tiny().arch_id
    assert tiny(**changes) != tiny()


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(MBConv)])
def test_identity_depends_on_every_field_of_a_block(field: str) -> None:
    words = {"activation": "silu", "se_variant": "mobilenetv3", "padding": "same", "downsampling": "blur"}
    words |= {"stride": 4, "shortcut": False, "expanded_channels": 40, "se_channels": 5}
    base = MBConv(out_channels=16, stride=2, se_ratio=0.25)
    changed = dataclasses.replace(base, **{field: words[field] if field in words else getattr(base, field) * 3})
    assert tiny(stages=(Stage((changed,)),)).arch_id != tiny(stages=(Stage((base,)),)).arch_id


def test_arch_ids_of_references_are_distinct_words_of_twelve_digits() -> None:
    ids = {load_architecture(name).arch_id for name in references()}
    assert len(ids) == len(references())
    assert all(len(arch_id) == 12 and int(arch_id, 16) >= 0 for arch_id in ids)


def test_stages_are_as_long_as_possible() -> None:
    blocks = [Conv(out_channels=8), Conv(out_channels=8, kernel_size=5), Conv(out_channels=8, stride=2)]
    split = tiny(stages=tuple(Stage((block,)) for block in blocks))
    assert [len(stage.blocks) for stage in split.stages] == [2, 1]
    merged = tiny(stages=(Stage(tuple(blocks[:2])), Stage((blocks[2],))))
    assert split == merged
    assert split.arch_id == merged.arch_id
    assert list(split.blocks) == blocks


def test_fields_without_effect_do_not_count() -> None:
    assert MBConv(out_channels=8, se_variant="mobilenetv3") == MBConv(out_channels=8)
    assert MBConv(out_channels=8, se_ratio=0.5, se_variant="mobilenetv3") != MBConv(out_channels=8, se_ratio=0.5)
    assert PooledHead(activation="silu") == PooledHead()
    assert PooledHead(conv_channels=8, activation="silu") != PooledHead(conv_channels=8)


def test_whole_floats_equal_integers() -> None:
    six, six_float = MBConv(out_channels=8, expand_ratio=6), MBConv(out_channels=8, expand_ratio=6.0)
    assert six == six_float
    assert tiny(stages=(Stage((six,)),)).arch_id == tiny(stages=(Stage((six_float,)),)).arch_id
    assert tiny(drop_path_rate=0).arch_id == tiny(drop_path_rate=0.0).arch_id
    assert six_float.to_dict()["expand_ratio"] == 6
    assert isinstance(six_float.to_dict()["expand_ratio"], int)


def test_numpy_numbers_equal_plain_ones() -> None:
    block = MBConv(out_channels=np.int64(8), expand_ratio=np.float64(6))  # type: ignore[arg-type]
    assert type(block.out_channels) is int
    assert type(block.expand_ratio) is float
    assert tiny(stages=(Stage((block,)),)).arch_id == tiny(stages=(Stage((MBConv(out_channels=8),)),)).arch_id


@settings(max_examples=40)
@given(architectures, st.sampled_from(ODD_NAMES))
def test_file_there_and_back(architecture: Architecture, name: str) -> None:
    provenance = {"run": "runs/a", "phi": 1.5e-7, "parents": ["x", None, True], "when": {"trial": 3}}
    architecture = architecture.replace(name=name, provenance=provenance)
    with tempfile.TemporaryDirectory() as folder:
        for path in (Path(folder) / "a.yaml", Path(folder) / "a.json"):
            if path.suffix == ".json":
                path.write_text(json.dumps(architecture.to_dict(), indent=1))
            else:
                save_architecture(architecture, path)
            again = load_architecture(path)
            assert again.arch_id == architecture.arch_id
            assert again == architecture
            assert again.name == name
            assert dict(again.provenance) == provenance
            assert dump_architecture(again) == dump_architecture(architecture)


@pytest.mark.parametrize("name", references())
def test_reference_file_there_and_back(name: str, tmp_path: Path) -> None:
    architecture = load_architecture(name)
    save_architecture(architecture, tmp_path / "new folder" / "a.yaml")
    assert load_architecture(tmp_path / "new folder" / "a.yaml").arch_id == architecture.arch_id
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["a.yaml"]


def test_rows_are_runs_of_equal_blocks() -> None:
    stages = yaml.safe_load(dump_architecture(load_architecture("mobilenetv3-large")))["stages"]
    assert [row["num_layers"] for row in stages] == [1, 1, 1, 3, 1, 1, 2, 2, 3]


@given(architectures)
def test_pickle_there_and_back(architecture: Architecture) -> None:
    architecture = architecture.replace(provenance={"a": [1]})
    again = pickle.loads(pickle.dumps(architecture))
    assert again == architecture
    assert again.arch_id == architecture.arch_id
    assert dict(again.provenance) == {"a": [1]}


def test_errors_survive_pickling() -> None:
    for error in (InputError("r", None, field="f", where="w", remedy="m"), InputError("r")):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_arch_id_is_the_same_in_another_process() -> None:
    code = "from search_space import *; print(*[load_architecture(name).arch_id for name in references()])"
    expected = [load_architecture(name).arch_id for name in references()]
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert run.stdout.split() == expected


def test_arch_id_is_the_same_in_another_release() -> None:
    # Written down once: run folders and tables refer to networks by these.
    assert load_architecture("mobilenetv2").arch_id == "7905882bcf4c"
    assert load_architecture("mobilenetv3-large").arch_id == "a1a4d0f6996e"
    assert load_architecture("efficientnet-b0").arch_id == "eb13e1b6349c"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MBConv(out_channels=0), "out_channels must be 1 to 65536, got 0; use a whole number from 1 to 65536"),
        (lambda: MBConv(out_channels=8, kernel_size=4), "kernel_size must be odd, got 4; use 3 or 5"),
        (lambda: MBConv(out_channels=8, kernel_size=3.0), "kernel_size must be a whole number, got 3.0; use an odd wh"),
        (lambda: MBConv(out_channels=True), "out_channels must be a whole number, got True; use a whole number from"),
        (lambda: MBConv(out_channels=8, expand_ratio=float("nan")), "expand_ratio must be 0.25 to 64, got nan; use a"),
        (lambda: MBConv(out_channels=8, expand_ratio="6"), "expand_ratio must be a number, got '6'; use a number from"),
        (lambda: MBConv(out_channels=8, activation="swish"), "got 'swish'; did you mean hard_swish?"),
        (lambda: Stage(()), "a stage needs at least one block; add a block"),
        (lambda: Stage((Conv(out_channels=8), Conv(out_channels=8, stride=2))), "only the first block of a stage may"),
        (lambda: Stage((Conv(out_channels=8), Conv(out_channels=9))), "equal out_channels, got 9; use 8 or start a"),
        (lambda: tiny(stages=()), "a network needs 1 to 1,000 blocks that do something, got 0; change the"),
        (lambda: tiny(stages=(Conv(out_channels=8),)), "stages must be Stage values, got Conv("),
        (lambda: tiny(resolution=3), "resolution must be at least the product of all strides, 4, got 3; raise it or"),
        (
            lambda: tiny(name="a\nb"),
            r"name must be text on one line, 1 to 200 characters, got 'a\nb'; write a word",
        ),
        (lambda: tiny(drop_path_rate=1), "drop_path_rate must be 0 to below 1, got 1; use a number from 0 to below 1"),
        (lambda: tiny(num_classes=2**5000), "num_classes must be 1 to 1000000, got 1"),
        (lambda: tiny(num_classes=2**50000), "num_classes must be 1 to 1000000, got "),
        (lambda: tiny(num_classes=None), "num_classes must be a whole number, got None; use a whole number from 1 to"),
        (lambda: tiny(stem="conv"), "stem"),
        (lambda: tiny(head=None), "head"),
    ],
)
def test_bad_values_are_refused_in_one_line(make: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_resolution_may_equal_the_product_of_strides() -> None:
    assert tiny(resolution=4).total_stride == 4


def test_unwritable_places_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for path in (tmp_path, tmp_path / "file" / "a.yaml", tmp_path / "a\0b.yaml"):
        with pytest.raises(InputError, match=r"cannot write the file|not a file name"):
            save_architecture(tiny(), path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"


def test_provenance_that_yaml_cannot_hold_is_refused(tmp_path: Path) -> None:
    for value in (object(), "\ud800", 10**5000):
        with pytest.raises(InputError):
            save_architecture(tiny(provenance={"a": value}), tmp_path / "a.yaml")
    assert list(tmp_path.iterdir()) == []


def test_json_words_beyond_the_basic_plane_are_read(tmp_path: Path) -> None:
    text = json.dumps(tiny(name="net 😀").to_dict())  # json writes a surrogate pair, \ud83d\ude00
    (tmp_path / "a.json").write_text(text)
    assert load_architecture(tmp_path / "a.json").name == "net 😀"


@pytest.mark.parametrize("number", ["1e-3", "1.0e-3", "0.1e-2", "0.01E-1", "1E-3", ".001"])
def test_every_spelling_of_a_float_is_one(number: str) -> None:
    assert parse_document(f"norm_eps: {number}").data == {"norm_eps": 0.001}


@pytest.mark.parametrize("number", ["6e0", "0.6e1", "6.0E0", "6.0e+0", "60e-1"])
def test_every_spelling_of_six_is_six(number: str) -> None:
    assert parse_document(f"expand_ratio: {number}").data == {"expand_ratio": 6}
    assert parse_document(f'{{"expand_ratio": {number}}}', is_json=True).data == {"expand_ratio": 6}


def test_a_component_travels_to_a_process_with_other_hashes() -> None:
    block = MBConv(out_channels=8)
    assert hash(block) == hash(MBConv(out_channels=8))
    code = "import pickle, sys; b = pickle.load(sys.stdin.buffer); print({b: 1}[type(b)(out_channels=8)])"
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    sent = pickle.dumps(block)
    ran = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, env=environment, check=False)
    assert ran.stdout == b"1\n", ran.stderr
