"""The architecture file itself."""

from __future__ import annotations

from pathlib import Path

from search_space import Architecture, save_architecture


def export_yaml(architecture: Architecture, folder: Path) -> Path:
    """Write `NAME.yaml`."""
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in architecture.name)
    path = folder / f"{stem}.yaml"
    save_architecture(architecture, path)
    return path
