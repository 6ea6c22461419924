"""YAML and JSON documents that remember on which line each value stands.

Reading refuses, in one line with file and line number, what the formats allow but a description of a network never
needs: aliases, duplicate keys, several documents, keys that are not words. Writing goes through `write_whole`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml

from search_space.errors import InputError, did_you_mean

Where = tuple[str | int, ...]
"""A place inside a document: keys and indices from the root, as `("stages", 2, "kernel_size")`."""

_MAX_BYTES = 4_000_000
_MAX_DEPTH = 40


_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """YAML with the scalars of YAML 1.2's core schema (without octal and hexadecimal numbers).

    YAML 1.1, as PyYAML has it, takes `1e-3` for a word, `no` for false and `1:30` for ninety.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]
    yaml_constructors: ClassVar[dict[Any, Any]] = {
        tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (None, f"{_TAG}str", f"{_TAG}seq", f"{_TAG}map")
    }


_SCALARS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "null": (r"~|null|Null|NULL|", lambda text: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", lambda text: text.lower() == "true"),
    "int": (r"[-+]?[0-9]{1,400}", int),
    "float": (
        r"[-+]?(?:[0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})(?:[eE][-+]?[0-9]{1,9})?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
    ),
}


def _scalar(loader: _Loader, node: yaml.ScalarNode) -> Any:
    """null, true, false and numbers; an explicit tag (`!!int x`) is held to the same forms."""
    name = node.tag.removeprefix(_TAG)
    form, make = _SCALARS[name]
    if not re.fullmatch(form, node.value):
        raise yaml.constructor.ConstructorError(None, None, f"{name} expected", node.start_mark)
    return make(node.value)


for _name, (_form, _) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_form})$"), None)
    _Loader.add_constructor(_TAG + _name, _scalar)


@dataclass(frozen=True)
class Document:
    """Plain data with the lines it came from."""

    data: Any
    origin: str = ""
    lines: Mapping[Where, int] = field(default_factory=dict)

    def where(self, path: Where) -> str:
        """`space.yaml:12, stages[2]`, naming the nearest enclosing place that has a line."""
        line = next((self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines), None)
        file = f"{self.origin}:{line}" if self.origin and line else self.origin
        return ", ".join(part for part in (file, dotted(path)) if part)

    @contextmanager
    def at(self, path: Where) -> Iterator[None]:
        """Give any `InputError` raised inside its place in this document."""
        try:
            yield
        except InputError as error:
            if error.where:
                raise
            place = (*path, error.field) if error.field else path
            where = self.where(place if place in self.lines else path)
            raise error.located(where) from None

    def mapping(self, path: Where, known: Mapping[str, bool] | None = None) -> dict[str, Any]:
        """The mapping at `path`. `known` names the keys it may have, True for those it must have."""
        value = self.get(path)
        with self.at(path):
            what = dotted(path) or "the file"
            if not isinstance(value, dict):
                raise InputError(
                    f"{what} must be a mapping of names to values", value, remedy="write `name: value` lines"
                )
            for key in value if known is not None else ():
                if known is not None and key not in known:
                    raise InputError(
                        f"{what} has no field of this name", key, field=key, remedy=did_you_mean(key, known)
                    )
            for key in (k for k, needed in (known or {}).items() if needed):
                if key not in value:
                    raise InputError(f"{what} needs {key}", remedy=f"add {key}")
        return value

    def below(self, key: str) -> Document:
        """What stands at a key of the root, as a document of its own."""
        lines = {path[1:]: line for path, line in self.lines.items() if path[:1] == (key,)}
        return Document(self.get((key,)), self.origin, lines)

    def sequence(self, path: Where) -> list[Any]:
        """The non-empty sequence at `path`."""
        value = self.get(path)
        if not isinstance(value, list) or not value:
            with self.at(path):
                raise InputError(f"{dotted(path)} must be a list with at least one item", value, remedy="add items")
        return value

    def get(self, path: Where) -> Any:
        """The value at `path`, which must exist."""
        value = self.data
        for key in path:
            value = value[key]
        return value


