"""The best of a search are trained again, longer and with several seeds, before one of them is the winner."""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support import FakeEvaluator, problem, search_loop
from test_loop import Shuffled

from evaluators import EvaluationFailed, Report
from nas.constraints import parse_constraint
from nas.executors import Executor, InlineExecutor
from nas.finalists import Contest, FinalsLog, Jury, Outcome, Trainer
from nas.finalists.contest import _MOST_TRAINED
from nas.finalists.training import final_seed
from nas.loop import look_seed
from nas.pareto import thinned
from nas.scored import Scored
from nas.target import parse_target
from search_space import Architecture, InputError

SEEDS = 3
Score = Callable[[str, int], float]


class Planted(FakeEvaluator):
    """Final accuracies as a test wants them: a function of the network's id and of the number of the training."""

    def __init__(self, score: Score) -> None:
        super().__init__()
        self._score = score
        self._numbers = {final_seed(0, number): number for number in range(SEEDS)}

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        self.count += 1
        number = self._numbers[seed]
        accuracy = self._score(architecture.arch_id, number)
        tests = {"test_accuracy": 0.5 + number / 10, "test_loss": 1.0}
        yield Report(1, 2, {})
        yield Report(2, 2, {"score": accuracy, "accuracy": accuracy, "loss": 1 - accuracy, **tests})


def ranked(folder: Path, budget: int = 12, **more: Any) -> list[Scored]:
    loop = search_loop(folder / "search", searcher="random", budget=budget, **more)
    loop.run()
    return loop.ranked() if "," not in more.get("objective", "") else loop.state.front


def ids(candidates: Sequence[Scored]) -> list[str]:
    return [one.architecture.arch_id for one in candidates]


def contest(
    folder: Path,
    evaluator: Planted,
    count: int = 3,
    *,
    objective: str = "accuracy",
    constraints: Sequence[str] = (),
    target: str = "",
    deadline: float = math.inf,
    executor: Callable[[Any], Executor] = InlineExecutor,
    on_train: Callable[[int, int], None] = lambda done, total: None,
) -> Contest:
    jury = Jury(
        problem(objective=objective).objectives,
        [parse_constraint(text) for text in constraints],
        parse_target(target) if target else None,
    )
    trainer = Trainer(
        lambda most: executor(evaluator),
        ("score", "accuracy", "loss"),
        FinalsLog(folder / "finalists.jsonl"),
        run_seed=0,
        seeds=SEEDS,
        deadline=deadline,
        on_train=on_train,
    )
    return Contest(jury, count, None, trainer)


def shown(outcome: Outcome) -> list[str]:
    return [one.arch_id for one in outcome.finalists]


def by_place(candidates: Sequence[Scored]) -> Score:
    """The later in rank, the better in the end; trainings differ by 0.01."""
    places = {arch_id: place for place, arch_id in enumerate(ids(candidates))}
    return lambda arch_id, number: 0.5 + places[arch_id] / 100 + number / 1000


# Who wins.


def test_the_best_mean_final_score_wins(tmp_path: Path) -> None:
    candidates = ranked(tmp_path)
    evaluator = Planted(by_place(candidates))
    steps: list[tuple[int, int]] = []
    outcome = contest(tmp_path, evaluator, on_train=lambda *step: steps.append(step)).hold(candidates)
    assert shown(outcome) == ids([candidates[2], candidates[1], candidates[0]])
    assert outcome.winner == outcome.finalists[0]
    assert evaluator.count == 3 * SEEDS
    assert steps == [(done, 9) for done in range(10)]


def test_proxy_and_final_scores_stand_side_by_side(tmp_path: Path) -> None:
    candidates = ranked(tmp_path)
    outcome = contest(tmp_path, Planted(by_place(candidates))).hold(candidates)
    assert outcome.winner is not None
    plain = outcome.winner.to_dict()
    values = [0.52, 0.521, 0.522]
    assert plain["proxy"] == dict(candidates[2].learned)
    assert plain["final"]["accuracy"] == pytest.approx({"mean": 0.521, "std": 0.001, "values": pytest.approx(values)})
    assert set(plain["final"]) == {"score", "accuracy", "loss"}
    metrics = plain["metrics"]
    assert metrics["accuracy"] == candidates[2].metrics["accuracy"]
    assert metrics["final_accuracy"] == pytest.approx(0.521)
    assert metrics["final_loss_std"] == pytest.approx(statistics.stdev(values))
    assert "test_accuracy" not in json.dumps(plain)
    assert outcome.winner.tested() == pytest.approx(
        {"test_accuracy": 0.6, "test_accuracy_std": 0.1, "test_loss": 1.0, "test_loss_std": 0.0}
    )


