"""What every searcher owes. A new one is a line in the registry, and is tested here without another."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from support import SMALL_SPACE, TINY_SPACE, problem, propose, score_of, space

from search_space import Architecture, InputError, load_space
from searchers import SEARCHERS, NothingNew, Problem, SpaceSampler, distributions, make_sampler

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


@every
def test_several_objectives(name: str) -> None:
    posed = problem(objective="accuracy,macs,loss")
    if not takes(name, "accuracy,macs"):
        with pytest.raises(InputError, match=r"takes one objective only, got 'accuracy,macs,loss'"):
            make_sampler(name, posed, 0)
        return
    first = propose(make_sampler(name, posed, 0), posed, trials(name))
    assert len(first) == trials(name)
    assert first == propose(make_sampler(name, posed, 0), posed, trials(name))
    assert first != propose(make_sampler(name, posed, 1), posed, trials(name))


@every
@pytest.mark.parametrize("objective", ["accuracy", "macs", "accuracy,macs"])
def test_limits_that_only_an_evaluation_can_tell(name: str, objective: str) -> None:
    if not takes(name, objective):
        pytest.skip("takes one objective")
    posed = problem(objective=objective, constraints=["accuracy>=0.6", "loss<=0.35"])
    assert posed.learned_limits == ("accuracy>=0.6", "loss<=0.35")
    found = propose(make_sampler(name, posed, 0), posed, trials(name, 50))
    assert len(found) == trials(name, 50) or name in ENDS


LIMITED = problem(objective="macs", constraints=["accuracy>=0.65"], noisy=False)
"""The fewest MACs have the least accuracy: who does not learn the limit goes far below it."""


def keeps(architecture: Architecture) -> bool:
    return score_of(architecture, 0) >= 0.65


@pytest.mark.parametrize("name", ["evolution", "tpe", "nsga2"])
def test_limits_are_learned(name: str) -> None:
    found = propose(make_sampler(name, LIMITED, 0), LIMITED, 80)
    assert np.mean([keeps(one) for one in found[40:]]) > np.mean([keeps(one) for one in at_random(LIMITED, 300)]) + 0.1


def test_the_predictor_finds_what_is_best_within_a_limit() -> None:
    def fewest_macs(found: list[Architecture]) -> float:
        return min(LIMITED.known(one)["macs"] for one in found if keeps(one))

    found = [fewest_macs(propose(make_sampler("predictor", LIMITED, seed), LIMITED, 80)) for seed in range(3)]
    assert np.mean(found) < 1.05 * fewest_macs(at_random(LIMITED, 300))


def at_random(posed: Problem, count: int) -> list[Architecture]:
    rng = np.random.default_rng(0)
    return [posed.space.decode(posed.space.sample(rng)) for _ in range(count)]


@ours
@pytest.mark.parametrize("noisy", [True, False])
def test_networks_under_way_are_not_proposed(name: str, noisy: bool) -> None:
    posed = problem(noisy=noisy)
    study = optuna.create_study(direction="maximize")
    known = propose(make_sampler(name, posed, 0), posed, 20, study=study)
    pending: list[Architecture] = []
    for _ in range(20):
        try:
            trial = study.ask(distributions(posed.space))
        except NothingNew:
            break
        architecture = posed.space.decode(posed.space.genotype(trial.params))
        assert architecture not in pending
        assert (noisy and looks_again(name)) or architecture not in known
        pending.append(architecture)
    assert len(pending) > 1


@ours
@pytest.mark.parametrize("under_way", [8, 17, 40])
def test_many_may_be_under_way_when_the_first_results_come(name: str, under_way: int) -> None:
    posed = problem()
    study = optuna.create_study(direction="maximize", sampler=make_sampler(name, posed, 0))
    running: list[optuna.Trial] = []
    for _ in range(24):
        with contextlib.suppress(NothingNew):  # for now: netadapt waits for what is under way
            while len(running) < under_way:
                running.append(study.ask(distributions(posed.space)))
        if not running:
            break
        done = running.pop(0)
        study.tell(done, score_of(posed.space.decode(posed.space.genotype(done.params)), 0))
    assert len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE])) > 10


def looks_again(name: str) -> bool:
    return bool(getattr(SEARCHERS[name], "looks_again", False))


@ours
@pytest.mark.parametrize("noisy", [True, False])
def test_only_who_says_so_looks_again_and_only_where_there_is_noise(name: str, noisy: bool) -> None:
    posed = problem(noisy=noisy)
    found = propose(make_sampler(name, posed, 0), posed, 80)
    assert (len(set(found)) < len(found)) == (noisy and looks_again(name))


@ours
def test_what_failed_is_not_proposed_again(name: str) -> None:
    posed = problem()
    study = optuna.create_study(direction="maximize", sampler=make_sampler(name, posed, 0))
    failed: list[Architecture] = []
    for number in range(60):
        try:
            trial = study.ask(distributions(posed.space))
        except NothingNew:
            break
        architecture = posed.space.decode(posed.space.genotype(trial.params))
        assert architecture not in failed
        if number % 3 == 2:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            failed.append(architecture)
        else:
            study.tell(trial, score_of(architecture, number))
    assert len(failed) > 5


def made_up_cost(architecture: Architecture) -> float:
    """As counting does, but at once."""
    return float(sum(block.out_channels * getattr(block, "expand_ratio", 1) for block in architecture.blocks))


@functools.cache
def tight() -> Problem:
    """One of a thousand networks is allowed."""
    searched = load_space("mobilenetv3")
    rng = np.random.default_rng(0)
    limit = float(np.quantile([made_up_cost(searched.decode(searched.sample(rng))) for _ in range(3000)], 0.001))
    return Problem(
        searched,
        known=lambda one: {"macs": made_up_cost(one)},
        violation=lambda one: max(0.0, made_up_cost(one) / limit - 1),
        noisy=False,
    )


@ours
def test_feasible_networks_are_found_where_they_are_rare(name: str) -> None:
    if name == "netadapt":
        pytest.skip("goes there step by step")
    posed = tight()

    def metrics(posed, architecture, look):  # type: ignore[no-untyped-def]
        return {"accuracy": sum(block.kernel_size for block in architecture.blocks) / 1000}

    found = propose(make_sampler(name, posed, 0), posed, 40, metrics_of=metrics)
    assert len(set(found)) == 40
    assert all(posed.violation(one) == 0 for one in found)


@ours
def test_what_is_known_is_never_broken(name: str) -> None:
    for objective in ("accuracy", "accuracy,macs"):
        if name != "netadapt" and takes(name, objective):
            posed = problem(objective=objective, constraints=["macs<=150K", "params>=1K"])
            assert all(posed.violation(one) == 0 for one in propose(make_sampler(name, posed, 0), posed, 50))
