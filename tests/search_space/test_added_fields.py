"""Fields that block types got later: files and ids from before stay, and the fields do what they say."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
import torch
from torch import nn

from search_space import Architecture, Block, InputError, Stage, build_model, count_cost, load_architecture
from search_space.architecture_file import dump_architecture, parse_architecture
from search_space.component import added_fields, component_types, from_dict
from search_space.documents import parse_document
from search_space.downsampling import BlurPool2d
from search_space.layers import BuildContext, Conv2dSame
from search_space.network import initialise

# Before there were added fields; an id that changes would orphan everybody's records.
IDS = {
    "mobilenetv1": "cac62e7f45c4",
    "mobilenetv3-small": "ae3e3a1fed37",
    "efficientnet-b0": "eb13e1b6349c",
    "efficientnetv2-s": "c448c44d7f88",
}


def block(**fields: Any) -> Block:
    return cast(Block, from_dict("block", {"type": "mbconv", "out_channels": 16, "stride": 2, **fields}))


def run(part: Block, in_channels: int, size: int) -> torch.Tensor:
    module = part.build(in_channels, BuildContext())
    initialise(module)
    with torch.no_grad():
        out: torch.Tensor = module.eval()(torch.randn(1, in_channels, size, size))
    return out


def network_of(*blocks: Block) -> Architecture:
    return load_architecture("mobilenetv3-small").replace(resolution=64, stages=tuple(Stage((one,)) for one in blocks))


@pytest.mark.parametrize("name", IDS)
def test_ids_from_before_stay(name: str) -> None:
    assert load_architecture(name).arch_id == IDS[name]


def test_a_default_is_not_written_and_another_value_is() -> None:
    for kind in ("block", "stem", "head"):
        for name, component in component_types(kind).items():
            plain = from_dict(kind, {"type": name, **({} if kind == "head" else {"out_channels": 8})}).to_dict()
            assert not set(added_fields(component)) & set(plain)
    assert block(padding="same").to_dict()["padding"] == "same"


@pytest.mark.parametrize(
    "fields",
    [
        {"shortcut": False, "stride": 1},
        {"padding": "same"},
        {"downsampling": "blur"},
        {"downsampling": "space_to_depth"},
        {"group_size": 8},
        {"expanded_channels": 52},
        {"se_channels": 5, "se_variant": "fbnetv3"},
        {"mixed_kernels": 3},
        {"expand_groups": 2, "project_groups": 4},
    ],
)
def test_a_field_makes_another_network_and_survives_its_file(fields: dict[str, Any]) -> None:
    plain, other = block(stride=fields.get("stride", 2)), block(**fields)
    made = network_of(other, block(stride=1))
    assert made.arch_id != network_of(plain, block(stride=1)).arch_id
    assert parse_architecture(parse_document(dump_architecture(made))) == made
    assert json.loads(json.dumps(made.to_dict()))["stages"][0] == made.to_dict()["stages"][0]
    assert count_cost(made).params == sum(p.numel() for p in build_model(made).parameters())
    for size in (7, 8):
        assert run(other, 16, size).shape == (1, 16, other.out_size(size), other.out_size(size))


@pytest.mark.parametrize(
    "fields",
    [
        {"padding": "same", "stride": 1},
        {"downsampling": "blur", "stride": 1},
        {"padding": "same", "downsampling": "blur", "_same_as": {"downsampling": "blur"}},
        {"se_ratio": 0.5, "se_channels": 4, "_same_as": {"se_channels": 4}},
        {"expand_ratio": 3, "expanded_channels": 40, "_same_as": {"expanded_channels": 40}},
        {"expand_ratio": 1, "expand_groups": 2, "_same_as": {"expand_ratio": 1}},
    ],
)
def test_a_field_without_effect_changes_nothing(fields: dict[str, Any]) -> None:
    same_as = fields.pop("_same_as", {"stride": fields.get("stride", 2)})
    assert block(**fields) == block(**same_as)


def test_same_padding_is_tensorflows() -> None:
    """Of 4 pixels with a kernel of 3 and stride 2, one zero is added, at the end."""
    conv = Conv2dSame(1, 1, 3, 2, bias=False)
    nn.init.ones_(conv.weight)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    with torch.no_grad():
        assert conv(x)[0, 0].tolist() == [[45.0, 39.0], [66.0, 50.0]]


def test_blur_keeps_what_is_even() -> None:
    assert torch.equal(BlurPool2d(2, 2)(torch.ones(1, 2, 6, 6))[:, :, 1:, 1:], torch.ones(1, 2, 2, 2))


def test_a_shortcut_can_be_left_out() -> None:
    torch.manual_seed(0)
    with_it, without = block(stride=1), block(stride=1, shortcut=False)
    one = with_it.build(16, BuildContext()).eval()
    initialise(one)
    other = without.build(16, BuildContext()).eval()
    other.load_state_dict(dict(zip(other.state_dict(), one.state_dict().values(), strict=True)))
    x = torch.randn(1, 16, 8, 8)
    torch.testing.assert_close(one(x), x + other(x))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"shortcut": "no"}, "shortcut must be true or false"),
        ({"shortcut": 0}, "shortcut must be true or false"),
        ({"padding": "valid"}, "padding must be one of its known names"),
        ({"mixed_kernels": 3, "group_size": 0}, "mixed_kernels are for depthwise convolutions"),
        ({"mixed_kernels": 3, "downsampling": "blur"}, "mixed_kernels are for depthwise convolutions"),
        ({"expanded_channels": -1}, "expanded_channels must be 0 to 65536"),
    ],
)
def test_values_that_make_no_sense_are_refused(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        block(**fields)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"group_size": 7}, "group_size must divide the channels of the convolution, 96, got 7"),
        ({"expand_groups": 3}, "the groups of a convolution must divide its channels, 16, got 3"),
        ({"mixed_kernels": 9, "expanded_channels": 8}, "mixed_kernels may not outnumber the expanded channels, got 9"),
    ],
)
def test_groups_that_do_not_divide_are_refused_when_counted(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        count_cost(network_of(block(**fields)))


def test_experts_of_one_are_a_plain_mbconv() -> None:
    """With one expert and a routing of 1, CondConv is MBConv with an expansion."""
    torch.manual_seed(0)
    cond = cast(Block, from_dict("block", {"type": "condconv", "out_channels": 24, "stride": 2, "num_experts": 1}))
    plain = block(out_channels=24)
    ours, theirs = cond.build(16, BuildContext()).eval(), plain.build(16, BuildContext()).eval()
    initialise(ours)
    state = ours.state_dict()
    nn.init.zeros_(state["0.route.weight"])
    nn.init.constant_(state["0.route.bias"], 100.0)
    kept = [value for name, value in state.items() if "route" not in name]
    target = theirs.state_dict()
    theirs.load_state_dict({name: value.reshape(target[name].shape) for name, value in zip(target, kept, strict=True)})
    x = torch.randn(3, 16, 9, 9)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)
