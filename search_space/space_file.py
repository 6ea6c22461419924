"""The search-space file (YAML) and the presets that come with the package."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

from search_space.architecture import ARCHITECTURE_RULES, MAX_BLOCKS
from search_space.architecture_file import SHARED_NUMBERS, top_level
from search_space.built_in import built_in, find_document
from search_space.component import component_type, field_rules, plain_number, required_fields
from search_space.documents import Document, Where
from search_space.errors import InputError, did_you_mean
from search_space.rules import NAME, Integer, OneOf, Rule, Text
from search_space.space import SearchSpace
from search_space.stem import Stem
from search_space.template import Choice, Option, StageTemplate, Template

_NUM_LAYERS = Integer(1, MAX_BLOCKS)
_DESCRIPTION = Text(1_000)
_MAX_OPTIONS = 256
_MAX_STAGES = 64
_MAX_VARIANTS = 100_000
_KEYS = {
    **dict.fromkeys(("schema_version", "name", "resolution", "stem", "stages", "head"), True),
    **dict.fromkeys((*SHARED_NUMBERS, "description"), False),
}


def presets() -> tuple[str, ...]:
    """Names of the built-in search spaces."""
    return tuple(built_in("spaces"))


def load_space(name_or_path: str | os.PathLike[str]) -> SearchSpace:
    """A built-in search space by name, or a space file by path.

    Raises `InputError` (file, line, field, rule, value, remedy) for anything else.
    """
    return parse_space(find_document("spaces", name_or_path))


def at_resolutions(space: SearchSpace, resolutions: Sequence[int]) -> SearchSpace:
    """The same space with other resolutions, in pixels. Raises `InputError` for those that it cannot have."""
    choices = list(dict.fromkeys(resolutions))
    resolution = {"choice": choices} if len(choices) > 1 else choices[0]
    return parse_space(Document({**space.plain, "resolution": resolution}, space.name))


def parse_space(document: Document) -> SearchSpace:
    """Make the search space that a document describes."""
    plain = top_level(document, _KEYS)
    with document.at(()):
        NAME.check("name", plain["name"])
        _DESCRIPTION.check("description", plain.get("description", "-"))
    constants = {}
    for name in SHARED_NUMBERS:
        if name in plain:
            with document.at((name,)):
                constants[name] = ARCHITECTURE_RULES[name].check(name, plain[name])
    resolution = _choice(document, ("resolution",), ARCHITECTURE_RULES["resolution"])
    stem = Template("stem", _fields(document, ("stem",), "stem"))
    head = Template("head", _fields(document, ("head",), "head"))
    count = len(document.sequence(("stages",)))
    with document.at(("stages",)):
        if count > _MAX_STAGES:
            raise InputError(f"a space may have at most {_MAX_STAGES} stages", count, remedy="merge some")
    stages = tuple(_stage(document, ("stages", index)) for index in range(count))
    space = SearchSpace(plain["name"], plain.get("description", ""), resolution, stem, stages, head, constants, plain)
    _check_sizes(document, space)
    return space


def _stage(document: Document, path: Where) -> StageTemplate:
    given = document.mapping(path)
    layers_path = (*path, "num_layers")
    num_layers = _choice(document, layers_path, _NUM_LAYERS) if "num_layers" in given else Choice((1,))
    stage = StageTemplate("block", _fields(document, path, "block", also=("num_layers",)), num_layers)
    with document.at(path):
        if num_layers.per_block or (stage.fields.get("stride") or num_layers).per_block:
            remedy = "leave out `per: block`"
            raise InputError("num_layers and stride belong to the stage, not to a block", remedy=remedy)
    return stage


def _fields(document: Document, path: Where, kind: str, also: tuple[str, ...] = ()) -> dict[str, Choice]:
    """The choices of a component; every option must be legal for each block type that has the field."""
    given = {name: value for name, value in document.mapping(path).items() if name not in also}
    with document.at(path):
        if "type" not in given:
            raise InputError(f"a {kind} needs a type", remedy="add `type:`")
    types = _choice(document, (*path, "type"), _TypeName(kind))
    components = [component_type(kind, name) for name in types.options]
    fields = {"type": types}
    for name in given:
        if name == "type":
            continue
        having = [component for component in components if name in field_rules(component)]
        with document.at((*path, name)):
            if not having:
                known = {field for component in components for field in field_rules(component)}
                rule = f"no {kind} type chosen here has a field of this name"
                raise InputError(rule, name, remedy=did_you_mean(name, {*known, *also}))
        for component in having:
            fields[name] = _choice(document, (*path, name), field_rules(component)[name])
    with document.at(path):
        combined = math.prod(len(choice.options) for choice in fields.values())
        if combined > _MAX_VARIANTS:
            rule = f"the choices of a {kind} may combine to at most {_MAX_VARIANTS:,} variants"
            raise InputError(rule, combined, remedy="leave out some options")
        for component in components:
            for name in required_fields(component):
                if name not in fields:
                    raise InputError(f"{component.type} needs {name}", remedy=f"add {name}")
    return fields


class _TypeName:
    """Rule of a `type` field."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def check(self, name: str, value: Any) -> str:
        component_type(self._kind, value)
        return str(value)


