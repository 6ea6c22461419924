"""The search-space file (YAML) and the presets that come with the package."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any, cast

from search_space.architecture import ARCHITECTURE_RULES, MAX_BLOCKS
from search_space.architecture_file import SHARED_NUMBERS, top_level
from search_space.built_in import built_in, find_document
from search_space.choice_file import check_number, per_block, read_choice, read_description, read_option
from search_space.component import check_names, component_type, field_rules, plain_number
from search_space.documents import Document, Where
from search_space.errors import InputError, did_you_mean
from search_space.rules import NAME, Integer
from search_space.scaling_space import parse_scaling_space
from search_space.space import SearchSpace, TemplateSpace
from search_space.stem import Stem
from search_space.template import Choice, Option, StageTemplate, Template

_Operation = dict[str, Option]
_NUM_LAYERS = Integer(1, MAX_BLOCKS)
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
    """Make the search space that a document describes: stages with choices, or a network with coefficients."""
    if "scaling" in document.mapping(()):
        return parse_scaling_space(document)
    plain = top_level(document, _KEYS)
    with document.at(()):
        NAME.check("name", plain["name"])
        description = read_description(plain)
    constants = {}
    for name in SHARED_NUMBERS:
        if name in plain:
            with document.at((name,)):
                constants[name] = ARCHITECTURE_RULES[name].check(name, plain[name])
    resolution = read_choice(document, ("resolution",), ARCHITECTURE_RULES["resolution"])
    stem = Template("stem", *_fields(document, ("stem",), "stem"))
    head = Template("head", *_fields(document, ("head",), "head"))
    count = len(document.sequence(("stages",)))
    with document.at(("stages",)):
        if count > _MAX_STAGES:
            raise InputError(f"a space may have at most {_MAX_STAGES} stages", count, remedy="merge some")
    stages = tuple(_stage(document, ("stages", index)) for index in range(count))
    space = TemplateSpace(plain["name"], description, resolution, stem, stages, head, constants, plain)
    _check_sizes(document, space)
    return space


def _stage(document: Document, path: Where) -> StageTemplate:
    given = document.mapping(path)
    layers_path = (*path, "num_layers")
    num_layers = read_choice(document, layers_path, _NUM_LAYERS) if "num_layers" in given else Choice((1,))
    stage = StageTemplate("block", *_fields(document, path, "block", also=("num_layers",)), num_layers)
    with document.at(path):
        if num_layers.per_block or (stage.fields.get("stride") or num_layers).per_block:
            remedy = "leave out `per: block`"
            raise InputError("num_layers and stride belong to the stage, not to a block", remedy=remedy)
        if any("stride" in operation for operation in stage.operations.values()):
            remedy = "give stride beside op"
            raise InputError("num_layers and stride belong to the stage, not to an operation", remedy=remedy)
        len(stage.settings)  # makes every block: fields that are legal each may not be so together
    return stage


def _fields(
    document: Document, path: Where, kind: str, also: tuple[str, ...] = ()
) -> tuple[dict[str, Choice], dict[str, _Operation]]:
    """The choices of a component; every option must be legal for each type that has the field. And its operations."""
    given = [name for name in document.mapping(path) if name not in (*also, "type", "op")]
    kinds = [name for name in ("type", "op") if name in document.mapping(path)]
    with document.at(path):
        if not kinds:
            raise InputError(f"a {kind} needs a type", remedy="add `type:`, or `op:` for a choice among operations")
        if len(kinds) > 1:
            raise InputError(f"a {kind} has either a type or an op", remedy="remove one")
    operations: dict[str, _Operation] = {}
    if kinds == ["op"]:
        operations = _operations(document, (*path, "op", "choice"), kind, given)
        fields = {"op": Choice(tuple(operations), per_block(document, (*path, "op")))}
        names = [operation["type"] for operation in operations.values()]
    else:
        fields = {"type": read_choice(document, (*path, "type"), _TypeName(kind))}
        names = list(fields["type"].options)
    components = [component_type(kind, name) for name in names]
    for name in given:
        having = [component for component in components if name in field_rules(component)]
        with document.at((*path, name)):
            if not having:
                known = {field for component in components for field in field_rules(component)}
                rule = f"no {kind} type chosen here has a field of this name"
                raise InputError(rule, name, remedy=did_you_mean(name, {*known, *also}))
        for component in having:
            fields[name] = read_choice(document, (*path, name), field_rules(component)[name])
    with document.at(path):
        combined = math.prod(len(choice.options) for choice in fields.values())
        if combined > _MAX_VARIANTS:
            rule = f"the choices of a {kind} may combine to at most {_MAX_VARIANTS:,} variants"
            raise InputError(rule, combined, remedy="leave out some options")
        for component in components if not operations else ():
            check_names(component, {}, elsewhere=given)
    return fields, operations


def _operations(document: Document, path: Where, kind: str, beside: Sequence[str]) -> dict[str, _Operation]:
    """`{NAME: {type: ..., FIELD: ...}, ...}`: the operations to choose from. `beside` are fields that stand outside."""
    document.mapping(path[:-1], {"choice": True, "per": False})
    operations: dict[str, _Operation] = {}
    seen: list[_Operation] = []
    for name, operation in document.mapping(path).items():
        place = (*path, name)
        document.mapping(place)
        with document.at(place):
            NAME.check("the name of an operation", name)
            if "type" not in operation:
                raise InputError("an operation needs a type", remedy="add `type:`")
            component = component_type(kind, operation["type"])
            fields = {field: value for field, value in operation.items() if field != "type"}
            for field in fields:
                if field in beside:
                    raise InputError(f"{field} may not stand both in an operation and beside op", remedy="remove one")
            check_names(component, fields, elsewhere=beside)
            rules = field_rules(component)
            checked = {field: read_option(rules[field], field, value) for field, value in fields.items()}
            operations[name] = {"type": component.type, **checked}
            defaults = {field.name: plain_number(field.default) for field in dataclasses.fields(component)}
            if defaults | operations[name] in seen:
                raise InputError("the operations of a choice must differ", operation, remedy="remove one")
            seen.append(defaults | operations[name])
    with document.at(path):
        if not operations:
            raise InputError("op needs at least one operation", remedy="add `NAME: {type: ...}`")
        check_number(operations)
    return operations


class _TypeName:
    """Rule of a `type` field."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def check(self, name: str, value: Any) -> str:
        component_type(self._kind, value)
        return str(value)


