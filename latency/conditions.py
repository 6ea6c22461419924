"""Under which conditions a latency was measured. Times under other conditions cannot be compared."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import torch

from search_space import InputError
from search_space.rules import Integer, OneOf, PlainMapping, Text

DTYPES = ("float32", "float16", "bfloat16")
MEMORY_FORMATS = ("contiguous", "channels_last")


@dataclass(frozen=True)
class Conditions:
    """What a time depends on besides the network. Times are for one inference of `batch` images."""

    runtime: Annotated[str, Text(100)]
    device_name: Annotated[str, Text(200)]
    """The hardware, as `Intel(R) Xeon(R) CPU @ 2.20GHz`, `NVIDIA A100` or `Pixel 1`."""
    device: Annotated[str, Text(50)] = "cpu"
    """The runtime's own name for it: `cpu`, `cuda:0`."""
    threads: Annotated[int, Integer(1, 4_096)] = 1
    dtype: Annotated[str, OneOf(DTYPES)] = "float32"
    batch: Annotated[int, Integer(1, 65_536)] = 1
    memory_format: Annotated[str, OneOf(MEMORY_FORMATS)] = "contiguous"
    versions: Annotated[Mapping[str, Any], PlainMapping()] = field(default_factory=dict)
    """Versions of the runtime and what it stands on."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            object.__setattr__(self, name, hint.__metadata__[0].check(name, getattr(self, name)))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the table."""
        return {**dataclasses.asdict(self), "versions": dict(self.versions)}

    def differences(self, other: Conditions) -> list[str]:
        """What differs, in words; empty if the times of both can be compared."""
        return [
            f"{field.name} {getattr(self, field.name)} against {getattr(other, field.name)}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != getattr(other, field.name)
        ]

    def __str__(self) -> str:
        batch = "" if self.batch == 1 else f", batch {self.batch}"
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        layout = "" if self.memory_format == "contiguous" else f", {self.memory_format}"
        return f"{self.runtime} on {self.device_name}, {threads}, {self.dtype}{layout}{batch}"


def device_name(device: str) -> str:
    """The hardware behind a device, as its maker names it. Raises `InputError` if it is not there."""
    try:
        kind = torch.device(device)
    except RuntimeError:
        raise InputError("not a device", device, where="--device", remedy="use cpu, cuda or cuda:N") from None
    if kind.type == "cuda":
        if not torch.cuda.is_available():
            raise InputError("there is no CUDA device here", device, where="--device", remedy="use cpu")
        try:
            return torch.cuda.get_device_name(kind)
        except (RuntimeError, AssertionError):
            raise InputError("there is no such CUDA device", device, where="--device", remedy="use cuda:0") from None
    if kind.type != "cpu":
        raise InputError("latency is measured on the CPU and on CUDA", device, where="--device", remedy="use cpu")
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return " ".join((models[0] if models else platform.processor() or platform.machine() or "unknown CPU").split())
