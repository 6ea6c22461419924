"""Formats in which an architecture leaves, one file each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nas.export.yaml import export_yaml
from search_space import Architecture, InputError
from search_space.errors import did_you_mean

Exporter = Callable[[Architecture, Path], Path]
"""Writes an architecture into a folder; returns the file."""

EXPORTERS: dict[str, Exporter] = {"yaml": export_yaml}


def exporter(name: str) -> Exporter:
    """The exporter of this name; raises `InputError` for an unknown one."""
    if name not in EXPORTERS:
        raise InputError("--to must be a known format", name, remedy=did_you_mean(name, EXPORTERS))
    return EXPORTERS[name]
