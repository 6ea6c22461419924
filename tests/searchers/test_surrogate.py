"""The Gaussian process, against formulas written out."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from support import SMALL_SPACE, space

from search_space import SearchSpace, load_space
from search_space.space import Genotype
from searchers.surrogate import Array, Genes, Hyperparameters, Looks, Surrogate, fit, minus_log_posterior

WIDE_SPACE = """\
schema_version: 1
name: wide
resolution: 16
stem: {type: conv, out_channels: 8, stride: 2, kernel_size: 3}
stages:
- {type: mbconv, num_layers: {choice: [1, 2, 3]}, out_channels: 8, stride: 2, kernel_size: 3,
   expand_ratio: {choice: [1, 2, 3, 4, 5, 6, 7, 8], per: block}}
head: {type: pooled, conv_channels: 16}
"""


def networks(searched: SearchSpace, count: int) -> list[Genotype]:
    """Distinct ones."""
    rng = np.random.default_rng(1)
    drawn = (searched.canonical(searched.sample(rng)) for _ in itertools.count())
    found: dict[Genotype, None] = {}
    while len(found) < count:
        found.setdefault(next(drawn))
    return list(found)


def agreement(searched: SearchSpace, a: Genotype, b: Genotype) -> Array:
    """By gene: 1 if the two have the same option, or do not use it; 1/2 if one of them does not."""
    uses_a, uses_b = set(searched.active(a)), set(searched.active(b))
    made = []
    for gene in range(len(searched.genes)):
        if gene in uses_a and gene in uses_b:
            made.append(float(a[gene] == b[gene]))
        else:
            made.append(0.5 if gene in uses_a | uses_b else 1.0)
    return np.array(made)


def squared_distance(searched: SearchSpace, a: Genotype, b: Genotype) -> float:
    """How differently often the genes of each field pick each option."""
    genes: dict[tuple[str, object], int] = Counter()
    difference: dict[tuple[str, object], int] = Counter()
    for gene in searched.genes:
        genes.update((gene.name.split(".")[-1], option) for option in gene.options)
    for network, sign in ((a, 1), (b, -1)):
        for index in searched.active(network):
            gene = searched.genes[index]
            difference[gene.name.split(".")[-1], gene.options[network[index]]] += sign
    return sum(difference[tally] ** 2 / count for tally, count in genes.items())


def covariance(searched: SearchSpace, a: list[Genotype], b: list[Genotype], of: Hyperparameters) -> Array:
    """The prior covariance as the class describes it, pair by pair."""
    made = np.empty((len(a), len(b)))
    for i, j in np.ndindex(*made.shape):
        agree = agreement(searched, a[i], b[j])
        together = of.signal * math.exp(-float(of.scale @ (1 - agree)))
        alone = of.main * float(of.scale @ agree) / of.scale.sum()
        whole = of.whole * math.exp(-of.reach * squared_distance(searched, a[i], b[j]))
        made[i, j] = together + alone + whole + of.network * (a[i] == b[j])
    return made


def some_parameters(count: int, rng: np.random.Generator) -> Hyperparameters:
    """From the prior, widely."""
    scale = np.exp(rng.normal(math.log(1.6 / count), 1, count))
    return Hyperparameters(scale, *np.exp(rng.normal([0, 0, 0, 0, -3.5, -3.5])).tolist())


def some_looks(count: int, rng: np.random.Generator) -> Looks:
    return Looks(
        mean=rng.normal(3, 2, count),
        count=rng.integers(1, 4, count).astype(float),
        noise=rng.uniform(0.2, 1, count),
        scatter=1.7,
    )


@pytest.mark.parametrize("text", [SMALL_SPACE, WIDE_SPACE])
def test_genes_are_compared_by_a_matrix_product(text: str) -> None:
    searched = space(text)
    genes, found = Genes(searched), networks(searched, 30)
    rows, weights = genes.rows(found), np.linspace(0.5, 2, genes.count)
    product = genes.agreement(weights, rows, rows)
    assert product == pytest.approx(product.T)
    if text == SMALL_SPACE:
        assert product == pytest.approx(np.array([[weights @ agreement(searched, a, b) for b in found] for a in found]))
    assert np.diag(product) == pytest.approx(np.full(30, weights.sum()))
    slope = np.random.default_rng(0).normal(size=(30, 30))
    slope += slope.T
    assert genes.by_weight(slope, rows) @ weights == pytest.approx(float((slope * product).sum()))


@pytest.mark.parametrize("searched", [space(), space(WIDE_SPACE), load_space("mobilenetv3")], ids=lambda s: s.name)
def test_the_covariance_is_positive_definite(searched: SearchSpace) -> None:
    genes, rng = Genes(searched), np.random.default_rng(0)
    rows = genes.rows(networks(searched, 120))
    for _ in range(30):
        parameters = some_parameters(genes.count, rng)
        surrogate = Surrogate(genes, rows, some_looks(len(rows), rng), parameters)
        own = parameters.network * np.eye(len(rows))
        eigenvalues = np.linalg.eigvalsh(surrogate.seen.prior - own)
        assert eigenvalues[0] > -1e-9 * eigenvalues[-1]


def test_the_posterior_is_that_of_the_formula() -> None:
    searched, rng = space(), np.random.default_rng(0)
    genes, found = Genes(searched), networks(space(), 40)
    known, new = found[:25], found[25:]
    parameters, looks = some_parameters(genes.count, rng), some_looks(25, rng)
    surrogate = Surrogate(genes, genes.rows(known), looks, parameters)

    unit, offset = looks.mean.std(), looks.mean.mean()
    noise = np.diag(parameters.noise * looks.noise / looks.count)
    weights = np.linalg.inv(covariance(searched, known, known, parameters) + noise)
    for posterior, others in ((surrogate.seen, known), (surrogate.unseen(genes.rows(new)), new)):
        prior = covariance(searched, known, others, parameters)
        mean = offset + prior.T @ weights @ (looks.mean - offset)
        every = covariance(searched, others, others, parameters) - prior.T @ weights @ prior
        assert posterior.mean == pytest.approx(mean, rel=1e-5)
        assert posterior.variance == pytest.approx(unit**2 * np.diag(every), rel=1e-4)
        chosen = np.array([3, 7, 11])
        both = covariance(searched, known, others, parameters) - (
            covariance(searched, known, known, parameters) @ weights @ prior
        )
        found_covariance = surrogate.covariance(chosen, surrogate.seen, posterior)
        assert found_covariance == pytest.approx(unit**2 * both[chosen], rel=1e-3, abs=1e-6)
    assert surrogate.look_variance == pytest.approx(unit**2 * parameters.noise * looks.noise)


def test_joint_samples_have_the_posterior_s_mean_and_variance() -> None:
    searched, rng = space(), np.random.default_rng(0)
    genes, found = Genes(searched), networks(space(), 20)
    surrogate = Surrogate(genes, genes.rows(found[:12]), some_looks(12, rng), some_parameters(genes.count, rng))
    chosen, rows = np.array([0, 5, 11]), genes.rows(found[12:])
    samples = np.array([surrogate.draw(chosen, rows, rng) for _ in range(1000)])
    seen, unseen = surrogate.seen.at(chosen), surrogate.unseen(rows)
    variance = np.concatenate([seen.variance, unseen.variance])
    assert samples.mean(axis=0) == pytest.approx(
        np.concatenate([seen.mean, unseen.mean]), abs=4 * math.sqrt(variance.max() / 1000)
    )
    assert samples.var(axis=0) == pytest.approx(variance, rel=0.25, abs=1e-4)
    between = np.cov(samples.T)[:3, 3:]
    expected = surrogate.covariance(chosen, surrogate.seen, surrogate.unseen(rows))
    assert between == pytest.approx(expected, abs=0.1 * variance.max())


@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("repeated", [True, False])
def test_the_gradient_that_is_fitted_with(noisy: bool, repeated: bool) -> None:
    genes, rng = Genes(space()), np.random.default_rng(0)
    rows, looks = genes.rows(networks(space(), 30)), some_looks(30, rng)
    if not repeated:
        looks = Looks(looks.mean, np.ones(30), looks.noise, 0.0)
    loss, centre, width = minus_log_posterior(genes, rows, looks, noisy=noisy)
    for _ in range(5):
        place = centre + 0.7 * width * rng.standard_normal(len(centre))
        value, gradient = loss(place)
        assert math.isfinite(value)
        assert gradient == pytest.approx(approx_fprime(place, lambda x: loss(x)[0], 1e-6), rel=1e-3, abs=1e-3)


def test_the_fit_tells_which_gene_matters_and_how_noisy_looks_are() -> None:
    searched, rng = load_space("mobilenetv3"), np.random.default_rng(0)
    genes, found = Genes(searched), [searched.sample(rng) for _ in range(120)]
    always = [gene for gene in range(genes.count) if all(gene in searched.active(one) for one in found)]
    first, second = always[0], always[-1]
    scores = np.array([2.0 * one[first] + one[second] for one in found])
    looks = Looks(scores + rng.normal(0, 0.1, 120), np.ones(120), np.ones(120), 0.0)
    fitted = fit(genes, genes.rows(found), looks, noisy=True)
    assert set(np.argsort(-fitted.scale)[:2].tolist()) == {first, second}
    assert fitted.noise + fitted.network == pytest.approx(0.1**2 / looks.mean.var(), rel=0.8)
    assert fit(genes, genes.rows(found), looks, noisy=False).noise == 0

    scores = scores + rng.normal(0, 0.5 / math.sqrt(2), 120)
    twice = Looks(scores, np.full(120, 2.0), np.ones(120), scatter=120 * 0.5**2)
    noise = fit(genes, genes.rows(found), twice, noisy=True).noise
    assert noise == pytest.approx(0.5**2 / scores.var(), rel=0.3)


def test_scores_that_are_all_equal_can_be_fitted() -> None:
    genes = Genes(space())
    rows, looks = genes.rows(networks(space(), 20)), Looks(np.zeros(20), np.ones(20), np.ones(20), 0.0)
    for noisy in (True, False):
        posterior = Surrogate(genes, rows, looks, fit(genes, rows, looks, noisy=noisy)).seen
        assert np.isfinite([posterior.mean, posterior.variance]).all()
