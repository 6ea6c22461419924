"""Evaluations in worker processes of this machine."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import IO

from evaluators import Evaluator
from nas.executors.base import Event, Executor, Failed, Finished, Job

# Not `-m`, which would let any file of the working directory stand in for a module of ours or of Python's.
_WORKER = "import sys; sys.path.pop(0); from nas.executors.worker import main; main()"
_MAX_DEATHS_AT_START = 3


class WorkersCannotStart(OSError):
    """Worker processes die before any has done anything: no evaluation will succeed."""


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    job: Job | None = None
    started: float = 0.0


class ProcessExecutor(Executor):
    """Keeps `workers` processes, each with its own copy of the evaluator, alive from job to job.

    They are started afresh (not forked, and without importing the caller's script again), run one thread each, and
    end when the parent does. One that dies costs its job only, and is replaced.
    """

    def __init__(self, evaluator: Evaluator, workers: int, log: str | os.PathLike[str] | None = None) -> None:
        self.workers = workers
        self._evaluator = evaluator
        self._log = log
        self._jobs: deque[Job] = deque()
        self._deaths: int | None = 0  # None once a worker has shown that it works
        self._pool = [self._start() for _ in range(workers)]
        for worker in self._pool:  # after all have started: they load PyTorch side by side
            self._send(worker, self._evaluator)

    def _start(self) -> _Worker:
        ours, theirs = socket.socketpair()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
        }
        command = [sys.executable, "-c", _WORKER, str(theirs.fileno())]
        with contextlib.ExitStack() as stack:
            sink: int | IO[bytes] = stack.enter_context(open(self._log, "ab")) if self._log else subprocess.DEVNULL
            process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            )
        theirs.close()
        return _Worker(process, Connection(ours.detach()))

    @staticmethod
    def _send(worker: _Worker, message: Evaluator | Job) -> None:
        with contextlib.suppress(OSError):  # that it is dead shows in `wait`
            worker.connection.send(message)

    def submit(self, job: Job) -> None:
        """Hand the job to an idle worker, or queue it."""
        self._jobs.append(job)
        self._hand_out()

    def _hand_out(self) -> None:
        for worker in self._pool:
            if self._jobs and worker.job is None:
                worker.job, worker.started = self._jobs.popleft(), time.perf_counter()
                self._send(worker, worker.job)

    def wait(self) -> Event:
        """The next event of any worker."""
        busy = {worker.connection: worker for worker in self._pool if worker.job is not None}
        worker = busy[wait(list(busy))[0]]  # type: ignore[index]
        assert worker.job is not None
        try:
            event: Event = worker.connection.recv()
            self._deaths = None
        except (EOFError, OSError):
            event = Failed(worker.job.key, self._replace(worker), time.perf_counter() - worker.started)
        if isinstance(event, (Finished, Failed)):
            worker.job = None
            self._hand_out()
        return event

    def _replace(self, worker: _Worker) -> str:
        """Start another in its place; the reason why it is gone."""
        code = worker.process.wait()
        worker.connection.close()
        if self._deaths is not None:
            self._deaths += 1
            if self._deaths >= _MAX_DEATHS_AT_START:
                raise WorkersCannotStart(f"worker processes die at their start (exit code {code}); see {self._log}")
        fresh = self._pool[self._pool.index(worker)] = self._start()
        self._send(fresh, self._evaluator)
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        hint = " (out of memory?)" if code == -9 else ""
        return f"the worker process died: {how}{hint}" + (f"; see {self._log}" if self._log else "")

    def close(self) -> None:
        """Kill all workers."""
        self._jobs.clear()
        for worker in self._pool:
            worker.process.kill()
            worker.connection.close()
        for worker in self._pool:
            worker.process.wait()