def dotted(path: Where) -> str:
    """`stages[2].kernel_size`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def read_document(path: str | os.PathLike[str]) -> Document:
    """Read a YAML or JSON file; raises `InputError` if it cannot be read or is not one document of plain data."""
    origin = os.fspath(path)
    return parse_document(read_text(origin, _MAX_BYTES), origin, is_json=origin.lower().endswith(".json"))


def read_text(path: str | os.PathLike[str], max_bytes: int) -> str:
    """The text of a UTF-8 file of at most `max_bytes`; raises `InputError`."""
    origin = os.fspath(path)
    try:
        with open(origin, "rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as error:
        raise InputError(f"cannot read the file: {error.strerror}", origin, remedy="check the path") from None
    except ValueError as error:  # a NUL byte in the name
        raise InputError(f"not a file name: {error}", origin, remedy="check the path") from None
    if len(raw) > max_bytes:
        raise InputError(f"a file may have at most {max_bytes:,} bytes", where=origin, remedy="is it the right file?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"a file must be UTF-8 text: {error.reason} at byte {error.start}", where=origin) from None


def parse_document(text: str, origin: str = "", *, is_json: bool = False) -> Document:
    """Parse YAML (or JSON) text; `origin` is the file name used in messages."""
    if is_json:
        return _parse_json(text, origin)
    loader = _checked_loader(text, origin)
    try:
        node = loader.get_single_node()
        if node is None:
            raise InputError("the file is empty", where=origin, remedy="see the examples in docs/files.md")
        lines: dict[Where, int] = {}
        _walk(node, (), lines, set(), origin)
        data = loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        where = f"{origin}:{mark.line + 1}" if mark else origin
        raise InputError(f"not valid YAML: {problem}", where=where, remedy="mend the syntax") from None
    except RecursionError:
        raise InputError("the file is nested too deeply", where=origin, remedy="flatten it") from None
    finally:
        loader.dispose()
    return Document(data, origin, lines)


def _parse_json(text: str, origin: str) -> Document:
    try:
        data = json.loads(text)
    except RecursionError:
        raise InputError("the file is nested too deeply", where=origin, remedy="flatten it") from None
    except ValueError as error:
        where = f"{origin}:{getattr(error, 'lineno', 1)}"
        problem = getattr(error, "msg", "a number is too long")
        raise InputError(f"not valid JSON: {problem}", where=where, remedy="mend the syntax") from None
    # JSON is YAML but for tabs, so that YAML tells the lines, and refuses duplicate keys.
    return Document(data, origin, parse_document(text.replace("\t", " "), origin).lines)


def _checked_loader(text: str, origin: str) -> _Loader:
    try:
        return _Loader(text)
    except yaml.YAMLError:
        line = next(
            (n for n, row in enumerate(text.split("\n"), 1) if re.search(r"[^\t\x20-\x7e\x85\xa0-\U0010ffff\r]", row)),
            1,
        )
        raise InputError("a file must be plain text, without control characters", where=f"{origin}:{line}") from None


def _walk(
    node: yaml.Node, path: Where, lines: dict[Where, int], seen: set[int], origin: str, line: int | None = None
) -> None:
    """Record the line of every value below `node`; refuse aliases, odd keys and too deep nesting."""
    line = line or node.start_mark.line + 1  # the key's, where there is one: an alias has its anchor's mark
    where = f"{origin}:{line}" + (f", {dotted(path)}" if path else "")
    if id(node) in seen:
        raise InputError("aliases (`*name`) are not supported", where=where, remedy="write the value out")
    if len(path) > _MAX_DEPTH:
        raise InputError(f"a file may be nested at most {_MAX_DEPTH} deep", where=where, remedy="flatten it")
    seen.add(id(node))
    lines[path] = line
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*path, index), lines, seen, origin)
    elif isinstance(node, yaml.MappingNode):
        keys: set[str] = set()
        for key_node, value_node in node.value:
            where = f"{origin}:{key_node.start_mark.line + 1}" + (f", {dotted(path)}" if path else "")
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                value = getattr(key_node, "value", None)
                raise InputError("a key must be a word", value, where=where, remedy="write it in quotes if it is one")
            if key_node.value in keys:
                raise InputError("a key may stand only once", key_node.value, where=where, remedy="remove one")
            keys.add(key_node.value)
            place = (*path, key_node.value)
            _walk(value_node, place, lines, seen, origin, key_node.start_mark.line + 1)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


class Row(dict[str, Any]):
    """A mapping that is written on one line."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.Node:
    """Quoted where our reader would take it for something else: PyYAML's writer thinks of YAML 1.1."""
    ambiguous = any(re.fullmatch(form, text) for form, _ in _SCALARS.values())
    return dumper.represent_scalar(_TAG + "str", text, style="'" if ambiguous else None)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(
    Row, lambda dumper, row: dumper.represent_mapping("tag:yaml.org,2002:map", row.items(), flow_style=True)
)


def to_yaml(data: Any) -> str:
    """Plain data as YAML, in the order given."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=150)


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file whole or not at all: write beside it, sync, rename.

    Raises `InputError` if the place cannot be written.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name, text that is not Unicode
        with suppress(OSError, ValueError):
            temporary.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or str(error)
        remedy = "choose a place that can be written"
        raise InputError(f"cannot write the file: {reason}", os.fspath(path), remedy=remedy) from None
