"""`nas spaces` and `nas show`: what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.guidelines import guidelines_dict, print_guidelines
from nas.cli.latency import prediction_dict, print_prediction
from nas.cli.options import Arch, Interpolate, Json, Latency, Resolutions, numbers, table_predictor
from nas.cli.output import print_json, print_rich, quantity, table

if TYPE_CHECKING:
    from rich.table import Table

    from latency import Predictor
    from nas.importing import OpaqueNetwork
    from search_space import Architecture, SearchSpace
    from search_space.cost import Cost


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(spaces)
    app.command()(show)


def spaces(
    space: Annotated[str | None, typer.Argument(metavar="[NAME|FILE]", help="A preset or a space file.")] = None,
    resolution: Resolutions = "",
    latency: Latency = "",
    interpolate: Interpolate = False,
    json: Json = False,
) -> None:
    """List the search spaces, or describe one: its choices, exact size, ranges of params, macs and memory."""
    from search_space import InputError, load_space, presets
    from search_space.space_file import at_resolutions

    pixels = numbers("--resolution", resolution)
    if space is not None:
        chosen = load_space(space)
        predictor = table_predictor(latency, interpolate)
        _describe_space(at_resolutions(chosen, pixels) if pixels else chosen, predictor, json)
        return
    if latency or interpolate or pixels:
        raise InputError("--resolution, --latency and --interpolate go with one space", remedy="name a space")
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

    known = Known(predictor)
    ranges = {metric: known.reach(space, metric) for metric in known.names}
    rows = space.describe()
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
    guidelines: Annotated[
        bool, typer.Option("--guidelines", help="ShuffleNetV2's four guidelines as figures of each block.")
    ] = False,
    json: Json = False,
) -> None:
    """Show a network as the papers do, row by row, with its counted cost."""
    from nas.architectures import resolve_network
    from search_space import Architecture, count_cost

    architecture = resolve_network(arch)
    predictor = table_predictor(latency, interpolate)
    if not isinstance(architecture, Architecture):
        _show_baseline(architecture, predictor, json)
        return
    cost = count_cost(architecture)
    prediction = predictor.predict(architecture) if predictor is not None else None
    if json:
        shown = {**_described(architecture), **cost.metrics(), "architecture": architecture.to_dict()}
        if predictor is not None and prediction is not None:
            shown["latency_ms"] = prediction.latency_ms
            shown["latency"] = {
                "conditions": predictor.table.conditions.to_dict(),
                **prediction_dict(architecture, prediction),
            }
        if guidelines:
            shown["guidelines"] = guidelines_dict(architecture)
        print_json(shown)
        return
    print_rich(f"{architecture.name}  ({architecture.arch_id})", _rows_table(architecture))
    print_rich(cost_line(cost, architecture.resolution))
    if cost.unseen:
        print_rich(f"macs lack those of {', '.join(sorted(cost.unseen))}")
    if predictor is not None and prediction is not None:
        print_rich(f"\nlatency predicted for {predictor.table.conditions}:")
        print_prediction(architecture, prediction)
    if guidelines:
        print_guidelines(architecture)


def _show_baseline(network: OpaqueNetwork, predictor: Predictor | None, json: bool) -> None:
    """A network without rows: its cost and, with a table, what it takes under the table's conditions."""
    from nas.cli.latency import measured_dict, print_measured, time_baseline

    cost = network.cost()
    times = time_baseline(network, predictor.table) if predictor is not None else None
    if json:
        shown: dict[str, Any] = {
            "name": network.name,
            "arch_id": None,
            "resolution": network.resolution,
            **cost.metrics(),
            "macs_lack": sorted(cost.unseen),
        }
        if predictor is not None and times is not None:
            conditions = predictor.table.conditions.to_dict()
            shown["latency"] = {"conditions": conditions, **measured_dict(network, times)}
        print_json(shown)
        return
    print_rich(f"{network.name}  (a baseline: counted, timed and trained as it is)")
    print_rich(cost_line(cost, network.resolution))
    if cost.unseen:
        print_rich(f"macs lack those of {', '.join(sorted(cost.unseen))}")
    if times is not None:
        print_measured(network, times)


def cost_line(cost: Cost, resolution: int) -> str:
    """Counted cost in one line."""
    return (
        f"params {cost.params:,}   macs {cost.macs:,}   activations {cost.activations:,}   "
        f"peak memory {cost.memory_mb:.3f} MB (float32, one image)   at {resolution} px"
    )


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
