"""Talking with a sampler: ask for the next proposal, tell what became of it, take up what a record says of both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import Trial, TrialState, create_trial

from search_space.errors import WorkFailed, one_line
from search_space.space import Genotype, Params
from searchers import NothingNew, Problem, Scores, SpaceSampler, distributions
from searchers.history import History, Observation


@dataclass(frozen=True)
class Proposal:
    """What a sampler proposes. Those that are turned down are numbered, too."""

    number: int
    params: Params


class AskTell(ABC):
    """A sampler's proposals, numbered from 0; the first are the networks to begin with."""

    can_take_up: bool
    """Whether a record is all that it needs to go on from; if not, it must be asked again for all it has proposed."""
    crosses_limits: bool
    """Whether it must evaluate networks that break a limit, on its way to one that does not."""
    looks_again: bool | None
    """Whether it proposes a known network on purpose, for another look; None if it does not know what is known."""
    told_of_rejected: bool
    """Whether it has to be told values of what is turned down, or else it would propose it again and again."""

    def __init__(self, sampler: BaseSampler, problem: Problem) -> None:
        self.name = type(sampler).__name__
        self._is_ours = type(sampler).__module__.partition(".")[0] == "searchers"
        self._problem = problem
        self.asked = 0
        """How many proposals there were; one that did not come, for want of anything new, counts."""

    @abstractmethod
    def ask(self) -> Proposal | None:
        """The next proposal; None if there is nothing new to propose."""

    @abstractmethod
    def tell(self, number: int, values: Sequence[float] | None, excess: Mapping[str, float]) -> None:
        """The values of the objectives of a proposal, None if it failed; and by how much it exceeds each limit."""

    @abstractmethod
    def prune(
        self, number: int, reported: Mapping[int, float], stand_in: float | None, excess: Mapping[str, float]
    ) -> None:
        """The evaluation of a proposal was stopped early.

        `reported` are the values of the objective that it had by then; `stand_in` is a guess on the safe side at what
        it would have come to, if one can be made.
        """

    @abstractmethod
    def reject(
        self,
        number: int,
        values: Sequence[float] | None = None,
        excess: Mapping[str, float] | None = None,
        *,
        for_good: bool = False,
    ) -> None:
        """A proposal was turned down; with values if it `told_of_rejected`. `for_good`: it always will be."""

    @abstractmethod
    def take_up(
        self,
        number: int,
        params: Params,
        excess: Mapping[str, float],
        reported: Mapping[int, float],
        filtered: Collection[str] = (),
    ) -> int:
        """Proposal `number` of a record, as if it had just been asked for; those before it were turned down.

        `reported` is what it will have reported if it was stopped early; `filtered` are the `arch_id`s of those before
        it that were turned down for good. The number it now has: another, if more were asked for since than the record
        knows of.
        """

    @abstractmethod
    def believed(self) -> Mapping[str, Scores] | None:
        """`arch_id` -> what is believed of the scores of networks that were evaluated; None if no more than is seen."""

    def _blame(self, error: Exception) -> Exception:
        """An error in a sampler that is not ours is its user's to know of, in one line."""
        if self._is_ours:
            return error
        return WorkFailed(one_line(f"the searcher {self.name} failed: {type(error).__name__}: {error}"))


def make_ask_tell(sampler: BaseSampler, problem: Problem) -> AskTell:
    """Our samplers are asked themselves, others through Optuna."""
    return AskOurs(sampler, problem) if isinstance(sampler, SpaceSampler) else AskOptuna(sampler, problem)


