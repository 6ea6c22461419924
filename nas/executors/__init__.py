"""Where evaluations run: `inline`, in this process or in worker processes of this machine."""

from __future__ import annotations

import os

from evaluators import Evaluator
from nas.executors.base import Event, Executor, Failed, Finished, Job, Progress
from nas.executors.inline import InlineExecutor
from nas.executors.processes import ProcessExecutor

EXECUTORS = ("inline",)


def make_executor(name: str, evaluator: Evaluator, workers: int, log: str | os.PathLike[str] | None = None) -> Executor:
    """The executor of this name; `log` takes what worker processes print. There is only `inline` so far."""
    assert name in EXECUTORS
    return InlineExecutor(evaluator) if workers == 1 else ProcessExecutor(evaluator, workers, log)


__all__ = [
    "EXECUTORS",
    "Event",
    "Executor",
    "Failed",
    "Finished",
    "InlineExecutor",
    "Job",
    "ProcessExecutor",
    "Progress",
    "make_executor",
]