def test_fewer_candidates_than_finalists(tmp_path: Path) -> None:
    (one,) = ranked(tmp_path, budget=1)
    outcome = contest(tmp_path, Planted(lambda arch_id, number: 0.7)).hold([one])
    assert shown(outcome) == ids([one])
    assert outcome.winner is not None
    assert outcome.winner.metrics()["final_accuracy_std"] == 0
    assert contest(tmp_path, Planted(lambda arch_id, number: 0.7)).hold([]).winner is None


def test_a_limit_is_judged_by_the_final_score(tmp_path: Path) -> None:
    candidates = ranked(tmp_path)
    broken = set(ids(candidates[:4]))
    evaluator = Planted(lambda arch_id, number: 0.1 if arch_id in broken else 0.9)
    outcome = contest(tmp_path, evaluator, constraints=["accuracy>=0.2"]).hold(candidates)
    assert outcome.winner is not None
    assert outcome.winner.arch_id == ids(candidates)[4]
    assert shown(outcome) == ids([*candidates[4:6], *candidates[:4]])
    assert [bool(one.broken) for one in outcome.finalists] == [False, False, True, True, True, True]


def test_if_all_break_a_limit_there_is_no_winner_and_an_end(tmp_path: Path) -> None:
    candidates = ranked(tmp_path, budget=20)
    evaluator = Planted(lambda arch_id, number: 0.1)
    outcome = contest(tmp_path, evaluator, 2, constraints=["accuracy>=0.2"]).hold(candidates)
    assert (outcome.winner, len(outcome.finalists)) == (None, 2 * _MOST_TRAINED)


def test_what_is_known_before_training_ranks_by_itself(tmp_path: Path) -> None:
    candidates = sorted(ranked(tmp_path), key=lambda one: one.metrics["macs"])
    outcome = contest(tmp_path, Planted(by_place(candidates)), objective="macs").hold(candidates)
    assert shown(outcome) == ids(candidates[:3])


def test_a_score_without_training_gives_way_to_the_final_score(tmp_path: Path) -> None:
    candidates = ranked(tmp_path)
    made = contest(tmp_path, Planted(by_place(candidates)))
    objective = problem().objectives[0]
    made._jury = Jury([type(objective)("naswot", "maximize")], [], None)
    assert shown(made.hold(candidates)) == ids([candidates[2], candidates[1], candidates[0]])


def test_the_reward_is_that_of_the_final_score(tmp_path: Path) -> None:
    candidates = ranked(tmp_path, target="macs=100K")
    outcome = contest(tmp_path, Planted(lambda arch_id, number: 0.8), target="macs=100K").hold(candidates)
    macs = [one.best.metrics["macs"] for one in outcome.finalists]
    assert macs == sorted(macs)
    rewards = [one.metrics()["final_reward"] for one in outcome.finalists]
    assert rewards == pytest.approx([0.8 * (count / 1e5) ** -0.07 for count in macs])


def test_a_front_is_trained_evenly_and_keeps_its_order(tmp_path: Path) -> None:
    front = ranked(tmp_path, budget=40, objective="accuracy,macs")
    assert len(front) > 4
    outcome = contest(tmp_path, Planted(by_place(front)), objective="accuracy,macs").hold_front(front)
    places = thinned(len(front), 3)
    assert shown(outcome) == ids([front[place] for place in places])
    assert places[0] == 0
    assert places[-1] == len(front) - 1
    assert outcome.winner is not None
    assert outcome.winner.arch_id == ids(front)[0]


@pytest.mark.parametrize(("count", "most"), [(0, 3), (1, 1), (2, 3), (5, 1), (5, 2), (20, 7), (100, 99)])
def test_thinning(count: int, most: int) -> None:
    places = thinned(count, most)
    assert len(places) == min(count, most)
    assert places == sorted(set(places))
    assert all(0 <= place < count for place in places)
    assert not places or places[0] == 0


# What goes wrong.


def test_who_cannot_be_trained_is_shown_with_the_reason_and_does_not_win(tmp_path: Path) -> None:
    candidates = ranked(tmp_path)
    worst = ids(candidates)[2]

    def score(arch_id: str, number: int) -> float:
        if arch_id == worst and number == 1:
            raise EvaluationFailed("training diverged")
        return by_place(candidates)(arch_id, number)

    outcome = contest(tmp_path, Planted(score)).hold(candidates)
    assert shown(outcome) == ids([candidates[1], candidates[0], candidates[2]])
    plain = outcome.finalists[-1].to_dict()
    assert plain["failed"] == "1 of 3 trainings failed: training diverged"
    assert len(plain["final"]["accuracy"]["values"]) == 2
    assert "final_accuracy" not in plain["metrics"]
    assert outcome.not_trained == ""


