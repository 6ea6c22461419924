"""What every sampler of ours owes: a proposal that is a function of the seed and the history, and of nothing else."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search_space import SearchSpace
from search_space.space import Genotype


@dataclass(frozen=True)
class Observation:
    """A finished trial: its network and its score, which is always the higher the better."""

    number: int
    genotype: Genotype
    arch_id: str
    score: float


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The space as Optuna sees it: one categorical distribution for each gene, always the same ones."""
    return {gene.name: CategoricalDistribution(gene.options) for gene in space.genes}


class SpaceSampler(BaseSampler):
    """Base of our samplers: they see networks, not parameters.

    A subclass proposes a genotype from what has been observed. Randomness for trial n is seeded from (seed, n), so
    that a resumed run proposes what the unbroken one would have. Nothing but caches of the history may be kept.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space = space
        self.seed = seed
        self._distributions = distributions(space)
        self._networks: dict[int, tuple[Genotype, str]] = {}

    @abstractmethod
    def propose(self, observed: Sequence[Observation], pending: set[str], rng: np.random.Generator) -> Genotype:
        """The next genotype. `observed` is in order of trial number; `pending` has the `arch_id`s under way."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All genes are sampled together."""
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose, and name the options."""
        sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
        observed = []
        for done in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            genotype, arch_id = self._network(done)
            assert done.value is not None
            observed.append(Observation(done.number, genotype, arch_id, sign * done.value))
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        pending = {self._network(other)[1] for other in running if len(other.params) == len(self.space.genes)}
        rng = np.random.default_rng([self.seed, trial.number])
        return self.space.params(self.propose(observed, pending, rng))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Not used: every parameter is sampled relatively."""
        raise RuntimeError(f"{param_name} is not a gene of space {self.space.name}")

    def _network(self, trial: FrozenTrial) -> tuple[Genotype, str]:
        if trial.number not in self._networks:
            genotype = self.space.genotype(trial.params)
            self._networks[trial.number] = (genotype, self.space.decode(genotype).arch_id)
        return self._networks[trial.number]
