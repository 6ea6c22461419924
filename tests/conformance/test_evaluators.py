"""What every evaluator owes."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys

import pytest

from evaluators import Evaluator, ProxyTraining, Recipe, Report, load_images
from search_space import Architecture, load_architecture

RECIPE = Recipe(resolution_px=16, epochs=2, max_train_images=64, max_val_images=64)


def make_proxy() -> ProxyTraining:
    return ProxyTraining(load_images("digits"), RECIPE, device="cpu")


@pytest.fixture(params=[make_proxy])
def evaluator(request: pytest.FixtureRequest) -> Evaluator:
    made: Evaluator = request.param()
    return made


@pytest.fixture(scope="module")
def network() -> Architecture:
    return load_architecture("mobilenetv3-small")


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
    assert result(evaluator, network).metrics != result(evaluator, network, seed=2).metrics


def test_a_copy_in_another_process_gives_the_same_metrics(
    evaluator: Evaluator, network: Architecture, tmp_path: object
) -> None:
    expected = result(evaluator, network).metrics
    code = (
        "import pickle, sys, json; evaluator, network = pickle.load(sys.stdin.buffer);"
        "print(json.dumps(list(evaluator.evaluate(network, seed=1))[-1].metrics))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps((evaluator, network)), capture_output=True, check=True
    )
    assert json.loads(done.stdout) == expected


def test_evaluating_leaves_the_global_state_alone(evaluator: Evaluator, network: Architecture) -> None:
    import torch

    torch.manual_seed(0)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    result(evaluator, network)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_the_description_is_plain_data(evaluator: Evaluator) -> None:
    json.dumps(evaluator.describe(), allow_nan=False)
