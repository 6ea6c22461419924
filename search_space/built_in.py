"""The data that comes with the package: reference networks and search-space presets, by name."""

from __future__ import annotations

import functools
import os
from importlib.resources import files
from pathlib import Path

from search_space.documents import Document, read_document
from search_space.errors import InputError, did_you_mean


@functools.cache
def built_in(folder: str) -> dict[str, Path]:
    """Name -> path of the YAML files in a data folder of this package: `references` or `spaces`."""
    root = Path(str(files("search_space").joinpath(folder)))
    return {path.stem: path for path in sorted(root.glob("*.yaml"))}


def find_document(folder: str, name_or_path: str | os.PathLike[str]) -> Document:
    """The built-in document of this name, or else the file at this path."""
    known = built_in(folder)
    if isinstance(name_or_path, str) and name_or_path in known:
        return read_document(known[name_or_path])
    path = os.fspath(name_or_path)
    if not Path(path).suffix and not os.path.lexists(path):
        raise InputError(f"{folder} hold no such name, nor is it a file", path, remedy=did_you_mean(path, known))
    return read_document(path)
