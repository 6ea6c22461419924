"""`nas spaces` and `nas show`: what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.latency import prediction_dict, print_prediction
from nas.cli.options import Arch, Interpolate, Json, Latency, table_predictor
from nas.cli.output import print_json, print_rich, quantity, table

if TYPE_CHECKING:
    from rich.table import Table

    from latency import Predictor
    from search_space import Architecture, SearchSpace


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(spaces)
    app.command()(show)


def spaces(
    space: Annotated[str | None, typer.Argument(metavar="[NAME|FILE]", help="A preset or a space file.")] = None,
    latency: Latency = "",
    interpolate: Interpolate = False,
    json: Json = False,
) -> None:
    """List the search spaces, or describe one: its choices, exact size, ranges of params, macs and memory."""
    from search_space import InputError, load_space, presets

    if space is not None:
        _describe_space(load_space(space), table_predictor(latency, interpolate), json)
        return
    if latency or interpolate:
        raise InputError("--latency and --interpolate go with one space", remedy="name a space")
    loaded = [load_space(name) for name in presets()]
    if json:
        rows = [
            {"name": one.name, "choices": len(one.genes), "size": one.size, "description": one.description}
            for one in loaded
        ]
        print_json({"spaces": rows})
        return
    listing = table("space", "choices", "networks", "description")
    for one in loaded:
        listing.add_row(one.name, str(len(one.genes)), f"{one.size:.3g}", one.description)
    print_rich(listing)


def _describe_space(space: SearchSpace, predictor: Predictor | None, json: bool) -> None:
    from nas.known import Known
    from search_space.space_file import describe_choices

    known = Known(predictor)
    ranges = {metric: known.reach(space, metric) for metric in known.names}
    rows = describe_choices(space)
    if json:
        print_json(
            {
                "name": space.name,
                "description": space.description,
                "choices": len(space.genes),
                "genotypes": space.num_genotypes,
                "size": space.size,
                "ranges": {metric: {"min": low, "max": high} for metric, (low, high) in ranges.items()},
                "parts": rows,
            }
        )
        return
    listing = table("part", "field", "options")
    for row in rows:
        part = row["part"]
        for field, value in row.items():
            if field == "part":
                continue
            if isinstance(value, dict):
                options = ", ".join(map(str, value["choice"])) + ("  (each block)" if "per" in value else "")
                listing.add_row(part, field, options)
            else:
                listing.add_row(part, field, str(value), style="dim")
            part = ""
    print_rich(f"{space.name}: {space.description}", listing)
    print_rich(f"{len(space.genes)} choices; {space.size:,} distinct networks")
    for metric, (low, high) in ranges.items():
        print_rich(f"{metric:>12}  {quantity(low)} … {quantity(high)}")


def show(
    arch: Arch = None,
    latency: Latency = "",
    interpolate: Interpolate = False,
    json: Json = False,
) -> None:
    """Show a network as the papers do, row by row, with its counted cost."""
    from nas.architectures import resolve
    from search_space import count_cost

    architecture = resolve(arch)
    cost = count_cost(architecture)
    predictor = table_predictor(latency, interpolate)
    prediction = predictor.predict(architecture) if predictor is not None else None
    if json:
        shown = {**_described(architecture), **cost.metrics(), "architecture": architecture.to_dict()}
        if predictor is not None and prediction is not None:
            shown["latency_ms"] = prediction.latency_ms
            shown["latency"] = {
                "conditions": predictor.table.conditions.to_dict(),
                **prediction_dict(architecture, prediction),
            }
        print_json(shown)
        return
    print_rich(f"{architecture.name}  ({architecture.arch_id})", _rows_table(architecture))
    print_rich(
        f"params {cost.params:,}   macs {cost.macs:,}   activations {cost.activations:,}   "
        f"peak memory {cost.memory_mb:.3f} MB (float32, one image)   at {architecture.resolution} px"
    )
    if predictor is not None and prediction is not None:
        print_rich(f"\nlatency predicted for {predictor.table.conditions}:")
        print_prediction(architecture, prediction)


def _described(architecture: Architecture) -> dict[str, Any]:
    return {"name": architecture.name, "arch_id": architecture.arch_id, "resolution": architecture.resolution}


def _rows_table(architecture: Architecture) -> Table:
    """A row for each run of equal blocks: input, operator, its settings, channels, repeats, stride, cost."""
    from nas.rows import network_rows

    listing = table("input", "operator", "settings", "out", "n", "s", "params", "macs")
    for row in network_rows(architecture):
        listing.add_row(
            f"{row.size}² × {row.in_channels}",
            row.type,
            "  ".join(f"{name} {value}" for name, value in row.settings.items()),
            str(row.out_channels),
            str(row.num_layers),
            "" if row.stride is None else str(row.stride),
            quantity(row.params),
            quantity(row.macs),
        )
    return listing
