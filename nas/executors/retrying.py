"""Another try for jobs that failed for no fault of their network."""

from __future__ import annotations

import dataclasses
from collections import deque
from dataclasses import dataclass

from nas.executors.base import Event, Executor, Failed, Finished, Job, Progress


@dataclass
class _Tried:
    job: Job
    tries: int = 0
    seconds: float = 0.0
    step: int = 0  # of its last report


class Retrying(Executor):
    """Runs jobs on another executor, and runs those again that fail for reasons which may pass, up to `retries` times.

    An evaluation is a function of the network and the seed, so another try gives what the first would have given;
    reports that were made already are not passed on again. The seconds are those of all tries.
    """

    def __init__(self, executor: Executor, retries: int) -> None:
        self.workers = executor.workers
        self._executor = executor
        self._retries = retries
        self._waiting: deque[_Tried] = deque()
        self._running: dict[int, _Tried] = {}

    def submit(self, job: Job) -> None:
        """Hand the job on, or queue it."""
        self._waiting.append(_Tried(job))
        self._hand_on()

    def _hand_on(self) -> None:
        # No more than can run at once: a job to be tried again is then the next, not the last. Others wait for it.
        while self._waiting and len(self._running) < self.workers:
            tried = self._waiting.popleft()
            self._running[tried.job.key] = tried
            self._executor.submit(tried.job)

    def wait(self) -> Event:
        """The next event that is new."""
        while True:
            event = self._executor.wait()
            tried = self._running[event.key]
            if isinstance(event, Progress):
                if event.report.step <= tried.step:
                    continue
                tried.step = event.report.step
                return event
            del self._running[event.key]
            tried.tries += 1
            tried.seconds += event.seconds
            ended = isinstance(event, Finished) or not event.again or tried.tries > self._retries
            if not ended:
                self._waiting.appendleft(tried)
            self._hand_on()
            if not ended:
                continue
            event = dataclasses.replace(event, seconds=tried.seconds)
            if isinstance(event, Failed) and tried.tries > 1:
                event = dataclasses.replace(event, reason=f"failed {tried.tries} times, at last: {event.reason}")
            return event

    def close(self) -> None:
        """Stop at once."""
        self._waiting.clear()
        self._executor.close()