def _choice(document: Document, path: Where, rule: Rule) -> Choice:
    """A fixed value, or `{choice: [...]}` with an optional `per: stage|block`."""
    name = str(path[-1])
    value = document.get(path)
    if not isinstance(value, dict):
        with document.at(path):
            if isinstance(value, list):
                raise InputError(f"{name} must be one value or a choice", value, remedy="write {choice: [...]}")
            return Choice((_option(rule, name, value),))
    document.mapping(path, {"choice": True, "per": False})
    options: list[Option] = []
    for index, item in enumerate(document.sequence((*path, "choice"))):
        with document.at((*path, "choice", index)):
            option = _option(rule, name, item)
            if option in options:
                raise InputError(f"the options of {name} must differ", item, remedy="remove one")
            options.append(option)
    with document.at((*path, "choice")):
        if len(options) > _MAX_OPTIONS:
            raise InputError(f"a choice may have at most {_MAX_OPTIONS} options", len(options), remedy="leave out some")
    scope = "stage"
    if "per" in value:
        with document.at((*path, "per")):
            scope = OneOf(("stage", "block")).check("per", value["per"])
            if scope == "block" and path[0] != "stages":
                raise InputError(f"{name} is chosen once for the network", scope, remedy="leave out `per`")
    return Choice(tuple(options), per_block=scope == "block")


def _option(rule: Rule, name: str, value: Any) -> Option:
    option: Option = plain_number(rule.check(name, value))
    return option


def _check_sizes(document: Document, space: SearchSpace) -> None:
    """Refuse spaces with networks that cannot be: too deep, or with more strides than pixels."""
    deepest = sum(stage.max_layers for stage in space.stages)
    if deepest > MAX_BLOCKS:
        with document.at(("stages",)):
            raise InputError(f"a network may have at most {MAX_BLOCKS:,} blocks", deepest, remedy="lower num_layers")
    stems = [cast(Stem, stem) for stem in space.stem.variants]
    total = max(stem.stride for stem in stems) * math.prod(
        max(block.stride for setting in stage.settings for block in setting.first) for stage in space.stages
    )
    smallest = min(int(option) for option in space.resolution.options)
    if total > smallest:
        with document.at(("resolution",)):
            rule = f"resolution must be at least the product of all strides, {total}"
            raise InputError(rule, smallest, remedy="raise it or drop strides")


def describe_choices(space: SearchSpace) -> list[Mapping[str, Any]]:
    """A row for each part of the space: its name and, by field, the fixed value or the list of options."""
    rows: list[Mapping[str, Any]] = [{"part": "network", "resolution": _described(space.resolution)}]
    rows.append({"part": "stem", **{name: _described(choice) for name, choice in space.stem.fields.items()}})
    for index, stage in enumerate(space.stages):
        fields = {"num_layers": stage.num_layers, **stage.fields}
        rows.append({"part": f"stages[{index}]", **{name: _described(choice) for name, choice in fields.items()}})
    rows.append({"part": "head", **{name: _described(choice) for name, choice in space.head.fields.items()}})
    return rows


def _described(choice: Choice) -> Any:
    if not choice.is_open:
        return choice.options[0]
    return {"choice": list(choice.options), "per": "block"} if choice.per_block else {"choice": list(choice.options)}
