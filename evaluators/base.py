"""What every evaluator owes."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from search_space import Architecture

Direction = Literal["maximize", "minimize"]


class EvaluationFailed(Exception):
    """One network could not be scored (it diverged, ran out of memory, …). The search goes on without it."""


class NoVerdict(EvaluationFailed):
    """Something that may pass was in the way, as too little memory: it says nothing of the network, and is worth
    another try."""


@dataclass(frozen=True)
class Report:
    """What is known after `step` of `total_steps` steps. The last report of an evaluation is its result."""

    step: int
    total_steps: int
    metrics: Mapping[str, float]


class Evaluator(ABC):
    """Scores architectures.

    An evaluator is a function of the architecture and the seed: evaluating twice gives the same metrics, in whichever
    process and order. It is picklable, so that workers can have their own copy.
    """

    directions: ClassVar[Mapping[str, Direction]]
    """Which way is better, for the metrics a search may rank by."""
    noisy: bool = True
    """Whether another seed gives another score, so that a second look at a network is worth something."""
    rungs: tuple[int, ...] = ()
    """After so many steps a report is to have the metrics of `directions`, for whoever may stop the evaluation there.

    To be set before the first evaluation; it does not change the result.
    """

    @property
    def steps(self) -> int:
        """The number of steps of each evaluation, if there may be `rungs` among them; else 1."""
        return 1

    @abstractmethod
    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        """Score one network, reporting as it goes.

        Raises `EvaluationFailed`, with the reason, if the network cannot be scored. Metrics are finite.
        """

    def use_device(self, device: str) -> None:  # noqa: B027
        """Compute on this device from now on: a worker's may not be there where the evaluator was made.

        Evaluators that compute nothing need not care. Raises `InputError` if it is not there.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Plain data for the run's record: what was done, on which data, at which fidelity."""


def derive_seed(seed: int, arch_id: str) -> int:
    """A 63-bit seed of its own for each (run seed, network)."""
    digest = hashlib.sha256(f"{seed}/{arch_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
