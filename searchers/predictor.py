"""Surrogate-guided evolution: a Gaussian process picks among many children of the best networks. The default."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy.stats import qmc
from threadpoolctl import ThreadpoolController

from search_space.space import Genotype
from searchers import worth
from searchers.base import SpaceSampler
from searchers.beliefs import Beliefs, fit_all, front_ranks
from searchers.features import GenesAndScores, best_of
from searchers.history import History, Scores
from searchers.problem import Problem
from searchers.surrogate import Array, Genes

_PARENTS = 10
_STRANGERS_STAY = 10
_LEAST_FITTED = 8
_Made = TypeVar("_Made")


@functools.cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


def _one_thread() -> AbstractContextManager[object]:
    """Matrices here are small, and sums must run in the same order wherever a search is resumed."""
    limit: AbstractContextManager[object] = _threads().limit(limits=1)
    return limit


class _Candidate(NamedTuple):
    """A network that might be proposed; `arch_id` is known if it has been evaluated."""

    genotype: Genotype
    arch_id: str | None


class PredictorGuided(SpaceSampler):
    """A Gaussian process over the genes scores a pool of networks; the one most worth a look is evaluated.

    The `initial` networks are a Latin hypercube: of each gene, all options come about equally often. Then the pool has
    children of the best networks, each with one to three changed genes, and random networks. What a look is worth:

    - one objective: its knowledge gradient (Frazier et al. 2009), by how much it is expected to raise the score of the
      network that would be chosen afterwards. The best networks so far compete with new ones: where one more look at
      them, with another seed, is worth more, that is what is proposed. Without noise this is expected improvement.
      A knowledge gradient looks one step ahead only, and under strong noise it would settle on too few networks: no
      more than the share `again` of all looks are further ones.
    - several: the hypervolume improvement in a joint sample of all scores (Thompson sampling). What is known without
      evaluating is not modelled.
    - limits that only evaluations tell: the value is multiplied by the probability that they are kept.

    Scores that some networks have without evaluation (`problem.sample`) are a further input of the process, and half of
    the first networks are from the best quarter by them.

    With n evaluations under way the models are renewed every 1 + n / 8 looks, and the pool's best are proposed in turn.
    """

    looks_again = True

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        initial: int = 16,
        children: int = 300,
        strangers: int = 150,
        again: float = 2 / 3,
    ) -> None:
        super().__init__(problem, seed)
        self.initial = initial
        self.children = children
        self.strangers = strangers
        self.again = again
        self._genes = self._make_genes(problem)
        self._promising = best_of(problem.sample) if problem.sample is not None else []
        self._sizes = np.array([len(gene.options) for gene in problem.space.genes], dtype=np.int64)
        self._canonical = functools.lru_cache(maxsize=20_000)(problem.space.canonical)
        self._kept: dict[str, tuple[object, Any]] = {}

    def propose(self, history: History, pending: AbstractSet[str], rng: np.random.Generator) -> Genotype | None:
        """The network most worth a look that is not under way."""
        known = pending | history.tried
        several = len(history.by_id) > 1  # or there is nothing to choose from
        begun = len(known - history.filtered)
        if begun < self.initial or not several:
            first = self._first(begun, rng, known)
            if first is not None or not several:
                return first
        upto = _renewed(history, len(pending))
        since = {look.arch_id for look in history.observed[upto:]}
        for genotype, arch_id in self._pool(history.upto(upto)):
            if arch_id is not None:
                if arch_id not in pending and arch_id not in since and arch_id not in history.closed:
                    return genotype
            elif self.arch_id(genotype) not in known and self.violation(genotype) == 0:
                return genotype
        return self.random_network(rng, known)

    @staticmethod
    def _make_genes(problem: Problem) -> Genes:
        if problem.sample is None:
            return Genes(problem.space)
        with _one_thread():
            return GenesAndScores(problem.space, problem.sample)

    def _first(self, begun: int, rng: np.random.Generator, known: AbstractSet[str]) -> Genotype | None:
        """A network to begin with: every other one of the best by their scores, if there are any, others from all over.

        Random where the design's networks are known, or not allowed.
        """
        promising = [genotype for genotype in self._promising if self.arch_id(genotype) not in known]
        if promising and begun % 2 == 0:
            return promising[rng.integers(len(promising))]
        design = iter(self._design)
        new = self.first_new(lambda: next(design), known, tries=len(self._design))
        return new or self.random_network(rng, known)

    @functools.cached_property
    def _design(self) -> list[Genotype]:
        """Networks from all over the space (McKay et al. 1979, spread by centred discrepancy)."""
        rng = np.random.default_rng([self.seed, 0, 3])
        points = qmc.LatinHypercube(len(self._sizes), rng=rng, optimization="random-cd").random(self.initial)
        return [tuple(genotype) for genotype in (points * self._sizes).astype(np.int64).tolist()]

    def believed(self, history: History, under_way: int) -> dict[str, Scores] | None:
        """Posterior means, on a scale of their own: the mean of a few looks flatters whoever had most luck.

        None with several objectives: a front is shown by what was seen of its networks, and must be one by that.
        """
        if len(self.problem.objectives) > 1:
            return None
        upto = _renewed(history, under_way)
        if upto < _LEAST_FITTED or len(history.by_id) < 2:
            return None
        past = history.upto(upto)
        beliefs = self._beliefs(past)
        found = history.networks
        place = {network.arch_id: index for index, network in enumerate(beliefs.networks)}
        modelled = [number for number, network in enumerate(found) if network.arch_id in place]
        places = [place[found[number].arch_id] for number in modelled]
        newer = list(range(len(past.by_id), len(found)))
        rows = self._genes.rows([found[number].genotype for number in newer])
        columns = []
        for index, learned in enumerate(beliefs.objectives):
            means = np.array([network.scores[index] for network in found])
            if learned is not None:
                # Networks that were left out of the model are too bad for it to matter what is believed of them.
                means = learned.scale.there(means) if learned.scale is not None else means
                means[modelled] = learned.surrogate.seen.mean[places]
                if newer:
                    means[newer] = learned.surrogate.unseen(rows).mean
            columns.append(means)
        scores = np.stack(columns, axis=1).tolist()
        return {network.arch_id: tuple(row) for network, row in zip(found, scores, strict=True)}

    # Functions of the history. Several calls in a row ask for the same, so the latest value is kept.

    def _remembered(self, what: str, history: History, make: Callable[[], _Made]) -> _Made:
        key = (len(history), history.observed[-1])
        if what not in self._kept or self._kept[what][0] != key:
            self._kept[what] = (key, make())
        found: _Made = self._kept[what][1]
        return found

    def _beliefs(self, history: History) -> Beliefs:
        fitted = history.upto(_fitted(len(history)))
        with _one_thread():
            parameters = self._remembered(
                "parameters", fitted, lambda: fit_all(self.problem, self._genes, fitted.networks)
            )
            return self._remembered(
                "beliefs", history, lambda: Beliefs(self.problem, self._genes, history.networks, parameters)
            )

    def _pool(self, history: History) -> list[_Candidate]:
        """Candidates, the one most worth a look first."""
        return self._remembered("pool", history, lambda: self._rank(history))

    def _rank(self, history: History) -> list[_Candidate]:
        rng = np.random.default_rng([self.seed, len(history)])
        beliefs = self._beliefs(history)
        with _one_thread():
            new = self._new_candidates(beliefs, rng, len(history))
            rows = self._genes.rows(new)
            if len(self.problem.objectives) > 1:
                values = worth.hypervolume_improvement(beliefs, self._known_scores(new), rows, rng)
                again, values_again = np.empty(0, dtype=np.int64), np.empty(0)
            else:
                values, again, values_again = worth.knowledge_gradient(beliefs, self._known_scores(new), rows)
        candidates = [_Candidate(genotype, None) for genotype in new]
        candidates += [_Candidate(beliefs.networks[i].genotype, beliefs.networks[i].arch_id) for i in again.tolist()]
        if len(history) - len(history.by_id) >= self.again * len(history):
            values_again = values_again - np.inf
        order = np.argsort(-np.concatenate([values, values_again]), kind="stable")
        return [candidates[index] for index in order]

    def _known_scores(self, genotypes: Sequence[Genotype]) -> Array:
        """[n, objectives]: scores that need no evaluation, 0 for the others."""
        scores = np.zeros((len(genotypes), len(self.problem.objectives)))
        known = [(index, one) for index, one in enumerate(self.problem.objectives) if one.known]
        for row, genotype in zip(scores, genotypes if known else [], strict=bool(known)):
            metrics = self.problem.known(self.space.decode(genotype))
            for index, objective in known:
                row[index] = objective.sign * metrics[objective.metric]
        return scores

    # The pool.

    def _new_candidates(self, beliefs: Beliefs, rng: np.random.Generator, looks: int) -> list[Genotype]:
        """Children of the best networks and random ones, in canonical form, none twice and none known."""
        known = {self._canonical(network.genotype) for network in beliefs.networks}
        ranks = front_ranks(beliefs.means())
        best = np.argsort(ranks, kind="stable")[:_PARENTS].tolist()
        parents = [beliefs.networks[index].genotype for index in best]
        # Strangers stay for some looks: to spell out so many networks takes longer than to weigh them.
        unchanging = np.random.default_rng([self.seed, looks // _STRANGERS_STAY, 1])
        strangers = (unchanging.random((self.strangers, len(self._sizes))) * self._sizes).astype(np.int64).tolist()
        drawn = [*self._children(parents, rng), *map(tuple, strangers)]
        canonical = dict.fromkeys(self._canonical(genotype) for genotype in drawn)
        return [genotype for genotype in canonical if genotype not in known]

    def _children(self, parents: Sequence[Genotype], rng: np.random.Generator) -> list[Genotype]:
        """Random parents with one to three of their active genes changed."""
        active = [np.asarray(self.space.active(parent)) for parent in parents]
        chosen = rng.integers(len(parents), size=self.children)
        changes = 1 + (rng.random(self.children) < 0.5) + (rng.random(self.children) < 0.2)
        children = np.asarray(parents)[chosen]
        used = np.array([len(genes) for genes in active])[chosen]
        table = np.zeros((len(parents), max(1, *map(len, active))), dtype=np.int64)
        for row, genes in zip(table, active, strict=True):
            row[: len(genes)] = genes
        everyone = np.arange(self.children)
        for change in range(3):
            gene = table[chosen, (rng.random(self.children) * used).astype(np.int64)]
            step = 1 + (rng.random(self.children) * (self._sizes[gene] - 1)).astype(np.int64)
            option = (children[everyone, gene] + step) % self._sizes[gene]
            children[everyone, gene] = np.where(change < changes, option, children[everyone, gene])
        return [tuple(child) for child in children.tolist()]


def _renewed(history: History, pending: int) -> int:
    """How many of the looks the models know: with many evaluations under way, not every look is worth a new model.

    Two networks are the least that there can be a model of.
    """
    looks = len(history)
    upto = looks - looks % (1 + pending // 8)
    known = history.observed[:upto]
    return upto if any(look.arch_id != known[0].arch_id for look in known) else looks


def _fitted(looks: int) -> int:
    """How many of the looks the hyperparameters are fitted to: they are fitted anew every few looks."""
    fitted = _LEAST_FITTED
    while fitted + max(5, fitted // 8) <= looks:
        fitted += max(5, fitted // 8)
    return fitted
