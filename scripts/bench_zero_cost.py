"""What zero-cost scores are worth on NAS-Bench-Macro: as a prefilter, and as features of the predictor.

    python scripts/bench_zero_cost.py --table nas-bench-macro_cifar10.json
    python scripts/bench_zero_cost.py --table nas-bench-macro_cifar10.json --scores naswot --data npz:cifar10.npz

Each evaluation is the accuracy of one random training seed, as in `nas bench`; printed is the regret of the pick, in
points, mean and standard error over the seeds. `chance` is a score that tells nothing: what it costs to believe one.
First, Kendall's tau of each score with the table's accuracies is printed, over all networks. Scores of images take some
minutes; `--cache` keeps them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import joblib
import numpy as np
from scipy.stats import kendalltau
from threadpoolctl import threadpool_limits

from evaluators import TabularEvaluator, ZeroCost, load_images
from evaluators.zero_cost import COUNTED, SCORES
from nas.benchmark.runs import request
from nas.cheap_scores import CheapScores, hinted
from nas.executors import InlineExecutor
from nas.loop import SearchLoop
from nas.prefilter import PrefilterRule
from nas.settings import Settings
from search_space import Architecture
from searchers import make_sampler

CHANCE = "chance"
AT = (25, 50, 100, 200, 300)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", required=True)
    parser.add_argument("--scores", default="macs,params", help="separated by commas")
    parser.add_argument("--searchers", default="random,evolution,tpe,predictor")
    parser.add_argument("--shares", default="0.5", help="separated by commas; empty: no prefilters")
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--processes", type=int, default=joblib.cpu_count())
    arguments = parser.parse_args()
    table = TabularEvaluator(arguments.table, noisy=True)
    names = [*arguments.scores.split(","), CHANCE]
    values = {name: scores_of(name, table, arguments) for name in names}
    truth = [entry.accuracy for entry in table.entries.values()]
    for name in names:
        found = np.array(list(values[name].values()))
        known = np.isfinite(found)
        print(
            f"{name:10s} tau {kendalltau(found[known], np.array(truth)[known]).statistic:.3f}, {known.sum()} networks"
        )
    ways: list[tuple[str, PrefilterRule | None, tuple[str, ...]]] = []
    for searcher in arguments.searchers.split(","):
        ways.append((searcher, None, ()))
        ways += [
            (searcher, PrefilterRule(name, float(share)), ())
            for name in names
            for share in filter(None, arguments.shares.split(","))
        ]
        if searcher == "predictor":
            ways += [(searcher, None, (name,)) for name in names]
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    tasks = [(way, seed) for way in ways for seed in seeds]
    with joblib.parallel_config("loky", n_jobs=arguments.processes, inner_max_num_threads=1):
        runs = joblib.Parallel()(
            joblib.delayed(regrets)(table, values, *way, arguments.budget, seed) for way, seed in tasks
        )
    print(f"{'':32s}" + "".join(f"{at:>16d}" for at in AT if at <= arguments.budget))
    for way in ways:
        found = np.array([run for (other, _), run in zip(tasks, runs, strict=True) if other == way])
        searcher, rule, features = way
        what = " ".join([searcher, *([f"prefilter {rule}"] if rule else []), *(f"feature {one}" for one in features)])
        columns = [found[:, at - 1] for at in AT if at <= arguments.budget]
        print(f"{what:32s}" + "".join(f"{c.mean():8.3f} ± {c.std(ddof=1) / len(c) ** 0.5:.3f}" for c in columns))


def scores_of(name: str, table: TabularEvaluator, arguments: argparse.Namespace) -> dict[str, float]:
    """`arch_id` -> score, for all networks of the table."""
    if name == CHANCE:
        rng = np.random.default_rng(0)
        return {arch_id: float(rng.standard_normal()) for arch_id in table.entries}
    if name in COUNTED:
        return {arch_id: float(getattr(entry, name)) for arch_id, entry in table.entries.items()}
    if name not in SCORES:
        raise SystemExit(f"unknown score {name}")
    evaluator = ZeroCost(name, load_images(arguments.data), device="cpu")
    scores = CheapScores({name: evaluator}, 0, arguments.cache)
    return {one.arch_id: scores.score(name, one) for one in table.architectures()}


def regrets(
    table: TabularEvaluator,
    values: Mapping[str, Mapping[str, float]],
    searcher: str,
    rule: PrefilterRule | None,
    features: tuple[str, ...],
    budget: int,
    seed: int,
) -> list[float]:
    """In points, of the pick after each evaluation."""
    best = max(entry.accuracy for entry in table.entries.values())
    picks: list[float] = []

    def score(name: str, architecture: Architecture) -> float:
        return values[name][architecture.arch_id]

    with threadpool_limits(1):
        settings = Settings(budget=budget, seed=seed, searcher=searcher, objective="accuracy", workers=1)
        problem, passes = hinted(request(table, settings).problem(), rule, features, score, seed)
        loop = SearchLoop(
            problem,
            make_sampler(searcher, problem, seed),
            InlineExecutor(table),
            None,
            budget=budget,
            seed=seed,
            passes=passes,
            on_change=lambda state: picks.extend(
                100 * (best - table.true_accuracy(state.front[0].architecture.arch_id))
                for _ in range(state.done - len(picks))
            ),
        )
        loop.run()
    return picks + picks[-1:] * (budget - len(picks))


if __name__ == "__main__":
    main()
