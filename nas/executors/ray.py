"""Evaluations on Ray, on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections import deque
from dataclasses import dataclass
from typing import Any

from evaluators import Evaluator
from nas.executors import ray_cluster
from nas.executors.base import Event, Executor, Failed, Finished, Job, Started, WorkersCannotStart, too_slow
from nas.executors.ray_worker import About, Worker, Worn, versions
from search_space.errors import one_line

_MAX_DEATHS_AT_START = 3
_CHECK_S = 5.0
_SILENCE_S = 60.0
_NO_WORKER_S = 900.0  # clusters that grow take some minutes to


@dataclass
class _Slot:
    """The place of one worker, and the actor that fills it: starting, idle, or running a job."""

    actor: Any
    starting: Any  # the answer to `about`, until it has come
    deaths: int = 0  # at their start, one after another
    about: About | None = None
    stream: Any = None
    job: Job | None = None
    started: float = math.inf  # once the worker says so: waiting for a place and loading PyTorch do not count
    worn: bool = False

    @property
    def awaited(self) -> Any:
        """What Ray is to wait for, if anything."""
        return self.starting if self.starting is not None else self.stream

    @property
    def node(self) -> str:
        return f"node {self.about.node}" if self.about is not None else "a node"


class RayExecutor(Executor):
    """Keeps `workers` actors, each with its own copy of the evaluator, alive from job to job.

    Each has a CPU, on which it runs one thread, and a share of a GPU if asked for. One that dies, with its node or
    alone, or has to be killed because its job takes too long, costs that job only, and is replaced. Actors end with
    this process, however it goes. Raises `InputError` if there is no such cluster.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        workers: int,
        *,
        gpus_per_trial: float = 0.0,
        address: str = "",
        timeout_s: float = math.inf,
    ) -> None:
        self.workers = workers
        self._timeout_s = timeout_s
        self._jobs: deque[Job] = deque()
        self._slots: list[_Slot] = []
        self._worked = False
        self._since = self._checked = time.monotonic()
        self._silence_s = _SILENCE_S
        self._versions = versions()
        self._told: set[tuple[str, str]] = set()
        self._connection = ray_cluster.connect(address, workers, evaluator)
        import ray

        self._ray: Any = ray
        try:
            self._head: str = ray.get_runtime_context().gcs_address
            ray_cluster.check_room(workers, gpus_per_trial, own=self._connection == "own")
            self._class: Any = ray.remote(Worker)
            self._options = {
                "num_cpus": 1,
                "num_gpus": gpus_per_trial,
                "max_restarts": 0,  # they are replaced here, where it is known what they did
                "scheduling_strategy": "SPREAD",
                "runtime_env": ray_cluster.paths() or None,
            }
            self._arguments = (ray.put(evaluator), timeout_s, "cuda" if gpus_per_trial else "")
            for _ in range(workers):
                self._slots.append(self._start())
        except BaseException:
            self.close()
            raise

    @property
    def ready(self) -> int:
        """How many workers have started; the others wait for a place, or load PyTorch."""
        return sum(slot.starting is None for slot in self._slots)

    def _start(self, deaths: int = 0) -> _Slot:
        actor = self._class.options(**self._options).remote(*self._arguments)
        return _Slot(actor, actor.about.remote(), deaths)

    def submit(self, job: Job) -> None:
        """Hand the job to an idle worker, or queue it."""
        self._jobs.append(job)
        self._hand_out()

    def _hand_out(self) -> None:
        for slot in self._slots:
            if self._jobs and slot.starting is None and slot.job is None:
                slot.job = self._jobs.popleft()
                slot.stream = slot.actor.run.options(num_returns="streaming").remote(slot.job)

    def wait(self) -> Event:
        """The next event of any worker."""
        event: Event | None = None
        while event is None:
            self._check()
            waiting = {slot.awaited: slot for slot in self._slots if slot.awaited is not None}
            first = min(waiting.values(), key=lambda slot: slot.started)
            left = first.started + self._timeout_s - time.perf_counter()
            ready, _ = self._ray.wait(list(waiting), timeout=max(0.0, min(left, _CHECK_S)))
            if ready:
                event = self._receive(waiting[ready[0]])
            elif left <= 0:
                event = self._give_up(first)
        return event

    def _receive(self, slot: _Slot) -> Event | None:
        """What a worker has to say; None if it only concerns ourselves."""
        if slot.starting is not None:
            self._welcome(slot)
            return None
        assert slot.job is not None
        event: Event | Started | Worn
        try:
            event = self._ray.get(next(slot.stream))
        except (self._ray.exceptions.RayError, StopIteration) as error:
            ray_cluster.require_answer(self._head)  # or every trial under way would count as failed
            seconds = max(0.0, time.perf_counter() - slot.started)
            event = Failed(slot.job.key, self._why(error, slot), seconds, again=True)
            self._replace(slot)
            return event
        if isinstance(event, Started):
            slot.started = time.perf_counter()
            return None
        if isinstance(event, Worn):
            slot.worn = True
            return None
        if isinstance(event, (Finished, Failed)):
            slot.job, slot.stream, slot.started = None, None, math.inf
            if slot.worn:
                self._replace(slot)
            self._hand_out()
        return event

    def _welcome(self, slot: _Slot) -> None:
        """A worker has started, or died at that."""
        try:
            about: About = self._ray.get(slot.starting)
        except self._ray.exceptions.RayError as error:
            ray_cluster.require_answer(self._head)
            self._died_at_start(slot, error)
            return
        slot.about, slot.starting, slot.deaths, self._worked = about, None, 0, True
        for name, version in about.versions.items():
            ours = self._versions.setdefault(name, version)
            if version != ours and (name, version) not in self._told:
                self._told.add((name, version))
                difference = f"{slot.node} has {name} {version}, this is {ours}"
                warnings.warn(f"{difference}: scores may differ from worker to worker", stacklevel=3)
        self._hand_out()

    def _died_at_start(self, slot: _Slot, error: Exception) -> None:
        # What Python has to say, if it came to that: that a module is missing, or the device.
        raised = "creation task" in str(error)
        reason = one_line(str(error).strip().splitlines()[-1]) if raised else self._why(error, slot)
        slot.deaths += 1
        others = [other for other in self._slots if other is not slot]
        enough = slot.deaths >= _MAX_DEATHS_AT_START
        if (enough and not others) or (
            not self._worked and sum(one.deaths for one in self._slots) >= _MAX_DEATHS_AT_START
        ):
            remedy = "nas and its dependencies must be installed on every node"
            raise WorkersCannotStart(f"Ray's workers die at their start: {reason}; {remedy}")
        if enough:
            self._slots = others
            warnings.warn(f"one worker less, it could not be started {slot.deaths} times: {reason}", stacklevel=3)
        else:
            self._replace(slot, slot.deaths)

    def _replace(self, slot: _Slot, deaths: int = 0) -> None:
        """Start another in its place."""
        with contextlib.suppress(Exception):  # it may be dead
            self._ray.kill(slot.actor)
        self._slots[self._slots.index(slot)] = self._start(deaths)

    def _give_up(self, slot: _Slot) -> Failed:
        """Kill a worker whose job hangs."""
        assert slot.job is not None
        self._replace(slot)
        return too_slow(slot.job.key, self._timeout_s, time.perf_counter() - slot.started)

    def _why(self, error: Exception, slot: _Slot) -> str:
        """Why a worker is gone."""
        known = self._ray.exceptions
        if isinstance(error, known.RayTaskError):
            return f"{type(error.cause).__name__}: {error.cause}"
        if isinstance(error, known.OutOfMemoryError):
            return f"{slot.node} ran out of memory, and Ray ended the worker"
        if isinstance(error, (known.ActorUnavailableError, known.NodeDiedError)) or "node has died" in str(error):
            return f"{slot.node} was lost"
        return f"the worker on {slot.node} died: killed, crashed or out of memory"

    def _check(self) -> None:
        """Now and then, that there is a cluster, and that it has a place for us: Ray itself would wait for ever."""
        now = time.monotonic()
        if now - self._checked < _CHECK_S:
            return
        self._checked = now
        ray_cluster.require_answer(self._head)
        if any(slot.starting is None for slot in self._slots):
            self._since, self._silence_s = now, _SILENCE_S
        waited = now - self._since
        if waited > _NO_WORKER_S:
            raise WorkersCannotStart(f"the Ray cluster had no place for a worker in {waited / 60:.0f} minutes")
        if waited > self._silence_s:
            self._silence_s *= 2
            warnings.warn(f"the Ray cluster has no place for a worker yet, after {waited:.0f} s", stacklevel=3)

    def close(self) -> None:
        """Kill all workers, and end the cluster if it is our own."""
        for slot in self._slots:
            with contextlib.suppress(Exception):
                self._ray.kill(slot.actor)
        self._slots.clear()
        self._jobs.clear()
        if self._connection != "found":
            self._connection = "found"
            self._ray.shutdown()
