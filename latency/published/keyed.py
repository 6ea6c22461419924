"""Tables whose keys describe the layers: those of ProxylessNAS and of once-for-all.

    expanded_conv-input:112x112x16-output:56x56x24-expand:3-kernel:3-stride:2-idskip:0: {mean: 5.6, var: 0.09, count: 9}

Sizes are height x width x channels, in px. `var` is the variance, in the unit of the times squared; it and `count` may
be absent, other fields are not read. `idskip` 1 is a shortcut. There are two forms:

    proxylessnas    `expand` is the ratio; ReLU6 throughout. `Conv` is the stem (3×3, stride 2). `Conv_1` (1×1) and
                    `Logits` (pool and linear) are the head.
    once-for-all    Keys of blocks end in `-se:0|1-hs:0|1`, and `expand` is the number of expanded channels, no ratio.
                    ReLU, or with hs:1 h-swish; se:1 is MobileNetV3's squeeze-excite, ratio 0.25. The stem and the head
                    have h-swish. The head is `Conv_1`, `AvgPool2D` (may be absent), `Conv_2` (1×1 on 1×1 px) and
                    `Logits`.

The forms differ in what `expand` means, but not in how it is written: `se:` and `hs:` anywhere in the file decide.

Source: Cai et al. 2019 (ProxylessNAS) and 2020 (Once-for-All); the grammar of the keys and the activations as in
github.com/mit-han-lab/once-for-all, ofa/nas/efficiency_predictor and ofa/imagenet_classification/networks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from latency.published.found import Entry, Found, time_ms
from latency.table import Times
from search_space import InputError
from search_space.blocks.mbconv import MBConv
from search_space.cost import part_cost
from search_space.documents import Document
from search_space.errors import listed, one_line
from search_space.head import PooledHead
from search_space.layers import round_channels
from search_space.parts import PartShape
from search_space.rules import Integer, Number
from search_space.stem import ConvStem

PROXYLESS, ONCE_FOR_ALL = "proxylessnas", "once-for-all"
_HEAD = {PROXYLESS: ("Conv_1", "Logits"), ONCE_FOR_ALL: ("Conv_1", "AvgPool2D", "Conv_2", "Logits")}
_ENDS = ("input", "output")
_BLOCK = {
    PROXYLESS: (*_ENDS, "expand", "kernel", "stride", "idskip"),
    ONCE_FOR_ALL: (*_ENDS, "expand", "kernel", "stride", "idskip", "se", "hs"),
}
_STEM_KERNEL, _STEM_STRIDE = 3, 2
_SE_RATIO = 0.25
_LARGEST = 8_192
"""Of sizes and channels. To count multiply–adds a part is built, which a slip in a key must not let eat the memory."""
_COUNT = Integer(1, 2**53)
_VARIANCE = Number(0, 1e24)


class _Map(NamedTuple):
    """A feature map."""

    size: int
    channels: int


class _Layer(NamedTuple):
    """A key, taken apart. The output of Logits has size 1."""

    key: str
    type: str
    input: _Map
    output: _Map
    numbers: dict[str, int]
    """The fields that only blocks have."""


def is_keyed(document: Document) -> bool:
    """Whether any top-level key describes a layer."""
    return isinstance(document.data, dict) and any(re.match(r"\w+-input:", key) for key in document.data)


def read_keyed(document: Document, ms_per_unit: float, activation: str) -> Found:
    """Read a table of either form; `activation` instead of ReLU6, for proxylessnas only.

    Raises `InputError` for what is no time. The time of a head is the sum of its entries' means; variances are summed.
    """
    form = ONCE_FOR_ALL if any(re.search(r"-(se|hs):", key) for key in document.data) else PROXYLESS
    if activation and form == ONCE_FOR_ALL:
        rule = "a once-for-all table says itself which activation each block has"
        raise InputError(rule, activation, where="--activation", remedy="leave it out")
    activation = activation or ("hard_swish" if form == ONCE_FOR_ALL else "relu6")
    found = Found(form)
    reasons: dict[str, str] = {}
    of_head: list[_Layer] = []
    entries: dict[str, Entry] = {}
    for key in document.data:
        try:
            layer = _parse(key, form)
            shape = None if layer.type in _HEAD[form] else _stem_or_block(layer, form, activation)
        except InputError as error:
            reasons[key] = str(error)
            continue
        if shape is None:
            of_head.append(layer)
        else:
            entries[key] = Entry((key,), _times(document, key, ms_per_unit), part_cost(shape).macs)
            found.times[shape] = entries[key].times
    for shape, layers in _heads(of_head, form, activation):
        for layer in layers:
            if layer.key not in entries:  # one classifier may serve several heads
                entries[layer.key] = Entry((layer.key,), _times(document, layer.key, ms_per_unit), _head_macs(layer))
        found.times[shape] = _sum([entries[layer.key].times for layer in layers])
    for layer in of_head:
        if layer.key not in entries:
            chain = " → ".join(_HEAD[form])
            reasons[layer.key] = f"it belongs to no whole head ({chain}, each with the output of the one before)"
    found.entries = list(entries.values())
    found.unmapped = [(one_line(key), reasons[key]) for key in document.data if key in reasons]
    return found


def _parse(key: str, form: str) -> _Layer:
    """Take a key apart; raises `InputError` with the reason if it is not one of the form."""
    kind, *fields = key.split("-")
    known = ("Conv", "expanded_conv", *_HEAD[form])
    if kind not in known:
        raise InputError(f"the layer type must be {listed(known)}", kind)
    names = _BLOCK[form] if kind == "expanded_conv" else _ENDS
    texts = dict(field.partition(":")[::2] for field in fields)
    if tuple(texts) != names or len(fields) != len(names):
        raise InputError(f"{kind} must have the fields {', '.join(names)}, in this order", key)
    output = texts["output"] if kind != "Logits" else f"1x1x{texts['output']}"
    numbers = {name: _number(texts[name]) for name in names[2:]}
    layer = _Layer(key, kind, _map(texts["input"]), _map(output), numbers)
    if kind in ("Conv_1", "Conv_2") and layer.input.size != layer.output.size:
        raise InputError(f"{kind} is a 1×1 convolution, which keeps {layer.input.size} px", layer.output.size)
    return layer


def _number(text: str) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]{0,5}", text):
        raise InputError("a field must hold a whole number", text)
    return int(text)


def _map(text: str) -> _Map:
    numbers = [_number(number) for number in text.split("x")]
    if len(numbers) != 3 or not all(1 <= number <= _LARGEST for number in numbers):
        raise InputError(f"a feature map must be HEIGHTxWIDTHxCHANNELS, each 1 to {_LARGEST}", text)
    height, width, channels = numbers
    if height != width:
        raise InputError("a feature map must be square", text)
    return _Map(height, channels)


def _stem_or_block(layer: _Layer, form: str, activation: str) -> PartShape:
    """Our part; raises `InputError` with the reason if there is none."""
    (size, channels), out = layer.input, layer.output
    part: ConvStem | MBConv
    if layer.type == "Conv":
        part = ConvStem(out_channels=out.channels, stride=_STEM_STRIDE, kernel_size=_STEM_KERNEL, activation=activation)
    else:
        part = _block(layer, form, activation)
    if part.out_size(size) != out.size:
        raise InputError(f"with stride {part.stride}, {size} px become {part.out_size(size)} px", out.size)
    return PartShape(part, channels, size, out.channels)


def _block(layer: _Layer, form: str, activation: str) -> MBConv:
    channels, out = layer.input.channels, layer.output.channels
    numbers = layer.numbers
    for flag in ("idskip", "se", "hs"):
        if numbers.get(flag, 0) > 1:
            raise InputError(f"{flag} must be 0 or 1", numbers[flag])
    shortcut = numbers["stride"] == 1 and channels == out
    if numbers["idskip"] != shortcut:
        has = "has" if shortcut else "has no"
        raise InputError(f"a block from {channels} to {out} channels, stride {numbers['stride']}, {has} shortcut here")
    ratio: float = numbers["expand"]
    if form == ONCE_FOR_ALL:
        ratio = _ratio(channels, numbers["expand"])
        activation = "hard_swish" if numbers["hs"] else "relu"
    elif ratio != 1 and round_channels(channels * ratio) != channels * ratio:
        raise InputError("expanded channels are rounded to 8 here", channels * ratio)
    if channels * ratio > _LARGEST:
        raise InputError(f"there may be at most {_LARGEST} expanded channels", channels * ratio)
    return MBConv(
        out_channels=out,
        stride=numbers["stride"],
        kernel_size=numbers["kernel"],
        expand_ratio=ratio,
        se_ratio=_SE_RATIO * numbers.get("se", 0),
        se_variant="mobilenetv3",
        activation=activation,
    )


def _ratio(channels: int, mid: int) -> float:
    """The ratio that expands `channels` to `mid`: a whole one where there is, as spaces mostly have those."""
    whole = round(mid / channels)
    # At ratio 1 there is no expansion, hence no rounding.
    if mid == channels or (whole > 1 and round_channels(channels * whole) == mid):
        return whole
    if round_channels(channels * (mid / channels)) != mid:
        raise InputError("expanded channels are rounded to 8 here", mid)
    return mid / channels


def _heads(layers: list[_Layer], form: str, activation: str) -> Iterator[tuple[PartShape, list[_Layer]]]:
    """The heads that the layers make up."""
    by_type = {kind: [layer for layer in layers if layer.type == kind] for kind in _HEAD[form]}
    for conv in by_type["Conv_1"]:
        (size, channels), wide = conv.input, conv.output.channels
        for chain in _tails(by_type, conv, form):
            hidden = chain[-1].input.channels if form == ONCE_FOR_ALL else 0
            head = PooledHead(conv_channels=wide, hidden_channels=hidden, activation=activation)
            yield PartShape(head, channels, size, chain[-1].output.channels), [conv, *chain]


def _tails(by_type: dict[str, list[_Layer]], conv: _Layer, form: str) -> Iterator[list[_Layer]]:
    """What may follow Conv_1."""
    if form == PROXYLESS:
        yield from ([logits] for logits in by_type["Logits"] if logits.input == conv.output)
        return
    pooled = _Map(1, conv.output.channels)
    pool = [pool for pool in by_type["AvgPool2D"] if pool.input == conv.output and pool.output == pooled]
    for mix in by_type["Conv_2"]:
        for logits in by_type["Logits"]:
            if mix.input == pooled and logits.input == mix.output:
                yield [*pool, mix, logits]


def _head_macs(layer: _Layer) -> int:
    """Multiply–adds of an entry of a head. The linear layer stands behind the pool, and the pool has none."""
    if layer.type == "AvgPool2D":
        return 0
    return layer.output.size**2 * layer.input.channels * layer.output.channels


def _times(document: Document, key: str, ms_per_unit: float) -> Times:
    row = document.mapping((key,))
    with document.at((key,)):
        if "mean" not in row:
            raise InputError("an entry needs its mean time", remedy="add mean")
        mean = time_ms(row["mean"], "mean", ms_per_unit)
        count = _COUNT.check("count", row.get("count", 1))
        variance = _VARIANCE.check("var", row["var"]) if "var" in row else None
        spread = None if variance is None else math.sqrt(variance) * ms_per_unit
        return Times(count, mean_ms=mean, std_ms=spread)


def _sum(parts: list[Times]) -> Times:
    """The time of parts one after the other, taken as independent; `count` is the least of theirs."""
    known = [part.std_ms for part in parts if part.std_ms is not None]
    spread = math.hypot(*known) if len(known) == len(parts) else None
    mean = sum(part.mean_ms or 0.0 for part in parts)
    return Times(min(part.count for part in parts), mean_ms=mean, std_ms=spread)
