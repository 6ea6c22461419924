"""The architecture file (YAML or JSON) and the references that come with the package."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast

from search_space.architecture import MAX_BLOCKS, Architecture, Stage, row_blocks
from search_space.blocks import Block
from search_space.built_in import built_in, find_document
from search_space.component import from_dict
from search_space.documents import Document, Row, to_yaml, write_whole
from search_space.errors import InputError
from search_space.head import Head
from search_space.rules import Integer
from search_space.stem import Stem

SCHEMA_VERSION = 1
_NUM_LAYERS = Integer(1, MAX_BLOCKS)
SHARED_NUMBERS = ("num_classes", "input_channels", "norm_eps", "norm_momentum", "drop_path_rate")
_KEYS = {
    **dict.fromkeys(("schema_version", "name", "resolution", "stem", "stages", "head"), True),
    **dict.fromkeys((*SHARED_NUMBERS, "provenance"), False),
}


def references() -> tuple[str, ...]:
    """Names of the built-in reference networks."""
    return tuple(built_in("references"))


def load_architecture(name_or_path: str | os.PathLike[str]) -> Architecture:
    """A built-in reference by name, or an architecture file by path.

    Raises `InputError` (file, line, field, rule, value, remedy) for anything else.
    """
    return parse_architecture(find_document("references", name_or_path))


def save_architecture(architecture: Architecture, path: str | os.PathLike[str]) -> None:
    """Write an architecture file, whole or not at all."""
    write_whole(path, dump_architecture(architecture))


def dump_architecture(architecture: Architecture) -> str:
    """The text of the architecture file, one row of the network a line."""
    plain = architecture.to_dict()
    plain["stages"] = [Row(row) for row in plain["stages"]]
    plain["stem"], plain["head"] = Row(plain["stem"]), Row(plain["head"])
    return to_yaml(plain)


def top_level(document: Document, keys: Mapping[str, bool]) -> dict[str, Any]:
    """The document's mapping with these keys; refuses files of another schema version first."""
    version = document.mapping(()).get("schema_version", SCHEMA_VERSION)
    with document.at(("schema_version",)):
        if type(version) is not int or version != SCHEMA_VERSION:
            raise InputError(f"schema_version must be {SCHEMA_VERSION}", version, remedy="update nas, or mend the file")
    return document.mapping((), keys)


def parse_architecture(document: Document) -> Architecture:
    """Make the architecture that a document describes."""
    plain = top_level(document, _KEYS)
    stages: list[Stage] = []
    for index in range(len(document.sequence(("stages",)))):
        path = ("stages", index)
        row = dict(document.mapping(path))
        with document.at(path):
            num_layers = _NUM_LAYERS.check("num_layers", row.pop("num_layers", 1))
            block = cast(Block, from_dict("block", row))
        stages.append(Stage(row_blocks(block, num_layers)))
    made: dict[str, Any] = {name: plain[name] for name in SHARED_NUMBERS if name in plain}
    if "provenance" in plain:
        made["provenance"] = document.mapping(("provenance",))
    for part in ("stem", "head"):
        with document.at((part,)):
            made[part] = from_dict(part, document.mapping((part,)))
    with document.at(()):
        return Architecture(
            name=plain["name"],
            stem=cast(Stem, made.pop("stem")),
            head=cast(Head, made.pop("head")),
            stages=tuple(stages),
            resolution=plain["resolution"],
            **made,
        )