def test_if_nobody_can_be_trained_the_search_has_the_word(tmp_path: Path) -> None:
    candidates = ranked(tmp_path)

    def score(arch_id: str, number: int) -> float:
        raise MemoryError("too large")

    evaluator = Planted(score)
    with pytest.warns(UserWarning, match="the winner is not verified"):
        outcome = contest(tmp_path, evaluator).hold(candidates)
    assert outcome.winner is not None
    assert outcome.winner.arch_id == ids(candidates)[0]
    assert "MemoryError: too large" in outcome.not_trained
    assert evaluator.count == 3 * SEEDS


def test_a_nan_is_a_failure(tmp_path: Path) -> None:
    candidates = ranked(tmp_path)
    first = ids(candidates)[0]
    evaluator = Planted(lambda arch_id, number: math.nan if arch_id == first else 0.5)
    outcome = contest(tmp_path, evaluator).hold(candidates)
    assert outcome.finalists[-1].arch_id == first
    assert "score = nan" in outcome.finalists[-1].reason


def test_the_time_limit_ends_trainings_and_nothing_is_lost(tmp_path: Path) -> None:
    candidates = ranked(tmp_path)
    expected = contest(tmp_path / "search", Planted(by_place(candidates))).hold(candidates)

    with pytest.warns(UserWarning, match="after 0 of 9 trainings"):
        outcome = contest(tmp_path, Planted(by_place(candidates)), deadline=0.0).hold(candidates)
    assert outcome.finalists == ()
    assert outcome.out_of_time
    assert outcome.winner is not None
    assert outcome.winner.arch_id == ids(candidates)[0]

    slow = Planted(by_place(candidates))
    made = contest(tmp_path, slow)
    assert made._trainer is not None

    def stop(done: int, total: int) -> None:
        if done == 4:
            made._trainer._deadline = 0.0  # type: ignore[union-attr]

    made._trainer._on_train = stop
    with pytest.warns(UserWarning, match="after 4 of 9 trainings"):
        made.hold(candidates)
    rest = Planted(by_place(candidates))
    outcome = contest(tmp_path, rest).hold(candidates)
    assert (slow.count, rest.count) == (4, 5)
    assert [one.to_dict() for one in outcome.finalists] == [one.to_dict() for one in expected.finalists]
    again = Planted(by_place(candidates))
    contest(tmp_path, again, deadline=0.0).hold(candidates)  # nothing is left to do
    assert again.count == 0


def test_the_order_of_the_workers_does_not_matter(tmp_path: Path) -> None:
    candidates = ranked(tmp_path)
    outcomes = []
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        evaluator, order = Planted(by_place(candidates)), random.Random(seed)
        made = contest(folder, evaluator, executor=lambda given, order=order: Shuffled(given, order))
        outcomes.append([one.to_dict() for one in made.hold(candidates).finalists])
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_a_half_written_line_is_dropped_and_garbage_refused(tmp_path: Path) -> None:
    candidates = ranked(tmp_path)
    contest(tmp_path, Planted(by_place(candidates))).hold(candidates)
    file = tmp_path / "finalists.jsonl"
    file.write_text(file.read_text()[:-20])
    rest = Planted(by_place(candidates))
    contest(tmp_path, rest).hold(candidates)
    assert rest.count == 1
    whole = file.read_text()
    for garbage in (
        "x\n",
        "[]\n",
        "3\n",
        "{}\n",
        '{"arch_id": "a", "samples_ms": []}\n',
        whole.replace("0.5", '"a"', 1),
    ):
        file.write_text(garbage)
        with pytest.raises(InputError, match=r"record of finalists cannot be read.*finalists\.jsonl"):
            FinalsLog(file)


def test_trainings_of_an_older_version_that_lack_a_score_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "finalists.jsonl"
    file.write_text(
        '{"arch_id": "a", "seed": 0, "metrics": {"accuracy": 0.5, "loss": 1.0}, "seconds": 1, "reason": ""}\n'
    )
    assert FinalsLog(file, ("accuracy", "loss")).trainings
    with pytest.raises(InputError, match=r"cannot be read: .*of an older version.*; remove the file, and they are"):
        FinalsLog(file, ("score", "accuracy", "loss"))


def test_seeds_are_not_those_of_the_search() -> None:
    seeds = [final_seed(0, number) for number in range(100)] + [look_seed(0, look) for look in range(100)]
    assert len(set(seeds)) == 200
    assert final_seed(1, 0) != final_seed(0, 0)
