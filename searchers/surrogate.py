"""A Gaussian process over networks: which choices matter, and how good is what has not been tried."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

from search_space import SearchSpace
from search_space.space import Genotype

Array = NDArray[np.float64]
_JITTER = 1e-8
_ITERATIONS = 30
_REMEMBERED = 10_000
_DISTANCE = 1.6
"""Prior mode of the covariance's exponent between two networks that differ in all genes, however many there are."""
_HINTED = 0.3
"""Prior mode of the features' part: small, lest a feature that says nothing lead the first looks astray."""
_HINT_DISTANCE = 0.4
"""The same between two networks whose features are as far apart as usual."""


class Genes:
    """Genotypes as matrices, such that the number of genes in which two networks differ is a matrix product.

    A gene that is out of use in both networks is no difference; out of use in one of them, it is half a difference,
    and more if it has more than four options: agreement must be positive semidefinite.
    A subclass may know further numbers of a network, `features` of them, each of about unit variance.
    """

    features = 0

    def __init__(self, space: SearchSpace) -> None:
        counts = [len(gene.options) for gene in space.genes]
        self._space = space
        self._offsets = np.cumsum([0, *counts])[:-1]
        self._options = sum(counts)
        self.count = len(counts)
        self._half = np.minimum(0.5, 1 / np.sqrt(counts))
        self._gene_of_option = np.repeat(np.arange(self.count), counts)
        self._row = functools.lru_cache(maxsize=_REMEMBERED)(self._make_row)
        self._tallied = self._tallies(space)

    def rows(self, genotypes: Sequence[Genotype]) -> Array:
        """[n, options + genes + features]: one-hot of the genes in use, then which are out of use, then features."""
        if not genotypes:
            return np.empty((0, self._options + self.count))
        return np.stack([self._row(genotype) for genotype in genotypes])

    def _make_row(self, genotype: Genotype) -> Array:
        row = np.zeros(self._options + self.count)
        active = np.asarray(self._space.active(genotype), dtype=np.int64)
        row[self._options :] = 1.0
        row[self._options + active] = 0.0
        row[self._offsets[active] + np.asarray(genotype)[active]] = 1.0
        return row

    def _tallies(self, space: SearchSpace) -> Array:
        """[options, tallies]: onto how often an option is picked by the genes of one field, wherever in the network."""
        tallied: dict[tuple[str, object], list[int]] = {}
        for offset, gene in zip(self._offsets.tolist(), space.genes, strict=True):
            for index, option in enumerate(gene.options):
                tallied.setdefault((gene.name.rpartition(".")[2], option), []).append(offset + index)
        weights = np.zeros((self._options, len(tallied)))
        for tally, options in enumerate(tallied.values()):
            weights[options, tally] = 1 / math.sqrt(len(options))
        return weights

    def apart(self, rows: Array, others: Array) -> Array:
        """[n, m]: squared distance of the tallies: how unlike two networks are as a whole, wherever the choices are."""
        left, right = (some[:, : self._options] @ self._tallied for some in (rows, others))
        squares = np.einsum("ij,ij->i", left, left)[:, None] + np.einsum("ij,ij->i", right, right)
        return np.asarray(np.maximum(squares - 2 * left @ right.T, 0.0))

    def agreement(self, weights: Array, rows: Array, others: Array) -> Array:
        """[n, m]: Σ λ_g·[gene g agrees], for weights λ [genes]."""
        rows, others = self._of_genes(rows), self._of_genes(others)
        unused, others_unused = rows[:, self._options :], others[:, self._options :]
        columns = np.concatenate([weights[self._gene_of_option], weights * (1 - 2 * self._half)])
        once = weights * self._half
        both = (rows * columns) @ others.T
        both += (unused @ once)[:, None]
        both += others_unused @ once
        return np.asarray(both)

    def by_weight(self, slope: Array, rows: Array) -> Array:
        """[genes]: the derivative, by each λ, of the sum of slope ∘ agreement(λ, rows, rows), for symmetric slopes."""
        rows = self._of_genes(rows)
        columns = np.einsum("ij,ij->j", rows, slope @ rows)
        agree = np.bincount(self._gene_of_option, columns[: self._options], minlength=self.count)
        once = 2 * self._half * (slope.sum(axis=1) @ rows[:, self._options :])
        return np.asarray(agree + (1 - 2 * self._half) * columns[self._options :] + once)

    def features_apart(self, rows: Array, others: Array) -> Array:
        """[features, n, m]: squared differences of each feature."""
        left, right = (some[:, self._options + self.count :].T for some in (rows, others))
        return np.asarray((left[:, :, None] - right[:, None, :]) ** 2)

    def _of_genes(self, rows: Array) -> Array:
        return rows[:, : self._options + self.count] if self.features else rows


@dataclass(frozen=True)
class Looks:
    """What was seen of n distinct networks, one value for each."""

    mean: Array
    """Mean score over looks [n]."""
    count: Array
    """Number of looks [n]."""
    noise: Array
    """Variance of one look, relative to σ² [n]: 1 where all looks are equally noisy."""
    scatter: float
    """Sum over all looks of the squared deviation from the mean of their network, divided by `noise`."""


