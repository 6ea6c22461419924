"""Which latency table a search uses: a file, or one built for this device and space and kept for the next time."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from latency import LatencyTable, build_table, conditions_here, load_table
from latency.build import request
from latency.measure import OnProgress
from search_space import InputError, SearchSpace

AUTO = "auto"


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/nas/latency`, by default under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nas" / "latency"


def find_table(
    latency: str, space: SearchSpace, *, device: str = "cpu", on_build: OnProgress = lambda done, total: None
) -> tuple[LatencyTable, Path]:
    """The table that `--latency` names, and where it lies.

    `auto`: built at first for this space, device and software, one thread, PyTorch; later the same one. An unfinished
    build is gone on with. Raises `InputError` for a file that is not a table.
    """
    if latency != AUTO:
        return load_table(latency), Path(latency)
    wanted = request(space, conditions_here(device=device))
    digest = hashlib.sha256(json.dumps(wanted.to_dict(), sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder() / f"{Path(space.name).name}-{digest}.json"
    if not path.exists():
        return build_table(wanted, path, on_progress=on_build), path
    try:
        return load_table(path), path
    except InputError as error:
        remedy = "remove the file, and it is built again"
        raise InputError(error.rule, where=error.where or str(path), remedy=remedy) from None
