"""What several tests need: a small space, an evaluator that needs no training, a way to run the command line."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from evaluators import Direction, EvaluationFailed, Evaluator, Report
from latency.runtimes import Runtime
from search_space import Architecture, Block, SearchSpace, count_cost
from search_space.architecture import group_blocks
from search_space.component import component_types, from_dict
from search_space.documents import parse_document
from search_space.head import PooledHead
from search_space.space_file import parse_space
from search_space.stem import ConvStem

if TYPE_CHECKING:  # worker processes load this file, and need not wait for Optuna
    import pytest
    from optuna.samplers import BaseSampler
    from optuna.study import Study

    from nas.executors import Executor
    from nas.known import Known
    from nas.loop import SearchLoop
    from nas.state import State
    from searchers import Problem

SMALL_SPACE = """\
schema_version: 1
name: small
resolution: {choice: [16, 32]}
stem: {type: conv, out_channels: 8, stride: 2, kernel_size: 3}
stages:
- {type: mbconv, num_layers: {choice: [1, 2]}, out_channels: {choice: [8, 16]}, stride: 2,
   kernel_size: {choice: [3, 5], per: block}, expand_ratio: {choice: [2, 3], per: block}}
- {type: {choice: [mbconv, fused_mbconv]}, num_layers: {choice: [1, 2]}, out_channels: 16, stride: 1,
   kernel_size: {choice: [3, 5]}, expand_ratio: 2, se_ratio: {choice: [0, 0.25]}}
