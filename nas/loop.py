"""The search loop: ask the sampler, turn down what need not be trained, evaluate, record, tell the sampler.

Everything that decides about the course of a search happens in the order of trial numbers: trial n is proposed when
exactly the trials up to n - window have been told, whichever worker was faster. So the course is a function of the
request and its seed, and a search taken up again replays its record and goes on as if it had never stopped.
"""

from __future__ import annotations

import hashlib
import math
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from optuna.samplers import BaseSampler

from nas.ask_tell import make_ask_tell
from nas.constraints import Constraint
from nas.executors import Executor, Failed, Finished, Job
from nas.pruning import Pruning
from nas.record import TrialLog, TrialRecord
from nas.scored import Scored
from nas.screening import Screening
from nas.state import State
from nas.target import REWARD, Target
from search_space import Architecture, InputError
from search_space.space import Params
from searchers import Problem

MAX_REJECTED = 2_000
"""So many proposals in a row may be turned down before the sampler counts as having nothing new to say."""


@dataclass
class _Pending:
    """A trial between its proposal and its telling."""

    number: int
    """Of the proposal."""
    architecture: Architecture
    params: Params
    cost: dict[str, float]
    rejected: Counter[str]
    look: int
    told: int
    filtered: tuple[str, ...] = ()
    record: TrialRecord | None = None
    replayed: bool = False


