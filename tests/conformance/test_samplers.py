"""What every searcher owes. A new one is a line in the registry, and is tested here without another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from support import SMALL_SPACE, TINY_SPACE, problem, propose, score_of, space

from search_space import load_space
from searchers import SEARCHERS, NothingNew, SpaceSampler, distributions, make_sampler

EVERY = sorted(SEARCHERS)
OURS = [name for name in EVERY if isinstance(make_sampler(name, problem(), 0), SpaceSampler)]
ENDS = ["netadapt"]
"""Ends when there is nothing left to cut."""
every = pytest.mark.parametrize("name", EVERY)
ours = pytest.mark.parametrize("name", OURS)


def trials(name: str, many: int = 40) -> int:
    """Optuna's Gaussian process takes its time, from its 11th trial on."""
    return min(many, 12) if name == "gp" else many


def ids(name: str, seed: int, count: int, text: str = SMALL_SPACE) -> list[str]:
    posed = problem(space(text))
    return [one.arch_id for one in propose(make_sampler(name, posed, seed), posed, count)]


@every
def test_same_seed_same_proposals(name: str) -> None:
    first = ids(name, 1, trials(name))
    assert first == ids(name, 1, trials(name))
    assert name in ENDS or len(first) == trials(name)


@every
def test_other_seed_other_proposals(name: str) -> None:
    if name == "netadapt":
        pytest.skip("has nothing random")
    assert ids(name, 1, trials(name)) != ids(name, 2, trials(name))


def test_same_proposals_in_another_process_with_another_hash_seed() -> None:
    code = f"from test_samplers import ids\nfor name in {OURS}: print(*ids(name, 3, 30))"
    path = ":".join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    expected = [ids(name, 3, 30) for name in OURS]
    for hash_seed in ("1", "2"):
        environment = {"PYTHONPATH": path, "PYTHONHASHSEED": hash_seed, "PATH": ""}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert [line.split() for line in done.stdout.splitlines()] == expected


@ours
@pytest.mark.parametrize("objective", ["accuracy", "accuracy,macs"])
def test_a_fresh_sampler_continues_a_study_as_the_old_one_would(name: str, objective: str) -> None:
    if not takes(name, objective):
        pytest.skip("takes one objective")
    posed = problem(objective=objective)
    whole = propose(make_sampler(name, posed, 5), posed, 45)
    for broken_at in (7, 17, 30):
        study = optuna.create_study(directions=[one.direction for one in posed.objectives])
        first = propose(make_sampler(name, posed, 5), posed, broken_at, study=study)
        rest = propose(make_sampler(name, posed, 5), posed, 45 - broken_at, study=study)
        assert first + rest == whole


def takes(name: str, objective: str) -> bool:
    return "," not in objective or getattr(SEARCHERS[name], "several_objectives", True)


@every
def test_failed_and_running_trials_do_not_disturb(name: str) -> None:
    searched = space()
    study = optuna.create_study(direction="maximize", sampler=make_sampler(name, problem(searched), 0))
    asked = 0
    for number in range(trials(name)):
        try:
            trial = study.ask(distributions(searched))
        except NothingNew:
            break
        asked += 1
        if number % 3 == 0:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif number % 3 == 1:
            study.tell(trial, 0.5)
    assert asked == trials(name) or name in ENDS


@every
def test_minimising_and_maximising_mirror_each_other(name: str) -> None:
    searched = space()
    by_accuracy, by_loss = problem(searched, "accuracy"), problem(searched, "loss")

    def mirrored(posed, architecture, look):  # type: ignore[no-untyped-def]
        score = score_of(architecture, look)
        return {"accuracy": score, "loss": -score}

    first = propose(make_sampler(name, by_accuracy, 0), by_accuracy, trials(name), metrics_of=mirrored)
    assert first == propose(make_sampler(name, by_loss, 0), by_loss, trials(name), metrics_of=mirrored)


@every
def test_a_space_of_four_networks_is_no_problem(name: str) -> None:
    if name in ENDS:
        assert 1 < len(set(ids(name, 0, 60, TINY_SPACE))) <= 4
    else:
        assert len(set(ids(name, 0, trials(name, 60), TINY_SPACE))) == 4


@every
def test_proposals_lie_in_a_preset(name: str) -> None:
    posed = problem(load_space("mobilenetv3"))

    def metrics(posed, architecture, look):  # type: ignore[no-untyped-def]
        return {"accuracy": 0.0}

    for architecture in propose(make_sampler(name, posed, 0), posed, min(trials(name), 25), metrics_of=metrics):
        posed.space.check(posed.space.encode(architecture))
