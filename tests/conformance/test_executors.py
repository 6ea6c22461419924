"""What every executor owes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from support import FakeEvaluator, score_of, space

from evaluators import Evaluator
from nas.executors import Executor, Failed, Finished, InlineExecutor, Job, ProcessExecutor, Progress

Make = Callable[[Evaluator], Executor]


@pytest.fixture(params=["inline", "processes"])
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    if request.param == "inline":
        return InlineExecutor
    monkeypatch.syspath_prepend(Path(__file__).parents[1])  # workers must find `support`
    return lambda evaluator: ProcessExecutor(evaluator, 2, tmp_path / "workers.log")


def jobs(count: int) -> list[Job]:
    searched, rng = space(), np.random.default_rng(0)
    return [Job(key, searched.decode(searched.sample(rng)), seed=7) for key in range(count)]


def run(executor: Executor, count: int) -> Iterator[Finished | Failed | Progress]:
    with closing(executor):
        for job in jobs(count):
            executor.submit(job)
        ended = 0
        while ended < count:
            event = executor.wait()
            ended += isinstance(event, (Finished, Failed))
            yield event


def test_every_job_reports_and_ends_once(make: Make) -> None:
    events = list(run(make(FakeEvaluator()), 6))
    assert sorted(event.key for event in events if isinstance(event, Finished)) == list(range(6))
    for key in range(6):
        own = [event for event in events if event.key == key]
        assert [type(event) for event in own] == [Progress, Progress, Finished]


def test_metrics_are_those_of_the_evaluator(make: Make) -> None:
    finished = {event.key: event.metrics for event in run(make(FakeEvaluator()), 4) if isinstance(event, Finished)}
    assert {key: m["accuracy"] for key, m in finished.items()} == {
        job.key: score_of(job.architecture, job.seed) for job in jobs(4)
    }


@pytest.mark.parametrize(
    ("how", "reason"),
    [("fail", "told to fail"), ("raise", "KeyError: 'told to raise'"), ("silent", "the evaluator reported nothing")],
)
def test_what_goes_wrong_in_an_evaluation_is_a_reason(make: Make, how: str, reason: str) -> None:
    events = [event for event in run(make(FakeEvaluator(misbehave={0: how})), 5) if not isinstance(event, Progress)]
    failed = [event for event in events if isinstance(event, Failed)]
    assert {event.reason for event in failed} == {reason}
    assert len(events) == 5


def test_a_worker_that_dies_costs_its_job_only(make: Make) -> None:
    executor = make(FakeEvaluator(misbehave={1: "die"}))
    if isinstance(executor, InlineExecutor):
        pytest.skip("the inline executor dies with its process")
    events = [event for event in run(executor, 6) if not isinstance(event, Progress)]
    failed = [event for event in events if isinstance(event, Failed)]
    assert len(events) == 6
    assert failed
    assert all("killed by signal 9" in event.reason for event in failed)
    assert any(isinstance(event, Finished) for event in events)
