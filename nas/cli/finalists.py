"""How finalists are printed: what the search said of them beside what came of training and timing them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.finalists import Finalist
    from nas.result import SearchResult

_MEASURED = ("final_", "test_")
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
    """A row for each; the columns are those that any of them has."""
    from nas.cli.output import print_rich, table

    rows = [_row(finalist) for finalist in result.finalists]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    columns.sort(key=lambda name: name == "")
    listing = table(*columns)
    for row in rows:
        listing.add_row(*(row.get(name, "") for name in columns))
    done = []
    spread = (
        " ± standard deviation"
        if any(name.endswith(_STD) for one in result.finalists for name in one.metrics())
        else ""
    )
    if any(finalist.trained is not None for finalist in result.finalists):
        done.append(f"trained again: {result.final_proxy} (mean{spread})")
    if any(finalist.times is not None for finalist in result.finalists):
        done.append("timed end to end (measured: 10th percentile)")
    print_rich(f"\nfinalists, {'; '.join(done)}", listing)


def _row(finalist: Finalist) -> dict[str, str]:
    proxy, metrics = finalist.best.learned, finalist.metrics()
    row = {"finalist": finalist.arch_id}
    for name, value in proxy.items():
        if name != "train_loss":
            row[f"proxy {name}" if finalist.trained is not None else name] = f"{value:.4g}"
    for name in metrics:
        if name.startswith("final_") and not name.endswith(_STD):
            row[name.replace("_", " ")] = _spread(metrics, name)
    if "measured_reward" in metrics:
        row["measured reward"] = f"{metrics['measured_reward']:.4g}"
    if finalist.times is not None:
        predicted = finalist.best.cost["latency_ms"]
        row["predicted ms"] = f"{predicted:.3f}"
        row["measured ms"] = f"{finalist.measured_ms:.3f}"
        row["p50 ms"] = f"{finalist.times.p50_ms:.3f}"
        row["error"] = f"{100 * (predicted / finalist.measured_ms - 1):+.1f} %"
    notes = [f"breaks {constraint}" for constraint in finalist.broken]
    row[""] = ", ".join([*notes, finalist.reason] if finalist.reason else notes)
    return row


def _spread(metrics: Mapping[str, float], name: str) -> str:
    std = metrics.get(name + _STD)
    return f"{metrics[name]:.4g}" + ("" if std is None else f" ± {std:.2g}")
