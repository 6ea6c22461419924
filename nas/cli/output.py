"""How results are printed: one JSON object on stdout, or tables for people."""

from __future__ import annotations

import json
from typing import Any

import typer


def print_json(data: Any) -> None:
    """One JSON object on stdout."""
    typer.echo(json.dumps(data, allow_nan=False))


def quantity(value: float) -> str:
    """`216.6 M`, `1.33e+25`: about four digits."""
    if value >= 1e15:
        return f"{value:.3g}"
    for scale, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " K")):
        if value >= scale:
            return f"{value / scale:.4g}{suffix}"
    return f"{value:.4g}"


def metrics_line(metrics: dict[str, float]) -> str:
    """`accuracy 0.934  params 4.2 M  macs 210 M`."""
    return "  ".join(f"{name} {quantity(value)}" for name, value in metrics.items())


def duration(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
