"""What files and classes are called after a network."""

from __future__ import annotations

import re

from search_space import Architecture


def file_stem(architecture: Architecture) -> str:
    """The network's name with what may trouble a file system replaced."""
    stem = "".join(c if c.isalnum() or c in "-_" else "-" for c in architecture.name)
    return stem[:150]


def module_name(stem: str) -> str:
    """A file's name under which Python can import it."""
    name = re.sub(r"\W", "_", stem, flags=re.ASCII)
    return name if name.isidentifier() else f"network_{name}"


def class_name(architecture: Architecture) -> str:
    """`MobilenetV3Large` of `mobilenet-v3-large`."""
    words = re.findall(r"[A-Za-z0-9]+", architecture.name)
    name = "".join(word[0].upper() + word[1:] for word in words)
    taken = ("None", "True", "False", "Tensor", "F")
    return name if name.isidentifier() and name not in taken else f"Network{name}"


def shown_name(architecture: Architecture) -> str:
    """The name as it can stand in a docstring."""
    return architecture.name.replace("\\", "").replace('"', "'")
