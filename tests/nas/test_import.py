"""Networks from timm as architectures: equal counts, equal logits with copied weights; what cannot be is refused."""

from __future__ import annotations

import functools

import pytest
import timm
import torch

from nas.importing.timm_blocks import NotExpressible
from nas.importing.timm_models import create, import_timm
from search_space import Architecture, build_model, count_cost
from search_space.cost import count_module
from search_space.documents import parse_document
from search_space.architecture_file import dump_architecture, parse_architecture
from timm_copy import copy_in_order, randomise

# One for each thing that a block, a stem or a head can have.
SAMPLE = {
    "mobilenetv1_125": "",
    "mobilenetv1_100h": "1×1 convolution before the pool",
    "mobilenet_edgetpu_v2_xs": "groups, 1×1 blocks",
    "lcnet_035": "squeeze-excite in depthwise-separable blocks",
    "fbnetc_100": "an expansion to as many channels",
    "fbnetv3_b": "",
    "mobilenetv3_rw": "",
    "mixnet_s": "mixed kernels",
    "efficientnet_cc_b0_4e": "experts",
    "efficientnet_blur_b0": "anti-aliasing",
    "efficientnet_x_b3": "space to depth",
    "efficientnet_b1_pruned": "any number of channels",
    "efficientnet_b0_g16_evos": "groups",
    "tf_efficientnet_es": "SAME padding",
    "tf_efficientnet_cc_b0_8e": "",
    "tf_mixnet_s": "",
    "efficientnetv2_rw_t": "",
    "tf_mobilenetv3_small_minimal_100": "",
    "hardcorenas_a": "",
    "tinynet_e": "",
}
PIXELS = 65  # odd, so that paddings differ


@functools.cache
def names() -> list[str]:
    """Every network of timm's EfficientNet builder without MobileNetV4's block types."""
    modules = ("efficientnet", "mobilenetv3", "hardcorenas")
    found = [name for module in modules for name in timm.list_models(module=module)]
    return [name for name in found if not name.startswith("mobilenetv4")]


REFUSED = {
    "efficientnet_b0_gn": "GroupNormAct",
    "efficientnet_b0_g8_gn": "GroupNormAct",
    "efficientnet_b3_gn": "GroupNormAct",
    "efficientnet_b3_g8_gn": "GroupNormAct",
    "test_efficientnet_gn": "GroupNormAct",
    "test_efficientnet_evos": "EvoNorm2dS0",
    "test_efficientnet_ln": "LayerNormAct2d",
    "gc_efficientnetv2_rw_t": "GlobalContext",
}


def check_equal(name: str, pixels: int = PIXELS) -> Architecture:
    torch.manual_seed(0)
    architecture = import_timm(name).replace(resolution=pixels)
    theirs = timm.create_model(name, pretrained=False)
    randomise(theirs, pixels)
    ours = build_model(architecture).eval()
    copy_in_order(theirs, ours)
    x = torch.randn(2, 3, pixels, pixels)
    with torch.no_grad():
        expected, logits = theirs(x), ours(x)
    assert (expected[0] - expected[1]).abs().max() > 0.05 * expected.abs().max() > 0
    torch.testing.assert_close(logits, expected, atol=2e-4, rtol=2e-4)
    cost, counted = count_cost(architecture), count_module(theirs, (3, pixels, pixels))
    assert (cost.params, cost.macs, cost.activations) == (counted.params, counted.macs, counted.activations)
    assert parse_architecture(parse_document(dump_architecture(architecture))) == architecture
    return architecture


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_is_equal(name: str) -> None:
    check_equal(name)
