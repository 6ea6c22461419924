"""Scaling: the rules for widths, depths and resolutions, and the published families they must give."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import pytest
import torch
import torchvision
from test_references import copy_state, randomise
from torch import nn

from search_space import Architecture, InputError, Stage, build_model, count_cost, load_architecture, references
from search_space.blocks import Block
from search_space.families import FAMILIES, family, multiplied
from search_space.footprint import footprint_bytes, refuse_too_large
from search_space.layers import BuildContext, conv_norm_act
from search_space.network import Network
from search_space.rules import CHANNELS, RATE, Depth, Integer
from search_space.scaling import CompoundRule, grow, layers, widened

# Published: Tan & Le 2019's code; counted on torchvision's models.
B0_TO_B7 = [
    (224, 5_288_548, 0.386),
    (240, 7_794_184, 0.687),
    (260, 9_109_994, 0.994),
    (300, 12_233_232, 1.827),
    (380, 19_341_616, 4.394),
    (456, 30_389_784, 10.266),
    (528, 43_040_704, 19.068),
    (600, 66_347_960, 37.746),
]


def counted(model: nn.Module, pixels: int) -> tuple[int, int]:
    """Parameters, and multiply–adds of convolutions and linear layers, by shape alone: the model is on `meta`."""
    macs = 0

    def add(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Conv2d):
            macs += output.numel() * (module.in_channels // module.groups) * math.prod(module.kernel_size)
        elif isinstance(module, nn.Linear):
            macs += output.numel() * module.in_features

    for module in model.modules():
        module.register_forward_hook(add)
    with torch.no_grad():
        model.eval()(torch.empty(1, 3, pixels, pixels, device="meta"))
    return sum(p.numel() for p in model.parameters()), macs


def ours(architecture: Architecture) -> tuple[int, int]:
    with torch.device("meta"):
        return counted(Network(architecture), architecture.resolution)


def shape(architecture: Architecture) -> list[tuple[int, int]]:
    return [(len(stage.blocks), stage.out_channels) for stage in architecture.stages]


# The compound rule.


@pytest.mark.parametrize("name", references())
def test_phi_0_is_the_network_itself(name: str) -> None:
    base = load_architecture(name)
    assert CompoundRule().member(base, 0).architecture.arch_id == base.arch_id
    assert multiplied(base, 1).architecture.arch_id == base.arch_id
    for rule in FAMILIES.values():
        assert rule.member(base, 0).architecture.arch_id == base.arch_id


def test_phi_1_of_b0_by_hand() -> None:
    """depth 1.2, width 1.1, 257.6 px."""
    member = CompoundRule().member(load_architecture("efficientnet-b0"), 1)
    scaled = member.architecture
    assert scaled.resolution == 256
    assert scaled.stem.out_channels == 32  # 35.2 would be 10 % down at most
    assert shape(scaled) == [(2, 16), (3, 24), (3, 48), (4, 88), (4, 120), (5, 208), (2, 352)]
    assert scaled.head.conv_channels == 1408  # type: ignore[attr-defined]
    assert (member.depth_mult, member.width_mult) == (1.2, 1.1)
    assert member.ratio_asked == pytest.approx(1.2 * 1.1**2 * 1.15**2)


@pytest.mark.parametrize("phi", [-3, -0.7, 0.3, 1, 2.5, 6])
def test_what_scaling_promises(phi: float) -> None:
    base = load_architecture("mobilenetv3-large")
    rule = CompoundRule()
    member = rule.member(base, phi)
    for stage, scaled in zip(base.stages, member.architecture.stages, strict=True):
        assert len(scaled.blocks) == math.ceil(round(len(stage.blocks) * member.depth_mult, 9))
        assert scaled.out_channels % 8 == 0
        assert 0.9 * stage.out_channels * member.width_mult <= scaled.out_channels
        assert scaled.out_channels < stage.out_channels * member.width_mult + 8
        assert scaled.stride == stage.stride
    assert member.architecture.resolution % 8 == 0
    assert abs(member.architecture.resolution - 224 * 1.15**phi) <= 4


def test_dropout_and_stochastic_depth_grow() -> None:
    base = load_architecture("efficientnet-b0")
    rates = {phi: CompoundRule().member(base, phi).architecture for phi in (-5, -2, 2, 4, 6, 9)}
    dropped = {phi: (scaled.head.dropout, scaled.drop_path_rate) for phi, scaled in rates.items()}  # type: ignore[attr-defined]
    assert dropped == {-5: (0, 0), -2: (0.1, 0.1), 2: (0.3, 0.3), 4: (0.4, 0.4), 6: (0.5, 0.5), 9: (0.5, 0.5)}
    without = load_architecture("mobilenetv1")
    assert CompoundRule().member(without, 4).architecture.head == without.head.__class__()


def test_unlike_blocks_of_a_stage_keep_their_order_and_the_first_stays_one() -> None:
    base = load_architecture("mobilenetv3-large")  # 80 channels: e6 s2, e2.5, e2.3, e2.3
    index = [stage.out_channels for stage in base.stages].index(80)

    def ratios(depth: float) -> list[float]:
        scaled = CompoundRule(alpha=max(depth, 1), beta=1, gamma=1).member(base, 1).architecture
        return [block.expand_ratio for block in scaled.stages[index].blocks]  # type: ignore[attr-defined]

    assert ratios(1) == [6, 2.5, 2.3, 2.3]
    assert ratios(1.75) == [6, 2.5, 2.5, 2.3, 2.3, 2.3, 2.3]
    shallow = CompoundRule(alpha=2, beta=1, gamma=1).member(base, -1).architecture.stages[index]
    assert [block.expand_ratio for block in shallow.blocks] == [6, 2.5]  # type: ignore[attr-defined]
    assert [block.stride for block in shallow.blocks] == [2, 1]


def test_layers_are_rounded_up_but_not_by_floating_point() -> None:
    assert layers(10, 1.1) == 11
    assert layers(1, 1.0001) == 2
    assert layers(4, 0.25) == 1


@pytest.mark.parametrize("phi", ["3", None, math.nan, math.inf, 101, True])
def test_phi_must_be_a_sensible_number(phi: object) -> None:
    with pytest.raises(InputError, match="phi must be"):
        CompoundRule().member(load_architecture("efficientnet-b0"), phi)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["alpha", "beta", "gamma"])
@pytest.mark.parametrize("value", [0.9, 0, -1, math.nan, "1.2"])
def test_coefficients_are_at_least_1(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"{field} must be"):
        CompoundRule(**{field: value})  # type: ignore[arg-type]


def test_too_deep_and_too_wide_are_refused() -> None:
    base = load_architecture("efficientnet-b0")
    with pytest.raises(InputError, match="at most 1,000 blocks"):
        CompoundRule(alpha=4, beta=1, gamma=1).member(base, 10)
    with pytest.raises(InputError, match="out_channels must be 1 to 65536"):
        CompoundRule(alpha=1, beta=4, gamma=1).member(base, 10)
    with pytest.raises(InputError, match="resolution must be"):
        CompoundRule(alpha=1, beta=1, gamma=4).member(base, 10)
    with pytest.raises(InputError, match="product of all strides"):
        CompoundRule(alpha=1, beta=1, gamma=4).member(base, -2)


def test_memory_is_known_without_being_taken() -> None:
    base = load_architecture("efficientnet-b0")
    cost = count_cost(base)
    assert footprint_bytes(base) == (4 * cost.params, cost.peak_memory_bytes)
    huge = CompoundRule().member(base, 22).architecture
    with pytest.raises(InputError, match=r"half of this machine's memory, .* GB of weights .* \(phi 22\)"):
        refuse_too_large(huge, "phi 22")


# Declarations.


@dataclass(frozen=True, kw_only=True)
class _Declared(Block):
    """A block that nobody knows, with widths, a depth and a rate of its own."""

    type: ClassVar[str] = "declared"
    inner_channels: Annotated[int, CHANNELS] = 24
    inner_layers: Annotated[int, Depth(1, 1_000)] = 2
    heads: Annotated[int, Integer(1, 64)] = 3
    dropout: Annotated[float, RATE] = 0.1

    def width_multiple(self) -> int:
        return 8 * self.heads

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        return conv_norm_act(in_channels, self.out_channels, 1, context, stride=self.stride)


@dataclass(frozen=True, kw_only=True)
class _Leads(Block):
    """Only leads into a stage."""

    type: ClassVar[str] = "leads"
    repeats: ClassVar[bool] = False

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        return conv_norm_act(in_channels, self.out_channels, 1, context, stride=self.stride)


def test_a_new_block_type_takes_part_by_what_it_declares() -> None:
    base = load_architecture("mobilenetv2")
    plain = base.stages[1].blocks[1]
    stage = Stage((_Leads(out_channels=24, stride=2), plain, _Declared(out_channels=24)))
    network = base.replace(stages=(base.stages[0], stage))
    first, *rest = CompoundRule(alpha=3, beta=2, gamma=1).member(network, 1).architecture.stages[1].blocks
    assert first == _Leads(out_channels=48, stride=2)
    assert [type(block) for block in rest] == [type(plain)] * 3 + [_Declared]
    assert rest[-1] == _Declared(out_channels=48, inner_channels=48, inner_layers=6, heads=3, dropout=0.125)


def test_widths_of_a_stage_suit_all_its_blocks() -> None:
    blocks = widened([_Leads(out_channels=24), _Declared(out_channels=24)], 1.5)
    assert [block.out_channels for block in blocks] == [48, 48]  # 36 is no multiple of 24


def test_grow_needs_a_pair_for_each_stage() -> None:
    from search_space.scaling import Growth

    with pytest.raises(ValueError, match="zip"):
        grow(load_architecture("mobilenetv2"), Growth(((1, 1),), 1, 1, 224))


# EfficientNet.


@pytest.mark.parametrize("number", range(8))
def test_family_v1_equals_torchvision(number: int) -> None:
    scaled = family("efficientnet-v1").member(load_architecture("efficientnet-b0"), number).architecture
    pixels, params, giga_macs = B0_TO_B7[number]
    assert scaled.resolution == pixels
    with torch.device("meta"):
        theirs = torchvision.models.get_model(f"efficientnet_b{number}", weights=None)
        network = build_model(scaled)
    their_params, their_macs = counted(theirs, pixels)
    assert ours(scaled) == (their_params, their_macs)
    assert (their_params, round(their_macs / 1e9, 3)) == (params, giga_macs)
    dropout = [[m.p for m in model.modules() if isinstance(m, nn.Dropout)] for model in (network, theirs)]
    assert dropout[0] == pytest.approx(dropout[1])
    rates = [float(m.rate) for m in network.modules() if type(m).__name__ == "DropPath"]
    blocks = [m for m in theirs.modules() if type(m).__name__ == "MBConv" and m.use_res_connect]
    assert rates == pytest.approx([m.stochastic_depth.p for m in blocks if m.stochastic_depth.p > 0])


def test_counting_says_the_same() -> None:
    scaled = family("efficientnet-v1").member(load_architecture("efficientnet-b0"), 1).architecture
    cost = count_cost(scaled)
    assert (cost.params, cost.macs) == ours(scaled)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_family_v1_computes_what_torchvision_does(number: int) -> None:
    pixels = 64
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(f"efficientnet_b{number}", weights=None)
    randomise(theirs, pixels)
    network = build_model(
        family("efficientnet-v1").member(load_architecture("efficientnet-b0"), number).architecture
    ).eval()
    copy_state(theirs, network)
    x = torch.randn(2, 3, pixels, pixels)
    with torch.no_grad():
        expected, logits = theirs(x), network(x)
    assert (expected[0] - expected[1]).abs().max() > 0.1 * expected.abs().max() > 0
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("phi", [-1, 8, 0.5, "1"])
def test_family_v1_has_eight_members(phi: object) -> None:
    with pytest.raises(InputError, match="whole number from 0 to 7"):
        family("efficientnet-v1").member(load_architecture("efficientnet-b0"), phi)  # type: ignore[arg-type]


@pytest.mark.parametrize(("phi", "name", "share"), [(1, "m", 0.02), (2, "l", 0.06)])
def test_family_v2_from_s_comes_near_m_and_l(phi: int, name: str, share: float) -> None:
    """docs/scaling.md states these figures."""
    scaled = family("efficientnet-v2").member(load_architecture("efficientnetv2-s"), phi).architecture
    published = load_architecture(f"efficientnetv2-{name}")
    assert scaled.resolution == published.resolution == 480
    assert scaled.stem == published.stem
    assert scaled.head == published.head
    assert len(scaled.stages) == len(published.stages)
    depths = [(ours, theirs) for (ours, _), (theirs, _) in zip(shape(scaled), shape(published), strict=True)]
    assert sum(abs(mine - theirs) for mine, theirs in depths) <= 1
    widths = [mine / theirs for (_, mine), (_, theirs) in zip(shape(scaled), shape(published), strict=True)]
    assert max(abs(ratio - 1) for ratio in widths) < 0.1
    for mine, theirs in zip(ours(scaled), ours(published), strict=True):
        assert abs(mine / theirs - 1) < share


def test_family_v2_gains_late_layers_first() -> None:
    base = load_architecture("efficientnet-b0")
    scaled = family("efficientnet-v2").member(base, 0.7).architecture
    gained = [len(after.blocks) - len(before.blocks) for before, after in zip(base.stages, scaled.stages, strict=True)]
    assert gained[:4] == [0, 0, 0, 0]
    assert min(gained[5:]) > 0
    assert family("efficientnet-v2").member(base, 6).architecture.resolution == 480
    with pytest.raises(InputError, match="at least 0"):
        family("efficientnet-v2").member(base, -1)


def test_unknown_family() -> None:
    with pytest.raises(InputError, match="did you mean efficientnet-v1"):
        family("efficientnet-v11")


# MobileNet's multipliers.

# Counted, the authors' figures leave out the first convolution in these four rows, and in one row do not fit the rest
# of the column (41 M at 224 px is 30 M at 192 px).
WITHOUT_STEM = {("v1", 0.75, pixels) for pixels in (224, 192, 160, 128)}
MISPRINTED = {("v1", 0.25, 192)}


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_published_tables_of_mobilenets(version: str) -> None:
    base = load_architecture(f"mobilenet{version}")
    file = Path(__file__).parents[3] / "shared" / "data" / "mobilenet-tables" / f"mobilenet_{version}.csv"
    if not file.exists():
        pytest.skip(f"needs {file.name}, which the project does not ship")
    rows = list(csv.DictReader(file.open()))
    assert len(rows) == {"v1": 16, "v2": 22}[version]
    for row in rows:
        width, pixels = float(row["width_mult"]), int(row["resolution"])
        scaled = multiplied(base, width, pixels).architecture
        params, macs = ours(scaled)
        if (version, width, pixels) in WITHOUT_STEM:
            macs -= 27 * scaled.stem.out_channels * (pixels // 2) ** 2
        assert abs(params / 1e6 - float(row["params_M"])) <= 0.06
        if (version, width, pixels) in MISPRINTED:
            assert macs / 1e6 == pytest.approx(30.2, abs=0.05)
        else:
            assert abs(macs / 1e6 - float(row["macs_M"])) <= 1


@pytest.mark.parametrize("width", [0.35, 0.75, 1.4])
def test_mobilenetv2_equals_torchvision(width: float) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.mobilenet_v2(width_mult=width)
    scaled = multiplied(load_architecture("mobilenetv2"), width).architecture
    assert ours(scaled) == counted(theirs, 224)


@pytest.mark.parametrize("width", [0, -1, math.nan, 100, "1"])
def test_the_width_multiplier_must_be_sensible(width: object) -> None:
    with pytest.raises(InputError, match="--width-mult must be"):
        multiplied(load_architecture("mobilenetv2"), width)  # type: ignore[arg-type]


def test_groups_stay_as_they_are() -> None:
    """They are a choice of design, not a width."""
    scaled = CompoundRule().member(load_architecture("efficientnet-b0"), 1.0).architecture
    groups = {(block.to_dict().get("group_size"), block.to_dict().get("expand_groups")) for block in scaled.blocks}
    assert groups == {(None, None)}  # at their defaults, which files leave out


def test_shufflenet_keeps_its_groups() -> None:
    base = load_architecture("shufflenetv1-g3-x1.0")
    ratio = count_cost(CompoundRule().member(base, -2.0).architecture).macs / count_cost(base).macs
    assert ratio < 0.45  # .81 if the groups are lost
