"""What `nas show --guidelines` adds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nas.cli.output import print_rich, quantity, table

if TYPE_CHECKING:
    from search_space import Architecture
    from search_space.guidelines import Guidelines
    from search_space.parts import PartShape


def guidelines_dict(architecture: Architecture) -> dict[str, Any]:
    """The figures of each part, in order, and of the whole network, as plain data."""
    from latency.signature import to_plain

    rows = _by_part(architecture)
    parts = [
        {**to_plain(shape), "figures": _plain(figures), "suggestions": figures.suggestions} for shape, figures in rows
    ]
    return {"parts": parts, "network": _network(rows)}


def print_guidelines(architecture: Architecture) -> None:
    """A row for each run of equal parts, then what the guidelines suggest for them."""
    rows = _by_part(architecture)
    listing = table(
        "part", "input", "n", "accessed", "macs/byte", "G1 widths", "G2 groups", "G3 in chain", "G4 element-wise"
    )
    suggestions: dict[str, list[str]] = {}
    for shape, figures, count in _runs(rows):
        name = shape.part.type if shape.part.kind == "block" else f"{shape.part.kind} {shape.part.type}"
        place = f"{shape.size}² × {shape.in_channels}"
        listing.add_row(
            name,
            place,
            str(count),
            f"{quantity(count * figures.memory_access_bytes)}B",
            f"{figures.macs / figures.memory_access_bytes:.2f}",
            f"{figures.width_excess:.2f}  {figures.widths[0]}–{figures.widths[1]}" if any(figures.widths) else "",
            f"{figures.group_excess:.2f}  {figures.groups}" if figures.groups > 1 else "",
            f"{figures.longest_chain} of {figures.operations}",
            f"{figures.element_wise_share:.0%} + {figures.depthwise_share:.0%} depthwise",
        )
        for suggestion in figures.suggestions:
            suggestions.setdefault(suggestion, []).append(f"{name} on {place}")
    whole = _network(rows)
    print_rich("\nShuffleNetV2's guidelines:", listing)
    print_rich(
        f"memory access {quantity(whole['memory_access_bytes'])}B (float32, one image, weights included), of it "
        f"{whole['element_wise_share']:.0%} element-wise and {whole['depthwise_share']:.0%} depthwise"
    )
    for suggestion, places in suggestions.items():
        print_rich(f"{suggestion}  ({'; '.join(places)})")


def _by_part(architecture: Architecture) -> list[tuple[PartShape, Guidelines]]:
    import functools

    from search_space.guidelines import part_guidelines
    from search_space.parts import parts

    figures = functools.cache(part_guidelines)
    return [(shape, figures(shape)) for shape in parts(architecture)]


def _runs(rows: Sequence[tuple[PartShape, Guidelines]]) -> list[tuple[PartShape, Guidelines, int]]:
    """Equal neighbours as one, with their number."""
    import itertools

    return [(*row, sum(1 for _ in equal)) for row, equal in itertools.groupby(rows)]


def _network(rows: Sequence[tuple[PartShape, Guidelines]]) -> dict[str, float]:
    """The figures that add up over parts."""
    accessed = sum(figures.memory_access_bytes for _, figures in rows)

    def share(name: str) -> float:
        return float(sum(getattr(figures, name) * figures.memory_access_bytes for _, figures in rows) / accessed)

    return {
        "macs": sum(figures.macs for _, figures in rows),
        "memory_access_bytes": accessed,
        "element_wise_share": share("element_wise_share"),
        "depthwise_share": share("depthwise_share"),
    }


def _plain(figures: Guidelines) -> dict[str, Any]:
    import dataclasses

    return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(figures).items()}
