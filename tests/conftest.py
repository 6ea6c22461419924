from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from search_space import Architecture

sys.path.insert(0, str(Path(__file__).parent))

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """The suite runs a process for each core already."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def cifar10_small() -> str:
    """Specification of the shared CIFAR-10 part, where it is at hand."""
    file = SHARED_DATA / "cifar10-small" / "cifar10_10k_2k.npz"
    if not file.exists():
        pytest.skip(f"needs {file.name}, which the project does not ship")
    return f"npz:{file}"


@pytest.fixture(scope="session")
def nasbench_macro() -> Path:
    """The table of NAS-Bench-Macro, where it is at hand."""
    file = SHARED_DATA / "nas-bench-macro" / "nas-bench-macro_cifar10.json"
    if not file.exists():
        pytest.skip(f"needs {file.name}, which the project does not ship")
    return file


@pytest.fixture
def four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the tests run, two threads may be asked for, and five may not."""
    monkeypatch.setattr("latency.runtimes.os.cpu_count", lambda: 4)


@pytest.fixture(scope="session")
def network() -> Architecture:
    """A real network, small enough to be run in a test."""
    from search_space import load_architecture

    return load_architecture("mobilenetv3-small").replace(resolution=96)
