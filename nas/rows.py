"""A network as the papers print it: a row for each run of equal blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_space import Architecture
from search_space.architecture import stage_rows
from search_space.cost import part_cost
from search_space.parts import parts

_COLUMNS = ("type", "num_layers", "out_channels", "stride")


@dataclass(frozen=True)
class NetworkRow:
    """Equal parts in a row. `size` in pixels and `in_channels` are of the first one's input; costs are of all."""

    size: int
    in_channels: int
    type: str
    settings: Mapping[str, Any]
    """Fields without a column of their own; those that are 0 are left out."""
    out_channels: int
    num_layers: int
    stride: int | None
    """Of the first one; None for a head."""
    params: int
    macs: int


def network_rows(architecture: Architecture) -> list[NetworkRow]:
    """Stem, blocks and head, with their counted cost."""
    shapes = parts(architecture)
    costs = [part_cost(shape) for shape in shapes]
    plain = [{"num_layers": 1, **architecture.stem.to_dict()}]
    plain += [row for stage in architecture.stages for row in stage_rows(stage)]
    plain += [{"num_layers": 1, **architecture.head.to_dict()}]
    rows, start = [], 0
    for row in plain:
        count, shape = row["num_layers"], shapes[start]
        own = costs[start : start + count]
        rows.append(
            NetworkRow(
                shape.size,
                shape.in_channels,
                row["type"],
                {name: value for name, value in row.items() if name not in _COLUMNS and (value != 0 or value is False)},
                row.get("out_channels", architecture.num_classes),
                count,
                row.get("stride"),
                sum(cost.params for cost in own),
                sum(cost.macs for cost in own),
            )
        )
        start += count
    return rows


def text_table(rows: Sequence[NetworkRow]) -> str:
    """The rows as plain text: a column for each field that stem or blocks have, what the head has in words."""
    fields = list(dict.fromkeys(name for row in rows[:-1] for name in row.settings))
    lines = [("input", "operator", *fields, "out", "n", "s", "params", "macs")]
    for row in rows[:-1]:
        settings = (str(row.settings.get(name, "")) for name in fields)
        numbers = (str(row.out_channels), str(row.num_layers), str(row.stride), f"{row.params:,}", f"{row.macs:,}")
        lines.append((f"{row.size}² × {row.in_channels}", row.type, *settings, *numbers))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    head = rows[-1]
    words = (
        f"{head.size}² × {head.in_channels}",
        head.type,
        *(f"{name} {value}" for name, value in head.settings.items()),
    )
    text.append("  ".join((*words, f"out {head.out_channels}", f"params {head.params:,}", f"macs {head.macs:,}")))
    return "\n".join(text)
