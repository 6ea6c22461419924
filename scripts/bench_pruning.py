"""What a pruner is worth to a searcher, on NAS-Bench-Macro with learning curves that are made up.

    python scripts/bench_pruning.py TABLE --budget 30 --seeds 20

The table knows the ends of trainings only. Here each has nine epochs; after epochs 1 and 3 the accuracy is the final
one, less .1 and .033 for all, plus an error that is normal with standard deviation `--error` and half of it (shares of
images; .8 of it is the network's own, .6 the seed's). Printed is the mean regret in points: the best true accuracy less
that of the network found, both means over the table's seeds. Pruners spend as many equivalents of full trainings.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from evaluators import Report, TabularEvaluator, derive_seed
from nas.executors import InlineExecutor
from nas.loop import SearchLoop
from nas.pruning import PRUNERS, make_pruning
from search_space import Architecture
from searchers import Problem, make_sampler

_EPOCHS = 9
_ERRORS = {1: 1.0, 3: 0.5}
_WINDOW = 4


class Curves(TabularEvaluator):
    """The table's accuracies with one seed, and what might have been seen on the way."""

    def __init__(self, path: str, error: float) -> None:
        super().__init__(path, noisy=True)
        self._error = error

    @property
    def steps(self) -> int:
        """Epochs."""
        return _EPOCHS

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        """One report an epoch."""
        [last] = super().evaluate(architecture, seed=seed)
        final = last.metrics["accuracy"]
        by_seed = np.random.default_rng(derive_seed(seed, architecture.arch_id))
        own = np.random.default_rng(derive_seed(7, architecture.arch_id)).normal()
        for epoch in range(1, _EPOCHS):
            metrics = {}
            if epoch in self.rungs:
                error = _ERRORS[epoch] * self._error * (0.8 * own + 0.6 * by_seed.normal())
                metrics = {"accuracy": final - 0.1 / epoch + error}
            yield Report(epoch, _EPOCHS, metrics)
        yield Report(_EPOCHS, _EPOCHS, {"accuracy": final})


def regret_points(evaluator: Curves, searcher: str, pruner: str, budget: int, seed: int) -> tuple[float, int]:
    """Of one search; and its trials."""
    problem = Problem(evaluator.space, known=lambda architecture: {"macs": 1.0})
    pruning = make_pruning(pruner, problem, evaluator, "accuracy")
    evaluator.rungs = pruning.rungs if pruning is not None else ()
    loop = SearchLoop(
        problem,
        make_sampler(searcher, problem, seed),
        InlineExecutor(evaluator),
        None,
        budget=budget,
        seed=seed,
        pruning=pruning,
        window=_WINDOW,
    )
    loop.run()
    best = max(entry.accuracy for entry in evaluator.entries.values())
    return 100 * (best - evaluator.true_accuracy(loop.ranked()[0].architecture.arch_id)), loop.state.done


def main() -> None:
    """Print a line for each searcher and pruner."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("--budget", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--error", type=float, default=0.012)
    parser.add_argument("--searchers", default="random,evolution,tpe,predictor")
    parser.add_argument("--pruners", default=",".join(PRUNERS))
    arguments = parser.parse_args()
    evaluator = Curves(arguments.table, arguments.error)
    for searcher in arguments.searchers.split(","):
        for pruner in arguments.pruners.split(","):
            found = np.array(
                [regret_points(evaluator, searcher, pruner, arguments.budget, seed) for seed in range(arguments.seeds)]
            )
            mean, error = found[:, 0].mean(), found[:, 0].std() / len(found) ** 0.5
            print(
                f"{searcher:10} {pruner:10} regret {mean:.3f} ± {error:.3f}, {found[:, 1].mean():.0f} trials",
                flush=True,
            )


if __name__ == "__main__":
    main()
