"""Values that modules hold, as expressions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from nas.export.source.code import cannot
from nas.export.source.tree import Argument, Call, Literal, Node, render

_MAX_WRITTEN = 4_096


def plain(value: Any, whose: str) -> Node:
    """A number, text, tuple, list, mapping or dtype. Raises `InputError` for anything else."""
    if value is None or isinstance(value, bool | int | str):
        return Literal(repr(value))
    if isinstance(value, float):
        return Literal(repr(value) if math.isfinite(value) else f'float("{value}")')
    if isinstance(value, tuple | list):
        items = tuple(Argument("", plain(item, whose)) for item in value)
        return Call("", items, "()" if isinstance(value, tuple) else "[]")
    if isinstance(value, dict):
        texts = (f"{render(plain(key, whose))}: {render(plain(item, whose))}" for key, item in value.items())
        return Literal("{" + ", ".join(texts) + "}")
    if isinstance(value, torch.dtype):
        return Literal(str(value))
    raise cannot(whose, f"it is a {type(value).__name__}")


def parameter(value: Tensor, whose: str) -> Node:
    """`nn.Parameter` of the same shape: filled if all its elements are equal, else drawn with their mean and spread."""
    size = plain(tuple(value.shape), whose)
    if is_constant(value):
        data = filled(value, whose)
    else:
        moments = [float(one) for one in (value.detach().float().mean(), value.detach().float().std())]
        if not all(map(math.isfinite, moments)):
            raise cannot(whose, "nothing gives this parameter a value")
        mean, spread = (Literal(f"{one:.2g}") for one in moments)
        data = Call("torch.normal", (Argument("mean", mean), Argument("std", spread), Argument("size", size)))
    frozen = () if value.requires_grad else (Argument("requires_grad", Literal("False"), False),)
    return Call("nn.Parameter", (Argument("data", data), *frozen))


def buffer(value: Tensor, whose: str) -> Node:
    """The tensor itself, which no weights file may hold. Raises `InputError` if it is too large to be written out."""
    if is_constant(value):
        return filled(value, whose)
    if value.dim() and len(value) > 1 and bool((value == value[:1]).all()):
        dims = plain((len(value), *(1,) * (value.dim() - 1)), whose)
        return Call("torch.tile", (Argument("input", buffer(value[:1], whose)), Argument("dims", dims)))
    if value.numel() > _MAX_WRITTEN:
        raise cannot(whose, f"it is a buffer of {value.numel():,} numbers")
    return Call(
        "torch.tensor",
        (Argument("data", plain(value.tolist(), whose)), Argument("dtype", Literal(str(value.dtype)), False)),
    )


def is_constant(value: Tensor) -> bool:
    """Whether all elements are equal."""
    return value.numel() > 0 and bool((value == value.flatten()[0]).all())


def filled(value: Tensor, whose: str) -> Node:
    """`torch.full` of a tensor whose elements are all equal."""
    first = value.detach().flatten()[0]
    # float32 in its own words: 0.1, not 0.10000000149011612
    number = float(str(first.numpy())) if first.dtype == torch.float32 else first.item()
    size, fill = Argument("size", plain(tuple(value.shape), whose)), Argument("fill_value", plain(number, whose))
    return Call("torch.full", (size, fill, Argument("dtype", Literal(str(value.dtype)), False, "torch.float32")))