class SearchLoop:
    """One search. `run` returns why it ended: `budget`, `exhausted` or `time limit`.

    `log` takes finished trials, if they are to be kept; `recorded` are those of an earlier session. `passes` tells
    which new networks are worth evaluating; those to begin with are asked for, and evaluated whatever it says.
    """

    def __init__(
        self,
        problem: Problem,
        sampler: BaseSampler,
        executor: Executor,
        log: TrialLog | None,
        *,
        budget: int,
        seed: int,
        constraints: Sequence[Constraint] = (),
        target: Target | None = None,
        pruning: Pruning | None = None,
        passes: Callable[[Architecture], bool] = lambda architecture: True,
        recorded: Sequence[TrialRecord] = (),
        window: int = 1,
        on_change: Callable[[State], None] = lambda state: None,
    ) -> None:
        self.state = State(budget, tuple(objective.metric for objective in problem.objectives))
        self._problem = problem
        self._space = problem.space
        self._sampler = make_ask_tell(sampler, problem)
        self._screening = Screening(problem, self._sampler, constraints, passes, self.state)
        self.ranking = self._screening.ranking
        self._executor = executor
        self._log = log
        self._seed = seed
        self._target = target
        self._pruning = pruning
        self._recorded = deque(recorded)
        self._window = window
        self._on_change = on_change
        if pruning is None and any(record.pruned for record in recorded):
            raise InputError("trials of the journal were pruned, but the run has no pruner", remedy="restore run.yaml")
        self._started = 0
        self._ask_again = not self._sampler.can_take_up
        self._pending: deque[_Pending] = deque()
        self._exhausted = False

    def run(self, *, deadline: float = math.inf) -> str:
        """Search until the budget is spent, nothing new is proposed, or `time.monotonic()` reaches `deadline`."""
        self._fill(deadline)
        while self._pending:
            self._await_first()
            self._tell(self._pending.popleft())
            self._exhausted = False  # the sampler knows more now
            self._fill(deadline)
        if not self.state.affords(1):
            return "budget"
        return "exhausted" if self._exhausted else "time limit"

    def ranked(self) -> list[Scored]:
        """All networks that were scored and keep the limits, the best first."""
        return self.ranking.order(self._screening.scored.values(), self._sampler.believed())

    def scored(self) -> list[Scored]:
        """All networks that were scored, those that break a limit among them, in order of their first trial."""
        return list(self._screening.scored.values())

    # Proposing.

    def _fill(self, deadline: float) -> None:
        # What is under way may take a whole training each; nothing is begun that the budget could not pay in full.
        while len(self._pending) < self._window and self.state.affords(len(self._pending) + 1) and not self._exhausted:
            # Then as now, it had nothing new to say until it was told more.
            early = bool(self._recorded) and self._recorded[0].told > self.state.done
            if self._recorded and not self._ask_again:
                if early:
                    self._exhausted = True
                    return
                pending = self._replay(self._recorded.popleft())
            elif not self._recorded and time.monotonic() >= deadline:
                return
            else:
                proposal = self._propose(math.inf if self._recorded else deadline)
                if proposal is None and not self._recorded and time.monotonic() >= deadline:
                    return
                if self._recorded and (not early if proposal is None else proposal.params != self._recorded[0].params):
                    self._stop_asking_again(proposal)
                    continue
                if proposal is None:
                    self._exhausted = True
                    return
                pending = proposal
                if self._recorded:
                    pending.record, pending.replayed = self._recorded.popleft(), True
                    self.state.replayed += 1
                else:
                    self._executor.submit(self._job(pending))
            self._started += 1
            self._screening.looks[pending.architecture.arch_id] += 1
            self._pending.append(pending)

    def _job(self, pending: _Pending) -> Job:
        """A further look is not judged: if only those count that do well, the mean is that of lucky ones."""
        judge = None
        if self._pruning is not None and not pending.look:
            factor = 1.0 if self._target is None else self._target.reward(1.0, pending.cost)
            judge = self._pruning.judge(self._started, factor)
        return Job(pending.number, pending.architecture, look_seed(self._seed, pending.look), judge)

    def _propose(self, deadline: float) -> _Pending | None:
        """The next proposal to be evaluated; None if there is none among the next `MAX_REJECTED`, or in time."""
        for _ in range(MAX_REJECTED):
            if time.monotonic() >= deadline:
                return None
            proposal = self._sampler.ask()
            if proposal is None:
                return None
            architecture = self._space.decode(self._space.genotype(proposal.params))
            asked_for = proposal.number < len(self._problem.start)
            kind, cost = self._screening.judge(architecture, asked_for=asked_for)
            if not kind:
                rejected, filtered = self._screening.take()
                look = self._screening.looks[architecture.arch_id]
                told = self.state.done
                return _Pending(proposal.number, architecture, proposal.params, cost, rejected, look, told, filtered)
            self._screening.turn_down(proposal, kind, architecture, cost)
            if self._screening.nothing_is_left:
                return None
            if self._screening.since.total() % 50 == 0:
                self._on_change(self.state)
        return None

    # Replaying.

    def _replay(self, record: TrialRecord) -> _Pending:
        """A trial of the record, as if it had just been proposed."""
        architecture = record.network(self._space, self.state.replayed)
        excess = {} if record.failed else self._screening.excess({**record.metrics, **record.cost})
        reported = record.reported if record.pruned else {}
        number = self._sampler.take_up(record.ask, record.params, excess, reported, record.filtered)
        self.state.counts.update(record.rejected)
        self._screening.never.update(record.filtered)
        self.state.replayed += 1
        look = self._screening.looks[architecture.arch_id]
        return _Pending(
            number,
            architecture,
            record.params,
            dict(record.cost),
            Counter(record.rejected),
            look,
            record.told,
            record.filtered,
            record=record,
            replayed=True,
        )

    def _stop_asking_again(self, proposal: _Pending | None) -> None:
        """The sampler does not propose again what it did when the record was made: take the rest as it is."""
        name = self._sampler.name
        rule = f"{name} does not propose again what it did before; the search goes on from its record all the same"
        warnings.warn(rule, stacklevel=2)
        self._ask_again = False
        if proposal is not None:
            self._sampler.reject(proposal.number)

    # Evaluating.

    def _await_first(self) -> None:
        """Wait until the trial whose turn it is has ended; others may end meanwhile."""
        while self._pending[0].record is None:
            event = self._executor.wait()
            if isinstance(event, (Finished, Failed)):
                pending = next(pending for pending in self._pending if pending.number == event.key)
                pending.record = self._outcome(pending, event)
            self._on_change(self.state)

    def _outcome(self, pending: _Pending, event: Finished | Failed) -> TrialRecord:
        ended = event if isinstance(event, Finished) else Finished(event.key, {}, event.seconds)
        metrics, pruned = ended.metrics, ended.share < 1
        reason = "" if isinstance(event, Finished) else event.reason or "failed without saying why"
        for name, value in metrics.items():
            if not math.isfinite(value):
                reason = f"the evaluator returned {name} = {value}"
        if self._target is not None and not reason and not pruned:
            metrics = {**metrics, REWARD: self._target.reward(metrics[self._target.objective], pending.cost)}
        return TrialRecord(
            ask=pending.number,
            params=pending.params,
            arch_id=pending.architecture.arch_id,
            cost=pending.cost,
            metrics={} if reason else metrics,
            seconds=event.seconds,
            look=pending.look,
            told=pending.told,
            rejected=pending.rejected,
            filtered=pending.filtered,
            reason=reason,
            reported={} if reason else ended.reported,
            equivalents=ended.share,
        )

    # Telling.

    def _tell(self, pending: _Pending) -> None:
        record = pending.record
        assert record is not None
        metrics = {**record.metrics, **record.cost}
        values = None if record.failed or record.pruned else self._screening.values(metrics)
        excess = {} if record.failed else self._screening.excess(metrics)
        if not pending.replayed and self._log is not None:
            self._log.append(record, values, excess)
        self.state.training_seconds += record.seconds
        self.state.spent += record.equivalents
        self.state.spent_before += record.equivalents if pending.replayed else 0.0
        if self._pruning is not None:
            self._pruning.tell(record.reported, values[0] if values is not None else None)
        if record.pruned and self._pruning is not None:
            guess = self._screening.stand_ins[record.arch_id] = self._pruning.stand_in(record.reported)
            self._sampler.prune(pending.number, record.reported, guess, excess)
            self.state.counts["pruned"] += 1
        else:
            self._sampler.tell(pending.number, values, excess)
            self.state.counts["failed" if record.failed else "complete"] += 1
        if values is not None:
            self._rank(pending.architecture, record)
        self._on_change(self.state)

    def _rank(self, architecture: Architecture, record: TrialRecord) -> None:
        """Take in a scored trial, and see whether it changes what is best."""
        arch_id = architecture.arch_id
        if arch_id in self._screening.scored:
            self.state.counts["again"] += 1
            self._screening.scored[arch_id].look(record)
        else:
            self._screening.scored[arch_id] = Scored(architecture, self.state.done - 1, record)
        scored, front = self._screening.scored[arch_id], self.state.front
        believed = self._sampler.believed()
        if believed is not None or scored.looks > 1:
            self.state.front = self.ranking.front(self._screening.scored.values(), believed)
        elif self.ranking.keeps_limits(scored):
            self.state.front = self.ranking.front([*front, scored])


def look_seed(seed: int, look: int) -> int:
    """The seed of a network's evaluation: the run's own for the first look, others for further ones."""
    if look == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/look {look}".encode()).digest()[:8], "big") >> 1
