"""Tables of Single-Path NAS: `{layer: {choice: ms}}`, the layers "0" to "21", the choices "0" to "3".

Source: Stamoulis et al. 2019 (Single-Path NAS) and the authors' code, github.com/dstamoulis/single-path-nas. The
layers are those of its MnasNet-like network at 224 px; ReLU and no squeeze-excite, as in runtime-modeling/model_def.py.
The stem and the head are not among them, so that a table of this form alone predicts no whole network.
"""

from __future__ import annotations

import statistics
from collections import defaultdict

from latency.published.found import Entry, Found, time_ms
from latency.table import Times
from search_space import InputError
from search_space.blocks.mbconv import MBConv
from search_space.cost import part_cost
from search_space.documents import Document, dotted
from search_space.errors import one_line
from search_space.parts import PartShape

FORM = "single-path-nas"
_STEM_OUT = (112, 32)
"""Size in px and channels where layer "0" begins."""
_GROUPS = ((1, 1, 16), (4, 2, 24), (4, 2, 40), (4, 2, 80), (4, 1, 96), (4, 2, 192), (1, 1, 320))
"""(layers, stride of the first, output channels)."""
_CHOICES = {"0": (3, 3), "1": (3, 6), "2": (5, 3), "3": (5, 6)}
"""Choice -> (kernel size, expand ratio)."""
_ACTIVATION = "relu"


def is_single_path(document: Document) -> bool:
    """Whether all top-level keys are whole numbers."""
    data = document.data
    return isinstance(data, dict) and bool(data) and all(key.isascii() and key.isdecimal() for key in data)


def read_single_path(document: Document, ms_per_unit: float, activation: str) -> Found:
    """Read such a table. Raises `InputError` for what is no time.

    Layers of one shape stand at several positions: their time is the mean over the positions, `std_ms` the deviation
    between them, `count` their number. So is layer "0", whose four choices are one operation (it is not searched).
    """
    found = Found(FORM, device_name="Pixel 1")
    shapes = _shapes(activation or _ACTIVATION)
    samples: dict[PartShape, list[float]] = defaultdict(list)
    for layer in document.data:
        for choice, value in document.mapping((layer,)).items():
            path = (layer, choice)
            try:
                shape = _shape(shapes, layer, choice)
            except InputError as error:
                found.unmapped.append((one_line(dotted(path)), str(error)))
                continue
            with document.at(path):
                ms = time_ms(value, "a layer's time", ms_per_unit)
            found.entries.append(Entry(path, Times(1, mean_ms=ms), part_cost(shape).macs))
            samples[shape].append(ms)
    for shape, times in samples.items():
        spread = statistics.pstdev(times) if len(times) > 1 else None
        found.times[shape] = Times(len(times), mean_ms=statistics.fmean(times), std_ms=spread)
    return found


def _shape(shapes: dict[str, dict[str, PartShape]], layer: str, choice: str) -> PartShape:
    if layer not in shapes:
        raise InputError(f"the layers are 0 to {len(shapes) - 1}", layer)
    if choice not in _CHOICES:
        raise InputError(f"the choices are 0 to {len(_CHOICES) - 1}", choice)
    return shapes[layer][choice]


def _shapes(activation: str) -> dict[str, dict[str, PartShape]]:
    """Layer -> choice -> what was timed."""
    shapes: dict[str, dict[str, PartShape]] = {}
    size, channels = _STEM_OUT
    for layers, first_stride, out in _GROUPS:
        for position in range(layers):
            stride = 1 if position else first_stride
            row = {}
            for choice, (kernel_size, ratio) in (_CHOICES if shapes else dict.fromkeys(_CHOICES, (3, 1))).items():
                block = MBConv(
                    out_channels=out,
                    stride=stride,
                    kernel_size=kernel_size,
                    expand_ratio=ratio,
                    activation=activation,
                )
                row[choice] = PartShape(block, channels, size, out)
            shapes[str(len(shapes))] = row
            size, channels = -(-size // stride), out
    return shapes
