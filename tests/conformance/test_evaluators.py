"""What every evaluator owes."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import multiprocessing
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from evaluators import (
    Evaluator,
    FinalTraining,
    ProxyTraining,
    Recipe,
    Report,
    Several,
    TabularEvaluator,
    ZeroCost,
    load_images,
)
from evaluators.zero_cost import COUNTED, SCORES, Counted
from search_space import Architecture, load_space

RECIPE = Recipe(resolution_px=16, epochs=2, max_train_images=64, max_val_images=64)


def make_proxy() -> ProxyTraining:
    return ProxyTraining(load_images("digits"), RECIPE, device="cpu")


def make_zero_cost(name: str) -> ZeroCost:
    return ZeroCost(name, load_images("digits"), RECIPE, device="cpu")


@functools.cache
def make_table(*, noisy: bool = False) -> TabularEvaluator:
    records = {}
    for key in ("".join(digits) for digits in itertools.product("012", repeat=8) if "0" not in digits[1:]):
        accuracies = [50 + int(key, 3) / 1000 + seed for seed in range(3)]
        mean = sum(accuracies) / 3
        records[key] = {"test_acc": accuracies, "mean_acc": mean, "std": 0.8, "params": 1, "flops": 1}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table.json")
        path.write_text(json.dumps(records))
        return TabularEvaluator(path, noisy=noisy)


EVALUATORS = {
    "proxy": make_proxy,
    "final": lambda: FinalTraining(load_images("digits"), RECIPE, device="cpu"),
    "table": make_table,
    "noisy-table": functools.partial(make_table, noisy=True),
    **{f"zero-cost:{name}": functools.partial(make_zero_cost, name) for name in SCORES},
    "several": lambda: Several({"naswot": make_zero_cost("naswot"), "proxy": make_proxy(), "macs": Counted("macs")}),
    **{f"zero-cost:{name}": functools.partial(Counted, name) for name in COUNTED},
}


@pytest.fixture(params=EVALUATORS.values(), ids=EVALUATORS.keys())
def evaluator(request: pytest.FixtureRequest) -> Evaluator:
    made: Evaluator = request.param()
    return made


@pytest.fixture(scope="module")
def network() -> Architecture:
    return load_space("nasbench-macro").decode((0, 1, 2, 1, 1, 2, 1, 1))


def result(evaluator: Evaluator, network: Architecture, seed: int = 1) -> Report:
    return list(evaluator.evaluate(network, seed=seed))[-1]


def test_it_reports_as_it_goes_and_ends_with_finite_metrics(evaluator: Evaluator, network: Architecture) -> None:
    reports = list(evaluator.evaluate(network, seed=1))
    assert [report.step for report in reports] == list(range(1, reports[-1].total_steps + 1))
    assert all(math.isfinite(value) for report in reports for value in report.metrics.values())
    assert set(evaluator.directions) <= set(reports[-1].metrics)


def test_same_network_same_seed_same_metrics(evaluator: Evaluator, network: Architecture) -> None:
    renamed = network.replace(name="another name")
    assert result(evaluator, network).metrics == result(evaluator, renamed).metrics


def test_another_seed_gives_another_score_if_it_is_noisy(evaluator: Evaluator, network: Architecture) -> None:
    # Of three equally likely scores, five seeds have one only with probability 1/81 (and not here, once it passed).
    scores = {json.dumps(dict(result(evaluator, network, seed).metrics)) for seed in range(5)}
    assert (len(scores) > 1) == evaluator.noisy


@pytest.fixture(scope="module")
def another_process() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_a_copy_in_another_process_gives_the_same_metrics(
    evaluator: Evaluator, network: Architecture, another_process: ProcessPoolExecutor
) -> None:
    expected = result(evaluator, network).metrics
    assert another_process.submit(result, evaluator, network).result().metrics == expected


def test_evaluating_leaves_the_global_state_alone(evaluator: Evaluator, network: Architecture) -> None:
    import torch

    torch.manual_seed(0)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    result(evaluator, network)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_rungs_do_not_change_the_result(evaluator: Evaluator, network: Architecture) -> None:
    if evaluator.steps > 1:  # dropout draws in validation, too, when batch norms learn; a table's networks have none
        network = network.replace(head=dataclasses.replace(network.head, dropout=0.5))
    unbroken = result(evaluator, network).metrics
    evaluator.rungs = tuple(range(1, evaluator.steps))
    assert result(evaluator, network).metrics == unbroken


def test_the_description_is_plain_data(evaluator: Evaluator) -> None:
    json.dumps(evaluator.describe(), allow_nan=False)
