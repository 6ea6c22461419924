"""A runtime that only calculates: times follow from the shapes alone, so that what is made of them can be checked."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from latency import Conditions, LatencyTable, Times, load_table
from latency.runtimes import Runtime, Timed, TimedParts
from latency.signature import to_plain
from latency.table import Calibration, Measured
from search_space import Architecture, InputError, SearchSpace
from search_space.graph import SpaceGraph
from search_space.parts import PartShape, parts

CONDITIONS = Conditions("fake", "Fake CPU @ 1 Hz", versions={"fake": "1"})


def true_ms(shape: PartShape) -> float:
    """0.05 to 0.15, without rhyme or reason."""
    return 0.05 + zlib.crc32(json.dumps(to_plain(shape)).encode()) / 2**32 / 10


class Interrupted(BaseException):
    """What stops a build on the way, as Ctrl-C does."""


class FakeRuntime(Runtime):
    """Parts take `true_ms`, a whole network `scale` × their sum + `overhead_ms`; all that times `speed()`."""

    name = "fake"
    passes = 2
    rounds = 2
    scale: ClassVar[float] = 1.0
    overhead_ms: ClassVar[float] = 0.0
    speed: ClassVar[Callable[[], float]] = staticmethod(lambda: 1.0)
    sessions_left: ClassVar[float] = float("inf")
    """So many sessions go well."""
    killed: ClassVar[bool] = False
    """Whether the next one kills the process, or else raises `Interrupted`."""

    @classmethod
    def versions(cls) -> dict[str, str]:
        return {"fake": "1"}

    @classmethod
    def check(cls, conditions: Conditions) -> None:
        pass

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        kind = type(self)
        if kind.sessions_left <= 0 and kind.killed:
            os.kill(os.getpid(), signal.SIGKILL)
        if kind.sessions_left <= 0:
            raise Interrupted
        kind.sessions_left -= 1
        yield

    def open(self, architecture: Architecture) -> Timed:
        ms = self.scale * sum(map(true_ms, parts(architecture))) + self.overhead_ms
        return FakeTimed(ms, type(self).speed)

    def open_module(self, module: nn.Module, input_shape: tuple[int, ...]) -> Timed:
        return FakeTimed(sum(p.numel() for p in module.parameters()) / 1e6, type(self).speed)

    def open_parts(self, architecture: Architecture) -> TimedParts:
        return FakeParts(list(map(true_ms, parts(architecture))), type(self).speed)

    def open_alone(self, shape: PartShape) -> Timed:
        return FakeTimed(true_ms(shape), type(self).speed)


class FakeTimed(Timed):
    def __init__(self, ms: float, speed: Callable[[], float]) -> None:
        self.ms, self.speed = ms, speed

    def run(self) -> float:
        return self.ms * self.speed()


class FakeParts(TimedParts):
    def __init__(self, part_ms: list[float], speed: Callable[[], float]) -> None:
        self.part_ms, self.speed = np.array(part_ms), speed
        self.runs: list[NDArray[np.float64]] = []

    def run(self) -> None:
        self.runs.append(self.part_ms * self.speed())

    def times_ms(self) -> NDArray[np.float64]:
        return np.array(self.runs)


def hand_made(
    space: SearchSpace,
    *,
    networks: int = 5,
    scale: float = 1.25,
    overhead_ms: float = 0.05,
    ms: Callable[[PartShape], float] = true_ms,
    leave_out: Callable[[PartShape], bool] = lambda shape: False,
) -> LatencyTable:
    """A table of a space in which all is consistent."""
    shapes = [shape for shape in SpaceGraph(space).shapes() if not leave_out(shape)]
    times = {s: Times(4, ms(s), ms(s), 1.1 * ms(s), 1.2 * ms(s)) for s in shapes}
    rng = np.random.default_rng(0)
    measured = []
    for _ in range(networks):
        architecture = space.decode(space.sample(rng))
        total = scale * sum(map(ms, parts(architecture))) + overhead_ms
        measured.append(Measured(architecture, Times(4, total, total, 1.1 * total, 1.2 * total)))
    calibration = Calibration(scale, overhead_ms, tuple(measured), 1.5)
    return LatencyTable(space.name, CONDITIONS, times, calibration=calibration, source={"date": "today", "cpus": 2})


def one_line(error: BaseException, *named: str | Path) -> bool:
    """Whether an error is said in one line that names these things."""
    text = str(error)
    return len(text.splitlines()) == 1 and all(str(name) in text for name in named)


def table_refusal(file: Path) -> str:
    """What is said against the file."""
    with pytest.raises(InputError) as caught:
        load_table(file)
    assert one_line(caught.value, file), str(caught.value)
    return str(caught.value)
