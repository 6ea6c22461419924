"""`nas scale`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import Arch, Interpolate, Json, numbers, refuse_without
from nas.cli.output import print_json, print_rich, quantity, show_warnings, table

if TYPE_CHECKING:
    from nas.scaling import FitResult, ScalingResult

_FIT_OPTIONS = (
    *("cost", "tolerance", "budget", "run", "evaluator", "proxy", "objective", "data", "data_root", "searcher"),
    *("seed", "workers", "executor", "ray_address", "gpus_per_trial", "device", "time_limit"),
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(scale)


def scale(
    context: typer.Context,
    arch: Arch = None,
    phi: Annotated[
        str | None, typer.Option(help="How far: 3, -1,0.5 or 0..7, which writes b0.yaml to b7.yaml.")
    ] = None,
    target: Annotated[
        str, typer.Option(help='Solve for phi: the largest network with "latency_ms=40" or "macs=1G".')
    ] = "",
    family: Annotated[str, typer.Option(help="Scale as published: efficientnet-v1 or efficientnet-v2.")] = "",
    alpha: Annotated[float | None, typer.Option(help="Depth is alpha^phi. [default: fitted, or 1.2]")] = None,
    beta: Annotated[float | None, typer.Option(help="Width is beta^phi. [default: fitted, or 1.1]")] = None,
    gamma: Annotated[float | None, typer.Option(help="Resolution is gamma^phi. [default: fitted, or 1.15]")] = None,
    width_mult: Annotated[
        str, typer.Option(help="MobileNet's multiplier of all widths, or several: 1,0.75,0.5.", show_default=False)
    ] = "",
    resolution: Annotated[
        str, typer.Option(help="With or without --width-mult: in px, or several: 224,192.", show_default=False)
    ] = "",
    latency: Annotated[
        str, typer.Option(help="A latency table, or auto: build or reuse one for these networks.", show_default=False)
    ] = "",
    interpolate: Interpolate = False,
    out: Annotated[Path, typer.Option(help="The folder for the architecture files.")] = Path("scaled"),
    fit: Annotated[bool, typer.Option("--fit", help="Find alpha, beta, gamma that double the cost at phi 1.")] = False,
    cost: Annotated[str, typer.Option(help="With --fit: macs or latency_ms.")] = "macs",
    tolerance: Annotated[float, typer.Option(help="With --fit: how near to twice the cost, as a share.")] = 0.05,
    budget: Annotated[
        int | None, typer.Option(help="With --fit: how many networks to train. [default: all of the grid]")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="With --fit: its run folder. [default: runs/NAME-DATE-TIME]")] = None,
    evaluator: Annotated[str, typer.Option(help="With --fit: proxy, zero-cost:NAME.")] = "proxy",
    proxy: Annotated[str, typer.Option(help="With --fit: quick, standard, thorough or a recipe's .yaml.")] = "auto",
    objective: Annotated[str, typer.Option(help="With --fit: as of a search.", show_default=False)] = "",
    data: Annotated[str, typer.Option(help="With --fit: the images, as of a search.")] = "digits",
    data_root: Annotated[str, typer.Option(help="With --fit: where torchvision's data sets lie.")] = "data",
    searcher: Annotated[str, typer.Option(help="With --fit: grid, or any of a search.")] = "grid",
    seed: Annotated[int, typer.Option(help="With --fit: same seed, same fit.")] = 0,
    workers: Annotated[int, typer.Option(help="With --fit: trainings at once; 0: one a processor.")] = 0,
    executor: Annotated[str, typer.Option(help="With --fit: inline or ray.")] = "inline",
    ray_address: Annotated[str, typer.Option(help="With --fit and Ray: the cluster.", show_default=False)] = "",
    gpus_per_trial: Annotated[float, typer.Option(help="With --fit and Ray: each worker's share of a GPU.")] = 0.0,
    device: Annotated[str, typer.Option(help="With --fit: auto, cpu, cuda, cuda:N or mps.")] = "auto",
    time_limit: Annotated[
        str | None, typer.Option(help="With --fit: start no more trials after 90s, 30m, 2h.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Scale a network to a size or a family of sizes: deeper, wider, at a higher resolution, all at once."""
    from nas.cli.progress import show_steps
    from nas.scaling import scale as run_scale
    from nas.scaling.api import read_wish

    printed: dict[str, Any] = {}
    fitted = None
    wanted = phi is not None or bool(target)
    if not fit:
        refuse_without("--fit", context, *_FIT_OPTIONS)
    else:
        if not wanted:
            refuse_without("--phi", context, "out")
        else:
            read_wish(phi, target)  # a slip of the pen must not come to light after the fit
        _refuse_with_fit(
            family=family, alpha=alpha, beta=beta, gamma=gamma, width_mult=width_mult, resolution=resolution
        )
        fitted = _fit(
            arch,
            time_limit,
            cost=cost,
            tolerance=tolerance,
            budget=budget,
            out=run,
            latency=latency,
            interpolate=interpolate,
            evaluator=evaluator,
            proxy=proxy,
            objective=objective,
            data=data,
            data_root=data_root,
            searcher=searcher,
            seed=seed,
            workers=workers,
            executor=executor,
            ray_address=ray_address,
            gpus_per_trial=gpus_per_trial,
            device=device,
        )
        printed["fit"] = fitted.to_dict()
        if not json:
            _print_fit(fitted)
    if (not fit or wanted) and (fitted is None or fitted.rule is not None):
        with show_warnings(), show_steps("measuring latency") as on_measure:
            result = run_scale(
                arch if fitted is None else fitted.search.run,
                phi=phi,
                target=target,
                family=family,
                alpha=alpha,
                beta=beta,
                gamma=gamma,
                width_mult=_floats("--width-mult", width_mult),
                resolution=numbers("--resolution", resolution),
                latency=latency,
                interpolate=interpolate,
                out=out,
                on_measure=on_measure,
            )
        printed |= result.to_dict()
        if not json:
            _print(result, out)
    if json:
        print_json(printed)
    if fitted is not None and fitted.rule is None:
        raise typer.Exit(1)


def _refuse_with_fit(**given: object) -> None:
    from search_space import InputError

    for name, value in given.items():
        if value not in ("", None):
            option = f"--{name.replace('_', '-')}"
            raise InputError("--fit finds coefficients itself", option, remedy=f"leave out {option}, or --fit")


def _fit(arch: str | None, time_limit: str | None, **options: Any) -> FitResult:
    from nas.cli.progress import show_progress
    from nas.cli.search import stoppable
    from nas.scaling import fit_scaling
    from nas.settings import parse_duration

    limit = parse_duration(time_limit) if time_limit else math.inf
    with stoppable(), show_warnings(), show_progress("fit") as progress:
        return fit_scaling(
            arch,
            time_limit_s=limit,
            on_change=progress.on_change,
            on_measure=progress.on_measure,
            on_train=progress.on_train,
            on_read=progress.on_read,
            **options,
        )


def _floats(option: str, text: str) -> list[float] | None:
    from search_space import InputError

    if not text:
        return None
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise InputError(f"{option} must be numbers separated by commas", text, remedy="write it as 1,0.75") from None


def _print_fit(fitted: FitResult) -> None:
    search = fitted.search
    trained = search.counts["complete"]
    typer.echo(f"run            {search.run}: {trained} networks scored; stopped by {search.stopped_by}")
    if fitted.rule is None or fitted.ratio_reached is None:
        typer.echo("nothing was fitted: no trial gave a score")
        return
    rule = fitted.rule
    typer.echo(f"coefficients   alpha {rule.alpha:g}  beta {rule.beta:g}  gamma {rule.gamma:g}")
    typer.echo(f"               {fitted.cost} at phi 1 is {fitted.ratio_reached:.3f} times the base's")
    typer.echo("\nwhat to type next")
    typer.echo(f"  nas scale {search.run} --phi 0..3")
    if search.stopped_by == "time limit":
        typer.echo(f"  nas resume {search.run}")


def _print(result: ScalingResult, out: Path) -> None:
    """A row a network."""
    with_latency = any("latency_ms" in one.metrics for one in result.members)
    columns = ["network", "phi", "depth", "width", "px", "params", "macs", *(["latency ms"] if with_latency else [])]
    rows = table(*columns, f"{result.cost} ×, asked", "reached")
    for one in result.members:
        member = one.member
        rows.add_row(
            one.file.name if one.file is not None else one.architecture.name,
            "" if member.phi is None else f"{member.phi:g}",
            f"{member.depth_mult:.3f}",
            f"{member.width_mult:.3f}",
            str(one.architecture.resolution),
            quantity(one.metrics["params"]),
            quantity(one.metrics["macs"]),
            *([f"{one.metrics['latency_ms']:.3f}"] if with_latency else []),
            f"{member.ratio_asked:.3f}",
            f"{one.ratio_reached:.3f}",
        )
    rule = "  ".join(f"{name} {value}" for name, value in result.rule.items() if name != "rule")
    typer.echo(f"{result.base.name}, scaled by {result.rule['rule']}  {rule}  ({result.source})")
    print_rich(rows)
    typer.echo(f"written to {out}")
