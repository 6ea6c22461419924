"""`nas latency`: tables for your own device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.options import Interpolate, Json, Resolutions, numbers
from nas.cli.output import print_json, print_rich, show_warnings, table

if TYPE_CHECKING:
    from latency import LatencyTable, Prediction, Times
    from nas.importing import OpaqueNetwork
    from search_space import Architecture

app = typer.Typer(
    help="Latency tables: build, check, predict, import.", invoke_without_command=True, rich_markup_mode=None
)
_BAR = 30


def add_to(root: typer.Typer) -> None:
    """Register the commands."""
    root.add_typer(app, name="latency")


@app.callback()
def group(context: typer.Context) -> None:
    """Latency tables: build, check, predict, import."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def build(
    space: Annotated[str, typer.Option(help="A preset (see `nas spaces`) or a space file.")],
    runtime: Annotated[str, typer.Option(help="torch or onnxruntime.")] = "torch",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of one inference.")] = 1,
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "float32",
    batch: Annotated[int, typer.Option(help="Images of one inference.")] = 1,
    memory_format: Annotated[str, typer.Option(help="contiguous or channels_last.")] = "contiguous",
    resolution: Resolutions = "",
    num_classes: Annotated[
        str,
        typer.Option(help="Separated by commas. [default: the space's own, or 10,100,1000]", show_default=False),
    ] = "",
    out: Annotated[Path | None, typer.Option(help="The table. [default: SPACE-RUNTIME.latency.json]")] = None,
    seed: Annotated[int, typer.Option(help="Of the sampled networks.")] = 0,
    json: Json = False,
) -> None:
    """Measure a table on this device: every part of the space, in place in whole networks."""
    from latency import build_table, conditions_here
    from latency.build import request
    from latency.table import MAPE_OF_DOUBT_PERCENT
    from nas.cli.progress import show_steps
    from search_space import load_space

    loaded = load_space(space)
    conditions = conditions_here(
        runtime, device=device, threads=threads, dtype=dtype, batch=batch, memory_format=memory_format
    )
    wanted = request(
        loaded,
        conditions,
        resolutions=numbers("--resolution", resolution),
        num_classes=numbers("--num-classes", num_classes),
        seed=seed,
    )
    target = out or Path(f"{Path(loaded.name).name}-{runtime}.latency.json")
    try:
        with show_steps(f"latency of {loaded.name}") as on_progress:
            made = build_table(wanted, target, on_progress=on_progress)
    except KeyboardInterrupt:
        typer.echo("interrupted; the same command goes on where it was", err=True)
        raise typer.Exit(1) from None
    if json:
        print_json({"table": str(target), **_summary(made)})
        return
    fit = made.calibration
    typer.echo(f"table          {target}: {len(made.times):,} signatures, {made.conditions}")
    typer.echo(f"calibration    latency = {fit.scale:.3f} × sum + {fit.fixed_overhead_ms:.3f} ms")
    if fit.mape_percent is not None:
        count = len(fit.networks)
        typer.echo(
            f"               {fit.mape_percent:.2f} % mean error on {count} whole networks, each left out in turn"
        )
        if fit.mape_percent > MAPE_OF_DOUBT_PERCENT:
            typer.echo("               that is much: something else ran meanwhile? build it again when nothing does")
    typer.echo("\nwhat to type next")
    typer.echo(f"  nas latency check {target} --space {space}")
    times = sorted(network.times.p10_ms or 0.0 for network in fit.networks)
    middle = f"{times[len(times) // 2]:.2g}"
    px = f" --resolution {resolution}" if resolution else ""
    typer.echo(f'  nas search --space {space}{px} --budget 300 --latency {target} --constraint "latency_ms<={middle}"')


def _summary(made: LatencyTable) -> dict[str, object]:
    fit = made.calibration
    return {
        "name": made.name,
        "conditions": made.conditions.to_dict(),
        "signatures": len(made.times),
        "source": dict(made.source),
        "calibration": {
            "scale": fit.scale,
            "fixed_overhead_ms": fit.fixed_overhead_ms,
            "mape_percent": fit.mape_percent,
            "networks": len(fit.networks),
        },
    }


