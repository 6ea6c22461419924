"""What every executor owes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from support import space

from evaluators import Direction, EvaluationFailed, Evaluator, NoVerdict, Report, derive_seed
from nas.executors import (
    Event,
    Executor,
    Failed,
    Finished,
    InlineExecutor,
    Job,
    ProcessExecutor,
    Progress,
    RayExecutor,
    Retrying,
)
from nas.executors.base import run_job
from nas.executors.judging import Judge
from nas.pruning import make_pruning
from search_space import Architecture
from searchers import Problem

WORKERS = 2
TIMEOUT_S = 4.0
SCRIPTS = ("well", "fail", "raise", "memory", "silent", "die", "hang", "chat", "patient", "crowd", "slow")
Make = Callable[[int, float], Executor]


def score_of(arch_id: str, seed: int) -> float:
    """Unlike counted cost at hand at once, so that the time limit can be short."""
    return derive_seed(seed, arch_id) / 2**63


class Scripted(Evaluator):
    """Does as the seed says: `SCRIPTS[seed % 100]`, and if the seed is 100 or more only the first time."""

    directions: ClassVar[Mapping[str, Direction]] = {"accuracy": "maximize"}
    rungs = (1, 3)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        how = SCRIPTS[seed % 100]
        memory = self.folder / f"{architecture.arch_id}-{seed}"
        if seed >= 100 and memory.exists():
            how = "well"
        memory.touch()
        known = {"accuracy": score_of(architecture.arch_id, seed)}
        known |= {"pid": os.getpid(), "threads": torch.get_num_threads()}
        if how == "crowd":
            mine = self.folder / f"crowd-{uuid.uuid4()}"
            mine.touch()
            time.sleep(0.2)
            known["crowd"] = len(list(self.folder.glob("crowd-*")))
            time.sleep(0.2)
            mine.unlink()
        if how == "slow":
            for step in range(1, 10):
                yield Report(step, 9, {**known, "accuracy": step / 9} if step in (*self.rungs, 9) else {})
                time.sleep(0.01)
            return
        yield Report(1, 2, known)
        if how == "fail":
            raise EvaluationFailed("told to fail")
        if how == "memory":
            raise NoVerdict("told to need much")
        if how == "raise":
            raise KeyError("told to raise")
        if how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "hang":
            time.sleep(1_000)
        while how == "chat":
            yield Report(1, 2, known)
        while how == "patient" and not (self.folder / "go on").exists():
            time.sleep(0.05)
        yield Report(2, 2, known)

    def describe(self) -> dict[str, Any]:
        return {"evaluator": "scripted"}


class Silent(Scripted):
    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        return iter(()) if SCRIPTS[seed % 100] == "silent" else super().evaluate(architecture, seed=seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scripts")


@pytest.fixture(scope="module", params=["inline", "processes", "ray"])
def make(request: pytest.FixtureRequest, folder: Path) -> Iterator[Make]:
    evaluator = Silent(folder)
    if request.param == "inline":
        yield lambda workers, timeout_s: InlineExecutor(evaluator)
    elif request.param == "processes":
        yield lambda workers, timeout_s: ProcessExecutor(evaluator, workers, folder / "workers.log", timeout_s)
    else:
        # One cluster for all, and none that may run on this machine.
        import ray

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_worker_niceness", "0")  # else tests that run beside these starve the workers
            ray.init("local", num_cpus=WORKERS + 1, object_store_memory=80 * 2**20, include_dashboard=False)
        yield lambda workers, timeout_s: RayExecutor(evaluator, workers, timeout_s=timeout_s)
        assert ray.is_initialized()  # what was there before stays
        ray.shutdown()


@pytest.fixture(scope="module")
def executor(make: Make) -> Iterator[Executor]:
    with closing(make(WORKERS, TIMEOUT_S)) as made:
        yield made


@pytest.fixture
def pool(executor: Executor) -> Executor:
    if isinstance(executor, InlineExecutor):
        pytest.skip("the inline executor has no workers")
    return executor


def jobs(*hows: str, first_time_only: bool = False) -> list[Job]:
    searched, rng = space(), np.random.default_rng(len(hows))
    return [
        Job(key, searched.decode(searched.sample(rng)), SCRIPTS.index(how) + 100 * first_time_only)
        for key, how in enumerate(hows)
    ]


def run(executor: Executor, work: list[Job]) -> list[Event]:
    for job in work:
        executor.submit(job)
    events: list[Event] = []
    while sum(isinstance(event, (Finished, Failed)) for event in events) < len(work):
        events.append(executor.wait())
    return events


def ends(events: list[Event]) -> dict[int, Finished | Failed]:
    return {event.key: event for event in events if not isinstance(event, Progress)}


def test_every_job_reports_and_ends_once(executor: Executor) -> None:
    events = run(executor, jobs(*["well"] * 6))
    for key in range(6):
        own = [event for event in events if event.key == key]
        assert [type(event) for event in own] == [Progress, Progress, Finished]
        assert own[-1].seconds < TIMEOUT_S  # type: ignore[union-attr]


def test_metrics_are_those_of_the_evaluator(executor: Executor) -> None:
    work = jobs(*["well"] * 4)
    scores = {key: end.metrics["accuracy"] for key, end in ends(run(executor, work)).items()}  # type: ignore[union-attr]
    assert scores == {job.key: score_of(job.architecture.arch_id, job.seed) for job in work}


def test_workers_have_one_thread_each(pool: Executor) -> None:
    for end in ends(run(pool, jobs("well", "well"))).values():
        assert isinstance(end, Finished)
        assert end.metrics["threads"] == 1
        assert end.metrics["pid"] != os.getpid()


@pytest.mark.parametrize(
    ("how", "reason", "again"),
    [
        ("fail", "told to fail", False),
        ("memory", "told to need much", True),
        ("raise", "KeyError: 'told to raise'", True),
        ("silent", "the evaluator reported nothing", False),
    ],
)
def test_what_goes_wrong_in_an_evaluation_is_a_reason(executor: Executor, how: str, reason: str, again: bool) -> None:
    ended = ends(run(executor, jobs("well", how, "well", "well")))
    failed = ended.pop(1)
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.again) == (reason, again)
    assert all(isinstance(end, Finished) for end in ended.values())


def test_a_worker_that_dies_costs_its_job_only(pool: Executor) -> None:
    ended = ends(run(pool, jobs("well", "die", "well", "well")))
    failed = ended.pop(1)
    assert isinstance(failed, Failed)
    assert failed.again
    assert "killed" in failed.reason
    assert all(isinstance(end, Finished) for end in ended.values())


def test_a_job_that_hangs_is_ended_and_costs_itself_only(pool: Executor) -> None:
    events = run(pool, jobs("well", "hang", "well", "well"))
    ended = ends(events)
    failed = ended.pop(1)
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.again) == ("exceeded --trial-timeout of 4 s", True)
    assert TIMEOUT_S <= failed.seconds < 2 * TIMEOUT_S
    assert all(isinstance(end, Finished) for end in ended.values())
    [pid] = [int(event.report.metrics["pid"]) for event in events if isinstance(event, Progress) and event.key == 1]
    gone(pid)


def test_a_job_that_never_stops_reporting_is_ended(folder: Path) -> None:
    """By itself: its executor always has something to read."""
    *_, failed = run_job(Scripted(folder), jobs("chat")[0], timeout_s=0.2)
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.again) == ("exceeded --trial-timeout of 0.2 s", True)


def test_reports_arrive_while_the_evaluation_runs(executor: Executor, folder: Path) -> None:
    [job] = jobs("patient")
    executor.submit(job)
    assert isinstance(executor.wait(), Progress)
    (folder / "go on").touch()
    assert isinstance(executor.wait(), Progress)
    assert isinstance(executor.wait(), Finished)
    (folder / "go on").unlink()


def test_as_many_jobs_run_at_once_as_there_are_workers(executor: Executor) -> None:
    pids: set[float] = set()
    while len(pids) < executor.workers:  # those that were killed have been replaced, but have to start
        pids |= {end.metrics["pid"] for end in ends(run(executor, jobs("well", "well"))).values()}  # type: ignore[union-attr]
    ended = ends(run(executor, jobs(*["crowd"] * 6)))
    crowds = [end.metrics["crowd"] for end in ended.values() if isinstance(end, Finished)]
    assert len(crowds) == 6
    assert max(crowds) == executor.workers


def test_a_worker_ends_with_its_parent_in_the_middle_of_an_evaluation(folder: Path) -> None:
    executor = ProcessExecutor(Scripted(folder), 1)
    executor.submit(jobs("hang")[0])
    assert isinstance(executor.wait(), Progress)
    [worker] = executor._pool
    worker.connection.close()  # as it is when the parent is killed
    assert worker.process.wait(timeout=10) == 0


class Unreadable:
    def __reduce__(self) -> Any:
        return int, ("not a number",)


def test_a_worker_that_cannot_read_its_job_ends(folder: Path) -> None:
    executor = ProcessExecutor(Scripted(folder), 1)
    executor.submit(jobs("well")[0])
    assert isinstance(executor.wait(), Progress)
    [worker] = executor._pool
    worker.connection.send(Unreadable())
    assert worker.process.wait(timeout=10) == 1
    executor.close()


def judge(number: int, told: Sequence[Mapping[int, float]]) -> Judge:
    """Compares with trials that had reported `told`; is asked after 1 and 3 of 9 steps."""
    posed = Problem(space())
    pruning = make_pruning("asha", posed, Steps(), "accuracy")
    assert pruning is not None
    assert pruning.rungs == Scripted.rungs
    for reported in told:
        pruning.tell(reported, 1.0)
    return pruning.judge(number)


class Steps(Evaluator):
    directions: ClassVar[Mapping[str, Direction]] = {"accuracy": "maximize"}
    steps = 9

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        return iter(())

    def describe(self) -> dict[str, Any]:
        return {"evaluator": "steps"}


def test_a_job_is_stopped_where_its_judge_says_so(executor: Executor) -> None:
    """At the first rung, at the second, and not at all; each alone among jobs that no judge looks at."""
    far, near = {1: 2.0, 3: 2.0}, {1: -1.0, 3: 1.0}
    work = [
        dataclasses.replace(job, judge=judged)
        for job, judged in zip(
            jobs("slow", "well", "slow", "slow", "slow"),
            (judge(1, [far]), None, judge(2, [near]), judge(3, []), None),
            strict=True,
        )
    ]
    events = run(executor, work)
    steps = [sum(isinstance(event, Progress) and event.key == job.key for event in events) for job in work]
    assert steps == [1, 2, 3, 9, 9]
    shares = {key: (end.share, [*end.reported]) for key, end in ends(events).items() if isinstance(end, Finished)}
    assert shares == {0: (1 / 9, [1]), 1: (1, []), 2: (3 / 9, [1, 3]), 3: (1, [1, 3]), 4: (1, [])}
    for key, end in ends(events).items():
        assert isinstance(end, Finished)
        assert (end.metrics == {}) == (key in (0, 2))
    assert all(isinstance(end, Finished) for end in ends(run(executor, jobs("well", "well"))).values())


@pytest.mark.parametrize("how", ["raise", "memory", "die"])
def test_another_try_gives_what_the_first_would_have_given(executor: Executor, how: str) -> None:
    if how == "die" and isinstance(executor, InlineExecutor):
        pytest.skip("the inline executor dies with its process")
    work = jobs(how, "well", "well", first_time_only=True)
    events = run(Retrying(executor, 1), work)
    for job in work:
        own = [event for event in events if event.key == job.key]
        assert [type(event) for event in own] == [Progress, Progress, Finished]
        assert [event.report.step for event in own if isinstance(event, Progress)] == [1, 2]
        assert own[-1].metrics["accuracy"] == score_of(job.architecture.arch_id, job.seed)  # type: ignore[union-attr]


def test_tries_are_limited_and_counted(executor: Executor) -> None:
    ended = ends(run(Retrying(executor, 2), jobs("raise", "fail", "well")))
    assert {end.reason for end in ended.values() if isinstance(end, Failed)} == {
        "failed 3 times, at last: KeyError: 'told to raise'",
        "told to fail",
    }
    assert isinstance(ended[2], Finished)


def test_only_the_evaluation_counts_against_the_limit(make: Make) -> None:
    """Then closing ends the worker."""
    executor = make(1, 1.0)
    if isinstance(executor, InlineExecutor):
        pytest.skip("the inline executor has no workers")
    started = time.monotonic()
    [end] = ends(run(executor, jobs("well"))).values()
    assert isinstance(end, Finished)
    assert time.monotonic() - started > 1  # loading PyTorch alone takes longer
    executor.submit(jobs("patient")[0])
    event = executor.wait()
    assert isinstance(event, Progress)
    executor.close()
    executor.close()  # once more does no harm
    gone(int(event.report.metrics["pid"]))


def gone(pid: int) -> None:
    """Wait until there is no such process."""
    limit = time.monotonic() + 10
    with contextlib.suppress(FileNotFoundError):
        while Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] != "Z":
            assert time.monotonic() < limit
            time.sleep(0.05)


class Flaky(Executor):
    """Fails twice before each success; each try takes a second. Notes what it is given."""

    workers = 1

    def __init__(self) -> None:
        self.given: list[int] = []

    def submit(self, job: Job) -> None:
        self.given.append(job.key)

    def wait(self) -> Event:
        key = self.given[-1]
        return Finished(key, {}, 1.0) if self.given.count(key) == 3 else Failed(key, "flaky", 1.0, again=True)

    def close(self) -> None:
        self.given.clear()


def test_tries_follow_one_another_and_all_their_time_counts() -> None:
    flaky = Flaky()
    ended = ends(run(Retrying(flaky, 2), jobs("well", "well")))
    assert flaky.given == [0, 0, 0, 1, 1, 1]
    assert [end.seconds for end in ended.values()] == [3.0, 3.0]
