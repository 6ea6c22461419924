from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import warm

from nas.export.weights import write_weights
from search_space import build_model
from search_space.architecture_file import save_architecture


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


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    """The architecture file of a small network."""
    path = tmp_path / "tiny.yaml"
    save_architecture(tiny.tiny(), path)
    return path


@pytest.fixture
def tiny_weights(tmp_path: Path) -> Path:
    """Weights for it, other than the initial ones."""
    torch.manual_seed(5)
    path = tmp_path / "weights.safetensors"
    write_weights(path, build_model(tiny.tiny()).state_dict(), "")
    return path
