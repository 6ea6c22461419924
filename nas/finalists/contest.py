"""The last round of a search: the best candidates timed and trained for real, before one is called the winner."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from latency import Times
from latency.measure import MeasuringFailed
from latency.table import MAPE_OF_DOUBT_PERCENT
from nas.finalists.finalist import Finalist, Jury
from nas.finalists.timing import Timer, latency_bias_percent
from nas.finalists.training import OutOfTime, Trainer
from nas.pareto import thinned
from nas.scored import Scored

_MOST_TRAINED = 3
"""So often a set of finalists is trained, if all of them break a limit by their final scores."""


@dataclass(frozen=True)
class Outcome:
    """What came of the last round."""

    finalists: tuple[Finalist, ...]
    """Those that were timed or trained, the best first."""
    winner: Finalist | None
    """None if everybody breaks a limit."""
    not_timed: str = ""
    """Why they were not timed, if they were to be."""
    not_trained: str = ""
    """Why they were not trained, if they were to be."""
    out_of_time: bool = False
    """Whether that is because the time limit was reached."""


class Contest:
    """Judges `count` finalists; `timer` and `trainer` are None where there is nothing of that kind to do."""

    def __init__(self, jury: Jury, count: int, timer: Timer | None, trainer: Trainer | None) -> None:
        self._jury = jury
        self._count = count
        self._timer = timer
        self._trainer = trainer
        self._not_timed = self._not_trained = ""
        self._out_of_time = False

    def hold(self, ranked: Sequence[Scored]) -> Outcome:
        """The first `count` of `ranked` are timed, and those that break no limit trained; if every one of them breaks
        one, the next `count`, and so on.

        The winner has the best mean final score; of finalists that were only timed, the best rank or, with a target,
        the best measured reward.
        """
        finalists: list[Finalist] = []
        trained = 0
        for start in range(0, len(ranked), self._count):
            batch = self._time(ranked[start : start + self._count])
            if self._trainer is not None and any(not one.broken for one in batch):
                batch = self._train(batch)
                trained += 1
            finalists += batch
            if trained == _MOST_TRAINED or _is_settled(batch):
                break
        return self._outcome(self._jury.order(finalists))

    def hold_front(self, front: Sequence[Scored]) -> Outcome:
        """Of a Pareto front, `count` networks that lie evenly on it are trained, and timed before that.

        The winner is the first of the front that breaks no limit by what was measured.
        """
        finalists: dict[str, Finalist] = {}

        def time(candidates: Sequence[Scored]) -> None:
            fresh = [one for one in candidates if one.architecture.arch_id not in finalists]
            finalists.update((one.arch_id, one) for one in self._time(fresh))

        for start in range(0, len(front) if self._timer is not None else 0, self._count):
            time(front[start : start + self._count])
            if any(not one.broken for one in finalists.values()):
                break
        if self._trainer is not None:
            broken = {arch_id for arch_id, one in finalists.items() if one.broken}
            kept = [one for one in front if one.architecture.arch_id not in broken]
            chosen = [kept[place] for place in thinned(len(kept), self._count)]
            time(chosen)
            to_train = [finalists[one.architecture.arch_id] for one in chosen]
            finalists.update((one.arch_id, one) for one in self._train(to_train))
        in_order = [one.architecture.arch_id for one in front]
        return self._outcome(self._jury.order(sorted(finalists.values(), key=lambda one: in_order.index(one.arch_id))))

    def _time(self, candidates: Sequence[Scored]) -> list[Finalist]:
        """Judged by their times; if they cannot be timed, by what is predicted."""
        times: list[Times | None] = [None] * len(candidates)
        if self._timer is not None:
            try:
                times = [*self._timer.time(candidates, lambda one, taken: bool(self._jury.judge(one, taken).broken))]
            except MeasuringFailed as error:  # after all that training, what was found is kept
                self._timer, self._not_timed = None, str(error)
                warnings.warn(f"finalists could not be timed, latencies are not verified: {error}", stacklevel=2)
        return [self._jury.judge(one, taken) for one, taken in zip(candidates, times, strict=True)]

    def _train(self, batch: Sequence[Finalist]) -> list[Finalist]:
        """Those that break no limit are trained; the others stay as they are."""
        assert self._trainer is not None
        fit = [one for one in batch if not one.broken]
        try:
            trained = self._trainer.train([one.best.architecture for one in fit])
        except OutOfTime as late:
            self._trainer, self._not_trained, self._out_of_time = None, str(late), True
            return list(batch)
        judged = [self._jury.judge(one.best, one.times, made) for one, made in zip(fit, trained, strict=True)]
        return [*judged, *(one for one in batch if one.broken)]

    def _outcome(self, finalists: Sequence[Finalist]) -> Outcome:
        timed = [one for one in finalists if one.times is not None]
        bias = latency_bias_percent(timed) if timed else 0.0
        if abs(bias) > MAPE_OF_DOUBT_PERCENT:
            how = f"{abs(bias):.0f} % too {'slow' if bias > 0 else 'fast'}"
            warnings.warn(f"the latency table predicts the finalists {how}; try `nas latency check`", stacklevel=2)
        winner = next((one for one in finalists if not one.broken and not one.reason), None)
        failed = [one.reason for one in finalists if one.reason]
        if winner is None and failed and not any(_is_scored(one) for one in finalists):
            winner = next((one for one in finalists if not one.broken), None)
            self._not_trained = f"no finalist could be: {failed[0]}"
        if self._not_trained:
            warnings.warn(f"finalists were not trained, the winner is not verified: {self._not_trained}", stacklevel=2)
        shown = tuple(one for one in finalists if one.times is not None or one.trained is not None)
        return Outcome(shown, winner, self._not_timed, self._not_trained, self._out_of_time)


def _is_scored(finalist: Finalist) -> bool:
    return finalist.trained is not None and not finalist.reason


def _is_settled(batch: Sequence[Finalist]) -> bool:
    """Whether there is a winner in it, or no hope that others could be trained if none of these can."""
    trained = [one for one in batch if one.trained is not None]
    return any(not one.broken and not one.reason for one in batch) or (bool(trained) and all(o.reason for o in trained))
