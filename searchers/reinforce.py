"""A policy over the choices, taught by its rewards: the family of NASNet's and MnasNet's controllers."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray

from search_space.space import Genotype
from searchers.base import SpaceSampler
from searchers.history import History, Observation
from searchers.problem import Problem

_TRIES = 100


class Reinforce(SpaceSampler):
    """REINFORCE (Williams 1992) with a moving baseline; each gene has a softmax over its options.

    The recurrent controllers of Zoph & Le 2017 and Tan et al. 2019 (MnasNet) condition later choices on earlier ones;
    with budgets of hundreds instead of thousands, independent ones (as TuNAS has them, Bender et al. 2020) learn
    faster. Only active genes are taught. Advantages are in standard deviations of the rewards so far; the entropy
    bonus keeps the policy from settling. Networks that are known or not allowed are drawn again and teach nothing.
    """

    several_objectives = False

    def __init__(self, problem: Problem, seed: int, *, learning_rate: float = 0.3, entropy: float = 0.02) -> None:
        super().__init__(problem, seed)
        self.learning_rate = learning_rate
        self.entropy = entropy
        self._taught = (0, self._untaught())
        self._last: Observation | None = None

    def propose(self, history: History, pending: AbstractSet[str], rng: np.random.Generator) -> Genotype | None:
        """A draw from the policy that is new."""
        policy = self._policy(history.observed)
        known = pending | history.tried
        # The longer nothing new comes, the nearer to uniform: a settled policy must not propose one network for ever.
        for flatter in (1.0, 2.0, 4.0):
            shares = policy.shares(flatter)
            found = self.first_new(
                lambda shares=shares: tuple(int(rng.choice(len(p), p=p)) for p in shares),  # type: ignore[misc]
                known,
                _TRIES,
            )
            if found is not None:
                return found
        return self.random_network(rng, known)

    def _policy(self, observed: Sequence[Observation]) -> _Policy:
        """Taught by all observations, in their order; what was taught before is not repeated."""
        taught, policy = self._taught
        if taught > len(observed) or (taught and observed[taught - 1] != self._last):
            taught, policy = 0, self._untaught()
        for look in observed[taught:]:
            active = self.space.active(look.genotype)
            penalty = sum(max(0.0, excess) for excess in look.excess)
            policy.teach(look.genotype, active, look.scores[0], penalty, self.learning_rate, self.entropy)
        self._taught, self._last = (len(observed), policy), observed[-1] if observed else None
        return policy

    def _untaught(self) -> _Policy:
        return _Policy([len(gene.options) for gene in self.space.genes])


class _Policy:
    """Logits of each gene, and the running mean and spread of the rewards."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.logits = [np.zeros(size) for size in sizes]
        self._count = 0
        self._mean = 0.0
        self._square = 0.0

    def shares(self, temperature: float = 1.0) -> list[NDArray[np.float64]]:
        """The probability of each option of each gene."""
        return [_softmax(logits / temperature) for logits in self.logits]

    def teach(
        self, genotype: Genotype, active: Sequence[int], reward: float, penalty: float, rate: float, entropy: float
    ) -> None:
        """One step up the gradient of the expected reward plus `entropy` times the policy's entropy."""
        self._count += 1
        step = reward - self._mean
        self._mean += step / self._count
        self._square += step * (reward - self._mean)
        spread = (self._square / self._count) ** 0.5
        advantage = 0.0 if spread == 0 else float(np.clip((reward - self._mean) / spread, -3, 3))
        advantage -= min(penalty, 1.0) * 3
        for gene in active:
            shares = _softmax(self.logits[gene])
            gradient = -shares * advantage
            gradient[genotype[gene]] += advantage
            surprise = np.log(shares)
            gradient -= entropy * shares * (surprise - shares @ surprise)
            self.logits[gene] += rate * gradient


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(logits - logits.max())
    shares: NDArray[np.float64] = raised / raised.sum()
    return shares
