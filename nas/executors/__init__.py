"""Where evaluations run: in this process, in worker processes of this machine, or on Ray."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from evaluators import Evaluator
from nas.executors.base import Event, Executor, Failed, Finished, Job, Progress, WorkersCannotStart
from nas.executors.inline import InlineExecutor
from nas.executors.processes import ProcessExecutor
from nas.executors.ray import RayExecutor
from nas.executors.retrying import Retrying

EXECUTORS = ("inline", "ray")


@dataclass(frozen=True)
class ExecutorOptions:
    """How evaluations are to be run."""

    workers: int
    gpus_per_trial: float = 0.0
    """Ray only: the share of a GPU that each worker gets."""
    ray_address: str = ""
    """Ray only: the cluster to use; empty means the one at hand, or one of our own."""
    trial_timeout_s: float = math.inf
    """An evaluation that takes longer is ended."""
    retries: int = 2
    """So many times more an evaluation is tried that failed for a reason which may pass."""


def make_executor(
    name: str, evaluator: Evaluator, options: ExecutorOptions, log: str | os.PathLike[str] | None = None
) -> Executor:
    """The executor of this name; `log` takes what worker processes print. Raises `InputError` if Ray cannot be had."""
    assert name in EXECUTORS
    executor: Executor
    if name == "ray":
        executor = RayExecutor(
            evaluator,
            options.workers,
            gpus_per_trial=options.gpus_per_trial,
            address=options.ray_address,
            timeout_s=options.trial_timeout_s,
        )
    elif options.workers == 1 and options.trial_timeout_s == math.inf:
        executor = InlineExecutor(evaluator)
    else:  # with a limit, even a single worker: what hangs can only be ended from outside
        executor = ProcessExecutor(evaluator, options.workers, log, options.trial_timeout_s)
    return Retrying(executor, options.retries)


__all__ = [
    "EXECUTORS",
    "Event",
    "Executor",
    "ExecutorOptions",
    "Failed",
    "Finished",
    "InlineExecutor",
    "Job",
    "ProcessExecutor",
    "Progress",
    "RayExecutor",
    "Retrying",
    "WorkersCannotStart",
    "make_executor",
]
