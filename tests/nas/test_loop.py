from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from optuna.samplers import RandomSampler
from support import TINY_SPACE, FakeEvaluator, search_loop, space, trials

from nas.executors import Event, Executor, Finished, Job
from nas.executors.base import run_job
from nas.loop import SearchLoop, State
from searchers import SEARCHERS


class Interrupted(Exception):
    """Stands for the process being killed."""


class Shuffled(Executor):
    """Runs evaluations at once, but delivers their ends in an order of its own."""

    def __init__(self, evaluator: FakeEvaluator, order: random.Random) -> None:
        self.workers = 4
        self._evaluator, self._order = evaluator, order
        self._ended: list[Event] = []

    def submit(self, job: Job) -> None:
        self._ended += [event for event in run_job(self._evaluator, job) if isinstance(event, Finished)]

    def wait(self) -> Event:
        return self._ended.pop(self._order.randrange(len(self._ended)))

    def close(self) -> None:
        self._ended.clear()


def run(
    folder: Path, *, text: str = "", stop_after: int | None = None, reason: str = "budget", **options: Any
) -> SearchLoop:
    """Run a search, going on with what is in `folder`; perhaps stop it in the middle."""

    def stop(state: State) -> None:
        if stop_after is not None and state.done >= stop_after:
            raise Interrupted

    loop = search_loop(folder, searched=space(text) if text else None, on_change=stop, **options)
    assert loop.run() == reason
    return loop


def ids(folder: Path) -> list[str]:
    return [row["user_attrs"]["arch_id"] for row in trials(folder)]


def test_the_budget_is_spent_on_distinct_networks(tmp_path: Path) -> None:
    evaluator = FakeEvaluator()
    loop = run(tmp_path, budget=40, evaluator=evaluator)
    assert loop.state.counts["complete"] == evaluator.count == len(set(ids(tmp_path))) == 40


def test_the_best_is_the_best_of_the_record(tmp_path: Path) -> None:
    best = run(tmp_path).state.best
    assert best is not None
    assert best.metrics["accuracy"] == max(row["value"] for row in trials(tmp_path))
    assert ids(tmp_path)[best.number] == best.architecture.arch_id


class Stateful(RandomSampler):
    """Remembers what it did; given as `module:Class`."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.told = 0

    def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
        self.told += 1

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        if self.told % 2:
            return param_distribution.choices[self.told % len(param_distribution.choices)]
        return super().sample_independent(study, trial, param_name, param_distribution)


EVERY = [*sorted(SEARCHERS), "test_loop:Stateful"]
COSTLY = {"gp": 12}
"""Searchers that take long, and the budget that they get."""


@pytest.mark.parametrize("searcher", EVERY)
@pytest.mark.parametrize("window", [1, 4])
def test_an_interrupted_search_ends_as_the_unbroken_one(searcher: str, window: int, tmp_path: Path) -> None:
    budget = COSTLY.get(searcher, 30)
    common: dict[str, Any] = {"searcher": searcher, "window": window, "budget": budget}
    if searcher == "netadapt":  # starts beyond the limit, and ends when it is kept
        common.update(constraints=["macs<=100K"], reason="exhausted")
    elif searcher != "gp":  # which would take its time for each proposal that is turned down
        common.update(constraints=["macs<=200K"])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = run(whole, **common)
    for stop_after in (1, 7, 13, 14, 22, 29):
        if stop_after < min(budget, expected.state.done):
            with pytest.raises(Interrupted):
                run(broken, stop_after=stop_after, **common)
    resumed = run(broken, **common)
    assert trials(broken) == trials(whole)
    assert resumed.state.counts == expected.state.counts
    assert resumed.state.best is not None
    assert expected.state.best is not None
    assert resumed.state.best.architecture == expected.state.best.architecture


@pytest.mark.parametrize("searcher", EVERY)
def test_the_course_does_not_depend_on_which_worker_is_faster(searcher: str, tmp_path: Path) -> None:
    records = []
    for order in range(3):
        folder = tmp_path / str(order)
        loop = search_loop(
            folder,
            searcher=searcher,
            budget=COSTLY.get(searcher, 30),
            window=6,
            executor=lambda e, order=order: Shuffled(e, random.Random(order)),
        )
        loop.run()
        records.append(trials(folder))
    assert records[0] == records[1] == records[2]


def test_constraints_hold_for_every_trained_network(tmp_path: Path) -> None:
    loop = run(tmp_path, searcher="random", constraints=["macs<=150K", "params>=3K"])
    for row in trials(tmp_path):
        assert row["user_attrs"]["macs"] <= 150_000
        assert row["user_attrs"]["params"] >= 3_000
    assert loop.state.counts["infeasible"] > 0


def test_a_small_space_is_exhausted_not_searched_for_ever(tmp_path: Path) -> None:
    loop = run(tmp_path, text=TINY_SPACE, budget=50, reason="exhausted")
    assert loop.state.counts["complete"] == 4
    # Resuming finds nothing more either, and adds nothing.
    before = trials(tmp_path)
    assert run(tmp_path, text=TINY_SPACE, budget=50, reason="exhausted").state.counts["complete"] == 4
    assert trials(tmp_path) == before


@pytest.mark.parametrize("searcher", sorted({*EVERY} - {"netadapt", "gp"}))
def test_nothing_feasible_ends_in_bounded_time(searcher: str, tmp_path: Path) -> None:
    loop = run(tmp_path, searcher=searcher, constraints=["macs<=1"], reason="exhausted")
    assert loop.state.best is None
    assert loop.state.done == 0


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("nan", "the evaluator returned accuracy = nan"),
        ("fail", "told to fail"),
        ("raise", "KeyError: 'told to raise'"),
    ],
)
def test_a_failed_trial_keeps_its_reason_and_the_search_goes_on(how: str, reason: str, tmp_path: Path) -> None:
    loop = run(tmp_path, evaluator=FakeEvaluator(misbehave={3: how, 11: how}))
    failed = [row["user_attrs"]["reason"] for row in trials(tmp_path) if "reason" in row["user_attrs"]]
    assert failed == [reason, reason]
    assert (loop.state.counts["complete"], loop.state.counts["failed"]) == (28, 2)
    assert loop.state.best is not None


def test_a_search_where_all_fails_ends_without_a_best(tmp_path: Path) -> None:
    loop = run(tmp_path, budget=5, evaluator=FakeEvaluator(misbehave=dict.fromkeys(range(5), "nan")))
    assert loop.state.best is None
    assert loop.state.counts["failed"] == 5


def test_resuming_with_a_larger_budget_goes_on(tmp_path: Path) -> None:
    other = tmp_path / "other"
    run(tmp_path, budget=10)
    run(tmp_path, budget=25)
    run(other, budget=25)
    assert trials(tmp_path) == trials(other)
