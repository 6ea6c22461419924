"""Block types that nobody has heard of are exported like any other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tiny import tiny
from torch import Tensor, nn

from nas.export import EXPORTERS
from nas.export.api import export_network
from nas.export.names import class_name
from nas.export.torch import load_source
from nas.export.weights import write_weights
from search_space import Block, InputError, Stage, build_model, component
from search_space.component import register
from search_space.layers import BuildContext
from search_space.rules import Integer


def mixed(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class Norm(nn.LayerNorm):
    """Over the channels of [N, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Odd(nn.Module):
    """Everything that a module can hold."""

    scale = 0.5

    def __init__(self, channels: int, groups: int, deep: bool) -> None:
        super().__init__()
        self.groups = groups
        self.never_read = object()
        self.gain = nn.Parameter(1e-2 * torch.ones(channels, 1, 1))
        self.register_buffer("shift", torch.arange(channels).float()[:, None, None], persistent=False)
        self.convs = nn.ModuleList([nn.Conv2d(channels, channels, 1) for _ in range(2)])
        self.norm = Norm(channels)
        self.deep = nn.Conv2d(channels, channels, 3, padding=1, groups=groups) if deep else None

    @property
    def factor(self) -> float:
        return self.scale / 2

    def forward(self, x: Tensor) -> Tensor:
        y = self._mixed(self.norm(x))
        for conv in self.convs:
            y = F.gelu(conv(y)) * self.factor
        if self.deep is not None:
            y = self.deep(y)
        return x + self.gain * (y + self.shift / 100)

    def _mixed(self, x: Tensor) -> Tensor:
        return mixed(x, self.groups)


@dataclass(frozen=True, kw_only=True)
class OddBlock(Block):
    """Modules of its own, held in a Sequential with names."""

    groups: Annotated[int, Integer(1, 64)] = 2

    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        layers = nn.Sequential()
        layers.add_module("widen", nn.Conv2d(in_channels, self.out_channels, 3, self.stride, 1))
        layers.add_module("odd", Odd(self.out_channels, self.groups, self.groups > 2))
        layers.add_module("act", nn.PReLU())
        return layers


class Sourceless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * UNKNOWN.factor


class Unknown:
    factor = 2


UNKNOWN = Unknown()


@dataclass(frozen=True, kw_only=True)
class SourcelessBlock(Block):
    def build(self, in_channels: int, context: BuildContext) -> nn.Module:
        return nn.Sequential(nn.Conv2d(in_channels, self.out_channels, 1, self.stride), Sourceless())


@pytest.fixture
def new_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(component, "_registry", dict(component._registry))
    register("odd")(OddBlock)
    register("sourceless")(SourcelessBlock)


@pytest.mark.usefixtures("new_types")
def test_a_new_block_type_needs_no_change(tmp_path: Path) -> None:
    blocks = (
        OddBlock(out_channels=16, stride=2),
        OddBlock(out_channels=16, groups=4),
        OddBlock(out_channels=16, groups=8),
    )
    architecture = tiny(stages=(Stage(blocks),))
    torch.manual_seed(2)
    model = build_model(architecture).eval()
    for name, value in model.named_parameters():
        if "gain" in name:
            nn.init.normal_(value)
    write_weights(tmp_path / "w.safetensors", model.state_dict(), "")
    exported = export_network(
        architecture, ["torch", "torchscript", "onnx"], tmp_path / "out", weights=tmp_path / "w.safetensors"
    )
    source = exported.files["torch"].read_text()
    assert source.count("class Odd(") == 1
    assert "def mixed(" in source
    assert "never_read" not in source
    again = load_source(source, class_name(architecture)).eval()
    again.load_state_dict(load_file(tmp_path / "w.safetensors"))
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again(images), model(images))
    for library in ("timm", "torchvision"):
        with pytest.raises(InputError, match=r"cannot express type.*odd"):
            EXPORTERS[library].check(architecture)


@pytest.mark.usefixtures("new_types")
def test_what_cannot_be_written_as_source_is_refused_by_name(tmp_path: Path) -> None:
    architecture = tiny(stages=(Stage((SourcelessBlock(out_channels=8),)),))
    with pytest.raises(InputError, match=r"Sourceless cannot be written as source: it uses UNKNOWN") as caught:
        export_network(architecture, ["torch"], tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()
