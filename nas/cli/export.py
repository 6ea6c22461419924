"""`nas export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import Arch, Interpolate, Json, Latency, table_predictor
from nas.cli.output import print_json, show_warnings


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(export)


def export(
    arch: Arch = None,
    to: Annotated[
        str,
        typer.Option(
            help="Formats, separated by commas: yaml, json, torch, timm, torchvision, onnx, exported-program, "
            "torchscript, litert, executorch."
        ),
    ] = "yaml",
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("exported"),
    weights: Annotated[
        Path | None, typer.Option(help="A safetensors file with the network's weights. [default: initial ones]")
    ] = None,
    latency: Latency = "",
    interpolate: Interpolate = False,
    json: Json = False,
) -> None:
    """Write a network for others to load, with a model card that says where it comes from."""
    from nas.architectures import resolve
    from nas.export.api import export_network

    architecture = resolve(arch)
    with show_warnings():
        exported = export_network(
            architecture, to.split(","), out, weights=weights, predictor=table_predictor(latency, interpolate)
        )
    if json:
        print_json({"name": architecture.name, "arch_id": architecture.arch_id, **exported.to_dict()})
        return
    for path in exported.files.values():
        typer.echo(path)
    beside = [path for path in (exported.architecture, exported.weights, exported.card) if path is not None]
    also = [path.name for path in beside if path not in exported.files.values()]
    typer.echo(f"beside: {', '.join(also)}", err=True)
    if exported.weights is not None and weights is None:
        typer.echo("note: without --weights they are initial ones, not trained", err=True)
