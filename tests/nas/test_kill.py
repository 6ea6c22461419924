"""A search that is killed, for real, and taken up again ends as the unbroken one: nothing missing, nothing twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import SMALL_SPACE, nas, trials

from nas import api
from nas.cli import run as nas_here

assert api  # what `nas resume` needs is loaded before a search runs that must not end meanwhile
BUDGET = 12


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from nas.cli import main; main()", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def course(run: Path) -> list[tuple[Any, ...]]:
    rows = [json.loads(line) for line in (run / "journal.log").read_text().splitlines()]
    return [(row["params"], row["value"], row["state"]) for row in rows if "params" in row]


def wait_for(run: Path, count: int) -> None:
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        if len(trials(run)) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"no {count} trials in two minutes")


def test_resumed_equals_unbroken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.yaml").write_text(SMALL_SPACE)
    search = ["search", "--space", "small.yaml", "--budget", str(BUDGET), "--seed", "4", "--workers", "2"]
    search += ["--finalists", "0"]  # test_final_training.py kills searches while they are trained
    unbroken = start(tmp_path, *search, "--out", "unbroken")
    _, errors = unbroken.communicate(timeout=240)
    assert unbroken.returncode == 0, errors
    run, words, before = tmp_path / "run", [*search, "--out", "run"], 0
    for how in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        process = start(tmp_path, *words)
        wait_for(run, before + 1)
        assert nas_here(["resume", str(run)]) == 2
        refusal = capsys.readouterr().err
        assert refusal.startswith("error: another process is working on this run")
        assert refusal.count("\n") == 1
        process.send_signal(how)
        _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors
        if how != signal.SIGKILL:
            assert process.returncode == 1
            assert "nas resume run" in errors
        words, before = ["resume", "run"], len(course(run))
        assert before < BUDGET
    done = nas("resume", "run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert course(run) == course(tmp_path / "unbroken")
    assert json.loads(done.stdout)["counts"]["complete"] == BUDGET


# Many kills, of processes that are forked from one which has loaded PyTorch already.


def check_files(run: Path) -> None:
    for path in run.rglob("[!.]*.yaml"):
        assert yaml.safe_load(path.read_text())["schema_version"] == 1
    for path in run.rglob("[!.]*.json"):
        json.loads(path.read_text())


@pytest.mark.parametrize(
    ("searcher", "objective", "budget", "kills", "pruner"),
    [
        ("evolution", "accuracy,macs", 60, 20, "none"),
        ("predictor", "accuracy", 30, 10, "none"),
        ("predictor", "loss", 8, 10, "asha"),
        ("tpe", "accuracy", 40, 10, "none"),
        ("tpe", "accuracy", 10, 10, "hyperband"),
    ],
)
def test_killed_at_random_moments(
    searcher: str, objective: str, budget: int, kills: int, pruner: str, forked: Callable[..., Any], tmp_path: Path
) -> None:
    whole, run, rng = tmp_path / "whole", tmp_path / "run", random.Random(0)
    unbroken = forked(whole, searcher, objective, budget, 0, pruner)
    unbroken.join(200)
    assert unbroken.exitcode == 0
    expected = trials(whole)
    count = len(expected)
    assert count == budget if pruner == "none" else count > budget
    killed = 0
    while killed < kills:
        before = len(trials(run))
        process = forked(run, searcher, objective, budget, 0, pruner)
        if killed % 3 == 0:  # while it starts, replays, or ends
            process.join(rng.uniform(0, 0.5))
        else:  # while it searches
            wanted = min(count, before + rng.randint(1, 2 * count // kills))
            while process.is_alive() and len(trials(run)) < wanted:
                process.join(0.002)
            process.join(rng.uniform(0, 0.03))
        process.kill()
        process.join(60)
        killed += process.exitcode == -signal.SIGKILL
        now = trials(run)
        assert len(now) >= before
        assert now == expected[: len(now)]
        check_files(run)
    last = forked(run, searcher, objective, budget, 0, pruner)
    last.join(200)
    assert last.exitcode == 0
    assert trials(run) == expected
    check_files(run)
    for name in ("best.yaml", "networks.csv", "pareto.csv", "hypervolume.csv"):
        if (whole / name).exists():
            assert (run / name).read_text() == (whole / name).read_text().replace(str(whole), str(run))
    results = [json.loads((folder / "summary.json").read_text()) for folder in (whole, run)]
    assert results[0]["counts"] == results[1]["counts"]
    assert results[0]["best"] == results[1]["best"]
    assert results[0]["full_training_equivalents"] == results[1]["full_training_equivalents"]
