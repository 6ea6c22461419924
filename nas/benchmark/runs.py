"""One run of a bench: a searcher and a seed, in whichever process."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass

from threadpoolctl import threadpool_limits

from evaluators import TabularEvaluator
from evaluators.table import TableEntry
from nas.executors import Event, InlineExecutor
from nas.known import Known
from nas.loop import SearchLoop
from nas.session import Request
from nas.settings import Settings
from nas.state import State
from search_space import Architecture, SearchSpace
from searchers import make_sampler

KNOWN = ("params", "macs")
_WARM_UP = 20


@dataclass(frozen=True)
class Run:
    """What came of a run."""

    searcher: str
    seed: int
    fronts: tuple[tuple[str, ...], ...]
    """After each evaluation, the `arch_id`s of the Pareto front; with one objective, of the pick, if there is one."""
    cpu_seconds: float
    """Processor time of the search, without its evaluations."""


class TableKnown(Known):
    """What is known before an evaluation, from the table: what would be counted, only faster."""

    def __init__(self, entries: Mapping[str, TableEntry]) -> None:
        super().__init__()
        self.names = KNOWN
        self._entries = entries

    def metrics(self, architecture: Architecture) -> dict[str, float]:
        """Parameters and multiply–adds."""
        entry = self._entries[architecture.arch_id]
        return {"params": entry.params, "macs": entry.macs}

    def reach(self, space: SearchSpace, metric: str) -> tuple[float, float]:
        """The least and the greatest in the table."""
        values = [getattr(entry, metric) for entry in self._entries.values()]
        return min(values), max(values)


class _Timed(InlineExecutor):
    """Keeps the processor time of evaluations apart from that of the search."""

    def __init__(self, evaluator: TabularEvaluator) -> None:
        super().__init__(evaluator)
        self.cpu_seconds = 0.0

    def wait(self) -> Event:
        """Run on until the next event."""
        started = time.process_time()
        event = super().wait()
        self.cpu_seconds += time.process_time() - started
        return event


def request(evaluator: TabularEvaluator, settings: Settings) -> Request:
    """A bench's settings as those of any other search."""
    return Request(settings, evaluator.space, evaluator, TableKnown(evaluator.entries))


def run(evaluator: TabularEvaluator, settings: Settings) -> Run:
    """One run, in one thread: processes share the processors, and sums must not depend on how many there are."""
    with threadpool_limits(1):
        if settings.searcher not in _warmed_up():
            _warmed_up().add(settings.searcher)
            _run(evaluator, dataclasses.replace(settings, budget=min(settings.budget, _WARM_UP)))
        return _run(evaluator, settings)


@functools.cache
def _warmed_up() -> set[str]:
    """Searchers that have imported what they import when first used: it would count as their time."""
    return set()


def _run(evaluator: TabularEvaluator, settings: Settings) -> Run:
    asked = request(evaluator, settings)
    problem, executor = asked.problem(), _Timed(evaluator)
    fronts: list[tuple[str, ...]] = []

    def on_change(state: State) -> None:
        if state.done > len(fronts):
            fronts.append(tuple(scored.architecture.arch_id for scored in state.front))

    loop = SearchLoop(
        problem,
        make_sampler(settings.searcher, problem, settings.seed),
        executor,
        None,
        budget=settings.budget,
        seed=settings.seed,
        constraints=settings.parsed_constraints(),
        window=settings.window,
        on_change=on_change,
    )
    started = time.process_time()
    loop.run()
    cpu_seconds = time.process_time() - started - executor.cpu_seconds
    return Run(settings.searcher, settings.seed, tuple(fronts), cpu_seconds)
