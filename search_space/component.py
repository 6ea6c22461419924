"""Frozen, self-validating values with a `type` name: what blocks, stems and heads have in common.

A component's fields are declared once, with their rules, as annotations; the same declaration serves validation,
files, search spaces and documentation. Subclasses are found by name through `component_type`.
"""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast, get_type_hints

from search_space.errors import InputError, did_you_mean
from search_space.rules import Rule

_C = TypeVar("_C", bound="type[Component]")
_S = TypeVar("_S", bound="Component")
_registry: dict[tuple[str, str], type[Component]] = {}


@dataclass(frozen=True, kw_only=True)
class Component(ABC):
    """A frozen value whose fields are checked against their rules when it is made."""

    kind: ClassVar[str]
    """What it is a kind of: `block`, `stem` or `head`."""
    type: ClassVar[str]
    """The name by which files refer to it."""

    def __post_init__(self) -> None:
        for name, rule in field_rules(self.__class__).items():
            object.__setattr__(self, name, rule.check(name, getattr(self, name)))
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name in self.unused_fields():
            object.__setattr__(self, name, defaults[name])

    def unused_fields(self) -> tuple[str, ...]:
        """Fields that have no effect beside the values of others.

        They are brought to their default, so that equal networks are equal values, and are not written to files.
        """
        return ()

    def at_inference(self: _S) -> _S:
        """The same without what only training knows, as dropout: components equal in this run alike."""
        return self

    def width_multiple(self) -> int:
        """When a network is scaled, widths are rounded to multiples of this: 8, or what groups and heads need."""
        return 8

    def __getstate__(self) -> dict[str, Any]:
        # Not the remembered hash: it is another one in the next process.
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain data, `type` first; `from_dict` takes it back."""
        plain: dict[str, Any] = {"type": self.type}
        unused = self.unused_fields()
        added = added_fields(self.__class__)
        for name in field_rules(self.__class__):
            value = getattr(self, name)
            if name not in unused and not (name in added and value == added[name]):
                plain[name] = plain_number(value)
        return plain


@functools.cache
def field_rules(component: type[Component]) -> Mapping[str, Rule]:
    """Field name -> rule, in order of declaration."""
    hints = get_type_hints(component, include_extras=True)
    rules = {}
    for field in dataclasses.fields(component):
        (rule,) = hints[field.name].__metadata__
        rules[field.name] = rule
    return rules


def added(default: Any) -> Any:
    """The default of a field that its component has not had from the beginning.

    At this value it is left out of plain data, so that files and `arch_id`s from before stay as they were.
    """
    return dataclasses.field(default=default, metadata={"added": True})


@functools.cache
def added_fields(component: type[Component]) -> Mapping[str, Any]:
    """The fields declared by `added`, with their defaults."""
    return {field.name: field.default for field in dataclasses.fields(component) if field.metadata.get("added")}


@functools.cache
def required_fields(component: type[Component]) -> tuple[str, ...]:
    """Names of the fields without a default."""
    return tuple(f.name for f in dataclasses.fields(component) if f.default is dataclasses.MISSING)


@functools.cache
def field_defaults(component: type[Component]) -> Mapping[str, Any]:
    """Field name -> default, for the fields that have one."""
    return {f.name: f.default for f in dataclasses.fields(component) if f.default is not dataclasses.MISSING}


def register(name: str) -> Callable[[_C], _C]:
    """Class decorator: make a component known to files and search spaces as `name`."""

    def add(component: _C) -> _C:
        key = (component.kind, name)
        known = _registry.get(key)
        if known is not None and (known.__module__, known.__qualname__) != (
            component.__module__,
            component.__qualname__,
        ):
            raise InputError(f"{component.kind} types must have distinct names", name, remedy="choose another name")
        component.type = name
        # Components are looked up in dictionaries all the time, and a dataclass's own hash visits every field.
        component.__hash__ = _remembered_hash(component.__hash__)  # type: ignore[assignment, method-assign]
        _registry[key] = component
        return component

    return add


def _remembered_hash(compute: Callable[[Any], int]) -> Callable[[Any], int]:
    def remembered(self: Any) -> int:
        try:
            return cast(int, self._hash)
        except AttributeError:
            object.__setattr__(self, "_hash", compute(self))
            return cast(int, self._hash)

    return remembered


def component_types(kind: str) -> dict[str, type[Component]]:
    """All registered types of one kind, by name."""
    return {name: component for (of, name), component in sorted(_registry.items()) if of == kind}


def component_type(kind: str, name: Any) -> type[Component]:
    """The registered type `name`; raises `InputError` that names the nearest known one."""
    types = component_types(kind)
    if not isinstance(name, str) or name not in types:
        raise InputError(f"{kind} type must be a known name", name, field="type", remedy=did_you_mean(name, types))
    return types[name]


def from_dict(kind: str, plain: Mapping[str, Any]) -> Component:
    """Make a component from plain data; raises `InputError` for unknown, missing or illegal fields."""
    if "type" not in plain:
        remedy = f"add one of {', '.join(component_types(kind))}"
        raise InputError(f"a {kind} needs a type", remedy=remedy)
    component = component_type(kind, plain["type"])
    given = {name: value for name, value in plain.items() if name != "type"}
    check_names(component, given)
    return component(**given)


def check_names(component: type[Component], given: Mapping[str, Any], elsewhere: Collection[str] = ()) -> None:
    """Refuse fields which `component` does not have, and the lack of those it needs and is not given `elsewhere`."""
    rules = field_rules(component)
    for name in given:
        if name not in rules:
            rule = f"{component.type} has no field of this name"
            raise InputError(rule, name, field=str(name), remedy=did_you_mean(name, rules))
    for name in required_fields(component):
        if name not in given and name not in elsewhere:
            raise InputError(f"{component.type} needs {name}", remedy=f"add {name}")


def plain_number(value: Any) -> Any:
    """Whole floats as ints, so that `6` in a file stays `6`."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
