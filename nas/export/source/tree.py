"""Expressions as values: calls and literals. They are rendered without layout, which is left to a formatter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol


@dataclass(frozen=True)
class Literal:
    """A number, a text, a name: what stands in the source as it is."""

    text: str


@dataclass(frozen=True)
class Argument:
    """`name` "" is one of many, as in a list. An argument at its `default` is left out."""

    name: str
    node: Node
    positional: bool = True
    default: str | None = None


@dataclass(frozen=True)
class Call:
    """`callee(arguments)`; without a callee a tuple or, with `brackets` `[]`, a list.

    `alike` are stateless modules that may stand for one another in a pattern, as activations do.
    """

    callee: str
    arguments: tuple[Argument, ...] = ()
    brackets: str = "()"
    alike: bool = False


Node = Literal | Call


def render(node: Node) -> str:
    """Python source."""
    if isinstance(node, Literal):
        return node.text
    words = []
    left_out = False
    for argument in node.arguments:
        if isinstance(argument.node, Literal) and argument.node.text == argument.default:
            left_out = True
            continue
        text = render(argument.node)
        words.append(text if argument.positional and not left_out else f"{argument.name}={text}")
    inside = ", ".join(words)
    if not node.callee and node.brackets == "()" and len(words) == 1:
        inside += ","
    return f"{node.callee}{node.brackets[0]}{inside}{node.brackets[1]}"


def pattern(node: Node) -> object:
    """Equal for nodes that differ in literals, and in modules that are alike, only."""
    if isinstance(node, Literal):
        return None
    inside = tuple((argument.name, pattern(argument.node)) for argument in node.arguments)
    return ("" if node.alike else node.callee, node.brackets, inside)


class Naming(Protocol):
    """Gives a name to a column of texts in which nodes of one pattern differ."""

    def __call__(self, column: tuple[str, ...], argument: str, path: tuple[str, ...], *, is_class: bool) -> str:
        """`argument` is the argument's name, `path` the names of those around it, from the outermost."""
        ...


def unify(nodes: Sequence[Node], name: Naming, path: tuple[str, ...] = ()) -> Node:
    """What nodes of one pattern have in common; where they differ, a name."""
    first = nodes[0]
    if isinstance(first, Literal):
        texts = tuple(node.text for node in nodes if isinstance(node, Literal))
        return first if len(set(texts)) == 1 else Literal(name(texts, path[-1], path[:-1], is_class=False))
    calls = [node for node in nodes if isinstance(node, Call)]
    callees = tuple(call.callee for call in calls)
    callee = first.callee if len(set(callees)) == 1 else name(callees, "activation", path, is_class=True)
    arguments = tuple(
        replace(
            argument,
            node=unify([call.arguments[index].node for call in calls], name, (*path, argument.name or str(index))),
        )
        for index, argument in enumerate(first.arguments)
    )
    return replace(first, callee=callee, arguments=arguments)
