"""Small tables in the forms that others publish, and what is made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import one_line

from latency.published import ImportResult, import_published
from search_space import InputError

# Small forms of each, at 32 px. The means are about 5e9 multiply-adds a second.

PROXYLESS = {
    "Conv-input:32x32x3-output:16x16x16": (0.022, 0.0004, 9),
    "expanded_conv-input:16x16x16-output:16x16x16-expand:1-kernel:3-stride:1-idskip:1": (0.021, 0.0001, 7),
    "expanded_conv-input:16x16x16-output:8x8x24-expand:3-kernel:3-stride:2-idskip:0": (0.06, 0.0001, 5),
    "expanded_conv-input:16x16x16-output:8x8x24-expand:6-kernel:5-stride:2-idskip:0": (0.13, 0.0001, 5),
    "expanded_conv-input:8x8x24-output:8x8x24-expand:3-kernel:3-stride:1-idskip:1": (0.052, 0.0001, 5),
    "expanded_conv-input:8x8x24-output:8x8x24-expand:6-kernel:5-stride:1-idskip:1": (0.13, 0.0001, 5),
    "Conv_1-input:8x8x24-output:8x8x64": (0.02, 0.0009, 8),
    "Logits-input:8x8x64-output:10": (0.0003, 0.0016, 6),
}
PROXYLESS_SPACE = """\
schema_version: 1
name: proxyless-like
resolution: 32
num_classes: 10
stem: {type: conv, out_channels: 16, stride: 2, kernel_size: 3, activation: relu6}
stages:
- {type: mbconv, out_channels: 16, stride: 1, kernel_size: 3, expand_ratio: 1}
- {type: mbconv, num_layers: {choice: [1, 2]}, out_channels: 24, stride: 2,
   kernel_size: {choice: [3, 5], per: block}, expand_ratio: {choice: [3, 6], per: block}}
head: {type: pooled, conv_channels: 64, activation: relu6}
"""
ONCE_FOR_ALL = {
    "Conv-input:32x32x3-output:16x16x24": (0.033, 0.0004, 9),
    "expanded_conv-input:16x16x24-output:16x16x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0": (0.04, 0.0001, 7),
    "expanded_conv-input:16x16x24-output:8x8x32-expand:72-kernel:5-stride:2-idskip:0-se:1-hs:1": (0.14, 0.0001, 5),
    "expanded_conv-input:16x16x24-output:8x8x32-expand:72-kernel:5-stride:2-idskip:0-se:0-hs:0": (0.13, 0.0001, 5),
    "expanded_conv-input:8x8x32-output:8x8x32-expand:88-kernel:3-stride:1-idskip:1-se:1-hs:0": (0.09, 0.0001, 5),
    "Conv_1-input:8x8x32-output:8x8x96": (0.04, 0.0009, 8),
    "AvgPool2D-input:8x8x96-output:1x1x96": (0.002, 0.0001, 8),
    "Conv_2-input:1x1x96-output:1x1x128": (0.0025, 0.0016, 4),
    "Logits-input:1x1x128-output:10": (0.0003, 0.0025, 6),
}
Rows = dict[str, tuple[float, float, int]]
BLOCK = "expanded_conv-input:8x8x24-output:8x8x24-expand:3-kernel:3-stride:1-idskip:1"


def keyed(rows: Rows) -> dict[str, dict[str, Any]]:
    return {key: {"count": count, "mean": mean, "var": var} for key, (mean, var, count) in rows.items()}


def single_path() -> dict[str, dict[str, float]]:
    """All 88 entries; layer 2 of the first group differs from 3 and 4."""
    layers = {str(layer): {str(choice): 3.0 + choice for choice in range(4)} for layer in range(22)}
    layers["2"] = {str(choice): 6.0 + choice for choice in range(4)}
    return layers


def imported(folder: Path, data: Any, file: str = "lut.yaml", **arguments: Any) -> ImportResult:
    """What is made of data, or of text, in a file of this name."""
    # JSON is YAML, too.
    (folder / file).write_text(data if isinstance(data, str) else json.dumps(data, indent=1))
    return import_published(folder / file, **{"device_name": "Phone", **arguments})


def refusal(folder: Path, data: Any, *named: str, file: str = "lut.yaml", **arguments: Any) -> str:
    """What is said against a file, in one line that names these things."""
    with pytest.raises(InputError) as caught:
        imported(folder, data, file, **arguments)
    assert one_line(caught.value, *named), str(caught.value)
    return str(caught.value)
