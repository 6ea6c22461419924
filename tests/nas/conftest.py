from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import warm


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Starts a process that searches, or goes on; `multiprocessing` keeps the one that it is forked from."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])]))
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["warm"])

    def begin(*arguments: Any) -> Any:
        process = server.Process(target=warm.go_on, args=arguments)
        process.start()
        return process

    return begin