@app.command()
def check(
    latency: Annotated[str, typer.Argument(metavar="TABLE", help="A latency table.")],
    space: Annotated[str, typer.Option(help="A preset or a space file.")],
    networks: Annotated[int, typer.Option(help="How many fresh networks to measure.")] = 30,
    seed: Annotated[int, typer.Option(help="Of the sampled networks.")] = 0,
    interpolate: Interpolate = False,
    json: Json = False,
) -> None:
    """Tell how far to trust a table: measure fresh networks and compare, beside the error of measuring again."""
    from latency import Predictor, check_table, load_table
    from nas.cli.progress import show_steps
    from search_space import load_space

    predictor = Predictor(load_table(latency), interpolate=interpolate)
    with show_warnings(), show_steps("measuring") as on_progress:
        result = check_table(predictor, load_space(space), networks=networks, seed=seed, on_progress=on_progress)
    if json:
        print_json(result.to_dict())
        return
    rows = table("predicted by", "MAPE %", "bias %", "within ±5 %", "within ±10 %", "Kendall tau")
    named = {
        "the table": result.table,
        "  as it is": result.table_as_is,
        "  fitted here": result.table_fitted,
        "measuring again": result.remeasured,
        "MACs, fitted here": result.macs,
        "blocks timed alone, fitted here": result.alone,
    }
    for name, agreement in named.items():
        rows.add_row(
            name,
            f"{agreement.mape:.2f}",
            f"{agreement.bias:+.2f}",
            f"{agreement.within_5:.0%}",
            f"{agreement.within_10:.0%}",
            f"{agreement.kendall_tau:.3f}",
        )
    print_rich(f"{len(result.networks)} fresh networks; {predictor.table.conditions}", rows)
    slowdown = result.machine_slowdown
    typer.echo(
        f"The table's own networks take {slowdown:.3f} times as long now as when it was built. The first row is\n"
        "brought to that speed, the second is not. Fitted here: an affine fit to the other networks of this check."
    )
    if result.remeasured.mape > 0:
        ratio = result.table.mape / result.remeasured.mape
        typer.echo(f"The table errs {ratio:.2f} times as much as measuring the same networks again, later.")


@app.command()
def predict(
    arch: Annotated[
        list[str],
        typer.Argument(metavar="ARCH…", help="Files, runs, RUN/ARCH_ID, references, timm:NAME, torchvision:NAME."),
    ],
    latency: Annotated[str, typer.Option(help="A latency table.")],
    interpolate: Interpolate = False,
    json: Json = False,
) -> None:
    """Predict the latency of networks, in all and block by block."""
    from latency import Predictor, load_table
    from nas.architectures import resolve_network
    from search_space import Architecture

    predictor = Predictor(load_table(latency), interpolate=interpolate)
    networks = [resolve_network(one) for one in arch]
    # All predictions first: measuring takes long, and would be in vain if one failed.
    predicted = {i: predictor.predict(one) for i, one in enumerate(networks) if isinstance(one, Architecture)}
    measured = {
        i: time_baseline(one, predictor.table) for i, one in enumerate(networks) if not isinstance(one, Architecture)
    }
    if json:
        rows = [
            prediction_dict(one, predicted[i]) if isinstance(one, Architecture) else measured_dict(one, measured[i])
            for i, one in enumerate(networks)
        ]
        print_json({"conditions": predictor.table.conditions.to_dict(), "networks": rows})
        return
    for i, one in enumerate(networks):
        if isinstance(one, Architecture):
            print_prediction(one, predicted[i])
        else:
            print_measured(one, measured[i])
    typer.echo(f"table {predictor.table.name}: {predictor.table.conditions}")


def time_baseline(network: OpaqueNetwork, table: LatencyTable) -> Times:
    """A network without parts cannot be predicted from a table; it is timed under the table's conditions instead.

    Raises `InputError` where these cannot be had.
    """
    from nas.cli.progress import show_steps
    from nas.comparing import time_networks
    from nas.finalists import why_not_here
    from search_space import InputError

    why = why_not_here(table)
    if why:
        rule = f"a network without parts can only be measured, and {why}"
        raise InputError(rule, network.name, remedy="name a table of this device, or leave the network out")
    with show_steps(f"timing {network.name}") as on_progress:
        return time_networks([network], table.conditions, on_progress)[0]


def measured_dict(network: OpaqueNetwork, times: Times) -> dict[str, object]:
    """Plain data of a network that was measured instead of predicted."""
    return {
        "name": network.name,
        "arch_id": None,
        "latency_ms": None,
        "measured_latency_ms": times.p10_ms,
        "measured": times.to_dict(),
    }


def print_measured(network: OpaqueNetwork, times: Times) -> None:
    """One line: there are no parts."""
    print_rich(
        f"{network.name}  {times.p10_ms:.3f} ms measured, not predicted: it has no parts that a table could have"
    )


