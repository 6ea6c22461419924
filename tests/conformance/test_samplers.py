"""What every searcher owes. A new one is a line in the registry, and is tested here without another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from support import SMALL_SPACE, TINY_SPACE, score_of, space

from search_space import load_space
from searchers import SEARCHERS, distributions, make_sampler

pytestmark = pytest.mark.parametrize("name", sorted(SEARCHERS))


def propose(name: str, seed: int, count: int, *, text: str = SMALL_SPACE, direction: str = "maximize") -> list[str]:
    """Run a study for `count` trials; the `arch_id`s it proposed."""
    searched = space(text)
    study = optuna.create_study(direction=direction, sampler=make_sampler(name, searched, seed))
    proposed = []
    for _ in range(count):
        trial = study.ask(distributions(searched))
        architecture = searched.decode(searched.genotype(trial.params))
        proposed.append(architecture.arch_id)
        study.tell(trial, score_of(architecture, 0))
    return proposed


def test_same_seed_same_proposals(name: str) -> None:
    assert propose(name, 1, 40) == propose(name, 1, 40)


def test_other_seed_other_proposals(name: str) -> None:
    assert propose(name, 1, 40) != propose(name, 2, 40)


def test_same_proposals_in_another_process_with_another_hash_seed(name: str) -> None:
    code = f"from test_samplers import propose; print(*propose({name!r}, 3, 30))"
    path = ":".join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    for hash_seed in ("1", "2"):
        environment = {"PYTHONPATH": path, "PYTHONHASHSEED": hash_seed, "PATH": ""}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == propose(name, 3, 30)


def test_a_fresh_sampler_continues_a_study_as_the_old_one_would(name: str) -> None:
    searched = space()

    def run(break_at: int | None) -> list[dict[str, object]]:
        study = optuna.create_study(direction="maximize", sampler=make_sampler(name, searched, 5))
        for number in range(45):
            if number == break_at:
                study.sampler = make_sampler(name, searched, 5)
            trial = study.ask(distributions(searched))
            study.tell(trial, score_of(searched.decode(searched.genotype(trial.params)), 0))
        return [trial.params for trial in study.trials]

    assert run(None) == run(30)


def test_failed_and_running_trials_do_not_disturb(name: str) -> None:
    searched = space()
    study = optuna.create_study(direction="maximize", sampler=make_sampler(name, searched, 0))
    for number in range(40):
        trial = study.ask(distributions(searched))
        if number % 3 == 0:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif number % 3 == 1:
            study.tell(trial, 0.5)
    assert len(study.trials) == 40


def test_minimising_and_maximising_mirror_each_other(name: str) -> None:
    searched = space()

    def params(sign: int) -> list[dict[str, object]]:
        direction = "maximize" if sign > 0 else "minimize"
        study = optuna.create_study(direction=direction, sampler=make_sampler(name, searched, 0))
        for _ in range(40):
            trial = study.ask(distributions(searched))
            study.tell(trial, sign * score_of(searched.decode(searched.genotype(trial.params)), 0))
        return [trial.params for trial in study.trials]

    assert params(1) == params(-1)


def test_a_space_of_four_networks_is_no_problem(name: str) -> None:
    assert len(set(propose(name, 0, 60, text=TINY_SPACE))) == 4


def test_proposals_lie_in_every_preset(name: str) -> None:
    searched = load_space("mobilenetv3")
    study = optuna.create_study(direction="maximize", sampler=make_sampler(name, searched, 0))
    for _ in range(25):
        trial = study.ask(distributions(searched))
        searched.decode(searched.genotype(trial.params))
        study.tell(trial, 0.0)
