from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.samplers import RandomSampler
from support import NO_CHOICE, TINY_SPACE, FakeEvaluator, problem, score_of, search_loop, space, trials

from evaluators import EvaluationFailed, Report
from nas.executors import Event, Executor, Finished, Job
from nas.executors.base import run_job
from nas.loop import SearchLoop, look_seed
from nas.state import State
from search_space import Architecture, InputError
from search_space.errors import WorkFailed
from searchers import SEARCHERS, SpaceSampler, make_sampler


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


@pytest.mark.parametrize(
    "searcher",
    ["predictor", "evolution", "local", pytest.param("tpe", marks=pytest.mark.slow), "nsga2", "test_loop:Stateful"],
)
@pytest.mark.parametrize(
    ("objective", "constraints"), [("accuracy,macs", ["loss<=0.4", "macs<=1M"]), ("macs", ["accuracy>=0.6"])]
)
def test_fronts_and_learned_limits_survive_an_interruption(
    searcher: str, objective: str, constraints: list[str], tmp_path: Path
) -> None:
    common: dict[str, Any] = {"searcher": searcher, "objective": objective, "constraints": constraints, "window": 3}
    expected = run(tmp_path / "whole", **common)
    for stop_after in (3, 17, 24):
        with pytest.raises(Interrupted):
            run(tmp_path / "broken", stop_after=stop_after, **common)
    resumed = run(tmp_path / "broken", **common)
    assert trials(tmp_path / "broken") == trials(tmp_path / "whole")
    assert resumed.state.counts == expected.state.counts
    assert [one.metrics for one in resumed.state.front] == [one.metrics for one in expected.state.front]


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


@pytest.mark.parametrize("searcher", sorted({*EVERY} - {"netadapt", "gp"}))
def test_limits_hold_for_every_trained_network(searcher: str, tmp_path: Path) -> None:
    loop = run(tmp_path, searcher=searcher, constraints=["macs<=150K", "params>=36K"])
    for row in trials(tmp_path):
        assert row["user_attrs"]["macs"] <= 150_000
        assert row["user_attrs"]["params"] >= 36_000
    ours = isinstance(make_sampler(searcher, problem(), 0), SpaceSampler)
    assert (loop.state.counts["infeasible"] == 0) == ours


def test_netadapt_crosses_the_limit_once_and_ends_there(tmp_path: Path) -> None:
    loop = run(tmp_path, searcher="netadapt", budget=100, constraints=["macs<=100K"], reason="exhausted")
    macs = [row["user_attrs"]["macs"] for row in trials(tmp_path)]
    assert macs[0] == max(macs) > 100_000
    assert loop.state.best is not None
    assert loop.state.best.metrics["macs"] <= 100_000
    assert loop.state.counts["infeasible"] == 0


def two_networks() -> list[Architecture]:
    searched = space()
    return [searched.decode([option] * len(searched.genes)) for option in (1, 0)]


@pytest.mark.parametrize("searcher", EVERY)
@pytest.mark.parametrize("window", [1, 4])
def test_known_networks_come_first(searcher: str, window: int, tmp_path: Path) -> None:
    common: dict[str, Any] = {"searcher": searcher, "start": two_networks(), "budget": 12, "window": window}
    run(tmp_path / "whole", **common)
    assert ids(tmp_path / "whole")[:2] == [one.arch_id for one in two_networks()]
    for stop_after in (1, 2, 7):
        with pytest.raises(Interrupted):
            run(tmp_path / "broken", stop_after=stop_after, **common)
    run(tmp_path / "broken", **common)
    assert trials(tmp_path / "broken") == trials(tmp_path / "whole")


@pytest.mark.parametrize("searcher", EVERY)
@pytest.mark.parametrize("window", [1, 4])
def test_a_failure_ends_neither_the_search_nor_the_searcher(searcher: str, window: int, tmp_path: Path) -> None:
    common: dict[str, Any] = {"searcher": searcher, "window": window, "budget": COSTLY.get(searcher, 40)}
    if searcher == "netadapt":
        common.update(constraints=["macs<=100K"], reason="exhausted")
    loop = run(tmp_path / "whole", evaluator=Flawed(), **common)
    assert loop.state.counts["failed"] > 1
    assert loop.state.counts["duplicate"] < 100
    assert loop.state.best is not None or searcher == "netadapt"  # whose last way down may be one that fails
    for stop_after in (5, 11, 20):
        if stop_after < min(common["budget"], loop.state.done):
            with pytest.raises(Interrupted):
                run(tmp_path / "broken", evaluator=Flawed(), stop_after=stop_after, **common)
    run(tmp_path / "broken", evaluator=Flawed(), **common)
    assert trials(tmp_path / "broken") == trials(tmp_path / "whole")


class Flawed(FakeEvaluator):
    """Cannot score every fifth network."""

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        if int(architecture.arch_id, 16) % 5 == 0:
            raise EvaluationFailed("it is one of them")
        return super().evaluate(architecture, seed=seed)


def test_optunas_searchers_are_told_what_is_turned_down(tmp_path: Path) -> None:
    """Where they are not, the Gaussian process proposes one known network for ever."""
    loop = run(tmp_path, searcher="gp", budget=16, evaluator=FakeEvaluator(noisy=False))
    assert loop.state.counts["duplicate"] < 100


# Second looks.


