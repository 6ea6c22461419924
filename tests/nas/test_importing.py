"""Networks from timm as architectures: equal counts, equal logits with copied weights; what cannot be is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from timm_copy import copy_in_order, randomise

from nas.cli import run
from nas.importing import NoArchitecture, import_architecture, import_timm
from nas.importing.timm_models import create
from search_space import (
    build_model,
    count_cost,
    dump_architecture,
    load_architecture,
    load_space,
    save_architecture,
)
from search_space.architecture_file import parse_architecture
from search_space.cost import count_module
from search_space.documents import parse_document

# One for each thing that a block, a stem or a head can have.
SAMPLE = {
    "mobilenetv1_100h": "a 1×1 convolution before the pool",
    "mobilenet_edgetpu_v2_xs": "groups, blocks of one 1×1 convolution, no padding worth the name",
    "lcnet_035": "squeeze-excite in depthwise-separable blocks",
    "fbnetc_100": "an expansion to as many channels as there were",
    "mobilenetv3_rw": "squeeze-excite as nobody else has it, a hidden layer without bias",
    "efficientnet_blur_b0": "anti-aliasing",
    "efficientnet_x_b3": "space to depth, fused blocks with squeeze-excite",
    "efficientnet_b1_pruned": "any numbers of channels",
    "tf_mixnet_s": "mixed kernels, SAME padding",
    "tf_efficientnet_cc_b0_4e": "experts, SAME padding",
    "gc_efficientnetv2_rw_t": "attention of another kind",
    "test_efficientnet": "blocks of one convolution with a shortcut",
}
PIXELS = 33  # odd, so that paddings differ


REFUSED = {
    "efficientnet_b0_gn": "the norm layer GroupNormAct",
    "efficientnet_b0_g8_gn": "the norm layer GroupNormAct",
    "efficientnet_b3_gn": "the norm layer GroupNormAct",
    "efficientnet_b3_g8_gn": "the norm layer GroupNormAct",
    "test_efficientnet_gn": "the norm layer GroupNormAct",
    "test_efficientnet_evos": "the norm layer EvoNorm2dS0",
    "test_efficientnet_ln": "the norm layer LayerNormAct2d",
}
MANY_PARAMS = 100_000_000
"""Beyond it, tests count, but do not run networks: they take gigabytes."""
BLOCKS_OF_EPS = """\
ds_r1_k3_s1_e1_c16_se0.25   # a stage on each line
ir_r2_k3_s2_e6_c24_se0.25, ir_r1_k5_s1_e3_c24

