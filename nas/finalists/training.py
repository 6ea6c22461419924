"""Finalists trained again, at a higher fidelity and with several seeds."""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nas.executors import Executor, Failed, Finished, Job
from nas.finalists.log import FinalsLog, Training
from search_space import Architecture

OnProgress = Callable[[int, int], None]


class OutOfTime(Exception):
    """The time limit was reached before all trainings had ended; those that had are in the log."""


@dataclass(frozen=True)
class Trained:
    """All trainings of a finalist, one for each seed."""

    trainings: tuple[Training, ...]
    names: tuple[str, ...]
    """The metrics that count, as `accuracy` and `loss`."""

    @property
    def reason(self) -> str:
        """Why it has no final score, with the first seed that failed; empty if none did."""
        failed = [one for one in self.trainings if one.reason]
        if not failed:
            return ""
        return f"{len(failed)} of {len(self.trainings)} trainings failed: {failed[0].reason}"

    def values(self, name: str) -> list[float]:
        """A metric of each training that did not fail."""
        return [one.metrics[name] for one in self.trainings if not one.reason]

    def metrics(self, prefix: str = "") -> dict[str, float]:
        """Mean and sample standard deviation of the metrics, or of those with a prefix, as `final_NAME` and
        `final_NAME_std`, or `PREFIXNAME` and `PREFIXNAME_std`."""
        found: dict[str, float] = {}
        for name in self.names:
            if not all(prefix + name in one.metrics for one in self.trainings):
                continue
            values = self.values(prefix + name)
            key = f"{prefix or 'final_'}{name}"
            found[key] = statistics.fmean(values)
            if len(values) > 1:
                found[f"{key}_std"] = statistics.stdev(values)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data: of each metric `mean`, `std` (None of a single value) and `values`, in order of the seeds."""
        plain = {}
        for name in self.names:
            values = self.values(name)
            if values:
                std = statistics.stdev(values) if len(values) > 1 else None
                plain[name] = {"mean": statistics.fmean(values), "std": std, "values": values}
        return plain


class Trainer:
    """Trains networks with seeds 0 to `seeds` - 1, whatever of it is not in the log yet.

    `make_executor` starts up to so many workers, if there is something to do; `names` are the metrics that count.
    """

    def __init__(
        self,
        make_executor: Callable[[int], Executor],
        names: Sequence[str],
        log: FinalsLog,
        *,
        run_seed: int,
        seeds: int,
        deadline: float = math.inf,
        on_train: OnProgress = lambda done, total: None,
    ) -> None:
        self._make_executor = make_executor
        self._names = tuple(names)
        self._log = log
        self._run_seed = run_seed
        self._seeds = seeds
        self._deadline = deadline
        self._on_train = on_train

    def train(self, networks: Sequence[Architecture]) -> list[Trained]:
        """Train each with all seeds. Raises `OutOfTime`."""
        # Seed after seed: stopped in the middle, most of them have been trained equally often.
        wanted = [(network, seed) for seed in range(self._seeds) for network in networks]
        missing = [(network, seed) for network, seed in wanted if (network.arch_id, seed) not in self._log.trainings]
        if missing:
            self._run(missing, len(wanted))
        return [
            Trained(tuple(self._log.trainings[network.arch_id, seed] for seed in range(self._seeds)), self._names)
            for network in networks
        ]

    def _run(self, missing: Sequence[tuple[Architecture, int]], total: int) -> None:
        done, running = total - len(missing), 0
        waiting = deque(enumerate(missing))
        self._refuse_late(done, total)
        self._on_train(done, total)
        executor = self._make_executor(len(missing))
        try:
            while waiting or running:
                while waiting and running < executor.workers and time.monotonic() < self._deadline:
                    key, (network, seed) = waiting.popleft()
                    executor.submit(Job(key, network, final_seed(self._run_seed, seed)))
                    running += 1
                if not running:
                    break
                event = executor.wait()
                if isinstance(event, (Finished, Failed)):
                    network, seed = missing[event.key]
                    self._log.add_training(_outcome(network.arch_id, seed, event))
                    done, running = done + 1, running - 1
                    self._on_train(done, total)
        finally:
            executor.close()
        if waiting:
            self._refuse_late(done, total)

    def _refuse_late(self, done: int, total: int) -> None:
        if time.monotonic() >= self._deadline:
            raise OutOfTime(f"the time limit was reached after {done} of {total} trainings")


def _outcome(arch_id: str, seed: int, event: Finished | Failed) -> Training:
    if isinstance(event, Failed):
        return Training(arch_id, seed, {}, event.seconds, event.reason or "failed without saying why")
    for name, value in event.metrics.items():
        if not math.isfinite(value):
            return Training(arch_id, seed, {}, event.seconds, f"the evaluator returned {name} = {value}")
    return Training(arch_id, seed, dict(event.metrics), event.seconds)


def final_seed(run_seed: int, seed: int) -> int:
    """The seed of a finalist's training: none that the search itself uses, whatever the number of looks."""
    return int.from_bytes(hashlib.sha256(f"{run_seed}/final {seed}".encode()).digest()[:8], "big") >> 1
