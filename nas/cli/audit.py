"""`nas audit`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.options import Json
from nas.cli.output import print_json, show_warnings

if TYPE_CHECKING:
    from nas.auditing import AuditResult


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(audit)


def audit(
    space: Annotated[str, typer.Option(help="A preset or a space file.")],
    data: Annotated[
        str, typer.Option(help="digits, fashion-mnist, cifar10, cifar100, npz:FILE or imagefolder:DIR.")
    ] = "digits",
    networks: Annotated[int, typer.Option(help="How many random networks.")] = 40,
    budget_minutes: Annotated[
        float | None, typer.Option(help="Start no further network after so long; the rest is left out.")
    ] = None,
    proxy: Annotated[str, typer.Option(help="Fidelities or recipe files, separated by commas.")] = "quick,standard",
    truth: Annotated[
        str,
        typer.Option(help="What they are to predict: test accuracy at this fidelity, or the accuracy of table:FILE."),
    ] = "thorough",
    out: Annotated[
        Path | None,
        typer.Option(
            help="The audit's folder; the same again, or more of it, goes on. [default: audits/SPACE-DATE-TIME]"
        ),
    ] = None,
    data_root: Annotated[str, typer.Option(help="Where torchvision's data sets lie or are downloaded to.")] = "data",
    seed: Annotated[int, typer.Option(help="Same seed, same networks.")] = 0,
    workers: Annotated[
        int, typer.Option(help="Networks at once; 0: one a processor, or for each GPU or share of it.")
    ] = 0,
    executor: Annotated[str, typer.Option(help="inline: this machine; ray.")] = "inline",
    ray_address: Annotated[str, typer.Option(help="With Ray: the cluster.", show_default=False)] = "",
    gpus_per_trial: Annotated[float, typer.Option(help="With Ray: the share of a GPU for each worker.")] = 0.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    json: Json = False,
) -> None:
    """See whether a proxy's ranking is worth anything on your images: cheap scores beside much longer training."""
    from nas.auditing import AuditInterrupted
    from nas.auditing import audit as run_audit
    from nas.cli.progress import show_steps_in_turn

    try:
        with show_warnings(), show_steps_in_turn("audit", "reading images") as (on_progress, on_read):
            result = run_audit(
                space,
                data,
                networks,
                proxies=[name.strip() for name in proxy.split(",") if name.strip()],
                truth=truth,
                budget_minutes=math.inf if budget_minutes is None else budget_minutes,
                out=out,
                data_root=data_root,
                seed=seed,
                device=device,
                workers=workers,
                executor=executor,
                ray_address=ray_address,
                gpus_per_trial=gpus_per_trial,
                on_progress=on_progress,
                on_read=on_read,
            )
    except AuditInterrupted as stop:
        typer.echo(f"interrupted; go on with the same command and --out {stop.out}", err=True)
        raise typer.Exit(1) from None
    if json:
        print_json(result.to_dict())
    else:
        _print(result)


def _print(result: AuditResult) -> None:
    from nas.auditing.ranking import MACS
    from nas.auditing.result import seconds_text
    from nas.cli.output import print_rich, table

    others = [] if result.baseline == MACS else [f"over {result.baseline}", "95 %"]
    rows = table("score", "tau", "95 %", "over macs", "95 %", *others, "top quarter", "s a network")
    for one in result.ranked:
        count = "" if one.networks == len(result.arch_ids) else f" ({one.networks} networks)"
        over = [f"{one.over_baseline:+.2f}", _range(one.over_baseline_interval)] if others else []
        rows.add_row(
            f"{one.name}{count}",
            f"{one.tau:.2f}",
            _range(one.tau_interval),
            f"{one.over_macs:+.2f}",
            _range(one.over_macs_interval),
            *over,
            f"{one.top_quarter_overlap:.0%}",
            seconds_text(one.seconds_per_network),
        )
    pixels = " and ".join(f"{px} px" for px in result.resolutions_px)
    early = ", stopped by time" if result.stopped_by == "time" else ""
    what = result.truth if result.truth.startswith("table:") else f"test accuracy after {result.truth}"
    counted = f"{len(result.arch_ids)} random networks of {result.space} for {pixels}{early}"
    cost = f"{seconds_text(result.truth_seconds_per_network)} s a network"
    print_rich(f"{counted}; rank correlation with {what} ({cost})", rows)
    for verdict in result.verdicts:
        typer.echo(verdict)
    for name, said in result.failures.items():
        typer.echo(f"{name}: {said}")
    typer.echo(f"\nfolder         {result.out}, with audit.png and scores.csv")


def _range(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f}"
