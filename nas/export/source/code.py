"""The source of functions and classes, with all that it refers to, so that it stands alone beside torch."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from search_space import InputError

_LITERALS = (int, float, str, bool, tuple, list, dict, frozenset, set, type(None))


class Code:
    """Collects imports and definitions, each once and before what refers to it."""

    def __init__(self) -> None:
        self.imports: set[str] = set()
        self.definitions: dict[str, str] = {}
        self._objects: dict[str, Any] = {}

    def name_of(self, value: Any, whose: str) -> str:
        """The name of a function or class in the source, which it is brought into. Raises `InputError`."""
        return self._bring(getattr(value, "__name__", ""), value, whose)

    def claim(self, name: str, value: Any) -> str:
        """A name that no other definition has."""
        free = next(
            one for one in (name, *(f"{name}{n}" for n in range(2, 1000))) if self._objects.get(one, value) is value
        )
        self._objects[free] = value
        return free

    def function(self, function: Callable[..., object], whose: str = "") -> str:
        """Bring a function in, with all it refers to; its source without indentation."""
        assert isinstance(function, types.FunctionType)
        source = source_of(function, whose or function.__qualname__)
        self.refer(function, source, whose or function.__qualname__)
        return source

    def refer(self, function: types.FunctionType, source: str, whose: str) -> None:
        """Bring in the globals that a function's source names."""
        nonlocals = set(inspect.getclosurevars(function).nonlocals) - {"__class__"}
        if nonlocals:
            raise cannot(whose, f"its function {function.__name__} refers to {min(nonlocals)} of another function")
        self._refer(source, function.__globals__, set(function.__code__.co_varnames), whose)

    def _refer(self, source: str, namespace: Mapping[str, Any], own: set[str], whose: str) -> None:
        for name in dict.fromkeys(node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)):
            if name not in own and name in namespace:
                self._bring(name, namespace[name], whose)

    def _bring(self, name: str, value: Any, whose: str) -> str:
        line = _import_line(name, value)
        if line is not None:
            self._once(name, value if isinstance(value, types.ModuleType) else line, whose)
            self.imports.add(line)
            return name
        if isinstance(value, types.FunctionType):
            if name != value.__name__:
                raise cannot(whose, f"it uses {value.__name__} under another name, {name}")
            if self._once(name, value, whose):
                self.definitions[name] = self.function(value, whose)
            return name
        if isinstance(value, type):
            if issubclass(value, nn.Module) and self._objects.get(name) is not value:
                raise cannot(whose, f"it uses the class {name}, of which the network has no module")
            if self._once(name, value, whose):
                source = source_of(value, whose)
                self._refer(source, vars(sys.modules[value.__module__]), {name}, whose)
                self.definitions[name] = source
            return name
        if isinstance(value, _LITERALS):
            if self._once(name, value, whose):
                self.definitions[name] = f"{name} = {value!r}"
            return name
        raise cannot(whose, f"it uses {name}, which is not of torch")

    def _once(self, name: str, value: Any, whose: str) -> bool:
        """Whether a name is new; raises `InputError` if it already means something else."""
        if name not in self._objects:
            self._objects[name] = value
            return True
        if self._objects[name] is not value and self._objects[name] != value:
            raise cannot(whose, f"it uses a {name} that is not the one another part uses")
        return False

    def import_lines(self) -> list[str]:
        """Sorted: the standard library, then torch."""
        return sorted(self.imports, key=lambda line: ("torch" in line.split()[1], line.startswith("from"), line))


def source_of(thing: Any, whose: str) -> str:
    """The source of a function, without indentation. Raises `InputError` if there is none."""
    try:
        return textwrap.dedent(inspect.getsource(thing))
    except (OSError, TypeError):
        raise cannot(whose, "its source is not at hand") from None


def indented(source: str) -> str:
    """A step to the right, lines within texts included: only docstrings may have such."""
    return textwrap.indent(source.rstrip(), "    ")


def cannot(whose: str, why: str) -> InputError:
    """The error of something that cannot be written."""
    return InputError(f"{whose} cannot be written as source: {why}", where="--to torch", remedy="use exported-program")


def _import_line(name: str, value: Any) -> str | None:
    """How the standard library's and torch's own things are imported; None for anything else."""
    if isinstance(value, types.ModuleType):
        full = value.__name__
        if not _is_at_hand(full):
            return None
        parent, _, leaf = full.rpartition(".")
        if name == full:
            return f"import {full}"
        return f"from {parent} import {leaf}" if name == leaf and parent else f"import {full} as {name}"
    for module in (torch, nn, torch.nn.functional):
        if getattr(module, name, None) is value and value is not None and not isinstance(value, _LITERALS):
            return f"from {module.__name__} import {name}"
    home = getattr(value, "__module__", None)
    if isinstance(home, str) and _is_at_hand(home) and not isinstance(value, _LITERALS):
        own = getattr(value, "__name__", None) or getattr(value, "_name", None)
        if isinstance(own, str) and own and getattr(sys.modules.get(home), own, None) is value:
            return f"from {home} import {own}" + ("" if own == name else f" as {name}")
    return None


def _is_at_hand(module: str) -> bool:
    top = module.partition(".")[0]
    return top == "torch" or (top in sys.stdlib_module_names and top != "__main__")
