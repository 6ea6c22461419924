"""How results are printed: one JSON object on stdout, or tables for people."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table


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


def table(*columns: str) -> Table:
    """An empty table for people."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def print_rich(*things: Any) -> None:
    """Text and tables on stdout."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 200  # in a file or a pipe nothing need be folded
    for thing in things:
        console.print(thing)


@contextmanager
def show_warnings() -> Iterator[None]:
    """Warnings as lines on stderr, each at once."""

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        typer.echo(f"warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield
