"""`nas search` and `nas resume`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.options import Json, Resolutions, numbers
from nas.cli.output import duration, metrics_line, print_json, show_warnings

if TYPE_CHECKING:
    from nas.result import SearchResult

TimeLimit = Annotated[str | None, typer.Option(help="Start no more trials after 90s, 30m, 2h.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(search)
    app.command()(resume)


def search(
    space: Annotated[str, typer.Option(help="A preset (see `nas spaces`) or a space file.")],
    budget: Annotated[
        int, typer.Option(help="How many networks to train; with --pruner, the cost of so many full trainings.")
    ],
    data: Annotated[
        str, typer.Option(help="digits, fashion-mnist, cifar10, cifar100, npz:FILE or imagefolder:DIR.")
    ] = "digits",
    data_root: Annotated[str, typer.Option(help="Where torchvision's data sets lie or are downloaded to.")] = "data",
    searcher: Annotated[
        str,
        typer.Option(
            help="predictor, evolution, local, reinforce, netadapt, tpe, gp, nsga2, random, grid or module:Class."
        ),
    ] = "predictor",
    seed: Annotated[int, typer.Option(help="Same seed, same search.")] = 0,
    out: Annotated[Path | None, typer.Option(help="The run folder. [default: runs/SPACE-DATE-TIME]")] = None,
    objective: Annotated[
        str,
        typer.Option(
            help="accuracy or loss on validation images, or the score; several as accuracy,macs: a Pareto front. "
            "[default: score, with --target or a table accuracy, or the zero-cost score]",
            show_default=False,
        ),
    ] = "",
    constraint: Annotated[
        list[str] | None,
        typer.Option(help='Hard limit, as "latency_ms<=20", "macs<=200M", "accuracy>=0.9"; repeatable.'),
    ] = None,
    start: Annotated[
        list[str] | None, typer.Option(help="A network to begin with: any ARCH of `nas show`; repeatable.")
    ] = None,
    prefilter: Annotated[
        str,
        typer.Option(
            help="As naswot:0.5: train only what is among the best half by this zero-cost score.", show_default=False
        ),
    ] = "",
    predictor_features: Annotated[
        str,
        typer.Option(
            help="Zero-cost scores, separated by commas, for the predictor to learn from.", show_default=False
        ),
    ] = "",
    evaluator: Annotated[
        str,
        typer.Option(
            help="proxy: short training; zero-cost:NAME: synflow, snip, grad_norm, naswot, zico, params, macs or "
            "activations; table:FILE, noisy-table:FILE: NAS-Bench-Macro."
        ),
    ] = "proxy",
    proxy: Annotated[
        str, typer.Option(help="How thoroughly networks are trained: quick, standard, thorough or a recipe's .yaml.")
    ] = "auto",
    pruner: Annotated[
        str,
        typer.Option(help="Stop trainings that fall behind: none, asha, hyperband or median. Needs several epochs."),
    ] = "none",
    resolution: Resolutions = "",
    latency: Annotated[
        str, typer.Option(help="A latency table, or auto: build or reuse one for this device.", show_default=False)
    ] = "",
    interpolate: Annotated[bool, typer.Option("--interpolate", help="Fill in what the table lacks.")] = False,
    target: Annotated[
        str, typer.Option(help='Soft reward instead of a limit, as "latency_ms=20".', show_default=False)
    ] = "",
    target_weight: Annotated[float, typer.Option(help="Exponent of the soft reward.")] = -0.07,
    finalists: Annotated[
        int | None,
        typer.Option(
            help="Train so many of the best longer before one is the winner, and with --latency time them; 0: none. "
            "[default: one for each 8 trials, up to 3]"
        ),
    ] = None,
    final_proxy: Annotated[
        str,
        typer.Option(help="How finalists are trained: as --proxy; auto: the fidelity above the search's; or none."),
    ] = "auto",
    final_seeds: Annotated[int, typer.Option(help="How often each finalist is trained.")] = 3,
    time_limit: TimeLimit = None,
    workers: Annotated[
        int, typer.Option(help="Trainings at once; 0: one a processor, or for each GPU or share of it.")
    ] = 0,
    executor: Annotated[str, typer.Option(help="inline: this machine; ray: this machine or a cluster.")] = "inline",
    gpus_per_trial: Annotated[float, typer.Option(help="With Ray: each worker's share of a GPU.")] = 0.0,
    ray_address: Annotated[
        str, typer.Option(help="With Ray: the cluster. [default: the one at hand, or a new local one]")
    ] = "",
    trial_timeout: Annotated[
        str | None, typer.Option(help="End evaluations that take longer, as 90s, 30m.", show_default=False)
    ] = None,
    retries: Annotated[int, typer.Option(help="Try evaluations again whose worker died, or that took too long.")] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    json: Json = False,
) -> None:
    """Search a space: train candidates on your images and hand over the best network."""
    from nas import api
    from nas.cli.progress import show_progress
    from nas.settings import parse_duration

    limit = parse_duration(time_limit) if time_limit else math.inf
    with stoppable(), show_warnings(), show_progress(f"search {Path(space).stem}") as progress:
        result = api.search(
            space,
            budget,
            out=out,
            constraints=constraint or (),
            start=start or (),
            resolutions=numbers("--resolution", resolution),
            time_limit_s=limit,
            on_change=progress.on_change,
            on_measure=progress.on_measure,
            on_read=progress.on_read,
            on_score=progress.on_score,
            latency=latency,
            interpolate=interpolate,
            target=target,
            target_weight=target_weight,
            on_train=progress.on_train,
            finalists=finalists,
            final_proxy=final_proxy,
            final_seeds=final_seeds,
            data=data,
            data_root=data_root,
            searcher=searcher,
            seed=seed,
            objective=objective,
            workers=workers,
            executor=executor,
            device=device,
            evaluator=evaluator,
            prefilter=prefilter,
            predictor_features=predictor_features,
            proxy=proxy,
            pruner=pruner,
            gpus_per_trial=gpus_per_trial,
            ray_address=ray_address,
            trial_timeout_s=parse_duration(trial_timeout, "--trial-timeout") if trial_timeout else None,
            retries=retries,
        )
    _conclude(result, json)


def resume(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    time_limit: TimeLimit = None,
    json: Json = False,
) -> None:
    """Take a stopped or killed search up again."""
    from nas import api
    from nas.cli.progress import show_progress
    from nas.settings import parse_duration

    limit = parse_duration(time_limit) if time_limit else math.inf
    with stoppable(), show_warnings(), show_progress(f"resume {run.name}") as progress:
        result = api.resume(
            run,
            time_limit_s=limit,
            on_change=progress.on_change,
            on_measure=progress.on_measure,
            on_score=progress.on_score,
            on_train=progress.on_train,
            on_read=progress.on_read,
        )
    _conclude(result, json)


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM: say how to go on, exit 1."""
    try:
        yield
    except KeyboardInterrupt as stop:
        run = getattr(stop, "run", None)
        typer.echo(f"interrupted; go on with: nas resume {run}" if run else "interrupted", err=True)
        raise typer.Exit(1) from None