def _check_sizes(document: Document, space: TemplateSpace) -> None:
    """Refuse spaces with networks that cannot be: too deep, without blocks, or with more strides than pixels."""
    deepest = sum(stage.max_layers for stage in space.stages)
    if deepest > MAX_BLOCKS:
        with document.at(("stages",)):
            raise InputError(f"a network may have at most {MAX_BLOCKS:,} blocks", deepest, remedy="lower num_layers")
    stems = [cast(Stem, stem) for stem in space.stem.variants]
    for channels in {stem.out_channels for stem in stems}:
        if all(_may_vanish(stage, channels) for stage in space.stages):
            rule = "every block of a network could do nothing, and a network needs a block that does something"
            with document.at(("stages",)):
                raise InputError(rule, remedy="change the width or the stride in one of the stages")
    total = max(stem.stride for stem in stems) * math.prod(
        max(block.stride for setting in stage.settings for block in setting.first) for stage in space.stages
    )
    smallest = min(int(option) for option in space.resolution.options)
    if total > smallest:
        with document.at(("resolution",)):
            rule = f"resolution must be at least the product of all strides, {total}"
            raise InputError(rule, smallest, remedy="raise it or drop strides")


def _may_vanish(stage: StageTemplate, channels: int) -> bool:
    """Whether all blocks of the stage may do nothing to that many channels."""
    return any(channels in setting.idle(0) for setting in stage.settings)  # then the later ones may as well
