"""`nas import`: networks from elsewhere as architecture files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.options import Json
from nas.cli.output import print_json

if TYPE_CHECKING:
    from search_space import Architecture


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(name="import")(import_network)


def import_network(
    source: Annotated[
        str, typer.Argument(metavar="timm:NAME|FILE", help="A network of timm's; an architecture file; block strings.")
    ],
    out: Annotated[Path | None, typer.Option(help="The architecture file. [default: NAME.yaml]")] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Before the classifier: timm's networks come without.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Make an architecture file of a network from elsewhere; what cannot be expressed is refused by name."""
    from nas.importing import import_architecture
    from search_space import InputError, count_cost, save_architecture
    from search_space.component import from_dict

    architecture = import_architecture(source)
    if dropout is not None:
        head = from_dict("head", {**architecture.head.to_dict(), "dropout": dropout})
        architecture = architecture.replace(head=head)
    cost = count_cost(architecture)
    target = out or Path(f"{_file_name(architecture.name)}.yaml")
    if target.is_dir():
        target = target / f"{_file_name(architecture.name)}.yaml"
    if target.exists():
        raise InputError("there is a file already", str(target), remedy="use another --out, or remove it")
    save_architecture(architecture, target)
    same = _same_reference(architecture)
    if json:
        found = {"file": str(target), "name": architecture.name, "arch_id": architecture.arch_id}
        print_json({**found, "resolution": architecture.resolution, **cost.metrics(), "same_as": same})
        return
    typer.echo(f"file           {target}: {architecture.name} ({architecture.arch_id}), {architecture.resolution} px")
    typer.echo(f"params         {cost.params:,}")
    typer.echo(f"macs           {cost.macs:,}")
    if same:
        typer.echo(f"               the same network as the built-in {same}")
    typer.echo("\nwhat to type next")
    typer.echo(f"  nas show {target}")
    typer.echo(f"  nas compare {target} mobilenetv3-large --measure")


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


def _same_reference(architecture: Architecture) -> str:
    """The built-in reference that is this network; empty if there is none."""
    from search_space import load_architecture, references

    return next((name for name in references() if load_architecture(name) == architecture), "")
