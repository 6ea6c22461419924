"""`nas search` and `nas resume`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.output import duration, metrics_line, print_json

if TYPE_CHECKING:
    from nas.api import SearchResult

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
TimeLimit = Annotated[str | None, typer.Option(help="Start no more trials after 90s, 30m, 2h.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(search)
    app.command()(resume)


def search(
    space: Annotated[str, typer.Option(help="A preset (see `nas spaces`) or a space file.")],
    budget: Annotated[int, typer.Option(help="How many networks to train.")],
    data: Annotated[
        str, typer.Option(help="digits, fashion-mnist, cifar10, cifar100, npz:FILE or imagefolder:DIR.")
    ] = "digits",
    data_root: Annotated[str, typer.Option(help="Where torchvision's data sets lie or are downloaded to.")] = "data",
    searcher: Annotated[str, typer.Option(help="evolution, random or tpe.")] = "evolution",
    seed: Annotated[int, typer.Option(help="Same seed, same search.")] = 0,
    out: Annotated[Path | None, typer.Option(help="The run folder. [default: runs/SPACE-DATE-TIME]")] = None,
    objective: Annotated[str, typer.Option(help="accuracy or loss, on the validation images.")] = "accuracy",
    constraint: Annotated[
        list[str] | None, typer.Option(help='Hard limit, as "macs<=200M", "params<=4M", "memory_mb<=8"; repeatable.')
    ] = None,
    time_limit: TimeLimit = None,
    workers: Annotated[int, typer.Option(help="Trainings at once; 0: one a processor, one on a GPU.")] = 0,
    executor: Annotated[str, typer.Option(help="inline: this machine.")] = "inline",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    json: Json = False,
) -> None:
    """Search a space: train candidates on your images and hand over the best network."""
    from nas import api
    from nas.cli.progress import show_progress
    from nas.settings import parse_duration

    limit = parse_duration(time_limit) if time_limit else math.inf
    with _stoppable(), show_progress(f"search {Path(space).stem}") as on_change:
        result = api.search(
            space,
            budget,
            out=out,
            constraints=constraint or (),
            time_limit_s=limit,
            on_change=on_change,
            data=data,
            data_root=data_root,
            searcher=searcher,
            seed=seed,
            objective=objective,
            workers=workers,
            executor=executor,
            device=device,
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
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        with _stoppable(), show_progress(f"resume {run.name}") as on_change:
            result = api.resume(run, time_limit_s=limit, on_change=on_change)
    for warning in caught:
        typer.echo(f"warning: {warning.message}", err=True)
    _conclude(result, json)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM: say how to go on, exit 1."""
    try:
        yield
    except KeyboardInterrupt as stop:
        run = getattr(stop, "run", None)
        typer.echo(f"interrupted; go on with: nas resume {run}" if run else "interrupted", err=True)
        raise typer.Exit(1) from None


def _conclude(result: SearchResult, json: bool) -> None:
    """Print what was found and what to type next; exit 1 if every trial failed."""
    if json:
        print_json(result.to_dict())
    elif result.best is None and not result.counts["failed"]:
        typer.echo(f"the time limit was reached before the first trial; go on with: nas resume {result.run}")
    elif result.best is None:
        typer.echo(f"nothing was found: every trial failed; see the reasons in {result.run / 'journal.log'}")
    else:
        counts = "  ".join(f"{count} {name}" for name, count in result.counts.items() if count)
        typer.echo(f"\nbest network   {result.best.architecture.name}")
        typer.echo(f"               {metrics_line(result.best.metrics)}")
        typer.echo("               (accuracy and loss: validation images, proxy training)")
        typer.echo(f"trials         {counts}; stopped by {result.stopped_by}, {duration(result.wall_time_s)}")
        typer.echo(f"run            {result.run}")
        typer.echo("\nwhat to type next")
        typer.echo(f"  nas show {result.run}")
        typer.echo(f"  nas export {result.run} --to yaml --out exported")
        if result.stopped_by == "time limit":
            typer.echo(f"  nas resume {result.run}")
    if result.best is None:
        raise typer.Exit(1)
