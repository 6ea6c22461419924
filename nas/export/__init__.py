"""Formats in which a network leaves, one file each, behind one registry."""

from __future__ import annotations

from nas.export.base import Exporter, Job, Written
from nas.export.executorch import ExecuTorch
from nas.export.exported_program import ExportedProgram
from nas.export.json import Json
from nas.export.litert import LiteRt
from nas.export.onnx import Onnx
from nas.export.timm import Timm
from nas.export.torch import Torch
from nas.export.torchscript import TorchScript
from nas.export.torchvision import Torchvision
from nas.export.yaml import Yaml
from search_space import InputError
from search_space.errors import did_you_mean

EXPORTERS: dict[str, Exporter] = {
    exporter.name: exporter
    for exporter in (
        Yaml(),
        Json(),
        Torch(),
        Timm(),
        Torchvision(),
        Onnx(),
        ExportedProgram(),
        TorchScript(),
        LiteRt(),
        ExecuTorch(),
    )
}


def exporter(name: str) -> Exporter:
    """The exporter of this name; raises `InputError` for an unknown one."""
    if name not in EXPORTERS:
        raise InputError("--to must be a known format", name, remedy=did_you_mean(name, EXPORTERS))
    return EXPORTERS[name]


__all__ = ["EXPORTERS", "Exporter", "Job", "Written", "exporter"]
