"""Block types, one file each. Every module in this folder is imported here, which registers what it defines."""

from __future__ import annotations

import importlib
import pkgutil

from search_space.blocks.base import Block

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["Block"]
