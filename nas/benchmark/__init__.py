"""Searchers against one another, on networks that others have trained: `nas bench` and `nas.bench(...)`.

One evaluation is the accuracy that a network had with one random training seed; without noise, the mean over seeds.
The pick of a searcher after n evaluations is what a search would hand over then: the network it holds best (for the
predictor, by posterior mean). With one objective, `regret` is the true mean accuracy of the best network that the
constraints allow minus that of the pick, in percentage points. With several, `hypervolume_ratio` is the hypervolume of
the picked front, by true means, over that of the true front; the reference point is the worst value of each objective
in the whole table.
"""

from nas.benchmark.api import BenchInterrupted, bench
from nas.benchmark.result import BenchResult, Curve

__all__ = ["BenchInterrupted", "BenchResult", "Curve", "bench"]
