"""What every sampler of ours owes: a proposal that is a function of the seed and the history, and of nothing else."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search_space import InputError, SearchSpace
from search_space.space import Genotype
from searchers.history import History, Observation, Scores
from searchers.problem import Problem

_TRIES = 200
_REMEMBERED = 20_000


class NothingNew(Exception):
    """The sampler has nothing to propose, unless trials under way teach it something."""


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The space as Optuna sees it: one categorical distribution for each gene, always the same ones."""
    return {gene.name: CategoricalDistribution(gene.options) for gene in space.genes}


class SpaceSampler(BaseSampler):
    """Base of our samplers: they see networks, not parameters.

    A subclass proposes a genotype from what has been observed. Randomness for trial n is seeded from (seed, n), so
    that a resumed run proposes what the unbroken one would have. Nothing but caches of the history may be kept.
    """

    looks_again: ClassVar[bool] = False
    """Whether a network that has been evaluated is proposed on purpose, for another look with another seed."""
    several_objectives: ClassVar[bool] = True
    """Whether it can search for a Pareto front."""
    crosses_limits: ClassVar[bool] = False
    """Whether it must evaluate networks that break a limit, on its way to one that does not."""

    def __init__(self, problem: Problem, seed: int) -> None:
        if len(problem.objectives) > 1 and not self.several_objectives:
            rule = "this searcher takes one objective only"
            raise InputError(rule, ",".join(o.metric for o in problem.objectives), remedy="use --target, or predictor")
        self.problem = problem
        self.space = problem.space
        self.seed = seed
        self._distributions = distributions(problem.space)
        self._signs = [objective.sign for objective in problem.objectives]
        self._decoded = functools.lru_cache(maxsize=_REMEMBERED)(problem.space.decode)
        self._history = History()

    @abstractmethod
    def propose(self, history: History, pending: AbstractSet[str], rng: np.random.Generator) -> Genotype | None:
        """The next genotype, or None if there is nothing to propose for now.

        `history` is not to be changed; `pending` has the `arch_id`s under way.
        """

    def believed(self, history: History, under_way: int) -> dict[str, Scores] | None:
        """`arch_id` -> what the scores of a network that was evaluated are believed to be, on any increasing scale.

        None if there is no better estimate than the means of its looks.
        """
        return None

    def proposal(self, number: int, history: History, pending: AbstractSet[str]) -> Genotype | None:
        """Proposal `number`: what `propose` says with the randomness that is this number's."""
        return self.propose(history, pending, np.random.default_rng([self.seed, number]))

    # What a subclass builds on.

    def random_network(self, rng: np.random.Generator, known: AbstractSet[str]) -> Genotype | None:
        """A random network that is allowed and not among `known`; None if none was found.

        Uniform over the allowed ones if they are not too rare; else random networks are mended, gene by gene.
        """
        found = self.first_new(lambda: self.space.sample(rng), known)
        for _ in range(_TRIES // 10 if found is None else 0):
            genotype = self.space.sample(rng)
            excess = self.violation(genotype)
            for _ in range(_TRIES):
                if excess == 0 and self.arch_id(genotype) not in known:
                    return genotype
                changed = mutate(self.space, genotype, rng)
                after = self.violation(changed)
                if after <= excess:
                    genotype, excess = changed, after
        return found

    def first_new(self, draw: Callable[[], Genotype], known: AbstractSet[str], tries: int = _TRIES) -> Genotype | None:
        """The first of up to `tries` drawn genotypes that is allowed and not among `known`."""
        for _ in range(tries):
            genotype = draw()
            if self.arch_id(genotype) not in known and self.violation(genotype) == 0:
                return genotype
        return None

    def arch_id(self, genotype: Genotype) -> str:
        """Of the network of this genotype."""
        return self._decoded(genotype).arch_id

    def violation(self, genotype: Genotype) -> float:
        """By how much the network of this genotype breaks what is known."""
        return self.problem.violation(self._decoded(genotype))

    # Optuna's side.

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All genes are sampled together."""
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose, and name the options. Raises `NothingNew`."""
        genotype = self.proposal(trial.number, self.history(study), self._networks(study, TrialState.RUNNING))
        if genotype is None:
            raise NothingNew
        return self.space.params(genotype)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Not used: every parameter is sampled relatively."""
        raise RuntimeError(f"{param_name} is not a gene of space {self.space.name}")

    def history(self, study: Study) -> History:
        """All finished trials of the study, in order of their numbers. Those read before are not read again."""
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        failed = self._networks(study, TrialState.FAIL)
        read = self._history.observed
        if len(read) > len(trials) or (read and read[-1].number != trials[len(read) - 1].number):
            self._history = History()
        for trial in trials[len(self._history) :]:
            self._history.add(self._read(trial))
        self._history.failed = frozenset(failed)
        self._history.pruned = frozenset(self._networks(study, TrialState.PRUNED))
        return self._history

    def _networks(self, study: Study, state: TrialState) -> set[str]:
        """The `arch_id`s of the trials in this state that have a network."""
        return {
            self.arch_id(self.space.genotype(trial.params))
            for trial in study.get_trials(deepcopy=False, states=(state,))
            if len(trial.params) == len(self.space.genes)
        }

    def _read(self, trial: FrozenTrial) -> Observation:
        genotype = self.space.genotype(trial.params)
        scores = tuple(sign * value for sign, value in zip(self._signs, trial.values, strict=True))
        limits = trial.constraints if self.problem.learned_limits else {}
        excess = tuple(limits[name] for name in self.problem.learned_limits)
        return Observation(trial.number, genotype, self.arch_id(genotype), scores, excess)


def mutate(space: SearchSpace, genotype: Genotype, rng: np.random.Generator) -> Genotype:
    """Change one active gene, chosen uniformly, to another of its options, chosen uniformly."""
    active = space.active(genotype)
    if not active:
        return genotype
    index = active[rng.integers(len(active))]
    step = 1 + int(rng.integers(len(space.genes[index].options) - 1))
    option = (genotype[index] + step) % len(space.genes[index].options)
    return (*genotype[:index], option, *genotype[index + 1 :])
