"""The search loop: ask the sampler, turn down what need not be trained, evaluate, record, tell the sampler.

Everything that decides about the course of a search happens in the order of trial numbers: trial n is proposed when
exactly the trials up to n - window have been told, whichever worker was faster. So the course is a function of the
request and its seed, and a search taken up again replays its record and goes on as if it had never stopped.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState, create_trial

from evaluators import Direction
from nas.constraints import Constraint, violated
from nas.executors import Executor, Failed, Finished, Job
from nas.known import Known
from nas.record import TrialLog, TrialRecord
from nas.target import REWARD, Target
from search_space import Architecture, InputError, SearchSpace
from search_space.space import Params
from searchers import distributions

MAX_REJECTED = 2_000
"""So many proposals in a row may be turned down before the sampler counts as having nothing new to say."""


@dataclass(frozen=True)
class Best:
    """A network that was scored, as the best so far is."""

    architecture: Architecture
    record: TrialRecord
    number: int

    def metrics(self) -> dict[str, float]:
        """What training gave and what was known before."""
        return {**self.record.metrics, **self.record.cost}


@dataclass
class State:
    """How far a search is."""

    budget: int
    counts: Counter[str] = field(default_factory=Counter)
    """Trials `complete` and `failed`; proposals `infeasible` and `duplicate`."""
    best: Best | None = None
    replayed: int = 0
    """Trials taken from the record of an earlier session."""
    training_seconds: float = 0.0
    """Time spent inside evaluations, summed over workers."""

    @property
    def done(self) -> int:
        """Trials that have ended."""
        return self.counts["complete"] + self.counts["failed"]


@dataclass
class _Pending:
    """A trial between its proposal and its telling."""

    ask: int
    architecture: Architecture
    params: Params
    cost: dict[str, float]
    rejected: Counter[str]
    record: TrialRecord | None = None
    replayed: bool = False


class SearchLoop:
    """One search. `run` returns why it ended: `budget`, `exhausted` or `time limit`."""

    def __init__(
        self,
        space: SearchSpace,
        sampler: BaseSampler,
        executor: Executor,
        log: TrialLog,
        *,
        budget: int,
        seed: int,
        objective: str,
        direction: Direction,
        constraints: Sequence[Constraint] = (),
        known: Known | None = None,
        target: Target | None = None,
        recorded: Sequence[TrialRecord] = (),
        window: int = 1,
        on_change: Callable[[State], None] = lambda state: None,
    ) -> None:
        self.state = State(budget)
        self._space = space
        self._executor = executor
        self._log = log
        self._seed = seed
        self._objective = objective
        self._target = target
        self._score = objective if target is None else REWARD
        self._sign = 1 if direction == "maximize" else -1
        self._constraints = constraints
        self._measure = known or Known()
        self._complete: list[Best] = []
        self._recorded = deque(recorded)
        self._window = window
        self._on_change = on_change
        self._distributions = distributions(space)
        self._study = optuna.create_study(direction=direction, sampler=sampler)
        self._asks = 0
        self._started = 0
        self._rejected: Counter[str] = Counter()
        self._known: set[str] = set()  # arch_ids of trials
        self._infeasible: set[str] = set()
        # Exact sizes are worth counting only where a search could come near them.
        self._size = space.size if space.num_genotypes <= 1_000_000 else math.inf
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
        if self.state.done >= self.state.budget:
            return "budget"
        return "exhausted" if self._exhausted else "time limit"

    def ranked(self) -> list[Best]:
        """All networks that were scored, the best first."""
        return sorted(self._complete, key=lambda ended: self._key(ended.record), reverse=True)

    # Proposing.

    def _fill(self, deadline: float) -> None:
        while len(self._pending) < self._window and self._started < self.state.budget and not self._exhausted:
            if self._recorded:
                pending = self._replay(self._recorded.popleft())
            elif time.monotonic() >= deadline:
                return
            else:
                proposal = self._propose()
                if proposal is None:
                    self._exhausted = True
                    return
                pending = proposal
                self._executor.submit(Job(pending.ask, pending.architecture, self._seed))
            self._started += 1
            self._known.add(pending.architecture.arch_id)
            self._pending.append(pending)

    def _propose(self) -> _Pending | None:
        """The next proposal that is new and feasible; None if there is none among the next `MAX_REJECTED`."""
        for _ in range(MAX_REJECTED):
            trial = self._study.ask(self._distributions)
            self._asks += 1
            architecture = self._space.decode(self._space.genotype(trial.params))
            if architecture.arch_id in self._known:
                kind = "duplicate"
            elif architecture.arch_id in self._infeasible:
                kind = "infeasible"
            else:
                cost = self._measure.metrics(architecture)
                if not violated(self._constraints, cost):
                    rejected, self._rejected = self._rejected, Counter()
                    return _Pending(trial.number, architecture, trial.params, cost, rejected)
                kind = "infeasible"
                self._infeasible.add(architecture.arch_id)
            self._study.tell(trial, state=TrialState.FAIL)
            self._rejected[kind] += 1
            self.state.counts[kind] += 1
            if len(self._known) + len(self._infeasible) >= self._size:
                return None
            if sum(self._rejected.values()) % 50 == 0:
                self._on_change(self.state)
        return None

    def _replay(self, record: TrialRecord) -> _Pending:
        """A trial of the record, as if it had just been proposed. Samplers see proposals turned down as failed."""
        architecture = self._space.decode(self._space.genotype(record.params))
        if architecture.arch_id != record.arch_id:
            rule = f"trial {self.state.replayed} of the journal must be the network of its params"
            raise InputError(rule, record.arch_id, remedy="restore journal.log and run.yaml from a copy")
        while self._asks < record.ask:
            self._study.add_trial(create_trial(state=TrialState.FAIL))
            self._asks += 1
        self._study.add_trial(
            create_trial(state=TrialState.RUNNING, params=dict(record.params), distributions=self._distributions)
        )
        self._asks += 1
        self.state.counts.update(record.rejected)
        self.state.replayed += 1
        return _Pending(
            record.ask, architecture, record.params, dict(record.cost), Counter(record.rejected), record, replayed=True
        )

    # Evaluating.

    def _await_first(self) -> None:
        """Wait until the trial whose turn it is has ended; others may end meanwhile."""
        while self._pending[0].record is None:
            event = self._executor.wait()
            if isinstance(event, (Finished, Failed)):
                pending = next(pending for pending in self._pending if pending.ask == event.key)
                pending.record = self._outcome(pending, event)
            self._on_change(self.state)

    def _outcome(self, pending: _Pending, event: Finished | Failed) -> TrialRecord:
        metrics = event.metrics if isinstance(event, Finished) else {}
        reason = "" if isinstance(event, Finished) else event.reason or "failed without saying why"
        for name, value in metrics.items():
            if not math.isfinite(value):
                reason = f"the evaluator returned {name} = {value}"
        if self._target is not None and not reason:
            metrics = {**metrics, REWARD: self._target.reward(metrics[self._objective], pending.cost)}
        return TrialRecord(
            ask=pending.ask,
            params=pending.params,
            arch_id=pending.architecture.arch_id,
            cost=pending.cost,
            metrics={} if reason else metrics,
            seconds=event.seconds,
            rejected=pending.rejected,
            reason=reason,
        )

    # Telling.

    def _tell(self, pending: _Pending) -> None:
        record = pending.record
        assert record is not None
        if not pending.replayed:
            self._log.append(record)
        self.state.training_seconds += record.seconds
        if record.failed:
            self._study.tell(record.ask, state=TrialState.FAIL)
            self.state.counts["failed"] += 1
        else:
            self._study.tell(record.ask, record.metrics[self._score])
            self.state.counts["complete"] += 1
            ended = Best(pending.architecture, record, self.state.done - 1)
            self._complete.append(ended)
            if self.state.best is None or self._key(record) > self._key(self.state.best.record):
                self.state.best = ended
        self._on_change(self.state)

    def _key(self, record: TrialRecord) -> tuple[float, float, float]:
        """What the better network has more of: the objective; among equals, the lower loss, then the fewer macs."""
        score = self._sign * record.metrics[self._score]
        return (score, -record.metrics.get("loss", 0.0), -record.cost["macs"])
