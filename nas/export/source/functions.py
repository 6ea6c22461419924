"""One function for all blocks that differ in numbers only, so that a network of eighty blocks stays readable."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nas.export.source.tree import Call, Node, pattern, render, unify


@dataclass
class _Parameters:
    """Names the columns in which blocks differ, after the fields they come from where that can be told."""

    known: Mapping[str, tuple[str, ...]]
    """Name -> what each block has there: channels around it and fields."""
    taken: dict[tuple[str, ...], str] = field(default_factory=dict)
    classes: set[str] = field(default_factory=set)

    def __call__(self, column: tuple[str, ...], argument: str, path: tuple[str, ...], *, is_class: bool) -> str:
        if column not in self.taken:
            for other, name in self.taken.items():
                if name.startswith("kernel_size") and column == tuple(_half(text) for text in other):
                    return f"{name} // 2"  # how a kernel is padded
            self.taken[column] = self._free(self._name(column, argument, path))
            if is_class:
                self.classes.add(self.taken[column])
        return self.taken[column]

    def _name(self, column: tuple[str, ...], argument: str, path: tuple[str, ...]) -> str:
        for name, values in self.known.items():
            if values == column:
                return name
        if argument.endswith(("channels", "features")) or argument == "groups":
            own = path[-1] if path and not path[-1].isdigit() else "hidden"
            return f"{own}_channels"
        return argument if argument.isidentifier() else "value"

    def _free(self, name: str) -> str:
        names = set(self.taken.values())
        return next(one for one in (name, *(f"{name}_{n}" for n in range(2, 1000))) if one not in names)

    def ordered(self) -> list[tuple[str, tuple[str, ...]]]:
        """Name and column of the parameters: known ones first."""
        rank = {name: place for place, name in enumerate(self.known)}
        return sorted(
            ((name, column) for column, name in self.taken.items()), key=lambda one: rank.get(one[0], len(rank))
        )

    def type_of(self, name: str, column: tuple[str, ...]) -> str:
        if name in self.classes:
            return "type[nn.Module]"
        try:
            types = {type(ast.literal_eval(text)) for text in column}
        except (ValueError, SyntaxError):
            return "object"
        types = {float} if types == {int, float} else types
        return types.pop().__name__ if len(types) == 1 else "object"


def _half(text: str) -> str:
    return str(int(text) // 2) if text.isdigit() else ""


@dataclass(frozen=True)
class BlockExpression:
    """A block of the network: the expression that makes it, its type, and what is known of it by name."""

    node: Call
    kind: str
    known: Mapping[str, str]


def block_functions(blocks: Sequence[BlockExpression]) -> tuple[list[str], list[str]]:
    """Sources of the functions, and the call that stands for each block."""
    groups: dict[tuple[str, object], list[int]] = {}
    for index, block in enumerate(blocks):
        groups.setdefault((block.kind, pattern(block.node)), []).append(index)
    kinds = [kind for kind, _ in groups]
    sources: list[str] = []
    calls = [""] * len(blocks)
    for (kind, _), members in groups.items():
        base = re.sub(r"\W", "_", kind) or "block"
        number = sum(source.startswith((f"def {base}_", f"def {base}(")) for source in sources) + 1
        function = f"{base}_{number}" if kinds.count(kind) > 1 else f"{base}_block"
        shared = [name for name in blocks[members[0]].known if all(name in blocks[index].known for index in members)]
        known = {name: tuple(blocks[index].known[name] for index in members) for name in shared}
        if known.get("in_channels") == known.get("out_channels"):
            known = {"channels": known["in_channels"], **known}
        parameters = _Parameters(known)
        body = unify([blocks[index].node for index in members], parameters)
        ordered = parameters.ordered()
        for place, index in enumerate(members):
            calls[index] = f"{function}({', '.join(column[place] for _, column in ordered)})"
        signature = ", ".join(f"{name}: {parameters.type_of(name, column)}" for name, column in ordered)
        numbers = ", ".join(str(index + 1) for index in members)
        says = f'"""Block{"s" if len(members) > 1 else ""} {numbers}."""'
        if len(says) > 80:
            says = f'"""{len(members)} blocks, from {members[0] + 1} to {members[-1] + 1}."""'
        sources.append(f"def {function}({signature}) -> nn.Module:\n    {says}\n    return {render(body)}\n")
    return sources, calls


def head_expression(head: Node, other: Node, classes: int, other_classes: int) -> tuple[str, bool]:
    """The head, with `num_classes` for its classes if a head for others differs in these alone; and whether it does."""
    if pattern(head) != pattern(other):
        return render(head), False
    parameters = _Parameters({"num_classes": (str(classes), str(other_classes))})
    body = unify([head, other], parameters)
    if list(parameters.taken.values()) != ["num_classes"]:
        return render(head), False
    return render(body), True
