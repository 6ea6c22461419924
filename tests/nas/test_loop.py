from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import SMALL_SPACE, TINY_SPACE, FakeEvaluator, space

from nas.constraints import COUNTED, parse_constraint
from nas.executors import Event, Executor, Finished, InlineExecutor, Job
from nas.executors.base import run_job
from nas.loop import SearchLoop
from nas.record import TrialLog
from searchers import SEARCHERS, distributions, make_sampler


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


def search(
    folder: Path,
    *,
    budget: int = 30,
    searcher: str = "evolution",
    text: str = SMALL_SPACE,
    evaluator: FakeEvaluator | None = None,
    executor: Callable[[FakeEvaluator], Executor] = InlineExecutor,
    window: int = 1,
    constraints: tuple[str, ...] = (),
    stop_after: int | None = None,
) -> SearchLoop:
    """Run a search with its record in `folder`, going on with what is there; perhaps stop it in the middle."""
    searched = space(text)
    log = TrialLog(folder / "journal.log", "maximize", "accuracy", distributions(searched))
    loop = SearchLoop(
        searched,
        make_sampler(searcher, searched, 0),
        executor(evaluator or FakeEvaluator()),
        log,
        budget=budget,
        seed=0,
        objective="accuracy",
        direction="maximize",
        constraints=[parse_constraint(text) for text in constraints],
        recorded=log.read(COUNTED),
        window=window,
    )

    def stop(state: Any) -> None:
        if stop_after is not None and state.done >= stop_after:
            raise Interrupted

    loop._on_change = stop
    loop.stopped_by = loop.run()  # type: ignore[attr-defined]
    return loop


def trials(folder: Path) -> list[dict[str, Any]]:
    """The journal's trials without what time and place have put there."""
    rows = [json.loads(line) for line in (folder / "journal.log").read_text().splitlines()]
    kept = [{k: v for k, v in row.items() if k in ("params", "value", "state", "user_attrs")} for row in rows]
    for row in kept:
        row.get("user_attrs", {}).pop("seconds", None)
    return [row for row in kept if "params" in row or "user_attrs" in row]


def test_the_budget_is_spent_on_distinct_networks(tmp_path: Path) -> None:
    evaluator = FakeEvaluator()
    loop = search(tmp_path, budget=40, evaluator=evaluator)
    ids = [row["user_attrs"]["arch_id"] for row in trials(tmp_path)]
    assert loop.state.counts["complete"] == evaluator.count == len(set(ids)) == 40
    assert loop.stopped_by == "budget"  # type: ignore[attr-defined]


def test_the_best_is_the_best_of_the_record(tmp_path: Path) -> None:
    best = search(tmp_path).state.best
    assert best is not None
    assert best.record.metrics["accuracy"] == max(row["value"] for row in trials(tmp_path))
    assert trials(tmp_path)[best.number]["user_attrs"]["arch_id"] == best.architecture.arch_id


@pytest.mark.parametrize("searcher", sorted(SEARCHERS))
@pytest.mark.parametrize("window", [1, 4])
def test_an_interrupted_search_ends_as_the_unbroken_one(searcher: str, window: int, tmp_path: Path) -> None:
    common: dict[str, Any] = {"searcher": searcher, "window": window, "constraints": ("macs<=200K",)}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    expected = search(whole, **common)
    for stop_after in (1, 7, 13, 14, 22, 29):
        with pytest.raises(Interrupted):
            search(broken, stop_after=stop_after, **common)
    resumed = search(broken, **common)
    assert trials(broken) == trials(whole)
    assert resumed.state.counts == expected.state.counts
    assert resumed.state.best is not None
    assert expected.state.best is not None
    assert resumed.state.best.architecture == expected.state.best.architecture


@pytest.mark.parametrize("searcher", sorted(SEARCHERS))
def test_the_course_does_not_depend_on_which_worker_is_faster(searcher: str, tmp_path: Path) -> None:
    records = []
    for order in range(3):
        folder = tmp_path / str(order)
        folder.mkdir()
        search(folder, searcher=searcher, window=6, executor=lambda e, order=order: Shuffled(e, random.Random(order)))
        records.append(trials(folder))
    assert records[0] == records[1] == records[2]


def test_constraints_hold_for_every_trained_network(tmp_path: Path) -> None:
    loop = search(tmp_path, constraints=("macs<=150K", "params>=3K"))
    for row in trials(tmp_path):
        assert row["user_attrs"]["macs"] <= 150_000
        assert row["user_attrs"]["params"] >= 3_000
    assert loop.state.counts["infeasible"] > 0


def test_a_small_space_is_exhausted_not_searched_for_ever(tmp_path: Path) -> None:
    loop = search(tmp_path, text=TINY_SPACE, budget=50)
    assert loop.stopped_by == "exhausted"  # type: ignore[attr-defined]
    assert loop.state.counts["complete"] == 4
    # Resuming finds nothing more either, and adds nothing.
    before = trials(tmp_path)
    assert search(tmp_path, text=TINY_SPACE, budget=50).state.counts["complete"] == 4
    assert trials(tmp_path) == before


def test_nothing_feasible_ends_in_bounded_time(tmp_path: Path) -> None:
    loop = search(tmp_path, constraints=("macs<=1",))
    assert loop.stopped_by == "exhausted"  # type: ignore[attr-defined]
    assert loop.state.best is None
    assert loop.state.counts["infeasible"] == 2_000


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("nan", "the evaluator returned accuracy = nan"),
        ("fail", "told to fail"),
        ("raise", "KeyError: 'told to raise'"),
    ],
)
def test_a_failed_trial_keeps_its_reason_and_the_search_goes_on(how: str, reason: str, tmp_path: Path) -> None:
    loop = search(tmp_path, evaluator=FakeEvaluator(misbehave={3: how, 11: how}))
    failed = [row["user_attrs"]["reason"] for row in trials(tmp_path) if "reason" in row["user_attrs"]]
    assert failed == [reason, reason]
    assert (loop.state.counts["complete"], loop.state.counts["failed"]) == (28, 2)
    assert loop.state.best is not None


def test_a_search_where_all_fails_ends_without_a_best(tmp_path: Path) -> None:
    loop = search(tmp_path, budget=5, evaluator=FakeEvaluator(misbehave=dict.fromkeys(range(5), "nan")))
    assert loop.state.best is None
    assert loop.state.counts["failed"] == 5


def test_resuming_with_a_larger_budget_goes_on(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    search(tmp_path, budget=10)
    search(tmp_path, budget=25)
    search(other, budget=25)
    assert trials(tmp_path) == trials(other)
