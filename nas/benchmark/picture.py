"""A bench as a picture, or as a page that carries the picture in itself."""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas.benchmark.result import BenchResult
from nas.benchmark.truth import REGRET
from search_space.documents import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".html")
_LEAST_DRAWN = 1e-5


def write(result: BenchResult, path: Path, curves: Path) -> None:
    """Write the picture, as PNG or HTML by its suffix, and the curves as CSV."""
    write_whole(curves, result.to_csv())
    figure = draw(result)
    if path.suffix == ".html":
        text = io.StringIO()
        figure.savefig(text, format="svg")
        write_whole(path, _page(result, text.getvalue()))
    else:
        temporary = path.with_name(f".{path.name}")
        figure.savefig(temporary, format="png", dpi=120)
        temporary.replace(path)


def draw(result: BenchResult) -> Figure:
    """Mean curves with 95 % confidence intervals, on a logarithmic axis: the ends of good searchers lie close together.

    Of hypervolume ratios, what is missing to 1 is drawn.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    evaluations = np.arange(1, result.budget + 1)
    drawn = []
    for curve in result.curves:
        mean, (low, high) = curve.mean, curve.interval
        if result.metric != REGRET:
            mean, low, high = 1 - mean, 1 - high, 1 - low
        dashed = "--" if curve.searcher == "random" else "-"
        (line,) = axes.plot(evaluations, mean, dashed, label=f"{curve.searcher}  {curve.mean[-1]:.4g}")
        axes.fill_between(evaluations, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        drawn += mean[mean > _LEAST_DRAWN].tolist()
    if drawn:
        axes.set_yscale("log")
        axes.set_ylim(bottom=min(drawn) / 2)  # intervals, and those that have found the best, reach down to 0
    name = "regret, percentage points" if result.metric == REGRET else "1 − hypervolume ratio"
    axes.set(xlabel="evaluations", ylabel=name, title=title(result))
    axes.grid(alpha=0.3, which="both")
    axes.legend(title=f"{result.metric.replace('_', ' ')} at {result.budget}")
    return figure


def title(result: BenchResult) -> str:
    """What was asked, in a line."""
    parts = [",".join(result.objectives), *result.constraints, f"{len(result.seeds)} seeds"]
    parts.append("with noise" if result.noise else "noise-free")
    if result.workers > 1:
        parts.append(f"{result.workers} workers")
    return ", ".join(parts)


def _page(result: BenchResult, svg: str) -> str:
    heading = html.escape(f"{Path(result.table).name}: {title(result)}")
    image = svg[svg.index("<svg") :]
    start = '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>nas bench</title>'
    return f"{start}\n<h1>{heading}</h1>\n{image}\n"
