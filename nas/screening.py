"""Which proposals need no evaluation, and what the sampler is told of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from nas.ask_tell import AskTell, Proposal
from nas.constraints import Constraint, violated
from nas.scored import Ranking, Scored
from nas.state import State
from search_space import Architecture
from searchers import Problem

_SURE_OF = 10
"""Of so many of the best networks another look is worth its price."""


class Screening:
    """What a search has seen, as far as it decides whether a proposal is worth an evaluation.

    `state` is the search's own; `passes` tells which new networks are worth evaluating.
    """

    def __init__(
        self,
        problem: Problem,
        sampler: AskTell,
        constraints: Sequence[Constraint],
        passes: Callable[[Architecture], bool],
        state: State,
    ) -> None:
        self.ranking = Ranking(problem.objectives, constraints)
        self.scored: dict[str, Scored] = {}  # arch_id -> networks with a score, in order of their first trial
        self.stand_ins: dict[str, float | None] = {}  # arch_id -> guess at the score of networks that were pruned
        self.looks: Counter[str] = Counter()  # arch_id -> trials, those under way included
        self.never: set[str] = set()  # what breaks a limit, or does not pass
        self.since: Counter[str] = Counter()
        """Proposals that were turned down since `take` was called, by their kind."""
        self._filtered: list[str] = []
        self._problem = problem
        self._sampler = sampler
        self._constraints = constraints
        self._passes = passes
        self._state = state
        space = problem.space
        # Exact sizes are worth counting only where a search could come near them.
        self._size = space.size if space.num_genotypes <= 1_000_000 else math.inf

    @property
    def nothing_is_left(self) -> bool:
        """Every network of the space was evaluated or turned down for good."""
        return len(self.looks) + len(self.never) >= self._size

    def take(self) -> tuple[Counter[str], tuple[str, ...]]:
        """What was turned down since the last call: how many of each kind, and which did not pass."""
        since, self.since = self.since, Counter()
        filtered, self._filtered = tuple(self._filtered), []
        return since, filtered

    def values(self, metrics: Mapping[str, float]) -> list[float]:
        """Of the objectives."""
        return [metrics[objective.metric] for objective in self._problem.objectives]

    def excess(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """By how much each limit is broken."""
        return {str(constraint): constraint.excess(metrics) for constraint in self._constraints}

    def judge(self, architecture: Architecture, *, asked_for: bool) -> tuple[str, dict[str, float]]:
        """Why a proposal is to be turned down, empty if it is not; and what is known of it."""
        arch_id = architecture.arch_id
        if self.looks[arch_id] and not self._is_worth_another_look(arch_id):
            return "duplicate", {}
        cost = dict(self._problem.known(architecture))
        if not self._sampler.crosses_limits and violated(self._known_constraints(), cost):
            self.never.add(arch_id)
            return "infeasible", cost
        if not asked_for and not self.looks[arch_id] and not self._passes(architecture):
            self.never.add(arch_id)
            return "filtered", cost
        return "", cost

    def _is_worth_another_look(self, arch_id: str) -> bool:
        """Whether a known network is to be evaluated again, with another seed.

        Some searchers ask for that on purpose. Optuna's propose what they believe to be good, known or not: of the best
        networks so far, that is taken for a wish to be sure of them, up to half of all looks.
        """
        if not self._problem.noisy or arch_id not in self.scored or self.looks[arch_id] > self.scored[arch_id].looks:
            return False
        if self._sampler.looks_again is not None:
            return self._sampler.looks_again
        if 2 * (self._state.counts["again"] + 1) > self._state.done:
            return False
        best = self.ranking.order(self.scored.values())[:_SURE_OF]
        return any(scored.architecture.arch_id == arch_id for scored in best)

    def _known_constraints(self) -> list[Constraint]:
        return [constraint for constraint in self._constraints if str(constraint) not in self._problem.learned_limits]

    def turn_down(self, proposal: Proposal, kind: str, architecture: Architecture, cost: dict[str, float]) -> None:
        """What is turned down costs no budget. A sampler that has to be told learns a network's scores if it has any.

        Of one that is not allowed it wants a value, too; it is what is known, or the median of what was seen: the
        limits are what counts. Of one that is filtered, being thought to be of the worse half, the lower quartile; of
        one that was pruned the guess at its score, lest it insist on it.
        """
        self.since[kind] += 1
        self._state.counts[kind] += 1
        arch_id, for_good = architecture.arch_id, kind == "filtered"
        if for_good:
            self._filtered.append(arch_id)
        known, guess = self.scored.get(arch_id), self.stand_ins.get(arch_id)
        if self._sampler.told_of_rejected and kind == "duplicate" and guess is not None:
            self._sampler.reject(proposal.number, [guess], self.excess(self._problem.known(architecture)))
            return
        if not self._sampler.told_of_rejected or not self.scored or (kind == "duplicate" and known is None):
            self._sampler.reject(proposal.number, for_good=for_good)
            return
        seen = sorted(self.scored.values(), key=self.ranking.scores)
        stand_in = seen[len(seen) // (4 if for_good else 2)]
        metrics = known.metrics if known is not None else {**stand_in.metrics, **cost}
        self._sampler.reject(proposal.number, self.values(metrics), self.excess(metrics))
