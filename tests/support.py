"""What several tests need: a small space, an evaluator that needs no training, a way to run the command line."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from evaluators import Direction, EvaluationFailed, Evaluator, Report
from latency.runtimes import Runtime
from search_space import Architecture, SearchSpace, count_cost
from search_space.documents import parse_document
from search_space.space_file import parse_space

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


def space(text: str = SMALL_SPACE) -> SearchSpace:
    return parse_space(parse_document(text, "space.yaml"))


@dataclass
class FakeEvaluator(Evaluator):
    """Scores by counted cost and a little noise of the seed; can be told to fail, return NaN, be slow or die."""

    directions: ClassVar[Mapping[str, Direction]] = {"accuracy": "maximize", "loss": "minimize"}
    seconds: float = 0.0
    misbehave: dict[int, str] = field(default_factory=dict)
    """Number of the evaluation in this process -> `fail`, `raise`, `nan`, `die` or `silent`."""
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
            score = score_of(architecture, seed)
            yield Report(step, 2, {"accuracy": float("nan") if how == "nan" else score, "loss": 1 - score})

    def describe(self) -> dict[str, Any]:
        return {"evaluator": "fake"}


def score_of(architecture: Architecture, seed: int) -> float:
    noise = hashlib.sha256(f"{seed}{architecture.arch_id}".encode()).digest()[0] / 2560
    return min(0.9, count_cost(architecture).params / 40_000) + noise


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
