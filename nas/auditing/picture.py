"""An audit as a picture: each score against the truth, a dot for each network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from nas.auditing.result import AuditResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 4


def write(result: AuditResult, path: Path) -> None:
    """Write the picture as PNG."""
    temporary = path.with_name(f".{path.name}")
    draw(result).savefig(temporary, format="png", dpi=100)
    temporary.replace(path)


def draw(result: AuditResult) -> Figure:
    """Panels in order of tau; axes are ranks, 1 the best, since ranking is all that a search asks of a score."""
    from matplotlib.figure import Figure
    from scipy.stats import rankdata

    rows = math.ceil(len(result.ranked) / _COLUMNS)
    figure = Figure(figsize=(3 * _COLUMNS, 2.8 * rows), layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    truth = rankdata([-value for value in result.truth_values])
    for panel, one in zip(panels, result.ranked, strict=False):
        panel.scatter(rankdata([-value for value in one.values]), truth, s=9)
        low, high = one.tau_interval
        panel.set_title(f"{one.name}  τ {one.tau:.2f} ({low:.2f} to {high:.2f})", fontsize=9)
        panel.invert_xaxis()
        panel.invert_yaxis()
        panel.set_box_aspect(1)
    for panel in panels[len(result.ranked) :]:
        panel.set_axis_off()
    figure.supxlabel("rank by score")
    figure.supylabel(f"rank by {result.truth}")
    figure.suptitle(f"{result.space}, {len(result.arch_ids)} networks")
    return figure
