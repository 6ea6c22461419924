"""From timm's networks to architectures."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from nas.importing.timm_blocks import NoArchitecture, activation_name, activation_of, read_block, read_conv
from search_space import Architecture, Block, InputError, Stage
from search_space.blocks.conv import Conv
from search_space.errors import did_you_mean, one_line
from search_space.head import PooledHead
from search_space.stem import ConvStem

_BUILDERS = ("EfficientNet", "MobileNetV3")
"""The classes that timm's EfficientNet builder makes networks of."""


def architecture_of(
    model: nn.Module, name: str, resolution: int, *, drop_path_rate: float = 0.0, provenance: dict[str, Any]
) -> Architecture:
    """The architecture of a network made by timm's EfficientNet builder, from its modules.

    Raises `NoArchitecture` with the name of the first thing that no architecture has.
    """
    network: Any = model
    if type(model).__name__ not in _BUILDERS:
        raise NoArchitecture(f"timm's {type(model).__name__}, which its EfficientNet builder does not make")
    stem_conv = read_conv(network.conv_stem)
    channels = network.conv_stem.out_channels
    stem = ConvStem(out_channels=channels, activation=activation_of(network.bn1), **stem_conv)
    blocks: list[Block] = []
    for module in (block for stage in network.blocks for block in stage):
        blocks.append(read_block(module, channels))
        channels = blocks[-1].out_channels
    head = _efficient_head(network) if type(model).__name__ == "MobileNetV3" else _head(network)
    if not drop_path_rate:  # with it, each block's rate depends on how many there are
        blocks, head = _last_conv_into_head(blocks, head)
    eps, momentum = _norm_constants(model)
    return Architecture(
        name=name,
        stem=stem,
        stages=tuple(Stage((block,)) for block in blocks),
        head=head,
        resolution=resolution,
        num_classes=network.num_classes,
        input_channels=network.conv_stem.in_channels,
        norm_eps=eps,
        norm_momentum=momentum,
        drop_path_rate=drop_path_rate,
        provenance=provenance,
    )


def create(name: str) -> nn.Module:
    """A network of timm's by name, without memory for its weights. Raises `InputError` if there is none."""
    timm = need_timm(f"timm:{name}")
    known_name(timm, name)
    try:
        with torch.device("meta"):
            model: nn.Module = timm.create_model(name, pretrained=False)
    except RuntimeError as error:  # an unknown tag behind the name, an optional package that is not there
        rule = f"timm cannot build the network: {one_line(str(error))}"
        raise InputError(rule, name, where=f"timm:{name}", remedy="check the name") from None
    return model


def import_timm(name: str) -> Architecture:
    """`timm:NAME` as an architecture, at the resolution that timm states for it."""
    model = create(name)
    provenance = {"imported_from": f"timm:{name}", "timm": need_timm().__version__}
    return architecture_of(model, name, stated_resolution(model), provenance=provenance)


def stated_resolution(model: Any) -> int:
    """The resolution at which timm's weights for this network were trained, in pixels."""
    return int(model.pretrained_cfg["input_size"][-1])


def need_timm(where: str = "", module: str = "timm") -> Any:
    """The package, or one of its modules; raises `InputError` if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError("timm is not installed", where=where, remedy="pip install 'nas[timm]'") from None


def known_name(timm: Any, name: str) -> None:
    """Raise `InputError` for a name that timm does not have, with one that is near."""
    base = name.split(".")[0]
    if not timm.is_model(base):
        near = did_you_mean(base, timm.list_models())
        remedy = near if near.startswith("did") else "timm.list_models() lists them"
        raise InputError("timm has no network of this name", name, where=f"timm:{name}", remedy=remedy)


def _head(network: Any) -> PooledHead:
    _average_pool(network)
    if isinstance(network.conv_head, nn.Identity):
        return PooledHead(dropout=network.drop_rate)
    if read_conv(network.conv_head)["kernel_size"] != 1:
        raise NoArchitecture(f"the head {network.conv_head}")
    act = activation_of(network.bn2)
    return PooledHead(conv_channels=network.conv_head.out_channels, activation=act, dropout=network.drop_rate)


def _efficient_head(network: Any) -> PooledHead:
    """Of MobileNetV3: a linear layer after the pool."""
    _average_pool(network)
    if not isinstance(network.norm_head, nn.Identity):
        raise NoArchitecture("a norm behind the pool")
    hidden = network.conv_head
    has_bias = hidden.bias is not None
    if read_conv(hidden, bias=has_bias)["kernel_size"] != 1:
        raise NoArchitecture(f"the head {hidden}")
    return PooledHead(
        hidden_channels=hidden.out_channels,
        hidden_bias=has_bias,
        activation=activation_name(network.act2),
        dropout=network.drop_rate,
    )


def _average_pool(network: Any) -> None:
    if network.global_pool.pool_type != "avg":
        raise NoArchitecture(f"the global pooling {network.global_pool.pool_type}")
    if not isinstance(network.classifier, nn.Linear):
        raise NoArchitecture("a network without classifier")


def _last_conv_into_head(blocks: list[Block], head: PooledHead) -> tuple[list[Block], PooledHead]:
    """The 1×1 convolution at the end of MobileNetV3 belongs to the head (Howard et al. 2019, figure 5)."""
    last = blocks[-1]
    same = Conv(out_channels=last.out_channels, kernel_size=1, activation=head.activation)
    if last != same or head.conv_channels or len(blocks) == 1:
        return blocks, head
    return blocks[:-1], PooledHead(**{**_fields(head), "conv_channels": last.out_channels})


def _fields(head: PooledHead) -> dict[str, Any]:
    return {name: value for name, value in head.to_dict().items() if name != "type"}


def _norm_constants(model: nn.Module) -> tuple[float, float]:
    """The eps and momentum that all batch norms have."""
    found = {(norm.eps, norm.momentum) for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)}
    if len(found) != 1:
        raise NoArchitecture(f"batch norms of different constants, {sorted(found)}")
    ((eps, momentum),) = found
    if momentum is None:
        raise NoArchitecture("batch norms with a cumulative average")
    return eps, momentum
