"""How much memory a network would take, found out without taking it."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from search_space.architecture import Architecture
from search_space.errors import InputError
from search_space.memory import peak_elements
from search_space.parts import parts

_BYTES_PER_ELEMENT = 4
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def footprint_bytes(architecture: Architecture) -> tuple[int, int]:
    """float32 weights, and feature maps of one image at their peak, in bytes. Nothing is allocated."""
    weights = peak = 0
    counted: dict[object, tuple[int, int]] = {}
    for shape in parts(architecture):
        if shape not in counted:
            with torch.device("meta"):
                module = shape.build().eval().requires_grad_(False)
                elements, _ = peak_elements(module, (shape.in_channels, shape.size, shape.size))
            counted[shape] = sum(p.numel() for p in module.parameters()), elements.alone
        weights += counted[shape][0]
        peak = max(peak, counted[shape][1])
    return weights * _BYTES_PER_ELEMENT, peak * _BYTES_PER_ELEMENT


def memory_here_bytes() -> int:
    """The memory of this machine, or as much of it as the container may use."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(physical, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no such limit
        return physical


def refuse_too_large(architecture: Architecture, where: str = "") -> None:
    """Raise `InputError`, with the figure, for a network that would take more than half of this machine's memory."""
    weights, maps = footprint_bytes(architecture)
    limit = memory_here_bytes() / 2
    if weights + maps > limit:
        rule = f"a network may take half of this machine's memory, {limit / 1e9:.1f} GB"
        value = f"{weights / 1e9:.1f} GB of weights and {maps / 1e9:.1f} GB of feature maps"
        raise InputError(f"{rule}: this one has {value}", where=where, remedy="use a smaller phi")
