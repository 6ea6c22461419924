"""Runtimes, one file each, behind one registry."""

from __future__ import annotations

import os

from latency.conditions import Conditions, device_name
from latency.runtimes.base import Runtime, Timed, TimedParts
from latency.runtimes.onnxruntime import OnnxRuntime
from latency.runtimes.torch import TorchRuntime
from search_space import InputError
from search_space.errors import did_you_mean

RUNTIMES: dict[str, type[Runtime]] = {runtime.name: runtime for runtime in (TorchRuntime, OnnxRuntime)}
DEFAULT = TorchRuntime.name


def conditions_here(
    runtime: str = DEFAULT,
    *,
    device: str = "cpu",
    threads: int = 1,
    dtype: str = "float32",
    batch: int = 1,
    memory_format: str = "contiguous",
) -> Conditions:
    """The conditions that this machine provides; raises `InputError` if it cannot."""
    chosen = _known(runtime)
    processors = os.cpu_count() or 1
    if isinstance(threads, int) and threads > processors:
        rule = f"threads must be at most the machine's processors, {processors}"
        raise InputError(rule, threads, where="--threads", remedy="use fewer")
    conditions = Conditions(
        runtime, device_name(device), device, threads, dtype, batch, memory_format, versions=chosen.versions()
    )
    chosen.check(conditions)
    return conditions


def same_here(wanted: Conditions) -> Conditions:
    """The same conditions on this machine; raises `InputError` if it cannot provide them."""
    return conditions_here(
        wanted.runtime,
        device=wanted.device,
        threads=wanted.threads,
        dtype=wanted.dtype,
        batch=wanted.batch,
        memory_format=wanted.memory_format,
    )


def make_runtime(conditions: Conditions) -> Runtime:
    """The runtime of these conditions; raises `InputError` if it is not one of ours or not installed."""
    return _known(conditions.runtime)(conditions)


def _known(runtime: str) -> type[Runtime]:
    if runtime not in RUNTIMES:
        remedy = did_you_mean(runtime, RUNTIMES)
        raise InputError("the runtime must be one that can be run here", runtime, where="--runtime", remedy=remedy)
    return RUNTIMES[runtime]


__all__ = ["DEFAULT", "RUNTIMES", "Runtime", "Timed", "TimedParts", "conditions_here", "make_runtime", "same_here"]
