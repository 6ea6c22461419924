"""Reading choices from a file: a fixed value, or a list of options."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from search_space.component import plain_number
from search_space.documents import Document, Where
from search_space.errors import InputError
from search_space.rules import OneOf, Rule, Text
from search_space.template import Choice, Option

_DESCRIPTION = Text(1_000)
_MAX_OPTIONS = 256


def read_description(plain: Mapping[str, Any]) -> str:
    """The description of a space file, which may be left out."""
    return _DESCRIPTION.check("description", plain["description"]) if "description" in plain else ""


def read_choice(document: Document, path: Where, rule: Rule) -> Choice:
    """A fixed value, or `{choice: [...]}` with an optional `per: stage|block`."""
    name = str(path[-1])
    value = document.get(path)
    if not isinstance(value, dict):
        with document.at(path):
            if isinstance(value, list):
                raise InputError(f"{name} must be one value or a choice", value, remedy="write {choice: [...]}")
            return Choice((read_option(rule, name, value),))
    document.mapping(path, {"choice": True, "per": False})
    options: list[Option] = []
    for index, item in enumerate(document.sequence((*path, "choice"))):
        with document.at((*path, "choice", index)):
            option = read_option(rule, name, item)
            if option in options:
                raise InputError(f"the options of {name} must differ", item, remedy="remove one")
            options.append(option)
    with document.at((*path, "choice")):
        check_number(options)
    return Choice(tuple(options), per_block(document, path))


def check_number(options: Collection[Any]) -> None:
    """Refuse more options than a choice may have."""
    if len(options) > _MAX_OPTIONS:
        raise InputError(f"a choice may have at most {_MAX_OPTIONS} options", len(options), remedy="leave out some")


def per_block(document: Document, path: Where) -> bool:
    """Whether a choice has `per: block`."""
    with document.at((*path, "per")):
        scope = OneOf(("stage", "block")).check("per", document.get(path).get("per", "stage"))
        if scope == "block" and path[0] != "stages":
            raise InputError(f"{path[-1]} is chosen once for the network", scope, remedy="leave out `per`")
    return scope == "block"


def read_option(rule: Rule, name: str, value: Any) -> Option:
    """One option, checked; whole floats as ints."""
    option: Option = plain_number(rule.check(name, value))
    return option
