"""Part shapes as plain data (a table's signatures) and as words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from search_space import InputError
from search_space.component import component_types, from_dict
from search_space.feature_map_part import FeatureMapPart
from search_space.head import Head
from search_space.parts import Part, PartShape
from search_space.rules import Integer

_KINDS = ("stem", "block", "head")
_INPUT = {"in_channels": Integer(1, 1_000_000), "size_px": Integer(1, 1_000_000)}
_CLASSES = Integer(1, 1_000_000)


def to_plain(shape: PartShape) -> dict[str, Any]:
    """`{part: block, type: mbconv, …its fields, in_channels: 24, size_px: 56}`; heads also have `num_classes`."""
    plain = {"part": shape.part.kind, **shape.part.to_dict(), "in_channels": shape.in_channels, "size_px": shape.size}
    if isinstance(shape.part, Head):
        plain["num_classes"] = shape.out_channels
    return plain


def from_plain(plain: Mapping[str, Any]) -> PartShape:
    """Take back what `to_plain` gave; raises `InputError`."""
    given = dict(plain)
    kind = given.pop("part", None)
    if kind not in _KINDS:
        raise InputError("part must be stem, block or head", kind, field="part")
    for name in (*_INPUT, *(["num_classes"] if kind == "head" else [])):
        if name not in given:
            raise InputError(f"a signature needs {name}", remedy=f"add {name}")
    in_channels, size = (rule.check(name, given.pop(name)) for name, rule in _INPUT.items())
    classes = _CLASSES.check("num_classes", given.pop("num_classes")) if kind == "head" else 0
    if not isinstance(given.get("type"), str) or given["type"] not in component_types(kind):
        remedy = "install what defines it, or build the table again"
        raise InputError(f"the {kind} type must be a known one", given.get("type"), field="type", remedy=remedy)
    part = cast(Part, from_dict(kind, given))
    return PartShape(part, in_channels, size, part.out_channels if isinstance(part, FeatureMapPart) else classes)


def label(shape: PartShape) -> str:
    """For people: `mbconv 40, stride 2, kernel_size 5, se_ratio 0.25, … on 56² × 24`."""
    plain = shape.part.to_dict()
    name = plain.pop("type") if shape.part.kind == "block" else f"{shape.part.kind} {plain.pop('type')}"
    plain.pop("out_channels", None)
    words = [f"{field} {value}" for field, value in plain.items() if value not in (0, 1) or field == "expand_ratio"]
    return f"{name} {', '.join([str(shape.out_channels), *words])} on {shape.size}² × {shape.in_channels}"