@dataclass(frozen=True)
class Hyperparameters:
    """Of the prior covariance of two networks, and of the noise of one look, σ²:

    s · exp(−Σ λ_g·[gene g differs]) + a · Σ λ_g·[gene g agrees] / Σ λ_g + w · exp(−ρ·d²) + τ²·[same network]
    where d is the distance of the networks' tallies; and, if features z are known, f · exp(−Σ ρ_i·(z_i − z'_i)²).
    """

    scale: Array
    """λ [genes], how much a gene matters."""
    signal: float
    """s, of what genes do together."""
    main: float
    """a, of what each gene does by itself. Without it, whatever is unlike all that was seen is expected to be mediocre;
    with it, good options are expected to add up."""
    whole: float
    """w, of how often options are picked all over the network: it is learned from far fewer looks than single genes."""
    reach: float
    """ρ."""
    network: float
    """τ², the part of a network's score that its genes do not explain."""
    noise: float
    """σ²."""
    hinted: float = 0.0
    """f, of the features."""
    hint_reach: tuple[float, ...] = ()
    """ρ_i."""

    @property
    def total(self) -> float:
        """Prior variance of a network's score."""
        return self.signal + self.main + self.whole + self.network + self.hinted


@dataclass(frozen=True)
class Posterior:
    """Mean and variance of the score of m networks [m], with what joint distributions are made from."""

    mean: Array
    variance: Array
    prior: Array
    """Prior covariance with the networks that were looked at [n, m]."""
    half: Array
    """The same, solved with the Cholesky factor of those networks' covariance [n, m]."""

    def at(self, chosen: NDArray[np.int64]) -> Posterior:
        """Of some of the networks."""
        return Posterior(self.mean[chosen], self.variance[chosen], self.prior[:, chosen], self.half[:, chosen])


class Surrogate:
    """The posterior of networks' scores, given looks at some of them. Scores are standardised inside."""

    def __init__(self, genes: Genes, rows: Array, looks: Looks, parameters: Hyperparameters) -> None:
        self.parameters = parameters
        self._genes, self._rows = genes, rows
        noise = parameters.noise * looks.noise / looks.count
        self._own = self._by_genes(rows, rows)
        self._factor = np.linalg.cholesky(self._own + np.diag(parameters.network + noise + _JITTER))
        self._offset, self._unit = float(looks.mean.mean()), float(looks.mean.std()) or 1.0
        self._solved = solve_triangular(self._factor, (looks.mean - self._offset) / self._unit, lower=True)
        self.look_variance = self._unit**2 * parameters.noise * looks.noise
        """Variance of one more look at each network that was looked at [n]."""

    def _by_genes(self, rows: Array, others: Array) -> Array:
        """Prior covariance [n, m], τ² left out."""
        p = self.parameters
        total = p.scale.sum()
        agree = self._genes.agreement(p.scale, rows, others)
        covariance = p.whole * np.exp(-p.reach * self._genes.apart(rows, others))
        covariance += p.signal * np.exp(agree - total)
        covariance += p.main / total * agree
        if p.hint_reach:
            covariance += p.hinted * _alike(self._genes.features_apart(rows, others), p.hint_reach)
        return np.asarray(covariance)

    @functools.cached_property
    def seen(self) -> Posterior:
        """Of the networks that were looked at."""
        return self._posterior(self._own + self.parameters.network * np.eye(len(self._rows)))

    def unseen(self, rows: Array) -> Posterior:
        """Of networks that were not looked at."""
        return self._posterior(self._by_genes(self._rows, rows))

    def _posterior(self, prior: Array) -> Posterior:
        half = solve_triangular(self._factor, prior, lower=True)
        mean = self._offset + self._unit * (half.T @ self._solved)
        variance = self._unit**2 * np.maximum(self.parameters.total - np.einsum("ij,ij->j", half, half), 1e-12)
        return Posterior(mean, variance, prior, half)

    def covariance(self, chosen: NDArray[np.int64], seen: Posterior, other: Posterior) -> Array:
        """Posterior covariance [chosen, m] of some networks that were looked at with other ones."""
        return np.asarray(self._unit**2 * (other.prior[chosen] - seen.half[:, chosen].T @ other.half))

    def draw(self, chosen: NDArray[np.int64], rows: Array, rng: np.random.Generator) -> Array:
        """One joint sample of the scores of the `chosen` networks that were looked at, then of those of `rows`."""
        seen, unseen = self.seen.at(chosen), self.unseen(rows)
        both = np.vstack([self._rows[chosen], rows])
        half = np.hstack([seen.half, unseen.half])
        covariance = self._by_genes(both, both) + (self.parameters.network + 1e-6) * np.eye(len(both)) - half.T @ half
        factor = np.linalg.cholesky(covariance + 1e-6 * np.eye(len(both)))
        mean = np.concatenate([seen.mean, unseen.mean])
        return np.asarray(mean + self._unit * (factor @ rng.standard_normal(len(both))))


