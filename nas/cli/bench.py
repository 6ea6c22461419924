"""`nas bench`."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.options import Json
from nas.cli.output import print_json, show_warnings

if TYPE_CHECKING:
    from nas.benchmark import BenchResult


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(bench)


def bench(
    table: Annotated[Path, typer.Option(help="NAS-Bench-Macro's JSON file.")],
    searchers: Annotated[str, typer.Option(help="Names or module:Class, separated by commas; random is added.")],
    budget: Annotated[int, typer.Option(help="Evaluations of each run.")] = 300,
    seeds: Annotated[int, typer.Option(help="Runs of each searcher.")] = 20,
    first_seed: Annotated[int, typer.Option(help="The seeds begin here.")] = 0,
    objective: Annotated[str, typer.Option(help="accuracy, or several as accuracy,macs: a Pareto front.")] = "accuracy",
    constraint: Annotated[
        list[str] | None,
        typer.Option(help='"macs<=60M", "params<=p40" (the 40th percentile of the table); repeatable.'),
    ] = None,
    noise_free: Annotated[
        bool, typer.Option("--noise-free", help="Evaluate by the mean over training seeds, not by one of them.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Propose in batches, as a search with so many workers.")] = 1,
    processes: Annotated[int, typer.Option(help="Runs at once; 0: one a processor.")] = 0,
    out: Annotated[Path, typer.Option(help="The picture, .png or .html; the curves as .csv beside it.")] = Path(
        "bench.png"
    ),
    json: Json = False,
) -> None:
    """Compare searchers on a tabular benchmark: how far their picks are from the best, evaluation by evaluation."""
    from nas.benchmark import BenchInterrupted
    from nas.benchmark import bench as run_bench
    from nas.benchmark.picture import SUFFIXES
    from nas.cli.progress import show_steps
    from search_space import InputError

    if out.suffix not in SUFFIXES:
        raise InputError("--out must end in .png or .html", str(out), remedy="write it as bench.png")
    if out.is_dir() or not os.access(out.parent, os.W_OK):  # better to know before all that work
        raise InputError("--out must be a file in a folder that can be written", str(out), remedy="use another")
    try:
        with show_warnings(), show_steps("bench") as on_progress:
            result = run_bench(
                table,
                [name.strip() for name in searchers.split(",")],
                budget,
                seeds,
                first_seed=first_seed,
                objective=objective,
                constraints=constraint or (),
                noise=not noise_free,
                workers=workers,
                processes=processes,
                on_progress=on_progress,
            )
    except BenchInterrupted as stop:
        if stop.result is not None:
            _conclude(stop.result, out, json)
        typer.echo("interrupted" + (": only what had finished is shown" if stop.result else ""), err=True)
        raise typer.Exit(1) from None
    _conclude(result, out, json)


def _conclude(result: BenchResult, out: Path, json: bool) -> None:
    """Print the figures, then write the files: should the disk be full, the figures are not lost."""
    from nas.benchmark.picture import write

    curves = out.with_suffix(".csv")
    if json:
        print_json({**result.to_dict(), "plot": str(out), "csv": str(curves)})
    else:
        _print(result)
    write(result, out, curves)
    if not json:
        typer.echo(f"curves         {out}, {curves}")


def _print(result: BenchResult) -> None:
    from nas.benchmark.picture import title
    from nas.cli.output import print_rich, table

    rows = table("searcher", *(f"at {count}" for count in result.checkpoints), "ms per trial", "runs", "")
    for curve in result.curves:
        mean, error = curve.mean, curve.standard_error
        rows.add_row(
            curve.searcher,
            *(_figure(mean[count - 1], error[count - 1], result.metric) for count in result.checkpoints),
            f"{curve.ms_per_trial:.3g}",
            str(len(curve.seeds)),
            f"ended at {curve.ended_at}" if curve.ended_at is not None else "",
        )
    name = "regret in percentage points" if result.metric == "regret" else "hypervolume ratio"
    asked = f"{title(result)}; the best of {result.allowed:,} networks"
    print_rich(f"{name}, mean ± standard error\n{asked}", rows)


def _figure(mean: float, error: float, metric: str) -> str:
    digits = 3 if metric == "regret" else 4
    if math.isnan(mean):
        return "no pick"
    return f"{mean:.{digits}f}" + ("" if math.isnan(error) else f" ± {error:.{digits}f}")
