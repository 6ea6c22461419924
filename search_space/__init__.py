"""What can be built: architectures as values, block types, search spaces, building, counted cost."""

from search_space.architecture import Architecture, Stage
from search_space.architecture_file import (
    dump_architecture,
    load_architecture,
    references,
    save_architecture,
)
from search_space.blocks import Block
from search_space.cost import Cost, count_cost
from search_space.errors import InputError
from search_space.network import build_model
from search_space.space import SearchSpace
from search_space.space_file import load_space, presets

__all__ = [
    "Architecture",
    "Block",
    "Cost",
    "InputError",
    "SearchSpace",
    "Stage",
    "build_model",
    "count_cost",
    "dump_architecture",
    "load_architecture",
    "load_space",
    "presets",
    "references",
    "save_architecture",
]
