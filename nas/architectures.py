"""What users may name an architecture by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nas.runs import newest_run
from search_space import Architecture, InputError, load_architecture

if TYPE_CHECKING:
    from nas.importing import Network


def resolve(arch: str | None) -> Architecture:
    """A YAML/JSON file, a run folder (its best), `RUN/ARCH_ID`, a built-in reference, or `timm:NAME`.

    None means the newest run.

    Raises `InputError`, also for networks from elsewhere that no architecture can express.
    """
    source, name = _split(arch)
    if source == "timm":
        from nas.importing import import_timm

        return import_timm(name)
    if source:
        rule = "a network of torchvision's is no architecture"
        raise InputError(rule, arch, remedy="use a built-in reference or timm:NAME; nas compare takes it as it is")
    path = newest_run() if arch is None else Path(arch)
    if path.name != arch and not (path.suffix or path.exists()) and (path.parent / "run.yaml").is_file():
        from nas.recorded import recorded_network

        return recorded_network(path.parent, path.name)
    if path.is_dir():
        best = path / "best.yaml"
        if not best.exists():
            rule = "the folder has no best.yaml: it is not a run, or nothing has been found yet"
            raise InputError(rule, str(path), remedy="name a run folder with a finished trial")
        return load_architecture(best)
    return load_architecture(str(path) if arch is None else arch)


def resolve_network(arch: str | None) -> Network:
    """The same, and networks from elsewhere (`torchvision:NAME`, `timm:NAME`) as they are. Raises `InputError`."""
    source, name = _split(arch)
    if not source:
        return resolve(arch)
    from nas.importing import from_source

    return from_source(source, name)


def _split(arch: str | None) -> tuple[str, str]:
    """Source and name of `SOURCE:NAME`; no source for anything else."""
    source, colon, name = (arch or "").partition(":")
    return (source, name) if colon and source in ("timm", "torchvision") else ("", "")
