"""`nas export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import Arch


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(export)


def export(
    arch: Arch = None,
    to: Annotated[str, typer.Option(help="Formats, separated by commas: yaml.")] = "yaml",
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("exported"),
) -> None:
    """Write a network for others to load."""
    from nas.architectures import resolve
    from nas.export import exporter

    chosen = [exporter(name) for name in to.split(",")]
    architecture = resolve(arch)
    for write in chosen:
        typer.echo(write(architecture, out))
