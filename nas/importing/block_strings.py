"""timm's block strings, in a text file or with the builder's keyword arguments in a YAML or JSON file.

A text file has a stage on each line, its block strings separated by spaces; `#` begins a comment. A document has them
as `arch_def`, a list of lists, beside what else timm's builder is told; see `_KEYS`. timm itself decodes the strings
and builds the network, so that they mean what they mean there.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nas.importing.timm_blocks import NoArchitecture
from nas.importing.timm_models import architecture_of, need_timm
from search_space import Architecture, InputError
from search_space.architecture import MAX_BLOCKS
from search_space.documents import Document, read_document, read_text
from search_space.errors import one_line
from search_space.rules import (
    CHANNELS,
    CHANNELS_OR_NONE,
    EXPAND_RATIO,
    KERNEL_SIZE,
    NAME,
    RATE,
    Flag,
    Integer,
    Number,
    OneOf,
    Rule,
)

ARCH_DEF = "arch_def"
_BUILDER = "timm.models._efficientnet_builder"
_MULTIPLIER = Number(0.05, 20)
_ACTIVATION = OneOf(("relu", "relu6", "hard_swish", "swish", "silu", "gelu", "mish"))
_GATE = OneOf(("sigmoid", "hard_sigmoid"))
_KEYS: dict[str, tuple[Rule, Any]] = {
    "model": (OneOf(("EfficientNet", "MobileNetV3")), "EfficientNet"),
    "name": (NAME, ""),
    "resolution": (Integer(1, 8_192), 224),
    "num_classes": (Integer(1, 1_000_000), 1000),
    "in_chans": (Integer(1, 1_024), 3),
    "stem_size": (CHANNELS, 32),
    "stem_kernel_size": (KERNEL_SIZE, 3),
    "fix_stem": (Flag(), False),
    "num_features": (CHANNELS_OR_NONE, 1280),
    "head_bias": (Flag(), True),
    "act_layer": (_ACTIVATION, "relu"),
    "pad_type": (OneOf(("", "same")), ""),
    "bn_eps": (Number(0, 1), 1e-5),
    "bn_momentum": (Number(0, 1), 0.1),
    "drop_rate": (RATE, 0.0),
    "drop_path_rate": (RATE, 0.0),
    "channel_multiplier": (_MULTIPLIER, 1.0),
    "channel_divisor": (Integer(1, 1_024), 8),
    "depth_multiplier": (_MULTIPLIER, 1.0),
    "depth_trunc": (OneOf(("ceil", "round")), "ceil"),
    "fix_first_last": (Flag(), False),
    "experts_multiplier": (Integer(1, 1_024), 1),
    "group_size": (CHANNELS_OR_NONE, 0),
    "se_from_exp": (Flag(), True),
    "se_gate": (_GATE, "sigmoid"),
    "se_relu": (Flag(), False),
    "se_round": (Flag(), False),
}
"""Key -> rule and default. As in timm, but for `se_gate`, `se_relu` (whether squeeze-excite has ReLU instead of the
block's activation) and `se_round` (whether its width is rounded to 8), which there are arguments of `se_layer`."""
_OF_ONE_MODEL = {"stem_kernel_size": "EfficientNet", "head_bias": "MobileNetV3", "se_from_exp": "MobileNetV3"}


def is_text(path: str) -> bool:
    """Whether a file is taken for block strings alone, by its suffix."""
    return Path(path).suffix.lower() not in (".yaml", ".yml", ".json")


def import_block_strings(path: str) -> Architecture:
    """The network of a file with block strings. Raises `InputError`, with the place."""
    document = _read_text_file(path) if is_text(path) else read_document(path)
    plain = document.mapping((), {ARCH_DEF: True, **dict.fromkeys(_KEYS, False)})
    options: dict[str, Any] = {}
    for name, (rule, default) in _KEYS.items():
        with document.at((name,)):
            options[name] = rule.check(name, plain[name]) if name in plain else default
            if name in plain and _OF_ONE_MODEL.get(name, options["model"]) != options["model"]:
                rule_text = f"{name} is an option of model {_OF_ONE_MODEL[name]}"
                raise InputError(rule_text, options["model"], remedy=f"leave out {name}, or change model")
    timm = need_timm(path)
    definition = _checked_strings(document, options["depth_multiplier"])
    model = _build(document, definition, options)
    name = options["name"] or Path(path).stem
    provenance = {"imported_from": f"block strings of {Path(path).name}", "timm": timm.__version__}
    with document.at((ARCH_DEF,)):
        try:
            return architecture_of(
                model,
                name,
                options["resolution"],
                drop_path_rate=options["drop_path_rate"],
                provenance=provenance,
            )
        except NoArchitecture as error:
            error.remedy = "leave it out"  # a file cannot be shown or compared as it is
            raise


def _read_text_file(path: str) -> Document:
    stages: list[list[str]] = []
    lines: dict[tuple[str | int, ...], int] = {}
    for number, line in enumerate(read_text(path, 1_000_000).splitlines(), 1):
        words = line.partition("#")[0].replace(",", " ").split()
        if words:
            lines[ARCH_DEF, len(stages)] = number
            stages.append(words)
    if not stages:
        remedy = "write a stage on each line, as `ir_r2_k3_s2_e6_c24`"
        raise InputError("the file has no block strings", where=path, remedy=remedy)
    return Document({ARCH_DEF: stages}, path, lines)


def _checked_strings(document: Document, depth_multiplier: float) -> list[list[str]]:
    """The strings, each of which timm can decode."""
    definition: list[list[str]] = []
    blocks = 0
    for index in range(len(document.sequence((ARCH_DEF,)))):
        stage = document.sequence((ARCH_DEF, index))
        for place, text in enumerate(stage):
            path = (ARCH_DEF, index, place)
            with document.at(path if path in document.lines else path[:2]):
                blocks += _repeats(text)
        definition.append(list(stage))
    with document.at((ARCH_DEF,)):
        if blocks * depth_multiplier > MAX_BLOCKS:
            raise InputError(f"a network may have at most {MAX_BLOCKS:,} blocks", blocks, remedy="change r")
    return definition


def _repeats(text: Any) -> int:
    """How many blocks a string stands for. Raises `InputError` if it is none, or would only exhaust the memory."""
    remedy = "write it as `ir_r2_k3_s2_e6_c24_se0.25`"
    if not isinstance(text, str):
        raise InputError("a block string must be text", text, remedy=remedy)
    try:
        block, repeats = need_timm(module=_BUILDER)._decode_block_str(text)
    except (AssertionError, KeyError, ValueError, IndexError) as error:
        reason = f"{type(error).__name__} {one_line(str(error))}".strip()
        raise InputError(f"timm cannot decode the block string ({reason})", text, remedy=remedy) from None
    Integer(1, MAX_BLOCKS).check("r of a block string", repeats)
    Integer(1, 2).check("s of a block string", block["stride"])
    CHANNELS.check("c of a block string", block["out_chs"])
    EXPAND_RATIO.check("e of a block string", block.get("exp_ratio", 1.0))
    return int(repeats)


def _build(document: Document, definition: list[list[str]], options: dict[str, Any]) -> nn.Module:
    builder = need_timm(module=_BUILDER)
    attention = partial(
        builder.SqueezeExcite,
        gate_layer=options["se_gate"],
        force_act_layer=nn.ReLU if options["se_relu"] else None,
        rd_round_fn=builder.round_channels if options["se_round"] else None,
    )
    taken = (
        "num_classes",
        "in_chans",
        "stem_size",
        "fix_stem",
        "num_features",
        "pad_type",
        "drop_rate",
        "drop_path_rate",
    )
    own = [name for name, model in _OF_ONE_MODEL.items() if model == options["model"]]
    cls = getattr(need_timm(module="timm.models"), options["model"])
    try:
        with torch.device("meta"):
            model: nn.Module = cls(
                block_args=builder.decode_arch_def(
                    definition,
                    options["depth_multiplier"],
                    options["depth_trunc"],
                    options["experts_multiplier"],
                    options["fix_first_last"],
                    options["group_size"] or None,
                ),
                act_layer=builder.get_act_layer(options["act_layer"]),
                norm_layer=partial(nn.BatchNorm2d, eps=options["bn_eps"], momentum=options["bn_momentum"]),
                se_layer=attention,
                round_chs_fn=partial(
                    builder.round_channels, multiplier=options["channel_multiplier"], divisor=options["channel_divisor"]
                ),
                **{name: options[name] for name in (*taken, *own)},
            )
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        with document.at((ARCH_DEF,)):
            reason = f"{type(error).__name__} {one_line(str(error))}".strip()
            raise InputError(f"timm cannot build the network: {reason}", remedy="mend the strings") from None
    return model