class AskOurs(AskTell):
    """Samplers that see networks, and are functions of the history; Optuna's bookkeeping, one parameter after the
    other, would take longer than what they do themselves."""

    can_take_up = True
    told_of_rejected = False

    def __init__(self, sampler: SpaceSampler, problem: Problem) -> None:
        super().__init__(sampler, problem)
        self._sampler = sampler
        self.crosses_limits = sampler.crosses_limits
        self.looks_again = sampler.looks_again
        self._history = History()
        self._under_way: dict[int, tuple[Genotype, str]] = {}

    def ask(self) -> Proposal | None:
        """The next proposal; None if there is nothing new to propose."""
        number = self.asked
        self.asked += 1
        if number < len(self._problem.start):
            genotype: Genotype | None = self._problem.start[number]
        else:
            pending = {arch_id for _, arch_id in self._under_way.values()}
            try:
                genotype = self._sampler.proposal(number, self._history, pending)
            except Exception as error:
                raise self._blame(error) from error
        if genotype is None:
            return None
        self._under_way[number] = genotype, self._sampler.arch_id(genotype)
        return Proposal(number, self._problem.space.params(genotype))

    def tell(self, number: int, values: Sequence[float] | None, excess: Mapping[str, float]) -> None:
        """The values of the objectives of a proposal, None if it failed; and by how much it exceeds each limit."""
        genotype, arch_id = self._under_way.pop(number)
        if values is None:
            self._history.failed |= {arch_id}
        else:
            self._observe(number, genotype, arch_id, values, excess)

    def _observe(
        self, number: int, genotype: Genotype, arch_id: str, values: Sequence[float], excess: Mapping[str, float]
    ) -> None:
        scores = tuple(one.sign * value for one, value in zip(self._problem.objectives, values, strict=True))
        learned = tuple(excess[name] for name in self._problem.learned_limits)
        self._history.add(Observation(number, genotype, arch_id, scores, learned))

    def prune(
        self, number: int, reported: Mapping[int, float], stand_in: float | None, excess: Mapping[str, float]
    ) -> None:
        """It observes the guess: nothing at all would be less than is known of most networks."""
        genotype, arch_id = self._under_way.pop(number)
        self._history.pruned |= {arch_id}
        if stand_in is not None:
            self._observe(number, genotype, arch_id, [stand_in], excess)

    def reject(
        self,
        number: int,
        values: Sequence[float] | None = None,
        excess: Mapping[str, float] | None = None,
        *,
        for_good: bool = False,
    ) -> None:
        """It knows by itself what is not allowed and what is known, but not what is turned down for good."""
        _, arch_id = self._under_way.pop(number)
        if for_good:
            self._history.filtered |= {arch_id}

    def take_up(
        self,
        number: int,
        params: Params,
        excess: Mapping[str, float],
        reported: Mapping[int, float],
        filtered: Collection[str] = (),
    ) -> int:
        """Proposal `number` of a record, as if it had just been asked for; those before it were turned down.

        `filtered` are the `arch_id`s of those among them that were for good.
        The number it now has: another, if more were asked for since than the record knows of.
        """
        self._history.filtered |= set(filtered)
        genotype = self._problem.space.genotype(params)
        self._under_way[number] = genotype, self._sampler.arch_id(genotype)
        self.asked = number + 1
        return number

    def believed(self) -> Mapping[str, Scores] | None:
        """What the sampler believes."""
        return self._sampler.believed(self._history, len(self._under_way))


class AskOptuna(AskTell):
    """Samplers that see parameters, and may have a state that only asking again brings back."""

    can_take_up = False
    crosses_limits = False
    looks_again = None
    told_of_rejected = True

    def __init__(self, sampler: BaseSampler, problem: Problem) -> None:
        super().__init__(sampler, problem)
        self._distributions = distributions(problem.space)
        self._study = optuna.create_study(directions=[one.direction for one in problem.objectives], sampler=sampler)
        self._asked: dict[int, Trial] = {}

    def ask(self) -> Proposal | None:
        """The next proposal; None if there is nothing new to propose."""
        if self.asked < len(self._problem.start):
            self._study.enqueue_trial(self._problem.space.params(self._problem.start[self.asked]))
        number = self.asked
        self.asked += 1
        try:
            trial = self._asked[number] = self._study.ask(self._distributions)
        except NothingNew:
            self._tell(number, None)
            return None
        except Exception as error:
            raise self._blame(error) from error
        return Proposal(number, trial.params)

    def tell(self, number: int, values: Sequence[float] | None, excess: Mapping[str, float]) -> None:
        """The values of the objectives of a proposal, None if it failed; and by how much it exceeds each limit."""
        trial = self._asked.pop(number, None)  # none if it was taken up, with its limits
        if trial is not None and values is not None:
            for name, value in excess.items():
                trial.set_constraint(name, value)
        self._tell(number, values)

    def prune(
        self, number: int, reported: Mapping[int, float], stand_in: float | None, excess: Mapping[str, float]
    ) -> None:
        """Optuna's samplers have their own ways with what was pruned, and go by what was reported."""
        trial = self._asked.pop(number, None)  # none if it was taken up, with all that
        if trial is not None:
            for name, value in excess.items():
                trial.set_constraint(name, value)
            for step, value in reported.items():
                trial.report(value, step)
        self._tell(number, None, TrialState.PRUNED)

    def reject(
        self,
        number: int,
        values: Sequence[float] | None = None,
        excess: Mapping[str, float] | None = None,
        *,
        for_good: bool = False,
    ) -> None:
        """A proposal was turned down."""
        self.tell(number, values, excess or {})

    def take_up(
        self,
        number: int,
        params: Params,
        excess: Mapping[str, float],
        reported: Mapping[int, float],
        filtered: Collection[str] = (),
    ) -> int:
        """Proposal `number` of a record, as if it had just been asked for; those before it were turned down.

        `filtered` are the `arch_id`s of those among them that were for good.
        The number it now has: another, if more were asked for since than the record knows of.
        """
        while self.asked < number:
            self._study.add_trial(create_trial(state=TrialState.FAIL))
            self.asked += 1
        trial = create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions=self._distributions,
            intermediate_values=dict(reported),
        )
        for name, value in excess.items():
            trial.set_constraint(name, value)
        self._study.add_trial(trial)
        self.asked += 1
        return self.asked - 1

    def believed(self) -> Mapping[str, Scores] | None:
        """Nothing but what is seen."""
        return None

    def _tell(self, number: int, values: Sequence[float] | None, without: TrialState = TrialState.FAIL) -> None:
        try:
            self._study.tell(number, values, state=without if values is None else None)
        except Exception as error:
            raise self._blame(error) from error
