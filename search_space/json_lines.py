"""Files with a JSON object on each line: what has been appended survives whatever happens to the process."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search_space.documents import write_whole


def append_line(path: Path, plain: Mapping[str, Any]) -> None:
    """Add an object; it is on the disk when this returns."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(plain, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[Any]:
    """All objects, none if there is no file; a last line that a killed process left half written is cut off.

    Raises `ValueError` for what is not JSON.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_whole(path, whole)
    return [json.loads(line) for line in whole.splitlines()]
