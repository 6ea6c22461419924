"""A Pareto front on the disk: its networks, a table, how its hypervolume grew, and a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import moocore
import numpy as np

from nas.csv_text import csv_text
from nas.scored import Ranking, Scored
from search_space import Architecture, dump_architecture
from search_space.documents import write_whole
from searchers import Objective


def thinned(count: int, most: int) -> list[int]:
    """Places 0 to `count` - 1, evenly thinned out to `most`; both ends stay, of a single one the first."""
    if count <= most:
        return list(range(count))
    return sorted({round(place * (count - 1) / max(1, most - 1)) for place in range(most)})


class Hypervolume:
    """How the hypervolume grew from trial to trial, by final mean scores of the networks that keep all limits.

    The reference point is the worst value of each objective among all networks of the search.
    """

    def __init__(self, ranking: Ranking, objectives: Sequence[Objective], scored: Sequence[Scored]) -> None:
        kept = sorted((one for one in scored if ranking.keeps_limits(one)), key=lambda one: one.number)
        scores = np.array([ranking.scores(one) for one in scored])
        worst = scores.min(axis=0)
        self.reference = {
            one.metric: float(one.sign * value) for one, value in zip(objectives, worst.tolist(), strict=True)
        }
        self.by_trial: list[tuple[int, float]] = []
        """Trial number and hypervolume, where it changed."""
        front = np.empty((0, scores.shape[1]))
        for one in kept:
            score = np.array(ranking.scores(one))
            if (front >= score).all(axis=1).any():
                continue
            front = np.vstack([front, score])
            front = front[moocore.is_nondominated(front, maximise=True)]
            self.by_trial.append((one.number, float(moocore.hypervolume(front, ref=worst, maximise=True))))

    @property
    def final(self) -> float:
        """Of the whole search, in the product of the objectives' units."""
        return self.by_trial[-1][1] if self.by_trial else 0.0


def write_front(
    run: Path,
    front: Sequence[Scored],
    scored: Sequence[Scored],
    objectives: Sequence[Objective],
    volume: Hypervolume,
    named: Callable[[Scored], Architecture],
) -> None:
    """Write `pareto/*.yaml`, `pareto.csv`, `hypervolume.csv` and `pareto.png`; files of an earlier front go."""
    folder = run / "pareto"
    folder.mkdir(exist_ok=True)
    names = [f"{place:03}-{one.architecture.arch_id}.yaml" for place, one in enumerate(front)]
    for name, one in zip(names, front, strict=True):
        write_whole(folder / name, dump_architecture(named(one)))
    for stale in folder.glob("*.yaml"):
        if stale.name not in names:
            stale.unlink()
    metrics = list(dict.fromkeys(name for one in front for name in one.metrics))
    rows = [
        [name, one.architecture.arch_id, one.number, one.looks, *(one.metrics.get(metric, "") for metric in metrics)]
        for name, one in zip(names, front, strict=True)
    ]
    write_whole(run / "pareto.csv", csv_text(["file", "arch_id", "trial", "looks", *metrics], rows))
    write_whole(run / "hypervolume.csv", csv_text(["trial", "hypervolume"], volume.by_trial))
    _draw(run / "pareto.png", front, scored, objectives)


def _draw(path: Path, front: Sequence[Scored], scored: Sequence[Scored], objectives: Sequence[Objective]) -> None:
    """The first two objectives of all networks, the front in colour."""
    from matplotlib.figure import Figure

    first, second = (one.metric for one in objectives[:2])
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(
        [s.metrics[second] for s in scored], [s.metrics[first] for s in scored], s=12, c="0.7", label="networks"
    )
    line = sorted((one.metrics[second], one.metrics[first]) for one in front)
    axes.plot(*zip(*line, strict=True), "o-", ms=4, label="Pareto front")
    axes.set(xlabel=second, ylabel=first, title=f"{len(front)} of {len(scored)} networks on the front")
    axes.legend()
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, format="png", dpi=120)
    temporary.replace(path)