head: {type: pooled, conv_channels: 32}
"""
# Few enough networks that a search runs out of them: 2 × 2.
TINY_SPACE = """\
schema_version: 1
name: tiny
resolution: 16
stem: {type: conv, out_channels: 8, stride: 2, kernel_size: 3}
stages:
- {type: mbconv, out_channels: 8, stride: 2, kernel_size: {choice: [3, 5]}, expand_ratio: {choice: [1, 2]}}
head: {type: pooled, conv_channels: 16}
"""
# Nothing to search: one network.
NO_CHOICE = """\
schema_version: 1
name: fixed
resolution: 16
stem: {type: conv, out_channels: 8, stride: 2, kernel_size: 3}
stages:
- {type: mbconv, num_layers: 1, out_channels: 8, stride: 2, kernel_size: 3, expand_ratio: 2}
head: {type: pooled, conv_channels: 16}
"""


def of_all_types() -> Architecture:
    """A small network with a block of every registered type, first as it changes shapes, then as it keeps them."""
    blocks = []
    for index, name in enumerate(component_types("block")):
        fields = {"type": name, "out_channels": (16, 24)[index % 2]}
        blocks += [from_dict("block", {**fields, "stride": 2 if index < 2 else 1}), from_dict("block", fields)]
    stages = group_blocks(8, cast("list[Block]", blocks))
    return Architecture("all", ConvStem(out_channels=8), stages, PooledHead(), resolution=32, num_classes=10)


def space(text: str = SMALL_SPACE) -> SearchSpace:
    return parse_space(parse_document(text, "space.yaml"))


@dataclass
class FakeEvaluator(Evaluator):
    """Scores by counted cost and a little noise of the seed; can be told to fail, return NaN, be slow or die."""

    directions: ClassVar[Mapping[str, Direction]] = {"accuracy": "maximize", "loss": "minimize"}
    seconds: float = 0.0
    misbehave: dict[int, str] = field(default_factory=dict)
    """Number of the evaluation in this process -> `fail`, `raise`, `nan`, `die` or `silent`."""
    noisy: bool = True
    count: int = 0

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        how = self.misbehave.get(self.count, "")
        self.count += 1
        if how == "fail":
            raise EvaluationFailed("told to fail")
        if how == "raise":
            raise KeyError("told to raise")
        if how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "silent":
            return
        for step in (1, 2):
            time.sleep(self.seconds / 2)
            score = score_of(architecture, seed if self.noisy else 0)
            yield Report(step, 2, {"accuracy": float("nan") if how == "nan" else score, "loss": 1 - score})

    def describe(self) -> dict[str, Any]:
        return {"evaluator": "fake", "file": "made up"}


@dataclass
class LearningEvaluator(FakeEvaluator):
    """The same scores, reached step by step, each network with a pace of its own; tells them where it is asked to."""

    epochs: int = 9
    deceive: bool = False
    """Whether what is seen before the end says the opposite."""

    @property
    def steps(self) -> int:
        return self.epochs

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        for last in super().evaluate(architecture, seed=seed):
            final = last.metrics["accuracy"]
        pace = 3 + hashlib.sha256(architecture.arch_id.encode()).digest()[0] / 256
        for step in range(1, self.epochs + 1):
            time.sleep(self.seconds / self.epochs)
            learnt = final * (1 - math.exp(-pace * step / self.epochs)) / (1 - math.exp(-pace))
            learnt = 1 - learnt if self.deceive and step < self.epochs else learnt
            told = {"accuracy": learnt, "loss": 1 - learnt} if step in (*self.rungs, self.epochs) else {}
            yield Report(step, self.epochs, told)


def score_of(architecture: Architecture, seed: int) -> float:
    noise = hashlib.sha256(f"{seed}{architecture.arch_id}".encode()).digest()[0] / 2560
    return min(0.9, math.log(count_cost(architecture).params / 17_000) / 1.5) + noise


def problem(
    searched: SearchSpace | None = None,
    objective: str = "accuracy",
    constraints: Sequence[str] = (),
    *,
    noisy: bool = True,
    target: str = "",
    start: Sequence[Architecture] = (),
    known: Known | None = None,
) -> Problem:
    """A problem as a request to the command line poses it, by the scores of `FakeEvaluator`."""
    from nas.known import Known
    from nas.session import Request
    from nas.settings import Settings

    searched = searched or space()
    settings = Settings(budget=1, objective=objective, constraints=tuple(constraints), target=target)
    first = tuple(searched.encode(architecture) for architecture in start)
    return Request(settings, searched, FakeEvaluator(noisy=noisy), known or Known(), first).problem()


def metrics_of(posed: Problem, architecture: Architecture, look: int = 0) -> dict[str, float]:
    """What `FakeEvaluator` and counting say of a network."""
    score = score_of(architecture, look if posed.noisy else 0)
    return {"accuracy": score, "loss": 1 - score, **posed.known(architecture)}


def propose(
    sampler: BaseSampler,
    posed: Problem,
    count: int,
    *,
    study: Study | None = None,
    metrics_of: Callable[[Problem, Architecture, int], Mapping[str, float]] = metrics_of,
) -> list[Architecture]:
    """Ask and tell up to `count` times, without a search loop; the networks in their order.

    With `study`, go on from there.
    """
    import optuna

    from nas.constraints import parse_constraint
    from searchers import NothingNew, distributions

    directions = [objective.direction for objective in posed.objectives]
    study = study or optuna.create_study(directions=directions)
    study.sampler = sampler
    told = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    proposed = [posed.space.decode(posed.space.genotype(trial.params)) for trial in told]
    before = len(proposed)
    for _ in range(count):
        try:
            trial = study.ask(distributions(posed.space))
        except NothingNew:
            study.tell(len(study.trials) - 1, state=optuna.trial.TrialState.FAIL)
            break
        architecture = posed.space.decode(posed.space.genotype(trial.params))
        metrics = metrics_of(posed, architecture, proposed.count(architecture))
        for limit in posed.learned_limits:
            trial.set_constraint(limit, parse_constraint(limit).excess(metrics))
        study.tell(trial, [metrics[objective.metric] for objective in posed.objectives])
        proposed.append(architecture)
    return proposed[before:]


def search_loop(
    folder: Path,
    *,
    searched: SearchSpace | None = None,
    searcher: str = "evolution",
    budget: int = 30,
    objective: str = "accuracy",
    constraints: Sequence[str] = (),
    target: str = "",
    target_weight: float = -0.07,
    start: Sequence[Architecture] = (),
    known: Known | None = None,
    evaluator: FakeEvaluator | None = None,
    executor: Callable[[FakeEvaluator], Executor] | None = None,
    pruner: str = "none",
    window: int = 1,
    passes: Callable[[Architecture], bool] = lambda architecture: True,
    on_change: Callable[[State], None] = lambda state: None,
) -> SearchLoop:
    """A search with its record in `folder`, going on with what is there."""
    from nas.constraints import parse_constraint
    from nas.executors import InlineExecutor
    from nas.known import Known
    from nas.loop import SearchLoop
    from nas.pruning import make_pruning
    from nas.record import TrialLog
    from nas.target import parse_target
    from searchers import distributions, make_sampler

    evaluator, known = evaluator or FakeEvaluator(), known or Known()
    posed = problem(searched, objective, constraints, noisy=evaluator.noisy, target=target, start=start, known=known)
    pruning = make_pruning(pruner, posed, evaluator, "accuracy" if target else objective)
    evaluator.rungs = pruning.rungs if pruning is not None else ()
    folder.mkdir(exist_ok=True)
    log = TrialLog(folder / "journal.log", [one.direction for one in posed.objectives], distributions(posed.space))
    return SearchLoop(
        posed,
        make_sampler(searcher, posed, 0),
        (executor or InlineExecutor)(evaluator),
        log,
        budget=budget,
        seed=0,
        constraints=[parse_constraint(text) for text in constraints],
        target=parse_target(target, target_weight) if target else None,
        pruning=pruning,
        passes=passes,
        recorded=log.read(known.names),
        window=window,
        on_change=on_change,
    )


def trials(folder: Path) -> list[dict[str, Any]]:
    """The trials of a run's journal, as it has them, without what time and place have put there.

    A last line that is being written does not count.
    """
    journal = folder / "journal.log"
    lines = journal.read_text().splitlines(keepends=True) if journal.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    kept = [{k: v for k, v in row.items() if not k.startswith("datetime")} for row in rows if "params" in row]
    for row in kept:
        row["user_attrs"].pop("seconds")
        row.pop("worker_id")
    return kept


def nas(*arguments: str | Path, cwd: Path | None = None, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [Path(sys.executable).with_name("nas"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout)


def part_times(runtime: Runtime, architecture: Architecture, runs: int = 3) -> np.ndarray[Any, Any]:
    with runtime.session():
        opened = runtime.open_parts(architecture)
        for _ in range(runs):
            opened.run()
        return opened.times_ms()


def whole_times(runtime: Runtime, architecture: Architecture, runs: int = 3) -> list[float]:
    with runtime.session():
        opened = runtime.open(architecture)
        return [opened.run() for _ in range(runs)]


def one_line_error(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed: nothing but one line that says what is wrong."""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err
