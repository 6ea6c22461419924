"""Published tables: every entry is used or named with a reason, and what cannot be right is refused in one line."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import one_line
from published_forms import ONCE_FOR_ALL, PROXYLESS, PROXYLESS_SPACE, imported, keyed, refusal, single_path
from support import space

from latency import Predictor, load_table, save_table
from latency.published import import_published
from latency.table import PUBLISHED
from search_space import Architecture, InputError
from search_space.blocks.mbconv import MBConv
from search_space.head import PooledHead
from search_space.parts import PartShape, parts
from search_space.stem import ConvStem

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"


def shared(folder: str, name: str) -> Path:
    file = SHARED_DATA / folder / name
    if not file.exists():
        pytest.skip(f"needs {file.name}, which the project does not ship")
    return file


def networks(described: str) -> list[Architecture]:
    """Those of a space of few."""
    searched, rng = space(described), np.random.default_rng(1)
    drawn = [searched.decode(searched.sample(rng)) for _ in range(400)]
    return list({network.arch_id: network for network in drawn}.values())


# The published tables themselves.


def test_the_proxylessnas_table_maps_whole() -> None:
    file = shared("proxyless-pixel-lut", "pixel_trim.yaml")
    result = import_published(file, device_name="Pixel 1")
    assert (result.mapped, len(result.table.times), result.unmapped) == (72, 71, ())
    kinds = [shape.part.kind for shape in result.table.times]
    assert (kinds.count("stem"), kinds.count("block"), kinds.count("head")) == (1, 69, 1)
    head = PartShape(PooledHead(conv_channels=1280, activation="relu6"), 320, 7, 1000)
    assert result.table.part_ms[head] == pytest.approx(6.28499578503688 + 0.9348261327713382)
    stem = PartShape(ConvStem(out_channels=32, stride=2, kernel_size=3, activation="relu6"), 3, 224, 32)
    times = result.table.times[stem]
    assert times.mean_ms == pytest.approx(4.397037934668071)
    assert times.std_ms == pytest.approx(math.sqrt(0.1562765530967112))
    assert times.count == 949


def test_the_single_path_table_maps_whole() -> None:
    file = shared("singlepath-pixel1-lut", "pixel1_runtime_model.json")
    result = import_published(file)
    # Layer 0 is one operation, 21 four; each group of four layers has four first ones and four others.
    assert (result.mapped, len(result.table.times), result.unmapped) == (88, 1 + 5 * 8 + 4, ())
    conditions = result.table.conditions
    assert (conditions.device_name, conditions.runtime, conditions.threads) == ("Pixel 1", "tflite", 1)
    first = result.table.times[PartShape(MBConv(out_channels=16, expand_ratio=1, activation="relu"), 32, 112, 16)]
    assert (first.count, first.mean_ms) == (4, pytest.approx((3.9844 + 3.9452 + 3.8584 + 3.9277) / 4))
    assert first.std_ms == pytest.approx(0.0456, abs=1e-3)


@pytest.mark.parametrize("unit", ["s", "us"])
@pytest.mark.parametrize(
    ("folder", "name"),
    [("proxyless-pixel-lut", "pixel_trim.yaml"), ("singlepath-pixel1-lut", "pixel1_runtime_model.json")],
)
def test_a_published_table_in_the_wrong_unit_is_refused(folder: str, name: str, unit: str) -> None:
    with pytest.raises(InputError) as caught:
        import_published(shared(folder, name), device_name="Pixel 1", unit=unit)
    assert one_line(caught.value, "look like milliseconds", "--unit ms")


# ProxylessNAS.


def test_a_prediction_is_the_sum_of_entries(tmp_path: Path) -> None:
    result = imported(tmp_path, keyed(PROXYLESS))
    assert (result.mapped, len(result.table.times), result.unmapped) == (8, 7, ())
    blocks = [
        {"out_channels": 16, "expand_ratio": 1},
        {"out_channels": 24, "expand_ratio": 6, "kernel_size": 5, "stride": 2},
        {"out_channels": 24, "expand_ratio": 3, "kernel_size": 3},
    ]
    wanted = [MBConv(activation="relu6", **block) for block in blocks]  # type: ignore[arg-type]
    (network,) = [one for one in networks(PROXYLESS_SPACE) if list(one.blocks) == wanted]
    predictor = Predictor(result.table)
    assert predictor.latency_ms(network) == pytest.approx(0.022 + 0.021 + 0.13 + 0.052 + 0.02 + 0.0003)
    assert len(predictor.predict(network).parts) == len(parts(network)) == 5


def test_the_times_of_a_head_are_those_of_its_entries(tmp_path: Path) -> None:
    times = imported(tmp_path, keyed(PROXYLESS)).table.times
    (head,) = [times[shape] for shape in times if isinstance(shape.part, PooledHead)]
    assert (head.count, head.mean_ms) == (6, pytest.approx(0.0203))
    assert head.std_ms == pytest.approx(math.sqrt(0.0009 + 0.0016))


def test_statistics_may_be_absent(tmp_path: Path) -> None:
    plain = keyed(PROXYLESS)
    for row in plain.values():
        del row["count"], row["var"]
    for times in imported(tmp_path, plain).table.times.values():
        assert (times.count, times.std_ms) == (1, None)


def test_coverage_of_a_space(tmp_path: Path) -> None:
    rows = dict(PROXYLESS)
    searched = space(PROXYLESS_SPACE)
    missing = 2 * 2 * 2 - 4  # (first, other) × kernel size × expand ratio, of which four are in the table
    covered, total, shapes = imported(tmp_path, keyed(rows)).coverage(searched)
    assert (covered, total, len(shapes)) == (7, 7 + missing, missing)
    assert all(isinstance(shape.part, MBConv) for shape in shapes)
    del rows["Logits-input:8x8x64-output:10"]
    result = imported(tmp_path, keyed(rows))
    assert [key for key, _ in result.unmapped] == ["Conv_1-input:8x8x24-output:8x8x64"]
    assert "belongs to no whole head" in result.unmapped[0][1]
    assert [shape.part.kind for shape in result.coverage(searched).missing].count("head") == 1


def test_the_activation_can_be_said(tmp_path: Path) -> None:
    table = imported(tmp_path, keyed(PROXYLESS), activation="relu").table
    assert {shape.part.to_dict()["activation"] for shape in table.times} == {"relu"}
    assert table.source["activation"] == "relu"
    refusal(tmp_path, keyed(PROXYLESS), "--activation", "did you mean relu", activation="rely")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("expanded_conv-input:8x8x24-output:8x8x24-expand:3-kernel:3-stride:1-idskip:0", "has shortcut here"),
        ("expanded_conv-input:8x8x24-output:4x4x24-expand:3-kernel:3-stride:2-idskip:1", "has no shortcut here"),
        ("expanded_conv-input:8x8x24-output:8x8x32-expand:3-kernel:3-stride:1-idskip:1", "has no shortcut here"),
        ("expanded_conv-input:8x8x24-output:8x8x24-expand:3-kernel:3-stride:1-idskip:2", "idskip must be 0 or 1"),
        ("expanded_conv-input:8x8x24-output:8x8x32-expand:3-kernel:3-stride:2-idskip:0", "8 px become 4 px, got 8"),
        ("expanded_conv-input:7x7x24-output:3x3x32-expand:3-kernel:3-stride:2-idskip:0", "7 px become 4 px, got 3"),
        ("expanded_conv-input:8x6x24-output:8x6x24-expand:3-kernel:3-stride:1-idskip:1", "square"),
        ("expanded_conv-input:8x8x20-output:8x8x24-expand:3-kernel:3-stride:1-idskip:0", "rounded to 8"),
        ("expanded_conv-input:8x8x24-output:8x8x24-expand:3-kernel:4-stride:1-idskip:1", "kernel_size must be odd"),
        ("expanded_conv-input:8x8x24-output:8x8x24-expand:3-kernel:3-stride:0-idskip:0", "stride must be 1 to 4"),
        ("expanded_conv-input:8x8x24-output:8x8x24-expand:0-kernel:3-stride:1-idskip:1", "rounded to 8"),
        ("expanded_conv-input:8x8x24-output:8x8x24-expand:2.5-kernel:3-stride:1-idskip:1", "whole number, got '2.5'"),
        ("expanded_conv-input:8x8x24-output:8x8x24-expand:03-kernel:3-stride:1-idskip:1", "whole number, got '03'"),
        ("expanded_conv-input:8x8x-24-output:8x8x24-expand:3-kernel:3-stride:1-idskip:1", "must have the fields"),
        ("expanded_conv-input:8x8x24-output:8x8x24-expand:3-kernel:3-stride:1", "must have the fields"),
        ("expanded_conv-input:8x8x24-output:8x8x24-expand:3-expand:3-kernel:3-stride:1-idskip:1", "fields"),
        ("expanded_conv-output:8x8x24-input:8x8x24-expand:3-kernel:3-stride:1-idskip:1", "in this order"),
        ("expanded_conv-input:8x8-output:8x8x24-expand:3-kernel:3-stride:1-idskip:1", "HEIGHTxWIDTHxCHANNELS"),
        ("expanded_conv-input:8x8x0-output:8x8x24-expand:3-kernel:3-stride:1-idskip:0", "each 1 to 8192"),
        ("expanded_conv-input:8x8x8000-output:8x8x24-expand:6-kernel:3-stride:1-idskip:0", "at most 8192"),
        ("expanded_conv-input:8x8x99999999-output:8x8x24-expand:6-kernel:3-stride:1-idskip:0", "whole number"),
        ("shuffle-input:8x8x24-output:8x8x24", "the layer type must be Conv, expanded_conv, Conv_1 or Logits"),
        ("Conv_2-input:1x1x24-output:1x1x64", "the layer type must be"),
        ("Conv-input:32x32x3-output:32x32x16", "with stride 2, 32 px become 16 px"),
        ("Conv_1-input:8x8x24-output:4x4x64", "keeps 8 px"),
        ("Conv_1-input:8x8x24-output:8x8x72", "belongs to no whole head"),
        ("Logits-input:8x8x65-output:10", "belongs to no whole head"),
        ("Logits-input:8x8x64-output:10x10", "HEIGHTxWIDTHxCHANNELS"),
        ("note", "the layer type must be"),
        ("", "the layer type must be"),
        ("two\nlines", "the layer type must be"),
    ],
)
def test_what_cannot_be_mapped_is_named(tmp_path: Path, key: str, reason: str) -> None:
    plain = keyed(PROXYLESS)
    whole = imported(tmp_path, plain)
    plain[key] = {"mean": 0.03}
    result = imported(tmp_path, plain)
    assert result.table.times == whole.table.times
    ((named, why),) = result.unmapped
    assert named == key.replace("\n", " ")
    assert reason in why
    assert len(why.splitlines()) == 1
    assert result.mapped + len(result.unmapped) == len(plain)
    assert result.table.source["unmapped_entries"] == 1


# Once-for-all.


def test_the_once_for_all_form(tmp_path: Path) -> None:
    result = imported(tmp_path, keyed(ONCE_FOR_ALL))
    assert (result.mapped, len(result.table.times), result.unmapped) == (9, 6, ())
    se = {"se_ratio": 0.25, "se_variant": "mobilenetv3"}

    def block(out: int, **fields: Any) -> MBConv:
        return MBConv(out_channels=out, **fields)

    assert result.table.part_ms == {
        PartShape(ConvStem(out_channels=24, stride=2, activation="hard_swish"), 3, 32, 24): 0.033,
        PartShape(block(24, expand_ratio=1, activation="relu"), 24, 16, 24): 0.04,
        PartShape(block(32, stride=2, kernel_size=5, expand_ratio=3, activation="hard_swish", **se), 24, 16, 32): 0.14,
        PartShape(block(32, stride=2, kernel_size=5, expand_ratio=3, activation="relu"), 24, 16, 32): 0.13,
        PartShape(block(32, expand_ratio=2.75, activation="relu", **se), 32, 8, 32): 0.09,
        PartShape(PooledHead(conv_channels=96, hidden_channels=128, activation="hard_swish"), 32, 8, 10): pytest.approx(
            0.04 + 0.002 + 0.0025 + 0.0003
        ),
    }
    assert result.table.source["form"] == "once-for-all"


@pytest.mark.parametrize(
    ("channels", "mid", "ratio"),
    [
        (24, 24, 1),
        (24, 72, 3),
        (80, 184, 2.3),
        (80, 200, 2.5),
        (20, 20, 1),
        (20, 24, 1.2),
        (20, 64, 3),
        (24, 88, 88 / 24),
    ],
)
def test_expanded_channels_are_a_ratio(tmp_path: Path, channels: int, mid: int, ratio: float) -> None:
    key = f"expanded_conv-input:8x8x{channels}-output:8x8x32-expand:{mid}-kernel:3-stride:1-idskip:0-se:0-hs:0"
    (shape,) = imported(tmp_path, {key: {"mean": 0.05}}).table.times
    assert shape.part == MBConv(out_channels=32, expand_ratio=ratio, activation="relu")
    depthwise = [module for module in shape.build().modules() if getattr(module, "groups", 1) > 1]
    assert [module.in_channels for module in depthwise] == [mid]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("expanded_conv-input:8x8x32-output:8x8x32-expand:90-kernel:3-stride:1-idskip:1-se:0-hs:0", "rounded to 8"),
        ("expanded_conv-input:8x8x32-output:8x8x32-expand:0-kernel:3-stride:1-idskip:1-se:0-hs:0", "rounded to 8"),
        ("expanded_conv-input:8x8x64-output:8x8x32-expand:8-kernel:3-stride:1-idskip:0-se:0-hs:0", "0.25 to 64"),
        (
            "expanded_conv-input:8x8x32-output:8x8x32-expand:96-kernel:3-stride:1-idskip:1-se:2-hs:0",
            "se must be 0 or 1",
        ),
        ("expanded_conv-input:8x8x32-output:8x8x32-expand:96-kernel:3-stride:1-idskip:1", "must have the fields"),
        ("AvgPool2D-input:8x8x97-output:1x1x97", "belongs to no whole head"),
        ("Conv_2-input:1x1x96-output:2x2x64", "keeps 1 px"),
    ],
)
def test_what_once_for_all_has_and_we_have_not(tmp_path: Path, key: str, reason: str) -> None:
    result = imported(tmp_path, {**keyed(ONCE_FOR_ALL), key: {"mean": 0.05}})
    assert result.mapped == len(ONCE_FOR_ALL)
    ((named, why),) = result.unmapped
    assert named == key
    assert reason in why


def test_the_pool_of_a_head_may_be_absent(tmp_path: Path) -> None:
    rows = {key: row for key, row in ONCE_FOR_ALL.items() if not key.startswith("AvgPool2D")}
    result = imported(tmp_path, keyed(rows))
    assert result.mapped == 8
    assert min(result.table.part_ms.values()) == 0.033
    assert sum(result.table.part_ms.values()) == pytest.approx(sum(mean for mean, _, _ in rows.values()))


def test_once_for_all_says_its_activations_itself(tmp_path: Path) -> None:
    refusal(tmp_path, keyed(ONCE_FOR_ALL), "--activation", "leave it out", activation="relu")


# Single-Path NAS.


def test_positions_of_one_shape_are_one_signature(tmp_path: Path) -> None:
    result = imported(tmp_path, single_path(), "lut.json", device_name="")
    assert (result.mapped, len(result.table.times), result.unmapped) == (88, 45, ())
    repeated = MBConv(out_channels=24, kernel_size=5, expand_ratio=6, activation="relu")
    times = result.table.times[PartShape(repeated, 24, 56, 24)]
    assert (times.count, times.mean_ms) == (3, pytest.approx((9 + 6 + 6) / 3))
    assert times.std_ms == pytest.approx(math.sqrt(2))
    first = result.table.times[PartShape(dataclasses.replace(repeated, stride=2), 16, 112, 24)]
    assert (first.count, first.mean_ms, first.std_ms) == (1, 6.0, None)
    assert (
        result.table.times[PartShape(MBConv(out_channels=16, expand_ratio=1, activation="relu"), 32, 112, 16)].count
        == 4
    )
    assert all(isinstance(shape.part, MBConv) for shape in result.table.times)


def test_layers_and_choices_it_does_not_have(tmp_path: Path) -> None:
    plain: dict[str, Any] = single_path()
    plain["22"] = {"0": 3.0}
    plain["5"]["4"] = 0.0
    result = imported(tmp_path, plain, "lut.json")
    assert result.mapped == 88
    assert [key for key, _ in result.unmapped] == ["5.4", "22.0"]
    assert "0 to 3" in result.unmapped[0][1]
    assert "0 to 21" in result.unmapped[1][1]
    refusal(tmp_path, {"30": {"0": 1.0}}, "no entry of this single-path-nas table can be mapped: 30.0", file="lut.json")
    refusal(tmp_path, {"3": {}}, "can be mapped: it has none", file="lut.json")


# The table.


@pytest.mark.parametrize("data", [keyed(PROXYLESS), keyed(ONCE_FOR_ALL), single_path()])
def test_an_imported_table_comes_back_equal(tmp_path: Path, data: Any) -> None:
    table = imported(tmp_path, data, device_name="Pixel 1", threads=2, runtime="ncnn", name="mine").table
    file = tmp_path / "table.json"
    save_table(table, file)
    assert load_table(file) == table
    assert (table.name, table.statistic, table.calibration.scale) == ("mine", PUBLISHED, 1.0)
    assert (table.conditions.runtime, table.conditions.threads, table.conditions.versions) == ("ncnn", 2, {})
    assert table.source["imported_from"] == "lut.yaml"
