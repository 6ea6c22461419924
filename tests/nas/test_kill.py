"""A search that is killed, for real, and taken up again ends as the unbroken one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import SMALL_SPACE, nas

BUDGET = 10


def start(folder: Path, run: str) -> subprocess.Popen[str]:
    (folder / "small.yaml").write_text(SMALL_SPACE)
    arguments = ["search", "--space", "small.yaml", "--budget", str(BUDGET), "--out", run, "--seed", "4"]
    return subprocess.Popen(
        [sys.executable, "-c", "from nas.cli import main; main()", *arguments, "--workers", "2"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def course(run: Path) -> list[tuple[Any, ...]]:
    rows = [json.loads(line) for line in (run / "journal.log").read_text().splitlines()]
    return [(row["params"], row["value"], row["state"]) for row in rows if "params" in row]


def wait_for(run: Path, trials: int) -> None:
    journal = run / "journal.log"
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        if journal.exists() and journal.read_text().count('"params"') >= trials:
            return
        time.sleep(0.05)
    raise AssertionError(f"no {trials} trials in two minutes")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    folder = tmp_path_factory.mktemp("unbroken")
    assert start(folder, "run").wait(240) == 0
    return course(folder / "run")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_resumed_equals_unbroken(how: signal.Signals, unbroken: list[tuple[Any, ...]], tmp_path: Path) -> None:
    process = start(tmp_path, "run")
    wait_for(tmp_path / "run", 3)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    if how != signal.SIGKILL:
        assert process.returncode == 1
        assert "nas resume run" in errors
    assert len(course(tmp_path / "run")) < BUDGET
    done = nas("resume", "run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert course(tmp_path / "run") == unbroken
    assert json.loads(done.stdout)["counts"]["complete"] == BUDGET
