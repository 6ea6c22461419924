"""An audit as a picture: what each score costs and is worth, and each against the truth, a dot for each network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from nas.auditing.result import AuditResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_COLUMNS = 4
_LEAST_SECONDS = 1e-3


def write(result: AuditResult, path: Path) -> None:
    """Write the picture as PNG."""
    temporary = path.with_name(f".{path.name}")
    draw(result).savefig(temporary, format="png", dpi=100)
    temporary.replace(path)


def draw(result: AuditResult) -> Figure:
    """Above, tau against cost; below, a panel for each score in order of tau.

    Axes of the panels are ranks, 1 the best, since ranking is all that a search asks of a score.
    """
    from matplotlib.figure import Figure

    rows = math.ceil(len(result.ranked) / _COLUMNS)
    figure = Figure(figsize=(3 * _COLUMNS, 4 + 2.8 * rows), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[4, 2.8 * rows]).flatten()
    figure.suptitle(f"{result.space}, {len(result.arch_ids)} networks")
    _draw_costs(above.subplots(), result)
    _draw_panels(below, rows, result)
    return figure


def _draw_costs(axes: Axes, result: AuditResult) -> None:
    for one in result.ranked:
        low, high = one.tau_interval
        seconds = max(one.seconds_per_network, _LEAST_SECONDS)
        axes.errorbar(seconds, one.tau, [[max(0.0, one.tau - low)], [max(0.0, high - one.tau)]], marker="o", capsize=3)
        axes.annotate(one.name, (seconds, one.tau), xytext=(5, 4), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel(f"seconds a network (counted ones at {_LEAST_SECONDS:g})")
    axes.set_ylabel(f"Kendall's tau with {result.truth}")
    axes.grid(alpha=0.3)


def _draw_panels(figure: SubFigure, rows: int, result: AuditResult) -> None:
    from scipy.stats import rankdata

    panels = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    for panel, one in zip(panels, result.ranked, strict=False):
        both = [(value, real) for value, real in zip(one.values, result.truth_values, strict=True) if value is not None]
        values, truth = (rankdata([-value for value in side]) for side in zip(*both, strict=True))
        panel.scatter(values, truth, s=9)
        low, high = one.tau_interval
        panel.set_title(f"{one.name}  τ {one.tau:.2f} ({low:.2f} to {high:.2f})", fontsize=9)
        panel.invert_xaxis()
        panel.invert_yaxis()
        panel.set_box_aspect(1)
    for panel in panels[len(result.ranked) :]:
        panel.set_axis_off()
    figure.supxlabel("rank by score")
    figure.supylabel(f"rank by {result.truth}")