@app.command(name="import")
def import_table(
    file: Annotated[str, typer.Argument(metavar="FILE", help="ProxylessNAS, once-for-all or Single-Path NAS form.")],
    out: Annotated[Path | None, typer.Option(help="The table. [default: FILE's stem.latency.json]")] = None,
    device_name: Annotated[str, typer.Option(help="Whose times they are, as 'Pixel 1'.", show_default=False)] = "",
    runtime: Annotated[str, typer.Option(help="What they were measured in.")] = "tflite",
    threads: Annotated[int, typer.Option(help="Threads they were measured with.")] = 1,
    unit: Annotated[str, typer.Option(help="Of the file's times: ms, us or s.")] = "ms",
    activation: Annotated[str, typer.Option(help="Instead of that of the published form.", show_default=False)] = "",
    space: Annotated[str, typer.Option(help="Say how much of this space it covers.", show_default=False)] = "",
    json: Json = False,
) -> None:
    """Make a table of one that others published; what cannot be mapped is listed."""
    from latency import save_table
    from latency.published import import_published
    from search_space import InputError, load_space

    target = out or Path(f"{Path(file).stem}.latency.json")
    if target.exists():
        raise InputError("there is a file already", str(target), remedy="use another --out, or remove it")
    loaded = load_space(space) if space else None
    result = import_published(
        file, device_name=device_name, runtime=runtime, threads=threads, unit=unit, activation=activation
    )
    save_table(result.table, target)
    coverage = result.coverage(loaded) if loaded is not None else None
    if json:
        covered = coverage and {"space": space, "covered": coverage.covered, "total": coverage.total}
        unmapped = [{"key": key, "reason": reason} for key, reason in result.unmapped]
        found = {"table": str(target), **_summary(result.table), "mapped_entries": result.mapped}
        print_json({**found, "unmapped": unmapped, "coverage": covered})
        return
    typer.echo(f"table          {target}: {len(result.table.times)} signatures, {result.table.conditions}")
    typer.echo(f"entries        {result.mapped} mapped (times read as {unit}), {len(result.unmapped)} not")
    for key, reason in result.unmapped:
        typer.echo(f"  not mapped   {key}: {reason}")
    kinds = {kind: sum(shape.part.kind == kind for shape in result.table.times) for kind in ("stem", "block", "head")}
    typer.echo("parts          " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
    for kind in (kind for kind, count in kinds.items() if not count):
        typer.echo(f"  no {kind}: no whole network can be predicted before one is added")
    if coverage is not None:
        typer.echo(f"coverage       {coverage.covered} of {coverage.total} parts of space {space}")


def prediction_dict(architecture: Architecture, prediction: Prediction) -> dict[str, object]:
    """Plain data of one prediction."""
    from latency.signature import to_plain

    return {
        "name": architecture.name,
        "arch_id": architecture.arch_id,
        "latency_ms": prediction.latency_ms,
        "fixed_overhead_ms": prediction.fixed_overhead_ms,
        "interpolated_parts": sum(part.interpolated for part in prediction.parts),
        "interpolation_error_percent": prediction.interpolation_error_percent,
        "parts": [
            {**to_plain(part.shape), "latency_ms": part.latency_ms, "interpolated": part.interpolated}
            for part in prediction.parts
        ],
    }


def print_prediction(architecture: Architecture, prediction: Prediction) -> None:
    """A bar for each part."""
    from latency.signature import label

    rows = table("part", "ms", "")
    longest = max(prediction.fixed_overhead_ms, *(part.latency_ms for part in prediction.parts))
    for part in prediction.parts:
        mark = "  interpolated" if part.interpolated else ""
        rows.add_row(label(part.shape), f"{part.latency_ms:.3f}", _bar(part.latency_ms / longest) + mark)
    if prediction.fixed_overhead_ms:
        overhead = prediction.fixed_overhead_ms
        rows.add_row("fixed overhead", f"{overhead:.3f}", _bar(overhead / longest))
    print_rich(f"{architecture.name}  ({architecture.arch_id})  {prediction.latency_ms:.3f} ms", rows)
    filled = sum(part.interpolated for part in prediction.parts)
    if filled:
        error = prediction.interpolation_error_percent
        print_rich(
            f"{filled} parts interpolated; mean error of such estimates in this table: {error:.1f} % of a part\n"
        )


def _bar(share: float) -> str:
    eighths = round(share * _BAR * 8)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]
