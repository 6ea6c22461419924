"""What workers of one machine share instead of copying it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from support import space

from evaluators import Direction, Evaluator, Report
from nas.executors import Finished, Job, ProcessExecutor
from nas.executors.shared_pickle import SharedPickle, load
from search_space import Architecture
from search_space.errors import WorkFailed


def round_trip(value: Any) -> Any:
    shared = SharedPickle(value)
    try:
        return load(shared.pickled, shared.descriptor)
    finally:
        shared.close()


@pytest.mark.parametrize(
    "value",
    [
        3,
        np.zeros((0, 4)),
        [np.arange(5, dtype=np.uint8), np.arange(7.0), np.zeros(0)],
        {"a": np.arange(12).reshape(3, 4).T, "b": np.arange(20)[::3]},
    ],
)
def test_what_comes_out_is_what_went_in(value: Any) -> None:
    np.testing.assert_equal(round_trip(value), value)


def test_arrays_are_aligned_and_may_be_written_to() -> None:
    odd, even = np.arange(13, dtype=np.uint8), np.arange(1_000.0)
    _, second = round_trip([odd, even])
    assert second.__array_interface__["data"][0] % 64 == 0
    second[3] = -1
    assert even[3] == 3


def test_no_room_for_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def tell(self) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", Full)
    with pytest.raises(WorkFailed, match=r"No space left on device; let TMPDIR be"):
        SharedPickle(np.zeros(10))


class Holding(Evaluator):
    """Has an array, reads all of it, and reports how many bytes of it are this process's own."""

    directions: ClassVar[Mapping[str, Direction]] = {"accuracy": "maximize"}

    def __init__(self) -> None:
        self.array = np.full(50_000_000, 1, np.uint8)

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        total = int(self.array.sum())
        yield Report(1, 1, {"accuracy": total, "own_kb": own_kb(self.array), "pid": os.getpid()})

    def describe(self) -> dict[str, Any]:
        return {}


def own_kb(array: np.ndarray[Any, Any]) -> int:
    """Of the mapping in which the array lies, what is not a page of a file, which others may have."""
    address = array.__array_interface__["data"][0] + array.nbytes // 2
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        place = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if place:
            inside = int(place[1], 16) <= address < int(place[2], 16)
        elif inside and line.startswith("Anonymous:"):
            return int(line.split()[1])
    raise AssertionError("not mapped")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_have_no_copies_of_their_own(tmp_path: Path) -> None:
    evaluator = Holding()
    assert own_kb(evaluator.array) > 40_000
    network = space().decode(space().sample(np.random.default_rng(0)))
    with closing(ProcessExecutor(evaluator, 2, tmp_path / "workers.log")) as executor:
        for key in range(4):
            executor.submit(Job(key, network, 0))
        ended = []
        while len(ended) < 4:
            event = executor.wait()
            if isinstance(event, Finished):
                ended.append(event.metrics)
    assert {metrics["accuracy"] for metrics in ended} == {50_000_000}
    assert {metrics["own_kb"] for metrics in ended} == {0}
    assert os.getpid() not in {metrics["pid"] for metrics in ended}
