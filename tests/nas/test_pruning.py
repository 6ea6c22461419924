"""Trainings that fall behind are stopped: what decides about it, what it costs, what is made of it."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import random
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from support import FakeEvaluator, LearningEvaluator, problem, search_loop, trials
from test_loop import Interrupted

from evaluators import Evaluator, ProxyTraining, Recipe, Report, load_images
from evaluators.proxy import least_loss, proxy_score
from nas.cli import run as nas_here
from nas.executors import Event, Executor, Finished, Job, ProcessExecutor
from nas.executors.base import run_job
from nas.loop import SearchLoop
from nas.pruning import PRUNERS, make_pruning, rungs
from nas.settings import Settings
from nas.state import State
from search_space import InputError, load_space
from search_space.cost import count_cost
from searchers import SEARCHERS

EVERY = sorted({*SEARCHERS} - {"netadapt"})
WITH_PRUNING = [name for name in PRUNERS if name != "none"]


def search(folder: Path, *, stop_after: int | None = None, **options: Any) -> SearchLoop:
    def stop(state: State) -> None:
        if stop_after is not None and state.done >= stop_after:
            raise Interrupted

    options = {"evaluator": LearningEvaluator(), "pruner": "asha", "budget": 12, **options}
    loop = search_loop(folder, on_change=stop, **options)
    assert loop.run() == "budget"
    return loop


def pruned(folder: Path) -> list[dict[str, Any]]:
    return [row for row in trials(folder) if row["state"] == TrialState.PRUNED]


@pytest.mark.parametrize("pruner", WITH_PRUNING)
def test_a_pruned_trial_costs_its_share_and_the_budget_is_kept(pruner: str, tmp_path: Path) -> None:
    loop = search(tmp_path, pruner=pruner, searcher="random", budget=20)
    assert loop.state.counts["pruned"] == len(pruned(tmp_path)) > 0
    shares = [row["user_attrs"].get("equivalents", 1.0) for row in trials(tmp_path)]
    assert {round(9 * share) for share in shares} <= {1, 3, 9}
    assert loop.state.spent == pytest.approx(sum(shares))
    assert 19 < loop.state.spent <= 20 + 1e-6
    assert loop.state.done == len(shares) > 20


def test_without_a_pruner_nothing_changes(tmp_path: Path) -> None:
    loop = search(tmp_path, pruner="none", budget=15)
    assert loop.state.spent == loop.state.done == 15
    assert all(row["intermediate_values"] == {} for row in trials(tmp_path))


def test_what_was_seen_on_the_way_is_never_a_score(tmp_path: Path) -> None:
    """The pruned ones look best of all before they are stopped: they are still not the best."""
    loop = search(tmp_path, evaluator=LearningEvaluator(deceive=True), searcher="random", budget=15)
    ids = {row["user_attrs"]["arch_id"] for row in pruned(tmp_path)}
    assert ids
    assert not ids & {one.architecture.arch_id for one in loop.ranked()}
    for row in pruned(tmp_path):
        assert row.get("value") is None
        assert row["intermediate_values"]
        assert "accuracy" not in row["user_attrs"]
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal.log")))
    study = optuna.load_study(study_name="nas", storage=storage)
    assert study.best_trial.user_attrs["arch_id"] == loop.ranked()[0].architecture.arch_id
    assert {len(trial.intermediate_values) for trial in study.get_trials(states=(TrialState.COMPLETE,))} <= {1, 2}


@pytest.mark.parametrize("searcher", EVERY)
@pytest.mark.parametrize("window", [1, 4])
def test_an_interrupted_search_ends_as_the_unbroken_one(searcher: str, window: int, tmp_path: Path) -> None:
    common: dict[str, Any] = {"searcher": searcher, "window": window, "budget": 6 if searcher == "gp" else 12}
    if searcher != "gp":
        common["constraints"] = ["macs<=200K"]
    expected = search(tmp_path / "whole", **common)
    assert expected.state.counts["pruned"] > 0
    for stop_after in (1, 7, 13, 14, 22):
        if stop_after < expected.state.done:
            with pytest.raises(Interrupted):
                search(tmp_path / "broken", stop_after=stop_after, **common)
    resumed = search(tmp_path / "broken", **common)
    assert trials(tmp_path / "broken") == trials(tmp_path / "whole")
    assert resumed.state.counts == expected.state.counts
    assert resumed.state.spent == expected.state.spent
    assert 0 < resumed.state.spent_before < resumed.state.spent


class Shuffled(Executor):
    """Runs evaluations when it likes, in an order of its own."""

    workers = 4

    def __init__(self, evaluator: Evaluator, order: random.Random) -> None:
        self._evaluator, self._order = evaluator, order
        self._jobs: list[Job] = []

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def wait(self) -> Event:
        job = self._jobs.pop(self._order.randrange(len(self._jobs)))
        return list(run_job(self._evaluator, job))[-1]

    def close(self) -> None:
        self._jobs.clear()


@pytest.mark.parametrize("pruner", WITH_PRUNING)
@pytest.mark.parametrize("searcher", ["predictor", "tpe"])
def test_the_course_does_not_depend_on_which_worker_is_faster(pruner: str, searcher: str, tmp_path: Path) -> None:
    records = []
    for order in range(3):
        folder, make = tmp_path / str(order), functools.partial(Shuffled, order=random.Random(order))
        loop = search(folder, searcher=searcher, pruner=pruner, window=6, executor=make)
        assert loop.state.counts["pruned"] > 0
        records.append(trials(folder))
    assert records[0] == records[1] == records[2]


def test_worker_processes_decide_as_this_one(tmp_path: Path) -> None:
    """With two workers, of which one is slowed down now and then by the other's tests."""
    here = search(tmp_path / "here", window=4)
    there = search(tmp_path / "there", window=4, executor=lambda evaluator: ProcessExecutor(evaluator, 2))
    assert trials(tmp_path / "here") == trials(tmp_path / "there")
    assert here.state.counts == there.state.counts


