"""Networks from elsewhere, one source a file: architectures if our block types can express them, else as they are."""

from __future__ import annotations

from nas.importing.block_strings import ARCH_DEF, import_block_strings, is_text
from nas.importing.opaque import OpaqueNetwork, timm_network, torchvision_network
from nas.importing.timm_blocks import NoArchitecture
from nas.importing.timm_models import import_timm
from search_space import Architecture, InputError, load_architecture, references
from search_space.documents import read_document

Network = Architecture | OpaqueNetwork
SOURCES = ("timm", "torchvision")


def from_source(source: str, name: str) -> Network:
    """The network `name` of `source`, as an architecture if that can express it. Raises `InputError`."""
    if source == "torchvision":
        return torchvision_network(name)
    try:
        return import_timm(name)
    except NoArchitecture:
        return timm_network(name)


def import_architecture(source: str) -> Architecture:
    """`timm:NAME`, an architecture file, or a file with timm's block strings. Raises `InputError`."""
    kind, colon, name = source.partition(":")
    if colon and kind == "timm":
        return import_timm(name)
    if colon and kind == "torchvision":
        near = "a built-in reference (nas show NAME), or timm:NAME where timm has it, too"
        raise InputError("torchvision's networks are baselines, not architectures", source, remedy=f"use {near}")
    if source in references():
        return load_architecture(source)
    if is_text(source):
        return import_block_strings(source)
    data = read_document(source).data
    has_strings = isinstance(data, dict) and ARCH_DEF in data
    return import_block_strings(source) if has_strings else load_architecture(source)


__all__ = [
    "SOURCES",
    "Network",
    "NoArchitecture",
    "OpaqueNetwork",
    "from_source",
    "import_architecture",
    "import_timm",
    "timm_network",
    "torchvision_network",
]
