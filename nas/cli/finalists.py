"""How finalists are printed: what the search said of them beside what came of training and timing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from nas.finalists import Finalist
    from nas.result import SearchResult

_FINAL = "final_"
_MEASURED = (_FINAL, "test_")
_STD = "_std"


def by_the_search(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that were known before the finalists were trained."""
    return {name: value for name, value in metrics.items() if not name.startswith(_MEASURED)}


def final_line(result: SearchResult) -> str:
    """`final accuracy 0.96 ± 0.004  test accuracy 0.95 ± 0.01  (standard, 3 trainings)`; empty if there is none."""
    assert result.best is not None
    metrics = result.best.metrics
    names = [name for name in metrics if name.startswith(_MEASURED) and not name.endswith(_STD)]
    if not names:
        return ""
    winner = result.finalists[0].trained
    assert winner is not None
    scores = "  ".join(f"{name.replace('_', ' ')} {_spread(metrics, name)}" for name in names if name != "test_loss")
    count = len(winner.trainings)
    return f"{scores}  ({result.final_proxy}, {count} training{'s' if count > 1 else ''})"


def print_finalists(result: SearchResult) -> None:
    """What the search and training say of each, how fast it is, and what is wrong with it, each if there is any.

    Tables of their own, as terminals are narrow.
    """
    trained = any(one.trained is not None for one in result.finalists)
    if trained:
        spread = any(name.endswith(_STD) for one in result.finalists for name in one.metrics())
        title = f"trained again: {result.final_proxy} (mean{' ± standard deviation' if spread else ''})"
    else:
        title = "as the search found them"
    _print_rows(f"\nfinalists, {title}", [row for one in result.finalists for row in _learned(one, trained)])
    timed = [_timed(one) for one in result.finalists if one.times is not None]
    if timed:
        _print_rows("finalists, timed end to end (measured: 10th percentile)", timed)
    for one in result.finalists:
        for note in (*(f"breaks {constraint}" for constraint in one.broken), one.reason):
            if note:
                typer.echo(f"{one.arch_id}   {note}")


def _print_rows(title: str, rows: Sequence[Mapping[str, str]]) -> None:
    """The columns are those that any row has; their names take two lines."""
    from nas.cli.output import print_rich, table

    columns = list(dict.fromkeys(name for row in rows for name in row))
    listing = table(*(name.replace(" ", "\n", 1) for name in columns))
    for row in rows:
        listing.add_row(*(row.get(name, "") for name in columns))
    print_rich(title, listing)


def _learned(finalist: Finalist, trained: bool) -> list[dict[str, str]]:
    """A row of what the search says, and below it one of what came of training it again."""
    metrics = finalist.metrics()
    by_search = {name: f"{value:.4g}" for name, value in finalist.best.learned.items() if name != "train_loss"}
    finals = {
        name.removeprefix(_FINAL): _spread(metrics, name)
        for name in metrics
        if name.startswith(_FINAL) and not name.endswith(_STD)
    }
    rows = [{"finalist": finalist.arch_id, **({"": "proxy"} if trained else {}), **by_search}]
    return [*rows, {"": "final", **finals}] if finals else rows


def _timed(finalist: Finalist) -> dict[str, str]:
    assert finalist.times is not None
    metrics, predicted = finalist.metrics(), finalist.best.cost["latency_ms"]
    row = {
        "finalist": finalist.arch_id,
        "predicted ms": f"{predicted:.3f}",
        "measured ms": f"{finalist.measured_ms:.3f}",
        "p50 ms": f"{finalist.times.p50_ms:.3f}",
        "error": f"{100 * (predicted / finalist.measured_ms - 1):+.1f} %",
    }
    if "measured_reward" in metrics:
        row["measured reward"] = f"{metrics['measured_reward']:.4g}"
    return row


def _spread(metrics: Mapping[str, float], name: str) -> str:
    std = metrics.get(name + _STD)
    return f"{metrics[name]:.4g}" + ("" if std is None else f" ± {std:.2g}")
