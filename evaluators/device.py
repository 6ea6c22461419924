"""On what to train, and in which precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from search_space import InputError
from search_space.errors import short


def choose_device(name: str = "auto") -> torch.device:
    """`auto`: CUDA if there is one, else Apple's MPS, else the CPU. Raises `InputError` for one that is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except Exception as error:  # each back end has errors of its own for not being there
        remedy = "use auto, cpu, cuda, cuda:N or mps"
        raise InputError(
            f"the device cannot be used: {short(str(error))}", name, where="--device", remedy=remedy
        ) from None
    if device.type == "meta":
        raise InputError(
            "the meta device computes nothing", name, where="--device", remedy="use auto, cpu, cuda or mps"
        )
    return device


def amp_dtype(device: torch.device) -> torch.dtype | None:
    """The reduced precision that helps on this device, or None.

    CUDA: bfloat16 where the hardware has it, else float16. MPS and CPU: none (on the CPU it was measured to be slower).
    """
    if device.type != "cuda":
        return None
    # Not `torch.cuda.is_bf16_supported`, which counts emulation, and asks the current device.
    native = torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if native else torch.float16


@contextlib.contextmanager
def fork_rng(device: torch.device) -> Iterator[None]:
    """What is drawn inside leaves PyTorch's generators as they were, on the CPU and on the device."""
    apple = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        if apple is not None:
            torch.mps.set_rng_state(apple)


def autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Automatic mixed precision where it helps, else nothing."""
    dtype = amp_dtype(device)
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
