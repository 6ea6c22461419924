"""What `import search_space` brings along, and what it offers."""

from __future__ import annotations

import subprocess
import sys

import search_space


def test_import_pulls_in_no_heavy_packages() -> None:
    code = "import sys, search_space; print(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    loaded = set(run.stdout.split())
    assert "torch" in loaded
    assert not loaded & {"ray", "optuna", "torchvision", "timm", "nas", "searchers", "evaluators", "latency"}


def test_exported_names_exist_and_are_sorted() -> None:
    assert search_space.__all__ == sorted(search_space.__all__)
    assert all(hasattr(search_space, name) for name in search_space.__all__)
    assert len(set(search_space.__all__)) == len(search_space.__all__)
