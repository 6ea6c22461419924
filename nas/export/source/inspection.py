"""What can be seen of a module and its class: the class of torch below it, the methods that matter, what it holds."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Sequence
from typing import Any

from torch import nn

from nas.export.source.code import source_of

METHODS = (types.FunctionType, staticmethod, classmethod, property)
_ADD_NOTHING = ("__init__", "reset_parameters", "extra_repr", "__repr__")
_ROOTS = ("forward", "initialise")
_OF_ANY_MODULE = frozenset(dir(nn.Module()))


def torch_base(cls: type[nn.Module]) -> type[nn.Module]:
    """The first of torch's own classes that a module's class is, or is made from."""
    return next(base for base in cls.__mro__ if base.__module__.startswith("torch.") and issubclass(base, nn.Module))


def is_torchs(cls: type[nn.Module]) -> bool:
    """Whether modules of a class compute just what those of its `torch_base` do."""
    base = torch_base(cls)
    if cls is base:
        return True
    if base is nn.Module:
        return False
    own = cls.__mro__[: cls.__mro__.index(base)]
    return not any(
        isinstance(value, METHODS) and name not in _ADD_NOTHING for one in own for name, value in vars(one).items()
    )


def methods(cls: type[nn.Module]) -> dict[str, types.FunctionType]:
    """The methods of a class by which it computes and draws initial weights, and those that these call, on and on.

    Torch's own are not among them.
    """
    base = torch_base(cls)
    found: dict[str, types.FunctionType] = {}
    waiting = [*_ROOTS]
    while waiting:
        name = waiting.pop()
        owner = next((one for one in cls.__mro__ if name in vars(one)), None)
        if name in found or owner is None or owner is base or owner in base.__mro__:
            continue
        function = function_of(vars(owner)[name])
        if function is not None:
            found[name] = function
            waiting += reversed(attributes(function, cls.__name__))
    return found


def function_of(member: Any) -> types.FunctionType | None:
    """The function behind a method or property."""
    if isinstance(member, property):
        member = member.fget
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    return member if isinstance(member, types.FunctionType) else None


def attributes(function: types.FunctionType, whose: str) -> list[str]:
    """The attributes of `self` that a method's source names, in order."""
    if not function.__code__.co_argcount:
        return []
    own = function.__code__.co_varnames[0]
    tree = ast.parse(source_of(function, whose))
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return list(dict.fromkeys(n.attr for n in nodes if isinstance(n.value, ast.Name) and n.value.id == own))


def plain_attributes(cls: type[nn.Module]) -> list[str]:
    """What methods of a class read besides methods and what every module has."""
    read = dict.fromkeys(name for function in methods(cls).values() for name in attributes(function, cls.__name__))
    return [
        name
        for name in read
        if name not in _OF_ANY_MODULE and not isinstance(inspect.getattr_static(cls, name, None), METHODS)
    ]


def held_by(module: nn.Module) -> dict[str, Any]:
    """Name -> plain attributes that are read, parameters, buffers and children."""
    stored = {**module._parameters, **module._buffers, **module._modules}
    plain = {
        name: getattr(module, name)
        for name in plain_attributes(type(module))
        if name not in stored and hasattr(module, name)
    }
    return {**plain, **stored}


def torch_arguments(module: nn.Module, base: type[nn.Module]) -> list[tuple[inspect.Parameter, Any]]:
    """The arguments by which one of torch's modules was made; those it does not remember have their default."""
    found = []
    for name, parameter in list(inspect.signature(base.__init__).parameters.items())[1:]:
        if name in ("device", "dtype") or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name == "bias":
            value: Any = next(
                (True for one in ("bias", "in_proj_bias") if getattr(module, one, None) is not None), False
            )
        else:
            value = getattr(module, name, parameter.default)
        if _is_pair(value) and base.__name__.endswith("2d"):
            value = value[0]
        default = parameter.default
        found.append((parameter.replace(default=default[0] if _is_pair(default) else default), value))
    return found


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], int) and value[0] == value[1]


def annotation(values: Sequence[Any]) -> str:
    """The type of what modules of one class hold under one name."""
    names: dict[str, None] = {}
    for value in values:
        if isinstance(value, nn.Parameter):
            names["nn.Parameter"] = None
        elif isinstance(value, nn.Module):
            names["nn.Module"] = None
        elif value is None:
            names["None"] = None
        elif isinstance(value, bool | int | float | str):
            names[type(value).__name__] = None
        elif isinstance(value, tuple | list) and all(type(item) is int for item in value):
            names["tuple[int, ...]" if isinstance(value, tuple) else "list[int]"] = None
        elif type(value).__module__ == "torch" and type(value).__name__ == "Tensor":
            names["Tensor"] = None
        else:
            names["object"] = None
    if "object" in names:
        return "object"
    if "float" in names:
        names.pop("int", None)
    return " | ".join(sorted(names, key=lambda name: name == "None"))
