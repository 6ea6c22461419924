"""Loading back what was exported: `nas.load_model`."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import torch

from nas.export.weights import load_weights, read_weights
from search_space import Architecture, InputError, build_model, load_architecture
from search_space.network import Network

_ENDINGS = (".yaml", ".yml", ".json")


def load_model(path: str | os.PathLike[str], *, num_classes: int | None = None) -> Network:
    """The network of an export folder (or of one of its architecture files) with its weights, in eval mode.

    With another `num_classes` than the export's, the layers of the head that depend on it get initial weights, drawn
    from PyTorch's global generator, and a warning says so; all others keep theirs. A warning also says if the folder
    has no weights, so that all are initial ones. Raises `InputError` if there is no network, or the weights do not fit.
    """
    file = _architecture_file(Path(path))
    architecture = load_architecture(file)
    wanted = architecture if num_classes is None else architecture.replace(num_classes=num_classes)
    model = build_model(wanted)
    weights = file.with_suffix(".safetensors")
    if not weights.is_file():
        warnings.warn(f"there is no {weights}: the network has initial weights", stacklevel=2)
        return model.eval()
    state = read_weights(weights, "load_model")
    if wanted.num_classes != architecture.num_classes:
        renewed = _of_classes(architecture, wanted)
        fresh = model.state_dict()
        state.update({name: fresh[name] for name in renewed})
        said = f"{wanted.num_classes} classes instead of {architecture.num_classes}: {', '.join(renewed)} "
        warnings.warn(f"{said}{'has' if len(renewed) == 1 else 'have'} initial weights", stacklevel=2)
    load_weights(model, state, os.fspath(weights), "load_model")
    return model.eval()


def _of_classes(architecture: Architecture, wanted: Architecture) -> list[str]:
    """The tensors of the head that have other shapes for another number of classes."""
    with torch.device("meta"):
        old, new = (build_model(one).state_dict() for one in (architecture, wanted))
    return [name for name, tensor in new.items() if name not in old or old[name].shape != tensor.shape]


def _architecture_file(path: Path) -> Path:
    """The architecture file of a folder, or the file itself. Raises `InputError` unless it is one network."""
    if not path.is_dir():
        return path
    found: dict[str, Path] = {}
    files = [file for file in path.iterdir() if file.suffix in _ENDINGS]
    for file in sorted(files, key=lambda one: (_ENDINGS.index(one.suffix), one.name)):
        if file.stem not in found and _is_architecture(file):
            found[file.stem] = file
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        remedy = "name a folder that `nas export` wrote"
        raise InputError("the folder holds no architecture file", str(path), where="load_model", remedy=remedy)
    remedy = f"name one of {', '.join(file.name for file in found.values())}"
    raise InputError("the folder holds several networks", str(path), where="load_model", remedy=remedy)


def _is_architecture(file: Path) -> bool:
    try:
        load_architecture(file)
    except InputError:
        return False
    return True
