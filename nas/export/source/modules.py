"""From a built module to the expression that makes it again, and the classes this needs.

Modules of torch are called with the arguments by which they were made. Of any other class, the source keeps its methods
as they are, as far as `forward` needs them, while `__init__` takes what the module holds: children, parameters, buffers
and the plain attributes that its methods read. So nothing need be known of how a class makes its modules.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from nas.export.source import inspection, values
from nas.export.source.code import Code, cannot, indented, source_of
from nas.export.source.tree import Argument, Call, Literal, Node

_Class = type[nn.Module]


class ModuleWriter:
    """Writes modules; `code` receives the classes. All modules to be written are named when it is made."""

    def __init__(self, code: Code, roots: Iterable[nn.Module]) -> None:
        self._code = code
        code.imports.add("from torch import nn")
        self._names: dict[_Class, str] = {}
        self._held: dict[_Class, dict[str, list[Any]]] = {}
        """Class -> name -> what its modules hold under that name."""
        self._passing: dict[_Class, set[str]] = {}
        """Class -> buffers that are no part of the weights."""
        for module in (module for root in roots for module in root.modules()):
            cls = type(module)
            if inspection.is_torchs(cls):
                continue
            if cls not in self._names:
                self._names[cls] = code.claim(cls.__name__, cls)
                self._held[cls], self._passing[cls] = {}, set()
            if inspection.torch_base(cls) is nn.Module:
                for name, value in inspection.held_by(module).items():
                    self._held[cls].setdefault(name, []).append(value)
                self._passing[cls] |= module._non_persistent_buffers_set

    def expression(self, module: nn.Module) -> Call:
        """What makes the module again, its weights apart. Raises `InputError`."""
        cls = type(module)
        base = inspection.torch_base(cls)
        if inspection.is_torchs(cls):
            return self._of_torch(module, base)
        if base is not nn.Module:
            return Call(self._names[cls], self._of_torch(module, base).arguments)
        held = inspection.held_by(module)
        arguments = (
            Argument(name, self._value(held.get(name), f"{cls.__name__}.{name}"), False) for name in self._held[cls]
        )
        return Call(self._names[cls], tuple(arguments))

    def define_classes(self) -> None:
        """Bring the classes of all modules into the code."""
        for cls, name in self._names.items():
            source = self._class_source(cls, name)
            self._code.definitions[name] = source

    def _value(self, value: Any, whose: str) -> Node:
        if isinstance(value, nn.Module):
            return self.expression(value)
        if isinstance(value, Tensor):
            self._code.imports.add("import torch")
            return values.parameter(value, whose) if isinstance(value, nn.Parameter) else values.buffer(value, whose)
        if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
            return Literal(self._code.name_of(value, whose))
        node = values.plain(value, whose)
        if isinstance(node, Literal) and node.text.startswith("torch."):
            self._code.imports.add("import torch")
        return node

    def _of_torch(self, module: nn.Module, base: _Class) -> Call:
        name = f"nn.{base.__name__}"
        if getattr(nn, base.__name__, None) is not base:
            name = self._code.name_of(base, base.__name__)
        children = {key: self._value(child, name) for key, child in module._modules.items()}
        listed = tuple(Argument("", child) for child in children.values())
        if base is nn.ModuleList:
            return Call(name, (Argument("modules", Call("", listed, "[]")),))
        if base is nn.Sequential and list(children) == [str(index) for index in range(len(children))]:
            return Call(name, listed)
        if base in (nn.Sequential, nn.ModuleDict):
            self._code.imports.add("from collections import OrderedDict")
            pairs = tuple(
                Argument("", Call("", (Argument("", Literal(repr(key))), Argument("", child))))
                for key, child in children.items()
            )
            return Call(name, (Argument("", Call("OrderedDict", (Argument("", Call("", pairs, "[]")),))),))
        arguments = []
        for parameter, value in inspection.torch_arguments(module, base):
            required = parameter.default is parameter.empty
            if value is parameter.empty:
                raise cannot(base.__name__, f"it does not remember its argument {parameter.name}")
            default = None if required else repr(parameter.default)
            node = self._value(value, f"{base.__name__}.{parameter.name}")
            arguments.append(Argument(parameter.name, node, required, default))
        stateless = not (module._parameters or module._buffers or children)
        return Call(name, tuple(arguments), alike=stateless and base.__module__ == "torch.nn.modules.activation")

    def _class_source(self, cls: _Class, name: str) -> str:
        base = inspection.torch_base(cls)
        known = getattr(nn, base.__name__, None) is base
        lines = [f"class {name}({f'nn.{base.__name__}' if known else self._code.name_of(base, name)}):"]
        if cls.__doc__ and cls.__doc__ != base.__doc__:
            text = inspect.cleandoc(cls.__doc__).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
            lines += [indented(f'"""{text}{chr(10) if chr(10) in text else ""}"""'), ""]
        if self._held[cls]:
            signature = ", ".join(f"{one}: {inspection.annotation(all_)}" for one, all_ in self._held[cls].items())
            lines += [f"    def __init__(self, {signature}) -> None:", "        super().__init__()"]
            lines += [f"        {self._kept(cls, one)}" for one in self._held[cls]]
        for function in inspection.methods(cls).values():
            source = source_of(function, cls.__name__)
            if base is nn.Module and "super()" in source:
                raise cannot(cls.__name__, f"its {function.__name__} calls super()")
            self._code.refer(function, source, cls.__name__)
            lines += ["", indented(source)]
        return "\n".join(lines)

    def _kept(self, cls: _Class, name: str) -> str:
        """The line of `__init__` that keeps what it is given."""
        if not any(type(value) is Tensor for value in self._held[cls][name]):
            return f"self.{name} = {name}"
        self._code.imports.add("from torch import Tensor")
        return f"self.register_buffer({name!r}, {name}{', persistent=False' if name in self._passing[cls] else ''})"