def fit(genes: Genes, rows: Array, looks: Looks, *, noisy: bool) -> Hyperparameters:
    """Maximum a posteriori, by L-BFGS from the prior's mode; without noise, σ² is 0."""
    loss, centre, width = minus_log_posterior(genes, rows, looks, noisy=noisy)
    bounds = list(zip(centre - 4 * width, centre + 4 * width, strict=True))
    options = {"maxiter": _ITERATIONS}
    found: Any = minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    signal, main, whole, reach, network, noise, *hints = np.exp(found.x[genes.count :]).tolist()
    scale = np.exp(found.x[: genes.count])
    hinted = hints[0] if hints else 0.0
    return Hyperparameters(scale, signal, main, whole, reach, network, noisy * noise, hinted, tuple(hints[1:]))


def _alike(apart: Array, reach: Sequence[float] | Array) -> Array:
    """exp(−Σ ρ_i·d_i²), of squared distances [features, n, m]."""
    return np.asarray(np.exp(-np.tensordot(np.asarray(reach), apart, axes=1)))


def minus_log_posterior(
    genes: Genes, rows: Array, looks: Looks, *, noisy: bool
) -> tuple[Callable[[Array], tuple[float, Array]], Array, Array]:
    """A function of the hyperparameters' logarithms, with its gradient, to be minimised; the prior's mode and widths.

    Priors: λ ~ logN(log(1.6 / genes), 1), ρ ~ logN(log(1.6 / mean d²), 1), s, a and w ~ logN(0, 1), τ² and σ² ~
    logN(log 0.03, 1): where the little that was seen fits the genes well, they must not vanish. f ~ logN(log 0.3, 1),
    ρ_i ~ logN(log(0.4 / mean d_i²), 1): what a feature tells is taken to be a matter of more or less.
    """
    y = (looks.mean - looks.mean.mean()) / (looks.mean.std() or 1.0)
    scatter = looks.scatter / (float(looks.mean.var()) or 1.0)
    spare = float(looks.count.sum()) - len(y) if noisy else 0.0  # degrees of freedom of the scatter
    per_look = looks.noise / looks.count
    apart = genes.apart(rows, rows)
    reach = math.log(_DISTANCE / (float(apart.mean()) or 1.0))
    centre = np.array([*[math.log(_DISTANCE / genes.count)] * genes.count, 0.0, 0.0, 0.0, reach, *[math.log(0.03)] * 2])
    hints = genes.features_apart(rows, rows) if genes.features else np.empty((0, len(y), len(y)))
    if genes.features:
        means = hints.mean(axis=(1, 2))
        centre = np.concatenate([centre, [math.log(_HINTED)], np.log(_HINT_DISTANCE / np.where(means > 0, means, 1.0))])
    width = np.ones_like(centre)
    identity = np.eye(len(y))

    def loss(logs: Array) -> tuple[float, Array]:
        """Minus the log posterior, and its gradient by the logarithms."""
        scale = np.exp(logs[: genes.count])
        signal, main, whole, reach, network, noise, *hinted = np.exp(logs[genes.count :])
        agree = genes.agreement(scale, rows, rows) / scale.sum()
        together = signal * np.exp((agree - 1.0) * scale.sum())
        alike = whole * np.exp(-reach * apart)
        covariance = together + main * agree + alike + np.diag(network + noisy * noise * per_look + _JITTER)
        hint = hinted[0] * _alike(hints, hinted[1:]) if hinted else 0.0
        covariance += hint
        factor = cho_factor(covariance, lower=True)
        inverse = cho_solve(factor, identity)
        weights = inverse @ y
        prior = (logs - centre) / width
        value = 0.5 * float(y @ weights) + float(np.log(np.diag(factor[0])).sum()) + 0.5 * float(prior @ prior)
        by_entry = 0.5 * (inverse - np.outer(weights, weights))
        pull = by_entry * together
        alone = main * float((by_entry * agree).sum())
        pull_whole = by_entry * alike
        slope = pull + main / scale.sum() * by_entry
        by_gene = genes.by_weight(slope, rows) - pull.sum() - alone / scale.sum()
        diagonal = np.diag(by_entry)
        by_noise = float(noisy * noise * (diagonal @ per_look))
        if spare:
            value += 0.5 * spare * math.log(noise) + 0.5 * scatter / noise
            by_noise += 0.5 * spare - 0.5 * scatter / noise
        by_reach = -reach * float((pull_whole * apart).sum())
        rest = [pull.sum(), alone, pull_whole.sum(), by_reach, network * diagonal.sum(), by_noise]
        if hinted:
            pull_hint = by_entry * hint
            rest += [pull_hint.sum(), *(-np.asarray(hinted[1:]) * np.tensordot(hints, pull_hint, axes=2))]
        return value, np.concatenate([scale * by_gene, rest]) + prior / width

    return loss, centre, width
