"""Where run folders lie."""

from __future__ import annotations

import datetime
from pathlib import Path

from search_space import InputError

RUNS = Path("runs")


def default_path(space: str, folder: Path = RUNS) -> Path:
    """`runs/SPACE-DATE-TIME`, or the same in another folder, with a number behind it if that is taken."""
    stem = f"{Path(space).stem}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    candidates = [folder / stem, *(folder / f"{stem}-{number}" for number in range(2, 1000))]
    return next(path for path in candidates if not path.exists())


def newest_run() -> Path:
    """The run under `runs/` that was started last; raises `InputError` if there is none."""
    found = [path.parent for path in RUNS.glob("*/run.yaml")]
    if not found:
        remedy = "name an architecture, or start with `nas search`"
        raise InputError("there is no run yet under runs/", remedy=remedy)
    return max(found, key=lambda path: (path / "run.yaml").stat().st_mtime)