@pytest.mark.parametrize("searcher", EVERY)
def test_a_pruned_network_is_not_tried_again(searcher: str, tmp_path: Path) -> None:
    loop = search(tmp_path, searcher=searcher, budget=8 if searcher == "gp" else 25, window=3)
    ids = [row["user_attrs"]["arch_id"] for row in trials(tmp_path)]
    for row in pruned(tmp_path):
        assert ids.count(row["user_attrs"]["arch_id"]) == 1
        assert row["user_attrs"]["look"] == 0  # a further look is made in full
    assert loop.state.counts["duplicate"] < 200


def test_a_searcher_is_told_a_guess_below_those_that_were_ahead(tmp_path: Path) -> None:
    for objective in ("accuracy", "loss"):
        evaluator = LearningEvaluator()
        sign = 1 if objective == "accuracy" else -1
        pruning = make_pruning("asha", problem(objective=objective), evaluator, objective)
        assert pruning is not None
        assert pruning.stand_in({1: 0.5}) is None
        pruning.tell({1: sign * 0.3, 3: sign * 0.5}, sign * 0.9)
        pruning.tell({1: sign * 0.4}, None)
        pruning.tell({1: sign * 0.6, 3: sign * 0.7}, sign * 0.8)
        pruning.tell({}, None)
        assert sign * (pruning.stand_in({1: sign * 0.2}) or 0) == pytest.approx(0.8 - 0.1)
        assert sign * (pruning.stand_in({1: sign * 0.5}) or 0) == pytest.approx(0.8 - 0.1)
        assert sign * (pruning.stand_in({1: sign * 0.9}) or 0) == pytest.approx(0.8)
        assert sign * (pruning.stand_in({1: 0, 3: sign * 0.6}) or 0) == pytest.approx(0.8 - 0.1)


def test_trials_are_judged_by_those_told_and_no_others() -> None:
    """As Optuna says in a study of its own: of four, the best third goes on."""
    pruning = make_pruning("asha", problem(), LearningEvaluator(), "accuracy")
    assert pruning is not None
    assert not pruning.judge(5).open().stops(Report(1, 9, {"accuracy": 0.01}))  # nobody to compare with
    for value in (0.2, 0.3, 0.4):
        pruning.tell({1: value}, value)
    judge = pruning.judge(3)
    assert judge.open().stops(Report(1, 9, {"accuracy": 0.39}))
    judgement = judge.open()
    assert not judgement.stops(Report(1, 9, {"accuracy": 0.41}))
    assert not judgement.stops(Report(2, 9, {"accuracy": 0.0}))  # is not looked at
    assert judgement.reported == {1: 0.41}
    pruning.tell({1: 0.9}, 0.9)
    assert not judge.open().stops(Report(1, 9, {"accuracy": 0.41}))  # nor what has come later
    halved = dataclasses.replace(judge, factor=0.5).open()
    assert halved.stops(Report(1, 9, {"accuracy": 0.41}))
    assert halved.reported == {1: 0.205}


