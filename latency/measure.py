"""Timing many networks in one interleaved session.

A machine's speed drifts by tenths from one second to the next, so that networks timed one after another cannot be
compared. Here a session goes over all jobs in several passes, each in another order; inside a pass, a chunk of jobs is
open at once and timed in rounds, in each round once. What is low among the samples of a job (see `table.MEASURED`)
then does not depend on when its turn was.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from latency.runtimes import Runtime, Timed, TimedParts
from search_space import Architecture, InputError
from search_space.errors import WorkFailed, one_line, short
from search_space.parts import PartShape

OnProgress = Callable[[int, int], None]
"""Called with the chunks done, and their number."""
Samples = NDArray[np.float64]
"""[runs] ms of a whole network, or [runs, parts] ms."""


@dataclass(frozen=True)
class Whole:
    """Time a network end to end."""

    architecture: Architecture


@dataclass(frozen=True)
class InPlace:
    """Time the parts of a network, in place."""

    architecture: Architecture


@dataclass(frozen=True)
class Alone:
    """Time a part by itself."""

    shape: PartShape


@dataclass(frozen=True)
class Foreign:
    """Time a network that has no architecture, end to end; it reads [batch, *`input_shape`]."""

    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]


Job = Whole | InPlace | Alone | Foreign


@dataclass(frozen=True)
class Chunk:
    """Jobs that are open at once: `jobs` are indices."""

    number: int
    jobs: tuple[int, ...]
    rounds: int


def plan(count: int, *, passes: int, rounds: int, at_once: int, rng: np.random.Generator) -> list[Chunk]:
    """All chunks of a session over `count` jobs: each job in one chunk of each pass."""
    chunks: list[Chunk] = []
    for _ in range(passes):
        order = rng.permutation(count)
        pieces = np.array_split(order, -(-count // at_once))
        chunks += [Chunk(len(chunks) + i, tuple(map(int, piece)), rounds) for i, piece in enumerate(pieces)]
    return chunks


class MeasuringFailed(WorkFailed):
    """The runtime could not run a network: out of memory, an operation that it lacks in this precision, …"""


def measure_chunk(runtime: Runtime, jobs: Sequence[Job], chunk: Chunk) -> dict[int, Samples]:
    """Job index -> samples. The order within each round is random but fixed by the chunk's number.

    Raises `MeasuringFailed`.
    """
    try:
        return _measure(runtime, jobs, chunk)
    except InputError:
        raise
    except Exception as error:  # each runtime has errors of its own
        reason = short(one_line(str(error)), 200)
        raise MeasuringFailed(f"{runtime.conditions} cannot run a network: {type(error).__name__}: {reason}") from error


def _measure(runtime: Runtime, jobs: Sequence[Job], chunk: Chunk) -> dict[int, Samples]:
    rng = np.random.default_rng([chunk.number, len(jobs)])
    with runtime.session(), _no_garbage_collection():
        opened = {index: _open(runtime, jobs[index]) for index in chunk.jobs}
        samples: dict[int, list[float]] = {index: [] for index in chunk.jobs}
        for _ in range(chunk.rounds):
            for index in rng.permutation(chunk.jobs).tolist():
                # Twice, and the second counts: as in a stream of images, not as after other networks.
                opened[index].run()
                milliseconds = opened[index].run()
                if milliseconds is not None:
                    samples[index].append(milliseconds)
        return {
            index: network.times_ms()[1::2] if isinstance(network, TimedParts) else np.asarray(samples[index])
            for index, network in opened.items()
        }


def measure(
    runtime: Runtime,
    jobs: Sequence[Job],
    *,
    passes: int,
    rounds: int,
    seed: int = 0,
    on_progress: OnProgress = lambda done, total: None,
) -> list[Samples]:
    """A whole session: the samples of each job, of all passes."""
    rng = np.random.default_rng(seed)
    chunks = plan(len(jobs), passes=passes, rounds=rounds, at_once=runtime.open_at_once, rng=rng)
    taken: list[list[Samples]] = [[] for _ in jobs]
    for done, chunk in enumerate(chunks):
        on_progress(done, len(chunks))
        for index, samples in measure_chunk(runtime, jobs, chunk).items():
            taken[index].append(samples)
    on_progress(len(chunks), len(chunks))
    return [np.concatenate(passes_of_job) for passes_of_job in taken]


def _open(runtime: Runtime, job: Job) -> Timed | TimedParts:
    if isinstance(job, Whole):
        return runtime.open(job.architecture)
    if isinstance(job, InPlace):
        return runtime.open_parts(job.architecture)
    if isinstance(job, Foreign):
        return runtime.open_module(job.build(), job.input_shape)
    return runtime.open_alone(job.shape)


class _no_garbage_collection:
    """A collection in the middle of a run would be counted to it."""

    def __enter__(self) -> None:
        self._was_enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *error: Any) -> None:
        if self._was_enabled:
            gc.enable()
