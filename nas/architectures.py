"""What users may name an architecture by."""

from __future__ import annotations

from pathlib import Path

from nas.runs import newest_run
from search_space import Architecture, InputError, load_architecture


def resolve(arch: str | None) -> Architecture:
    """A YAML/JSON file, a run folder (its best), a built-in reference; None means the newest run under `runs/`."""
    path = newest_run() if arch is None else Path(arch)
    if path.is_dir():
        best = path / "best.yaml"
        if not best.exists():
            rule = "the folder has no best.yaml: it is not a run, or nothing has been found yet"
            raise InputError(rule, str(path), remedy="name a run folder with a finished trial")
        return load_architecture(best)
    return load_architecture(str(path) if arch is None else arch)
