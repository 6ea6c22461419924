"""An audit as a picture: what each score costs and is worth, and each against the truth, a dot for each network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.zero_cost import COUNTED, SCORES
from nas.auditing.result import AuditResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

_COLUMNS = 4
_LEAST_SECONDS = 1e-3
_ASIDE = 1.4  # times as far on the axis of seconds
_ROOM_FOR_NAMES = 1.4  # of a tau of at most 1


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
    figure.suptitle(f"{result.space}, {len(result.arch_ids)} networks, against {_short(result.truth)}")
    _draw_costs(above.subplots(), result)
    _draw_panels(below, rows, result)
    return figure


def _short(name: str) -> str:
    """A file's name without its folder."""
    return Path(name).name


def _draw_costs(axes: Axes, result: AuditResult) -> None:
    """A line for each training, from what it says early to its end, and a dot for each other score.

    What a training ranks by loss or accuracy alone costs the same; the panels have it.
    """
    curves = [
        [one for one in result.ranked if proxy in (one.name, one.name.rpartition("@")[0])] for proxy in result.proxies
    ]
    free = [one for one in result.ranked if one.name in (*SCORES, *COUNTED)]
    counted = 0
    for curve in (*curves, *([one] for one in free)):
        drawn = sorted(curve, key=lambda one: one.seconds_per_network)
        seconds = [one.seconds_per_network for one in drawn]
        if seconds == [0.0]:  # side by side, or else one would hide the others
            seconds, counted = [_LEAST_SECONDS * _ASIDE**counted], counted + 1
        taus = [one.tau for one in drawn]
        below = [max(0.0, one.tau - one.tau_interval[0]) for one in drawn]
        above = [max(0.0, one.tau_interval[1] - one.tau) for one in drawn]
        (line, *_) = axes.errorbar(seconds, taus, [below, above], marker="o", capsize=3)
        for one, at in zip(drawn, seconds, strict=True):
            axes.annotate(
                _short(one.name),
                (at, max(one.tau, one.tau_interval[1])),
                xytext=(0, 3),
                textcoords="offset points",
                rotation=45,
                fontsize=8,
                color=line.get_color(),
            )
    axes.set_xscale("log")
    axes.set_ylim(top=_ROOM_FOR_NAMES)
    least, _ = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if least <= tick < 1.01])
    axes.set_xlabel(f"seconds a network (counted ones at {_LEAST_SECONDS:g})")
    axes.set_ylabel("Kendall's tau")
    axes.grid(alpha=0.3)


def _draw_panels(figure: SubFigure, rows: int, result: AuditResult) -> None:
    from scipy.stats import rankdata

    panels = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    for panel, one in zip(panels, result.ranked, strict=False):
        both = [(value, real) for value, real in zip(one.values, result.truth_values, strict=True) if value is not None]
        values, truth = (rankdata([-value for value in side]) for side in zip(*both, strict=True))
        panel.scatter(values, truth, s=9)
        low, high = one.tau_interval
        panel.set_title(f"{_short(one.name)}  τ {one.tau:.2f} ({low:.2f} to {high:.2f})", fontsize=9)
        panel.invert_xaxis()
        panel.invert_yaxis()
        panel.set_box_aspect(1)
    for panel in panels[len(result.ranked) :]:
        panel.set_axis_off()
    figure.supxlabel("rank by score")
    figure.supylabel("rank by the truth")
