"""Networks from elsewhere, one source a file: as architectures where our block types can express them, else as they are."""

from __future__ import annotations

from nas.importing.opaque import OpaqueNetwork, timm_network, torchvision_network
from nas.importing.timm_blocks import NotExpressible
from nas.importing.timm_models import import_timm
from search_space import Architecture

Network = Architecture | OpaqueNetwork
SOURCES = ("timm", "torchvision")


def from_source(source: str, name: str) -> Network:
    """The network `name` of `source`, as an architecture if that can express it. Raises `InputError`."""
    if source == "torchvision":
        return torchvision_network(name)
    try:
        return import_timm(name)
    except NotExpressible:
        return timm_network(name)


__all__ = [
    "SOURCES",
    "Network",
    "NotExpressible",
    "OpaqueNetwork",
    "from_source",
    "import_timm",
    "timm_network",
    "torchvision_network",
]
