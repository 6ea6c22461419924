"""What runs inside Ray's workers."""

from __future__ import annotations

import gc
import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass

from evaluators import Evaluator
from nas.executors.base import Event, Failed, Finished, Job, Started, run_job

# What may come to stay on a GPU without being a leak: workspaces of libraries, which come with the first use of each.
_TOLERANCE_BYTES = 128 * 2**20


@dataclass(frozen=True)
class About:
    """What a worker says of itself once it has started."""

    node: str
    """The address of its node."""
    node_id: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Worn:
    """Said before the end of a job after which the worker does not give its memory back: it should be replaced."""

    key: int


class Worker:
    """Has its own copy of an evaluator, and runs jobs one after another. It becomes an actor."""

    def __init__(self, evaluator: Evaluator, timeout_s: float, device: str) -> None:
        import torch

        torch.set_num_threads(1)
        if device:
            evaluator.use_device(device)
        self._evaluator = evaluator
        self._timeout_s = timeout_s
        self._usual_bytes: int | None = None  # the data stay on the GPU from the first job on

    def about(self) -> About:
        """Answers once the worker is ready."""
        import ray

        address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        return About(address, ray.get_runtime_context().get_node_id(), versions())

    def run(self, job: Job) -> Iterator[Event | Started | Worn]:
        """Run a job."""
        yield Started(job.key)
        for event in run_job(self._evaluator, job, self._timeout_s):
            if isinstance(event, (Finished, Failed)) and self._leaks():
                yield Worn(job.key)
            yield event

    def _leaks(self) -> bool:
        held = held_bytes()
        if self._usual_bytes is None:
            self._usual_bytes = held
        return held > self._usual_bytes + _TOLERANCE_BYTES


def held_bytes() -> int:
    """GPU memory that this process holds after giving back what it can."""
    import torch

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return 0
    gc.collect()
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated()


def versions() -> dict[str, str]:
    """What has to be the same everywhere for scores to be."""
    found = {}
    for name in ("nas", "torch"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # on the path, but not installed
            found[name] = "not installed"
    return found