def test_with_a_target_rewards_are_compared(tmp_path: Path) -> None:
    search(tmp_path, target="macs=100K", searcher="random")
    assert pruned(tmp_path)
    for row in trials(tmp_path):
        if row["state"] == TrialState.COMPLETE and row["user_attrs"]["look"] == 0:
            accuracy, reward = row["user_attrs"]["accuracy"], row["user_attrs"]["reward"]
            assert row["value"] == reward
            share = row["intermediate_values"]["1"] / reward  # learnt after one step, at a pace of 3 to 4
            assert 1 - math.exp(-3 / 9) < share < (1 - math.exp(-4 / 9)) / (1 - math.exp(-4))
            assert abs(reward / accuracy - 1) > 1e-9


class Undecided(LearningEvaluator):
    """Knows nothing after one step."""

    def evaluate(self, architecture: Any, *, seed: int) -> Any:
        for report in super().evaluate(architecture, seed=seed):
            yield dataclasses.replace(report, metrics={"accuracy": math.nan}) if report.step == 1 else report


def test_what_cannot_be_compared_is_a_failure(tmp_path: Path) -> None:
    loop = search(tmp_path, evaluator=Undecided(), budget=3)
    assert loop.state.counts["failed"] == 3
    assert trials(tmp_path)[0]["user_attrs"]["reason"] == "the evaluator returned accuracy = nan after step 1"


def test_a_good_network_for_clearly_fewer_trainings(tmp_path: Path) -> None:
    """Half the trainings, and the networks found are as good, over five seeds' worth of noise."""
    found: dict[str, list[float]] = {"none": [], "asha": []}
    for seed in range(5):
        for pruner, budget in (("none", 40), ("asha", 16)):
            evaluator = Shifted(shift=seed)
            loop = search(
                tmp_path / f"{pruner}{seed}", evaluator=evaluator, searcher="random", pruner=pruner, budget=budget
            )
            found[pruner].append(loop.ranked()[0].metrics["accuracy"])
    assert sum(found["asha"]) >= sum(found["none"]) - 0.05


@dataclasses.dataclass
class Shifted(LearningEvaluator):
    """The noise of another seed."""

    shift: int = 0

    def evaluate(self, architecture: Any, *, seed: int) -> Any:
        return super().evaluate(architecture, seed=seed + self.shift)


# Rungs, and real training.


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(2, (1,)), (3, (1,)), (4, (2,)), (6, (1, 3)), (9, (1, 3)), (10, (2, 6)), (12, (2, 6)), (40, (2, 6, 18))],
)
def test_rungs(steps: int, expected: tuple[int, ...]) -> None:
    assert rungs(steps) == expected


def test_validating_on_the_way_does_not_change_the_result() -> None:
    recipe = Recipe(resolution_px=16, epochs=4, max_train_images=64, max_val_images=64, ema_decay=0.5)
    network = load_space("nasbench-macro").decode((0, 1, 2, 1, 1, 2, 1, 1))
    plain, asked = (ProxyTraining(load_images("digits"), recipe, device="cpu") for _ in range(2))
    asked.rungs = (2,)
    reports = list(asked.evaluate(network, seed=1))
    assert [sorted(report.metrics) for report in reports] == [
        ["train_loss"],
        ["accuracy", "loss", "score", "train_loss"],
        ["train_loss"],
        ["accuracy", "loss", "score", "train_loss"],
    ]
    assert list(plain.evaluate(network, seed=1))[-1].metrics == reports[-1].metrics
    for at in (reports[1], reports[3]):  # a rung's score is of that epoch's losses
        learned = at.metrics["train_loss"] - least_loss(recipe.label_smoothing, 10)
        expected = proxy_score(at.metrics["loss"], learned, count_cost(network).activations, recipe, at.step)
        assert at.metrics["score"] == pytest.approx(expected)