@pytest.mark.parametrize("searcher", EVERY)
def test_looks_at_a_network_have_seeds_of_their_own_and_are_averaged(searcher: str, tmp_path: Path) -> None:
    loop = search_loop(tmp_path, searcher=searcher, budget=COSTLY.get(searcher, 60), window=3)
    loop.run()
    looks: dict[str, list[float]] = {}
    for row in trials(tmp_path):
        attributes = row["user_attrs"]
        assert attributes["look"] == len(looks.setdefault(attributes["arch_id"], []))
        looks[attributes["arch_id"]].append(attributes["accuracy"])
    for scored in loop.scored():
        scores = [score_of(scored.architecture, look_seed(0, look)) for look in range(scored.looks)]
        assert looks[scored.architecture.arch_id] == scores
        assert scored.metrics["accuracy"] == pytest.approx(sum(scores) / len(scores))
    assert loop.state.counts["again"] == loop.state.done - len(looks)
    if searcher == "predictor":
        assert loop.state.counts["again"] > 0


def test_seeds_of_looks_differ() -> None:
    assert look_seed(5, 0) == 5
    seeds = {look_seed(seed, look) for seed in range(20) for look in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("searcher", ["predictor", "tpe"])
@pytest.mark.parametrize("window", [1, 4])
def test_an_interrupted_search_looks_again_as_the_unbroken_one(searcher: str, window: int, tmp_path: Path) -> None:
    """On four networks, so that there are many looks at each."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    options: dict[str, Any] = {"searcher": searcher, "budget": 24, "window": window}
    expected = search_loop(whole, searched=space(TINY_SPACE), **options)
    options.update(text=TINY_SPACE, reason=expected.run())
    assert expected.state.counts["again"] > 0
    for stop_after in (3, 4, 5, 6, 15):
        with contextlib.suppress(Interrupted):
            run(broken, stop_after=stop_after, **options)
    resumed = run(broken, **options)
    assert trials(broken) == trials(whole)
    assert resumed.state.counts == expected.state.counts
    assert [one.metrics for one in resumed.ranked()] == [one.metrics for one in expected.ranked()]


def test_without_noise_nothing_is_looked_at_again(tmp_path: Path) -> None:
    for searcher in sorted({*EVERY} - {"gp", "netadapt"}):
        loop = run(tmp_path / searcher[:5], searcher=searcher, budget=60, evaluator=FakeEvaluator(noisy=False))
        assert loop.state.counts["again"] == 0


# Searchers that do not keep their promises.


class Forgetful(RandomSampler):
    """Proposes something else each time it is asked again."""

    def __init__(self) -> None:
        super().__init__(seed=None)


def test_a_searcher_that_does_not_repeat_itself_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, searcher="test_loop:Forgetful", stop_after=10)
    before = trials(tmp_path)
    with pytest.warns(UserWarning, match="Forgetful does not propose again what it did before"):
        loop = run(tmp_path, searcher="test_loop:Forgetful")
    assert trials(tmp_path)[: len(before)] == before
    assert (loop.state.done, loop.state.replayed, len(trials(tmp_path))) == (30, 10, 30)


class Broken(RandomSampler):
    def sample_independent(self, *arguments: Any) -> Any:
        raise ZeroDivisionError("as it happens")


def test_a_searcher_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkFailed, match="the searcher Broken failed: ZeroDivisionError: as it happens"):
        run(tmp_path, searcher="test_loop:Broken")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.at.all:Sampler", "cannot be imported: ModuleNotFoundError"),
        ("test_loop:Nothing", "cannot be imported: AttributeError"),
        ("test_loop:Flawed", "must name a subclass of optuna.samplers.BaseSampler"),
        ("test_loop:Demanding", "cannot be made: TypeError"),
        ("predictr", "did you mean predictor"),
    ],
)
def test_names_that_are_no_searcher(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_sampler(name, problem(), 0)


class Demanding(RandomSampler):
    def __init__(self, wish: str) -> None:
        super().__init__()


def test_a_small_space_is_exhausted_not_searched_for_ever(tmp_path: Path) -> None:
    loop = run(tmp_path, text=TINY_SPACE, budget=50, reason="exhausted")
    assert loop.state.counts["complete"] == 4
    # Resuming finds nothing more either, and adds nothing.
    before = trials(tmp_path)
    assert run(tmp_path, text=TINY_SPACE, budget=50, reason="exhausted").state.counts["complete"] == 4
    assert trials(tmp_path) == before


@pytest.mark.parametrize("searcher", EVERY)
@pytest.mark.parametrize("window", [1, 4])
def test_four_networks_without_noise_are_soon_exhausted(searcher: str, window: int, tmp_path: Path) -> None:
    options: dict[str, Any] = {"text": TINY_SPACE, "searcher": searcher, "budget": 50, "window": window}
    loop = run(tmp_path, reason="exhausted", evaluator=FakeEvaluator(noisy=False), **options)
    assert loop.state.counts["complete"] == 4
    assert loop.state.counts["again"] == 0


def test_where_there_is_noise_the_predictor_spends_the_budget_on_looks(tmp_path: Path) -> None:
    loop = run(tmp_path, text=TINY_SPACE, searcher="predictor", budget=30)
    assert loop.state.counts["again"] == 26


@pytest.mark.parametrize("searcher", ["predictor", "evolution", "random"])
def test_a_space_of_one_network(searcher: str, tmp_path: Path) -> None:
    text = TINY_SPACE.replace("{choice: [3, 5]}", "3").replace("{choice: [1, 2]}", "1")
    loop = run(tmp_path, text=text, searcher=searcher, reason="exhausted", evaluator=FakeEvaluator(noisy=False))
    assert loop.state.done == 1


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


def test_a_space_without_a_choice(tmp_path: Path) -> None:
    """There is nothing to find out but how good its one network is."""
    for searcher in sorted(SEARCHERS):
        folder = tmp_path / searcher
        loop = search_loop(folder, searched=space(NO_CHOICE), searcher=searcher, budget=12)
        assert loop.run() in {"budget", "exhausted"}
        assert len(loop.ranked()) == 1
