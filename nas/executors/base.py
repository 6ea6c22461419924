"""What every executor owes: run evaluations, and say what becomes of them."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from evaluators import EvaluationFailed, Evaluator, NoVerdict, Report
from nas.executors.judging import Judge
from search_space import Architecture
from search_space.errors import WorkFailed


@dataclass(frozen=True)
class Job:
    """One evaluation to be run. `key` tells it apart."""

    key: int
    architecture: Architecture
    seed: int
    judge: Judge | None = None
    """Ends it early if it falls behind; None lets it go on to its end."""


@dataclass(frozen=True)
class Progress:
    """A job has reported."""

    key: int
    report: Report


@dataclass(frozen=True)
class Finished:
    """A job has ended well, or was stopped by its judge: then it has no metrics."""

    key: int
    metrics: Mapping[str, float]
    seconds: float
    reported: Mapping[int, float] = field(default_factory=dict)
    """Step -> what its judge compared."""
    share: float = 1.0
    """Of its steps; below 1 if it was stopped."""


@dataclass(frozen=True)
class Failed:
    """A job has ended without a result."""

    key: int
    reason: str
    seconds: float
    again: bool = False
    """Whether another try could help: it says nothing about the network that its worker was killed."""


@dataclass(frozen=True)
class Started:
    """Workers say so to their executor before a job, whose time runs from here; no event for others."""

    key: int


Event = Progress | Finished | Failed


class WorkersCannotStart(WorkFailed):
    """Workers die before any has done anything: no evaluation will succeed."""


class Executor(ABC):
    """Runs jobs on its workers. Every submitted job ends in exactly one `Finished` or `Failed` event."""

    workers: int
    """How many jobs run at once; more may be submitted and wait their turn."""

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Take a job; returns at once."""

    @abstractmethod
    def wait(self) -> Event:
        """The next event; blocks until there is one. Must not be called when no job is under way."""

    @abstractmethod
    def close(self) -> None:
        """Stop at once; jobs under way are lost."""


def too_slow(key: int, timeout_s: float, seconds: float) -> Failed:
    """The end of a job that took longer than it may."""
    return Failed(key, f"exceeded --trial-timeout of {timeout_s:g} s", seconds, again=True)


def run_job(evaluator: Evaluator, job: Job, timeout_s: float = math.inf) -> Iterator[Event]:
    """Run a job in this process, yielding its events; what may go wrong inside an evaluation becomes `Failed`.

    A job that reports after `timeout_s` ends there. One that hangs can only be ended from outside.
    """
    started = time.perf_counter()
    last: Report | None = None
    # Yielded only once the exception is forgotten: it holds on to the network and its memory.
    end: Event
    try:
        judgement = job.judge.open() if job.judge is not None else None
        for last in evaluator.evaluate(job.architecture, seed=job.seed):
            yield Progress(job.key, last)
            if judgement is not None and judgement.stops(last):
                seconds, share = time.perf_counter() - started, last.step / last.total_steps
                end = Finished(job.key, {}, seconds, judgement.reported, share)
                break
            if time.perf_counter() - started > timeout_s and last.step < last.total_steps:
                end = too_slow(job.key, timeout_s, time.perf_counter() - started)
                break
        else:
            seconds = time.perf_counter() - started
            if last is None:
                end = Failed(job.key, "the evaluator reported nothing", seconds)
            else:
                end = Finished(job.key, last.metrics, seconds, judgement.reported if judgement is not None else {})
    except EvaluationFailed as failure:
        again = isinstance(failure, NoVerdict)
        end = Failed(job.key, str(failure), time.perf_counter() - started, again)
    except Exception as error:
        end = Failed(job.key, f"{type(error).__name__}: {error}", time.perf_counter() - started, again=True)
    yield end