cn_r1_k1_s1_c64
"""
STRINGS_YAML = """\
model: MobileNetV3
name: from-strings
resolution: 96
stem_size: 16
num_features: 128
num_classes: 7
act_layer: hard_swish
se_gate: hard_sigmoid
se_relu: true
se_round: true
drop_rate: 0.2
arch_def:
- [ds_r1_k3_s1_e1_c16_nre]
- [ir_r1_k3_s2_e4_c24_nre, ir_r1_k3_s1_e3_c24_nre]
- [ir_r3_k5_s2_e3_c40_se0.25_nre]
- [cn_r1_k1_s1_c96]
"""


def names() -> list[str]:
    """Every network of timm's EfficientNet builder but MobileNetV4's, which have other block types."""
    modules = ("efficientnet", "mobilenetv3", "hardcorenas")
    found = [name for module in modules for name in timm.list_models(module=module)]
    return [name for name in found if not name.startswith("mobilenetv4")]


def check_equal(name: str, pixels: int = PIXELS) -> None:
    """Same counts, same logits with copied weights, and the file says it all."""
    torch.manual_seed(0)
    architecture = import_timm(name).replace(resolution=pixels)
    cost = count_cost(architecture)
    assert parse_architecture(parse_document(dump_architecture(architecture))) == architecture
    assert cost.params == sum(p.numel() for p in create(name).parameters())
    if cost.params > MANY_PARAMS:
        return
    theirs = timm.create_model(name, pretrained=False)
    randomise(theirs, pixels)
    ours = build_model(architecture).eval()
    copy_in_order(theirs, ours)
    x = torch.randn(2, 3, pixels, pixels)
    with torch.no_grad():
        expected, logits = theirs(x), ours(x)
    # Vacuous if the two images gave the same logits, or none at all.
    assert (expected[0] - expected[1]).abs().max() > 0.05 * expected.abs().max() > 0
    torch.testing.assert_close(logits, expected, atol=2e-4, rtol=2e-4)
    counted = count_module(theirs, (3, pixels, pixels))
    assert (cost.params, cost.macs, cost.activations) == (counted.params, counted.macs, counted.activations)


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_is_equal(name: str) -> None:
    check_equal(name)


@pytest.mark.slow
def test_all_but_those_refused_are_equal() -> None:
    """Prints the count that passes: `pytest -m slow -s -n 0 tests/nas/test_importing.py`."""
    passed, all_names = 0, names()
    for name in all_names:
        if name in REFUSED:
            with pytest.raises(NoArchitecture, match=REFUSED[name]):
                import_timm(name)
            continue
        try:
            check_equal(name)
        except Exception as error:
            raise AssertionError(f"{name}: {error}") from error
        passed += 1
    print(f"{passed} of {len(all_names)} networks of timm's EfficientNet builder are equal")
    assert passed == len(all_names) - len(REFUSED)


@pytest.mark.parametrize("name", ["test_efficientnet_gn", "resnet18", "mobilenetv4_conv_small"])
def test_what_cannot_be_expressed_is_refused_by_name(name: str) -> None:
    named = {**REFUSED, "resnet18": "timm's ResNet", "mobilenetv4_conv_small": "UniversalInvertedResidual"}[name]
    with pytest.raises(NoArchitecture, match=named):
        import_timm(name)


def test_our_own_references_come_back() -> None:
    """Equal values, not only equal counts: ratios are those that one would write."""
    assert import_timm("mobilenetv1_100") == load_architecture("mobilenetv1")
    assert import_timm("mnasnet_a1").replace(head=load_architecture("mnasnet-a1").head) == load_architecture(
        "mnasnet-a1"
    )
    rows = import_timm("tf_mobilenetv3_large_100").to_dict()["stages"]
    ratios = [row["expand_ratio"] for row in rows]
    assert ratios == [row["expand_ratio"] for row in load_architecture("mobilenetv3-large").to_dict()["stages"]]


def test_import_writes_a_file_that_all_commands_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "m.yaml"
    assert run(["import", "timm:mobilenetv2_050", "--out", str(file), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    architecture = load_architecture(file)
    assert said["arch_id"] == architecture.arch_id == import_timm("mobilenetv2_050").arch_id
    assert (said["params"], said["same_as"]) == (1_968_680, "")
    assert architecture.provenance["imported_from"] == "timm:mobilenetv2_050"
    assert run(["show", str(file), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert run(["show", "timm:mobilenetv2_050", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == shown
    assert run(["import", "timm:mobilenetv2_050", "--out", str(file)]) == 2
    assert "there is a file already" in capsys.readouterr().err


def test_a_file_of_ours_is_imported_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_architecture(load_architecture("mobilenetv3-small"), tmp_path / "a.yaml")
    assert run(["import", str(tmp_path / "a.yaml"), "--out", str(tmp_path / "b.yaml")]) == 0
    assert (tmp_path / "a.yaml").read_text() == (tmp_path / "b.yaml").read_text()
    assert "the same network as the built-in mobilenetv3-small" in capsys.readouterr().out


def test_block_strings_in_a_text_file(tmp_path: Path) -> None:
    file = tmp_path / "net.txt"
    file.write_text(BLOCKS_OF_EPS)
    made = import_architecture(str(file))
    definition = [line.partition("#")[0].replace(",", " ").split() for line in BLOCKS_OF_EPS.splitlines() if line]
    theirs = EfficientNet(decode_arch_def(definition))
    assert made.name == "net"
    assert count_cost(made).params == sum(p.numel() for p in theirs.parameters())
    # The 1×1 convolution stays a block: the head has one of its own.
    assert [block.out_channels for block in made.blocks] == [16, 24, 24, 24, 64]


def test_block_strings_with_the_builders_arguments(tmp_path: Path) -> None:
    file = tmp_path / "net.yaml"
    file.write_text(STRINGS_YAML)
    made = import_architecture(str(file))
    plain = made.to_dict()
    assert (made.name, made.resolution, made.num_classes) == ("from-strings", 96, 7)
    assert plain["head"] == {
        "type": "pooled",
        "conv_channels": 96,
        "hidden_channels": 128,
        "activation": "hard_swish",
        "dropout": 0.2,
    }
    assert plain["stages"][3]["se_variant"] == "mobilenetv3"
    assert plain["stages"][3]["num_layers"] == 3


@pytest.mark.parametrize(
    ("suffix", "text", "named"),
    [
        ("txt", "", "the file has no block strings"),
        ("txt", "# nothing\n", "the file has no block strings"),
        ("txt", "ir_r1_k3_s1_e6_c24\nxy_r1_k3_s1_c8\n", "timm cannot decode the block string"),
        ("txt", "ir_r1_k3_s1_c24", "timm cannot decode the block string (KeyError 'e')"),
        ("txt", "ir_r0_k3_s1_e6_c24", "net.txt:1"),
        ("txt", "ir_r1_k3_s1_e6_c24\nir_r999999999999_k3_s1_e6_c24", "r of a block string must be 1 to 1000"),
        ("txt", "ir_r600_k3_s1_e6_c24\nir_r600_k3_s1_e6_c24", "a network may have at most 1,000 blocks, got 1200"),
        ("txt", "ir_r1_k3_s3_e6_c24", "s of a block string must be 1 to 2, got 3 ("),
        ("txt", "ir_r1_k3_s1_e1e9_c24", "net.txt"),
        ("txt", "ir_r1_k3_s1_e6_c99999999", "c of a block string must be 1 to 65536"),
        ("txt", "ir_r1_k3_s1_e6_c24_a3", "an expansion or projection of 3×3 pixels"),
        ("txt", "uir_r1_a3_k3_s1_e4_c24", "UniversalInvertedResidual"),
        ("txt", "ir_r1_k4_s1_e6_c24", "kernel"),
        ("txt", "ir_r1_k9.3_s1_e6_c24", "kernels of [9, 3] pixels: they must go up in steps of 2"),
        ("yaml", "arch_def: []", "arch_def must be a list with at least one item"),
        ("yaml", "arch_def: [ir_r1]", "arch_def[0] must be a list"),
        ("yaml", "arch_def: [[3]]", "a block string must be text, got 3"),
        ("yaml", "arch_def: [[ir_r1_k3_s1_e6_c24]]\nact_layer: tanh", "act_layer must be one of its known names"),
        ("yaml", "arch_def: [[ir_r1_k3_s1_e6_c24]]\nact_layer: mish", "the activation Mish"),
        ("yaml", "arch_def: [[ir_r1_k3_s1_e6_c24]]\nhead_bias: false", "head_bias is an option of model MobileNetV3"),
        ("yaml", "arch_def: [[ir_r1_k3_s1_e6_c24]]\nwidth: 2", "the file has no field of this name, got 'width'"),
        ("yaml", "arch_def: [[ir_r1_k3_s1_e6_c24]]\nnum_features: x", "num_features must be a whole number"),
    ],
)
def test_bad_block_strings_are_refused_in_one_line(
    suffix: str, text: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"net.{suffix}"
    file.write_text(text)
    assert run(["import", str(file), "--out", str(tmp_path / "out.yaml")]) == 2
    said = capsys.readouterr()
    assert named in said.err
    assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "out.yaml").exists()


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("timm:mobilnetv2_100", "did you mean mobilenetv2_100?"),
        ("timm:", "timm has no network of this name"),
        ("timm:resnet18", "an architecture cannot express timm's ResNet"),
        ("torchvision:resnet18", "torchvision's networks are baselines, not architectures"),
        ("nowhere.yaml", "cannot read the file"),
        ("nowhere", "cannot read the file"),
    ],
)
def test_sources_that_are_none_are_refused_in_one_line(
    source: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["import", source, "--out", str(tmp_path / "out.yaml")]) == 2
    said = capsys.readouterr()
    assert named in said.err
    assert len(said.err.splitlines()) == 1


def test_an_unwritable_place_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", "mobilenetv2", "--out", "/proc/nowhere/a.yaml"]) == 2
    assert "cannot write the file" in capsys.readouterr().err


def test_a_search_may_begin_with_an_imported_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "start.yaml"
    assert run(["import", "timm:mobilenetv2_100", "--dropout", "0.2", "--out", str(file)]) == 0
    assert "the same network as the built-in mobilenetv2" in capsys.readouterr().out
    space = load_space("mobilenetv2")
    assert space.decode(space.encode(load_architecture(file))) == load_architecture("mobilenetv2")


def test_a_dropout_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", "mobilenetv2", "--dropout", "1.5", "--out", str(tmp_path / "a.yaml")]) == 2
    assert "dropout must be 0 to below 1, got 1.5" in capsys.readouterr().err
