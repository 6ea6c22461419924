"""One evaluation after another, in this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from evaluators import Evaluator
from nas.executors.base import Event, Executor, Failed, Finished, Job, run_job


class InlineExecutor(Executor):
    """Runs each job in the calling process, while somebody waits for it."""

    workers = 1

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._jobs: deque[Job] = deque()
        self._running: Iterator[Event] | None = None

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._jobs.append(job)

    def wait(self) -> Event:
        """Run on until the next event."""
        if self._running is None:
            self._running = run_job(self._evaluator, self._jobs.popleft())
        event = next(self._running)
        if isinstance(event, (Finished, Failed)):
            self._running = None
        return event

    def close(self) -> None:
        """Drop what is queued."""
        self._jobs.clear()
        self._running = None
