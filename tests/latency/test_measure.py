"""A session goes over all jobs in turns, times each as often as planned, and leaves the process as it was."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from fakes import CONDITIONS, FakeParts, FakeRuntime, FakeTimed, Interrupted, one_line, true_ms
from support import space

from latency.measure import Alone, Chunk, InPlace, Job, MeasuringFailed, Whole, measure, measure_chunk, plan
from latency.runtimes import Timed, TimedParts
from search_space import Architecture, InputError
from search_space.parts import parts


@pytest.fixture
def network() -> Architecture:
    searched = space()
    return searched.decode(searched.sample(np.random.default_rng(0)))


@pytest.mark.parametrize("count", [1, 2, 23, 24, 25, 123])
@pytest.mark.parametrize("passes", [1, 3])
def test_every_job_has_its_turn_once_in_each_pass(count: int, passes: int) -> None:
    chunks = plan(count, passes=passes, rounds=2, at_once=24, rng=np.random.default_rng(0))
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert len(chunks) % passes == 0
    each = len(chunks) // passes
    for start in range(0, len(chunks), each):
        jobs = [job for chunk in chunks[start : start + each] for job in chunk.jobs]
        assert sorted(jobs) == list(range(count))
    assert all(0 < len(chunk.jobs) <= 24 for chunk in chunks)
    assert {chunk.rounds for chunk in chunks} == {2}


def test_passes_differ_in_order_and_plans_do_not() -> None:
    one, again = (plan(100, passes=2, rounds=1, at_once=24, rng=np.random.default_rng(3)) for _ in range(2))
    assert one == again
    assert one[0].jobs != one[len(one) // 2].jobs


class Recording(FakeRuntime):
    """Writes down who was run, in order."""

    runs: list[int]

    def __init__(self) -> None:
        super().__init__(CONDITIONS)
        self.runs = []
        self.opened = 0

    def open(self, architecture: Architecture) -> Timed:
        self.opened += 1
        return RecordedTimed(self, self.opened)

    def open_parts(self, architecture: Architecture) -> TimedParts:
        self.opened += 1
        return RecordedParts(self, self.opened, len(parts(architecture)))


class RecordedTimed(FakeTimed):
    """Its n-th run takes n ms."""

    def __init__(self, runtime: Recording, number: int) -> None:
        self.count = 0
        super().__init__(1.0, self.next)
        self.runtime, self.number = runtime, number

    def next(self) -> float:
        self.count += 1
        return float(self.count)

    def run(self) -> float:
        assert not gc.isenabled()
        self.runtime.runs.append(self.number)
        return super().run()


class RecordedParts(FakeParts):
    """Its n-th run takes n ms for each part."""

    def __init__(self, runtime: Recording, number: int, count: int) -> None:
        super().__init__([1.0] * count, lambda: len(self.runs) + 1.0)
        self.runtime, self.number = runtime, number

    def run(self) -> None:
        self.runtime.runs.append(self.number)
        super().run()


def test_rounds_take_turns_and_the_second_of_two_runs_counts(network: Architecture) -> None:
    runtime = Recording()
    jobs: list[Job] = [Whole(network), InPlace(network), Whole(network)]
    samples = measure_chunk(runtime, jobs, Chunk(0, (2, 0, 1), rounds=3))
    assert runtime.opened == 3
    rounds = np.reshape(runtime.runs, (3, 3, 2))
    assert (np.sort(rounds[:, :, 0], axis=1) == [1, 2, 3]).all()
    assert (rounds[:, :, 0] == rounds[:, :, 1]).all()
    assert samples[0].tolist() == samples[2].tolist() == [2, 4, 6]
    assert samples[1].tolist() == [[n] * len(parts(network)) for n in (2, 4, 6)]


class Failing(FakeRuntime):
    def open(self, architecture: Architecture) -> Timed:
        raise Interrupted


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_afterwards_as_before(enabled: bool, network: Architecture) -> None:
    try:
        (gc.enable if enabled else gc.disable)()
        measure_chunk(Recording(), [Whole(network)], Chunk(0, (0,), rounds=1))
        assert gc.isenabled() == enabled
        with pytest.raises(Interrupted):
            measure_chunk(Failing(CONDITIONS), [Whole(network)], Chunk(0, (0,), rounds=1))
        assert gc.isenabled() == enabled
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [RuntimeError("out of\nmemory " * 90), MemoryError(), KeyError("conv")])
def test_what_fails_in_the_runtime_is_said_in_one_line(error: Exception, network: Architecture) -> None:
    class Broken(FakeRuntime):
        def open(self, architecture: Architecture) -> Timed:
            raise error

    with pytest.raises(MeasuringFailed, match=type(error).__name__) as caught:
        measure_chunk(Broken(CONDITIONS), [Whole(network)], Chunk(0, (0,), rounds=1))
    assert one_line(caught.value, CONDITIONS.device_name)


def test_a_refusal_by_the_runtime_stays_one(network: Architecture) -> None:
    class Refusing(FakeRuntime):
        def open(self, architecture: Architecture) -> Timed:
            raise InputError("not this one")

    with pytest.raises(InputError, match="not this one"):
        measure_chunk(Refusing(CONDITIONS), [Whole(network)], Chunk(0, (0,), rounds=1))


def test_all_kinds_of_jobs_give_their_own_times(network: Architecture) -> None:
    shapes = parts(network)
    jobs: list[Job] = [Whole(network), InPlace(network), *map(Alone, shapes)] * 4
    progress: list[tuple[int, int]] = []
    session = measure(
        FakeRuntime(CONDITIONS),
        jobs,
        passes=3,
        rounds=2,
        on_progress=lambda done, total: progress.append((done, total)),
    )
    assert len(session) == len(jobs)
    for job, times in zip(jobs, session, strict=True):
        if isinstance(job, Whole):
            assert times == pytest.approx([sum(map(true_ms, shapes))] * 6)
        elif isinstance(job, InPlace):
            assert np.allclose(times, [[*map(true_ms, shapes)]] * 6)
        else:
            assert times == pytest.approx([true_ms(job.shape)] * 6)
    assert [done for done, _ in progress] == list(range(progress[0][1] + 1))
