"""Evaluations in worker processes of this machine."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import IO, Any

from evaluators import Evaluator
from nas.executors.base import Event, Executor, Failed, Finished, Job, Started, WorkersCannotStart, too_slow
from nas.executors.shared_pickle import SharedPickle

# Not `-m`, which would let any file of the working directory stand in for a module of ours or of Python's.
_WORKER = "import sys; sys.path.pop(0); from nas.executors.worker import main; main()"
_MAX_DEATHS_AT_START = 3


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    job: Job | None = None
    started: float = math.inf  # once it says so: loading PyTorch does not count


class ProcessExecutor(Executor):
    """Keeps `workers` processes, each with its own evaluator but shared arrays, alive from job to job.

    They are started afresh (not forked, and without importing the caller's script again), run one thread each, and
    end when the parent does. One that dies, or has to be killed because its job takes too long, costs that job only,
    and is replaced.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        workers: int,
        log: str | os.PathLike[str] | None = None,
        timeout_s: float = math.inf,
    ) -> None:
        self.workers = workers
        self._shared = SharedPickle(evaluator)
        self._first = (self._shared.pickled, timeout_s)
        self._timeout_s = timeout_s
        self._log = log
        self._jobs: deque[Job] = deque()
        self._deaths: int | None = 0  # None once a worker has shown that it works
        self._pool = [self._start() for _ in range(workers)]
        for worker in self._pool:  # after all have started: they load PyTorch side by side
            self._send(worker, self._first)

    def _start(self) -> _Worker:
        ours, theirs = socket.socketpair()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }
        inherited = [theirs.fileno(), self._shared.descriptor]
        command = [sys.executable, "-c", _WORKER, *map(str, inherited)]
        with contextlib.ExitStack() as stack:
            sink: int | IO[bytes] = stack.enter_context(open(self._log, "ab")) if self._log else subprocess.DEVNULL
            process = subprocess.Popen(
                command, pass_fds=inherited, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            )
        theirs.close()
        return _Worker(process, Connection(ours.detach()))

    @staticmethod
    def _send(worker: _Worker, message: Any) -> None:
        with contextlib.suppress(OSError):  # that it is dead shows in `wait`
            worker.connection.send(message)

    def submit(self, job: Job) -> None:
        """Hand the job to an idle worker, or queue it."""
        self._jobs.append(job)
        self._hand_out()

    def _hand_out(self) -> None:
        for worker in self._pool:
            if self._jobs and worker.job is None:
                worker.job, worker.started = self._jobs.popleft(), math.inf
                self._send(worker, worker.job)

    def wait(self) -> Event:
        """The next event of any worker."""
        event: Event | Started | None = None
        while event is None or isinstance(event, Started):
            busy = {worker.connection: worker for worker in self._pool if worker.job is not None}
            first = min(busy.values(), key=lambda worker: worker.started)
            left = first.started + self._timeout_s - time.perf_counter()
            ready = wait(list(busy), None if left > 1e6 else max(0.0, left))  # poll() takes no more than 24 days
            worker = busy[ready[0]] if ready else first  # type: ignore[index]
            event = self._receive(worker) if ready else self._give_up(worker)
        if isinstance(event, (Finished, Failed)):
            worker.job = None
            self._hand_out()
        return event

    def _receive(self, worker: _Worker) -> Event | Started:
        assert worker.job is not None
        try:
            event: Event | Started = worker.connection.recv()
        except (EOFError, OSError):
            seconds = max(0.0, time.perf_counter() - worker.started)
            return Failed(worker.job.key, self._why_it_died(worker), seconds, again=True)
        self._deaths = None
        if isinstance(event, Started):
            worker.started = time.perf_counter()
        return event

    def _give_up(self, worker: _Worker) -> Failed:
        """Kill a worker whose job hangs."""
        assert worker.job is not None
        worker.process.kill()
        worker.process.wait()
        self._replace(worker)
        return too_slow(worker.job.key, self._timeout_s, time.perf_counter() - worker.started)

    def _why_it_died(self, worker: _Worker) -> str:
        """Replace a worker that is gone; the reason why it is."""
        code = worker.process.wait()
        if self._deaths is not None:
            self._deaths += 1
            if self._deaths >= _MAX_DEATHS_AT_START:
                raise WorkersCannotStart(f"worker processes die at their start (exit code {code}); see {self._log}")
        self._replace(worker)
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        hint = " (out of memory?)" if code == -9 else ""
        return f"the worker process died: {how}{hint}" + (f"; see {self._log}" if self._log else "")

    def _replace(self, worker: _Worker) -> None:
        worker.connection.close()
        fresh = self._pool[self._pool.index(worker)] = self._start()
        self._send(fresh, self._first)

    def close(self) -> None:
        """Kill all workers."""
        self._jobs.clear()
        for worker in self._pool:
            worker.process.kill()
            worker.connection.close()
        for worker in self._pool:
            worker.process.wait()
        self._shared.close()
