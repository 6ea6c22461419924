"""How long a searcher takes between two evaluations: ask, tell, and the journal's entry.

    python scripts/bench_searchers.py                                  # all of ours, 1,000 trials on mobilenetv3
    python scripts/bench_searchers.py --searcher predictor --objective accuracy,macs
    python scripts/bench_searchers.py --trials 300 --workers 16        # with 32 trials under way

Scores and costs are made up, so that nothing but the search itself takes time. Prints a line for each searcher: median
and 95th percentile over the last tenth of the trials, in ms, and the ratio to random search. Run it with nothing else
running.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from evaluators import Direction, Evaluator, Report
from nas.constraints import COUNTED
from nas.executors import InlineExecutor
from nas.known import Known
from nas.loop import SearchLoop
from nas.record import TrialLog
from nas.session import Request
from nas.settings import Settings
from search_space import Architecture, SearchSpace, load_space
from searchers import SEARCHERS, SpaceSampler, distributions, make_sampler


class MadeUp(Evaluator):
    """Scores that are smooth in a few of the network's fields, with noise; remembers when it was asked."""

    directions: ClassVar[Mapping[str, Direction]] = {"accuracy": "maximize"}

    def __init__(self) -> None:
        self.asked: list[float] = []

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        kernels = np.mean([getattr(block, "kernel_size", 3) for block in architecture.blocks])
        widths = np.mean([block.out_channels for block in architecture.blocks])
        noise = np.random.default_rng([seed, int(architecture.arch_id, 16)]).normal(0, 0.005)
        score = 0.5 + 0.03 * float(kernels) + 0.001 * float(widths) + float(noise)
        self.asked.append(time.perf_counter())
        yield Report(1, 1, {"accuracy": score})

    def describe(self) -> dict[str, Any]:
        return {"evaluator": "made up"}


def made_up_cost(architecture: Architecture) -> dict[str, float]:
    """In place of counting, which takes a while for every part that is new."""
    parts = (
        block.out_channels * getattr(block, "expand_ratio", 1) * getattr(block, "kernel_size", 1)
        for block in architecture.blocks
    )
    return dict.fromkeys(COUNTED, float(sum(parts)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="mobilenetv3")
    parser.add_argument("--searcher", action="append", help="repeatable [default: all of ours]")
    parser.add_argument("--objective", default="accuracy")
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    space = load_space(arguments.space)
    print(f"{space.name}: {len(space.genes)} choices; ms a trial over the last tenth of {arguments.trials:,}")
    names = arguments.searcher or ours(space, arguments.objective)
    baseline = 0.0
    for name in dict.fromkeys(["random", *names]):
        spent = 1_000 * intervals(name, space, arguments.objective, arguments.trials, arguments.workers)
        last = spent[-max(1, arguments.trials // 10) :]
        median, p95 = np.quantile(last, [0.5, 0.95])
        baseline = baseline or float(median)
        ended = "" if len(spent) == arguments.trials else f"   ended after {len(spent):,} trials"
        print(
            f"{name:<12} median {median:7.2f}   p95 {p95:7.2f}   {median / baseline:6.1f} × random{ended}", flush=True
        )


def ours(space: SearchSpace, objective: str) -> list[str]:
    """The names of our own searchers that take as many objectives."""
    several = "," in objective
    made = {name: make for name, make in SEARCHERS.items() if isinstance(make, type) and issubclass(make, SpaceSampler)}
    return [name for name, make in made.items() if make.several_objectives or not several]


def intervals(name: str, space: SearchSpace, objective: str, trials: int, workers: int) -> Any:
    """Seconds from each evaluation to the next one."""
    evaluator, settings = MadeUp(), Settings(budget=trials, searcher=name, objective=objective)
    problem = dataclasses.replace(Request(settings, space, evaluator, Known()).problem(), known=made_up_cost)
    with tempfile.TemporaryDirectory() as folder:
        directions = [one.direction for one in problem.objectives]
        log = TrialLog(Path(folder) / "journal.log", directions, distributions(space))
        loop = SearchLoop(
            problem,
            make_sampler(name, problem, 0),
            InlineExecutor(evaluator),
            log,
            budget=trials,
            seed=0,
            window=1 if workers == 1 else 2 * workers,
        )
        loop.run()
    return np.diff([*evaluator.asked, time.perf_counter()])


if __name__ == "__main__":
    main()
