"""`nas spaces` and `nas show`: what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.output import print_json, quantity

if TYPE_CHECKING:
    from rich.table import Table

    from search_space import Architecture, SearchSpace

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(spaces)
    app.command()(show)


def spaces(
    space: Annotated[str | None, typer.Argument(metavar="[NAME|FILE]", help="A preset or a space file.")] = None,
    json: Json = False,
) -> None:
    """List the search spaces, or describe one: its choices, exact size, ranges of params, macs and memory."""
    from search_space import load_space, presets

    if space is not None:
        _describe_space(load_space(space), json)
        return
    loaded = [load_space(name) for name in presets()]
    if json:
        rows = [
            {"name": one.name, "choices": len(one.genes), "size": one.size, "description": one.description}
            for one in loaded
        ]
        print_json({"spaces": rows})
        return
    table = _table("space", "choices", "networks", "description")
    for one in loaded:
        table.add_row(one.name, str(len(one.genes)), f"{one.size:.3g}", one.description)
    _print(table)


def _describe_space(space: SearchSpace, json: bool) -> None:
    from nas.constraints import COUNTED
    from search_space.reach import cost_range
    from search_space.space_file import describe_choices

    ranges = {metric: cost_range(space, metric) for metric in COUNTED}
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
    table = _table("part", "field", "options")
    for row in rows:
        part = row["part"]
        for field, value in row.items():
            if field == "part":
                continue
            if isinstance(value, dict):
                options = ", ".join(map(str, value["choice"])) + ("  (each block)" if "per" in value else "")
                table.add_row(part, field, options)
            else:
                table.add_row(part, field, str(value), style="dim")
            part = ""
    _print(f"{space.name}: {space.description}", table)
    _print(f"{len(space.genes)} choices; {space.size:,} distinct networks")
    for metric, (low, high) in ranges.items():
        _print(f"{metric:>12}  {quantity(low)} … {quantity(high)}")


def show(
    arch: Annotated[
        str | None,
        typer.Argument(metavar="[ARCH]", help="A file, a run folder or a reference; left out: the newest run."),
    ] = None,
    json: Json = False,
) -> None:
    """Show a network as the papers do, row by row, with its counted cost."""
    from nas.architectures import resolve
    from search_space import count_cost

    architecture = resolve(arch)
    cost = count_cost(architecture)
    if json:
        print_json({**_described(architecture), **cost.metrics(), "architecture": architecture.to_dict()})
        return
    _print(f"{architecture.name}  ({architecture.arch_id})", _rows_table(architecture))
    _print(
        f"params {cost.params:,}   macs {cost.macs:,}   activations {cost.activations:,}   "
        f"peak memory {cost.memory_mb:.3f} MB (float32, one image)   at {architecture.resolution} px"
    )


def _described(architecture: Architecture) -> dict[str, Any]:
    return {"name": architecture.name, "arch_id": architecture.arch_id, "resolution": architecture.resolution}


def _rows_table(architecture: Architecture) -> Table:
    """A row for each run of equal blocks: input, operator, its settings, channels, repeats, stride, cost."""
    from search_space.architecture import stage_rows
    from search_space.cost import part_cost
    from search_space.parts import parts

    shapes = parts(architecture)
    costs = [part_cost(shape) for shape in shapes]
    table = _table("input", "operator", "settings", "out", "n", "s", "params", "macs")
    rows = [({"num_layers": 1, **architecture.stem.to_dict()}, 1)]
    rows += [(row, row["num_layers"]) for stage in architecture.stages for row in stage_rows(stage)]
    rows += [({"num_layers": 1, **architecture.head.to_dict()}, 1)]
    start = 0
    for row, count in rows:
        shape = shapes[start]
        part = costs[start : start + count]
        hidden = ("type", "num_layers", "out_channels", "stride")
        shown = {name: value for name, value in row.items() if name not in hidden and value != 0}
        table.add_row(
            f"{shape.size}² × {shape.in_channels}",
            row["type"],
            "  ".join(f"{name} {value}" for name, value in shown.items()),
            str(row.get("out_channels", architecture.num_classes)),
            str(count),
            str(row.get("stride", "")),
            quantity(sum(cost.params for cost in part)),
            quantity(sum(cost.macs for cost in part)),
        )
        start += count
    return table


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(*things: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 200  # in a file or a pipe nothing need be folded
    for thing in things:
        console.print(thing)