def _conclude(result: SearchResult, json: bool) -> None:
    """Print what was found and what to type next; exit 1 if every trial failed."""
    from nas.cli.finalists import by_the_search, final_line, print_finalists

    if json:
        print_json(result.to_dict())
    elif result.best is None and not result.counts["complete"] + result.counts["failed"]:
        typer.echo(f"the time limit was reached before the first trial; go on with: nas resume {result.run}")
    elif result.best is None and result.finalists:
        how = " or ".join(
            words
            for words, done in (
                ("trained longer", any(finalist.trained is not None for finalist in result.finalists)),
                ("measured", any(finalist.times is not None for finalist in result.finalists)),
            )
            if done
        )
        typer.echo(f"nothing was found: every network breaks a constraint when it is {how}\n")
        print_finalists(result)
        typer.echo(f"\nrun            {result.run}")
        typer.echo("\nto have one of them all the same")
        typer.echo(f"  nas export {result.run}/{result.finalists[0].arch_id} --to torch --out exported")
    elif result.best is None and result.counts["complete"]:
        typer.echo("nothing was found: every network breaks a limit that only its evaluation could tell")
        typer.echo(f"run            {result.run}")
        typer.echo(f"\nto have one of {result.run / 'networks.csv'} all the same")
        typer.echo(f"  nas export {result.run}/ARCH_ID --to torch --out exported")
    elif result.best is None:
        typer.echo(f"nothing was found: every trial failed; see the reasons in {result.run / 'journal.log'}")
    else:
        counts = "  ".join(f"{count} {name}" for name, count in result.counts.items() if count)
        if result.front:
            _print_front(result)
        typer.echo(f"\nbest network   {result.best.architecture.name}")
        typer.echo(f"               {metrics_line(by_the_search(result.best.metrics))}")
        looks = f", mean of {result.best.looks} looks" if result.best.looks > 1 else ""
        typer.echo(f"               ({_scored_by(result)}{looks})")
        if final := final_line(result):
            typer.echo(f"               {final}")
        typer.echo(f"trials         {counts}; stopped by {result.stopped_by}, {duration(result.wall_time_s)}")
        if result.counts["pruned"]:
            typer.echo(f"cost           that of {result.full_training_equivalents:.1f} full trainings")
        if result.finalists:
            print_finalists(result)
        if result.finalists_not_trained:
            typer.echo(f"finalists      not trained: {result.finalists_not_trained}")
        typer.echo(f"run            {result.run}")
        typer.echo("\nwhat to type next")
        typer.echo(f"  nas show {result.run}")
        typer.echo(f"  nas export {result.run} --to torch --out exported/{result.best.arch_id}")
        if result.stopped_by == "time limit":
            typer.echo(f"  nas resume {result.run}")
    if result.best is None:
        raise typer.Exit(1)


def _scored_by(result: SearchResult) -> str:
    assert result.best is not None
    origin = result.best.architecture.provenance
    kind, _, score = str(origin.get("evaluator", "proxy")).partition(":")
    if kind == "zero-cost":
        return f"{score}: without training"
    learned = " and ".join(name for name in ("accuracy", "loss") if name in result.best.metrics)
    return f"{learned}: validation images, proxy training" if kind == "proxy" else f"{learned}: from {origin['file']}"


_FRONT_SHOWN = 20


def _print_front(result: SearchResult) -> None:
    """The front, evenly thinned out if it is long."""
    from nas.cli.output import print_rich, quantity, table
    from nas.pareto import thinned

    metrics = list(result.reference_point)
    rows = table("network", "looks", *metrics)
    count = len(result.front)
    shown = thinned(count, _FRONT_SHOWN)
    for place in shown:
        network = result.front[place]
        rows.add_row(network.arch_id, str(network.looks), *(quantity(network.metrics[name]) for name in metrics))
    title = f"\nPareto front   {count} networks" + (f", {len(shown)} of them shown" if len(shown) < count else "")
    print_rich(title, rows)
    typer.echo(
        f"               hypervolume {result.hypervolume:.6g} down to {metrics_line(dict(result.reference_point))}"
    )
    typer.echo(f"               {result.run / 'pareto.csv'}, {result.run / 'pareto.png'}")