# Requests.


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("--pruner must be a known name, got 'ahsa'; did you mean asha", ["--pruner", "ahsa"]),
        ("needs a single objective", ["--pruner", "asha", "--objective", "accuracy,macs"]),
        ("trains for several epochs", ["--pruner", "asha", "--evaluator", "zero-cost:params"]),
        ("only training tells", ["--pruner", "median", "--constraint", "accuracy>=0.5"]),
        ("an objective that training tells", ["--pruner", "asha", "--objective", "macs", "--constraint", "loss<=9"]),
        ("networks worse than those before", ["--pruner", "asha", "--searcher", "netadapt"]),
    ],
)
def test_requests_that_make_no_sense(
    words: str, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "run")
    assert nas_here(["search", "--space", "mobilenetv3", "--budget", "2", "--out", folder, *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
    assert not (tmp_path / "run").exists()


def test_one_evaluation_step_is_too_few() -> None:
    with pytest.raises(InputError, match="fake: 1 step"):
        make_pruning("asha", problem(), FakeEvaluator(), "accuracy")


def test_an_older_run_has_no_pruner() -> None:
    plain = Settings(budget=3, workers=1).to_dict()
    del plain["pruner"]
    assert Settings.from_dict(plain).pruner == "none"


def test_the_command_line_shows_what_was_spent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = "base: quick\nepochs: 9\nmax_train_images: 64\nmax_val_images: 64\nresolution_px: 8\n"
    (tmp_path / "recipe.yaml").write_text(recipe)
    arguments = ["search", "--space", "nasbench-macro", "--budget", "3", "--out", str(tmp_path / "run")]
    arguments += ["--pruner", "asha", "--proxy", str(tmp_path / "recipe.yaml"), "--workers", "1", "--json"]
    arguments += ["--finalists", "0"]
    assert nas_here(arguments) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert result["counts"]["pruned"] > 0
    shares = [row["user_attrs"].get("equivalents", 1.0) for row in trials(tmp_path / "run")]
    assert 2 < result["full_training_equivalents"] <= 3
    assert result["full_training_equivalents"] == pytest.approx(sum(shares), abs=1e-3)
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == result
    assert f"{result['counts']['pruned']} pruned" in said.err
    assert nas_here(["resume", str(tmp_path / "run"), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["counts"] == result["counts"]
    assert again["full_training_equivalents"] == result["full_training_equivalents"]


def test_few_epochs_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = "base: quick\nmax_train_images: 64\nmax_val_images: 64\nresolution_px: 8\nepochs: 2\n"
    (tmp_path / "recipe.yaml").write_text(recipe)
    arguments = ["search", "--space", "nasbench-macro", "--budget", "1", "--out", str(tmp_path / "run")]
    arguments += ["--finalists", "0"]
    assert nas_here([*arguments, "--pruner", "asha", "--proxy", str(tmp_path / "recipe.yaml")]) == 0
    assert "2 epochs leave a pruner little: a network costs at least 1/2 of a training" in capsys.readouterr().err


@pytest.mark.parametrize("change", ['"equivalents": 0.5', '"equivalents": 2', '"equivalents": "half"'])
def test_a_journal_that_contradicts_itself_is_refused(change: str, tmp_path: Path) -> None:
    search(tmp_path, budget=2, pruner="none")
    journal = tmp_path / "journal.log"
    journal.write_text(journal.read_text().replace('"look":0', f'"look":0,{change}'))
    with pytest.raises(InputError, match="the journal cannot be read"):
        search(tmp_path, budget=3)


def test_pruned_trials_need_a_pruner(tmp_path: Path) -> None:
    search(tmp_path)
    with pytest.raises(InputError, match="the run has no pruner"):
        search(tmp_path, pruner="none", budget=99)


def test_every_event_is_finished_or_failed() -> None:
    """Executors need no word for what was stopped."""
    pruning = make_pruning("asha", problem(), LearningEvaluator(), "accuracy")
    assert pruning is not None
    pruning.tell({1: 1.0}, 1.0)
    evaluator = LearningEvaluator()
    evaluator.rungs = pruning.rungs
    network = problem().space.decode((0,) * len(problem().space.genes))
    *progress, end = run_job(evaluator, Job(0, network, 0, pruning.judge(1)))
    assert len(progress) == 1
    assert isinstance(end, Finished)
    assert (end.metrics, end.share, [*end.reported]) == ({}, 1 / 9, [1])
