"""Weights of a network as a safetensors file, under the names of its own tensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from search_space import InputError


def read_weights(path: str | os.PathLike[str], where: str) -> dict[str, Tensor]:
    """Name -> tensor. Raises `InputError` if the file cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = os.fspath(path)
    try:
        return load_file(file)
    except SafetensorError as error:
        remedy = "write them with safetensors.torch.save_file(model.state_dict(), FILE)"
        raise InputError(f"not a safetensors file: {error}", file, where=where, remedy=remedy) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot read the weights: {reason}", file, where=where, remedy="check the path") from None


def write_weights(path: Path, state: Mapping[str, Tensor], arch_id: str) -> None:
    """Write name -> tensor; the file's metadata name the network."""
    from safetensors.torch import save

    held = {name: tensor.contiguous() for name, tensor in state.items()}
    # Not `save_file`, whose files only their owner may read.
    path.write_bytes(save(held, {"format": "pt", "arch_id": arch_id}))


def load_weights(model: nn.Module, state: Mapping[str, Tensor], file: str, where: str) -> None:
    """Copy the tensors of `file` into a network. Raises `InputError` for the first that does not fit."""
    wanted = model.state_dict()
    remedy = "use weights of this network, as its state_dict() has them"
    for name, tensor in wanted.items():
        if name not in state:
            raise InputError(f"the weights in {file} lack {name}", where=where, remedy=remedy)
        found = state[name]
        if found.shape != tensor.shape:
            rule = f"{name} must have the shape {list(tensor.shape)} in {file}"
            raise InputError(rule, list(found.shape), where=where, remedy=remedy)
        if found.is_floating_point() != tensor.is_floating_point():
            raise InputError(f"{name} must be {tensor.dtype} in {file}", str(found.dtype), where=where, remedy=remedy)
        if not torch.isfinite(found.float() if found.is_floating_point() else found).all():
            raise InputError(f"{name} must be finite in {file}", where=where, remedy="train it again")
    for name in state:
        if name not in wanted:
            raise InputError(f"{file} has a tensor that the network lacks", name, where=where, remedy=remedy)
    model.load_state_dict(dict(state))
