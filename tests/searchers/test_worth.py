from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm
from support import problem, score_of, space

from search_space.space import Genotype
from searchers import Problem
from searchers.beliefs import Beliefs, fit_all
from searchers.history import History, Observation
from searchers.surrogate import Array, Genes
from searchers.worth import _gain_of_choice, hypervolume_improvement, knowledge_gradient

GENES = Genes(space())


def random_networks(count: int, seed: int) -> list[Genotype]:
    rng = np.random.default_rng(seed)
    return list({space().canonical(space().sample(rng)) for _ in range(count)})


def believe(posed: Problem, found: list[Genotype], looks: int = 1) -> Beliefs:
    """After some looks at each network."""
    history = History()
    for look in range(looks):
        for genotype in found:
            architecture = posed.space.decode(genotype)
            metrics = {"accuracy": score_of(architecture, look), **posed.known(architecture)}
            scores = tuple(one.sign * float(metrics[one.metric]) for one in posed.objectives)
            history.add(Observation(len(history), genotype, architecture.arch_id, scores))
    return Beliefs(posed, GENES, history.networks, fit_all(posed, GENES, history.networks))


def test_without_noise_and_rivals_it_is_expected_improvement() -> None:
    posed = problem(noisy=False)
    beliefs = believe(posed, random_networks(30, 1)[:1])
    rows = GENES.rows(random_networks(40, 2))
    values, again, values_again = knowledge_gradient(beliefs, np.zeros((len(rows), 1)), rows)
    learned = beliefs.objectives[0]
    assert learned is not None
    best = learned.surrogate.seen.mean[0]
    posterior = learned.surrogate.unseen(rows)
    spread = np.sqrt(posterior.variance)
    ratio = (posterior.mean - best) / spread
    improvement = spread * (ratio * norm.cdf(ratio) + norm.pdf(ratio))
    assert values == pytest.approx(improvement, rel=0.02)
    assert len(again) == len(values_again) == 0


def test_a_look_is_never_worth_less_than_nothing() -> None:
    beliefs = believe(problem(), random_networks(30, 1), looks=2)
    rows = GENES.rows(random_networks(60, 2))
    values, again, values_again = knowledge_gradient(beliefs, np.zeros((len(rows), 1)), rows)
    assert (values >= 0).all()
    assert (values_again >= 0).all()
    assert (values > 0).any()
    assert set(again.tolist()) == set(range(len(beliefs.networks)))


def test_the_gain_of_a_choice_among_many() -> None:
    rng = np.random.default_rng(0)
    z = rng.standard_normal(200_000)
    for _ in range(20):
        behind = np.concatenate([[0.0], rng.exponential(1, 5)])[:, None]
        slopes = rng.normal(0, 2, (6, 1))
        exact = np.mean(np.max(slopes * z - behind, axis=0))
        assert _gain_of_choice(behind, slopes)[0] == pytest.approx(exact, rel=0.05, abs=0.01)
    # Where chances are slim, only the formula tells them from nothing.
    slim = _gain_of_choice(np.array([[0.0], [6.0]]), np.array([[0.0], [1.0]]))[0]
    assert slim == pytest.approx(norm.pdf(6) - 6 * norm.sf(6), rel=1e-6)
    assert _gain_of_choice(np.array([[0.0], [1.0]]), np.array([[2.0], [2.0]]))[0] == 0


def test_what_is_known_gains_what_it_is_better() -> None:
    posed = problem(objective="macs", constraints=["accuracy>=0.5"])
    history = History()
    for number, genotype in enumerate(random_networks(30, 1)):
        architecture = posed.space.decode(genotype)
        excess = (0.5 - score_of(architecture, 0)) / 0.5
        scores = (-posed.known(architecture)["macs"],)
        history.add(Observation(number, genotype, architecture.arch_id, scores, (excess,)))
    beliefs = Beliefs(posed, GENES, history.networks, fit_all(posed, GENES, history.networks))
    assert beliefs.objectives == [None]
    new = random_networks(60, 2)
    known = np.array([[-posed.known(posed.space.decode(one))["macs"]] for one in new])
    values, again, _ = knowledge_gradient(beliefs, known, GENES.rows(new))
    best = max(look.scores[0] for look in history.observed if look.excess[0] <= 0)
    assert (values[known[:, 0] <= best] == 0).all()
    assert values[known[:, 0] > best].max() > 0
    assert len(again) == 0


def area(points: Array, reference: Array) -> float:
    """Of what the points dominate, from rectangle to rectangle."""
    total, top = 0.0, reference[1]
    for first, second in sorted(points.tolist(), reverse=True):
        if second > top:
            total += (first - reference[0]) * (second - top)
            top = second
    return float(total)


def test_hypervolume_improvement_is_what_a_network_adds() -> None:
    """Both objectives are known, so that nothing is drawn."""
    posed = problem(objective="macs,params")
    beliefs = believe(posed, random_networks(12, 1))
    new = random_networks(60, 2)
    metrics = [posed.known(posed.space.decode(one)) for one in new]
    known = np.array([[-one["macs"], -one["params"]] for one in metrics], dtype=float)
    values = hypervolume_improvement(beliefs, known, GENES.rows(new), np.random.default_rng(0))
    every = np.vstack([beliefs.scores, known])
    reference = every.min(axis=0) - 1e-9
    before, unit = area(beliefs.scores, reference), area(every.max(axis=0)[None], reference)
    added = np.array([area(np.vstack([beliefs.scores, one]), reference) - before for one in known]) / unit
    assert (added > 1e-9).sum() > 3
    assert values[added > 1e-9] == pytest.approx(added[added > 1e-9], rel=1e-6)
    # Those that add nothing come after those that do.
    assert values[added < 1e-12].max() < values[added > 1e-9].min()
    assert math.isfinite(values.min())


def test_hypervolume_improvement_is_a_function_of_its_randomness() -> None:
    posed = problem(objective="accuracy,macs", constraints=["loss<=0.5"])
    history = History()
    for number, genotype in enumerate(random_networks(30, 1)):
        architecture = posed.space.decode(genotype)
        score = score_of(architecture, 0)
        scores = (score, -posed.known(architecture)["macs"])
        history.add(Observation(number, genotype, architecture.arch_id, scores, ((0.5 - score) / 0.5,)))
    beliefs = Beliefs(posed, GENES, history.networks, fit_all(posed, GENES, history.networks))
    new = random_networks(60, 2)
    known = np.array([[0.0, -posed.known(posed.space.decode(one))["macs"]] for one in new])

    def values(seed: int) -> Array:
        return hypervolume_improvement(beliefs, known, GENES.rows(new), np.random.default_rng(seed))

    assert (values(1) == values(1)).all()
    assert (values(1) != values(2)).any()
