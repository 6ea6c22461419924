from __future__ import annotations

import sys
from pathlib import Path

import pytest

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
