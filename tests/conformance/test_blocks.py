"""What every block type owes. A new one is a file in `search_space/blocks/`, and is tested here without another."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
import torch

import search_space
from search_space import Block, InputError, count_cost, load_architecture
from search_space.component import component_types, field_rules, from_dict
from search_space.layers import BuildContext
from search_space.network import initialise
from search_space.outline import Counted, Layer, outline_of
from search_space.rules import Flag, Integer, OneOf, Width

TYPES = component_types("block")
pytestmark = pytest.mark.parametrize("name", sorted(TYPES))


def variants(name: str, *, busy_behind: int = 0) -> list[Block]:
    """The default block, and one for each field at another of its legal values; on demand those that do something."""
    default = cast(Block, from_dict("block", {"type": name, "out_channels": 16}))
    made = [default, dataclasses.replace(default, stride=2)]
    for field, rule in field_rules(TYPES[name]).items():
        if field in ("out_channels", "stride"):
            continue
        values: Sequence[object] = (0.25, 1)
        if isinstance(rule, OneOf):
            values = rule.options
        elif isinstance(rule, Flag):
            values = (True, False)
        elif isinstance(rule, Integer):
            values = (1, 3, 5, 7) if rule.odd else (0, 1, 2, 8)
        for value in values:
            with contextlib.suppress(InputError):  # not a legal value, or not beside the defaults of other fields
                made.append(dataclasses.replace(default, **{field: value}))
    return [block for block in made if not (busy_behind and block.does_nothing(busy_behind))]


@pytest.mark.parametrize(("in_channels", "size"), [(16, 8), (24, 7), (16, 1)])
def test_shapes_are_those_declared(name: str, in_channels: int, size: int) -> None:
    for block in variants(name):
        if size < block.stride and block.out_size(size) == 0:
            continue  # no network gets so far: its strides divide its image to one pixel at least
        module = block.build(in_channels, BuildContext(drop_path=0.1))
        initialise(module)
        out = module.eval()(torch.randn(2, in_channels, size, size))
        assert out.shape == (2, block.out_channels, block.out_size(size), block.out_size(size))
        assert torch.isfinite(out).all()


def test_it_can_be_trained_and_scripted_for_deployment(name: str) -> None:
    for block in variants(name, busy_behind=16)[:3]:
        module = block.build(16, BuildContext(drop_path=0.5))
        initialise(module)
        module(torch.randn(2, 16, 8, 8)).sum().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())
        torch.export.export(module.eval(), (torch.randn(1, 16, 8, 8),))


def test_plain_data_round_trip(name: str) -> None:
    for block in variants(name):
        assert from_dict("block", block.to_dict()) == block


def test_it_is_counted(name: str) -> None:
    for block in variants(name, busy_behind=16):
        module = block.build(16, BuildContext()).eval().requires_grad_(False)
        counted = outline_of(module).count((16, 8, 8))
        assert counted == Layer(module).count((16, 8, 8))  # part by part as in one piece
        assert counted.macs > 0
        assert counted.output_shape == (block.out_channels, block.out_size(8), block.out_size(8))


def test_modules_of_equal_repr_cost_the_same(name: str) -> None:
    """By it, the counter knows modules again."""
    counted: dict[str, Counted] = {}
    for block in variants(name, busy_behind=16):
        module = block.build(16, BuildContext()).eval().requires_grad_(False)
        cost = Layer(module).count((16, 8, 8))
        assert counted.setdefault(repr(module), cost) == cost


def test_all_widths_can_be_scaled_together(name: str) -> None:
    wide = {field: 64 for field, rule in field_rules(TYPES[name]).items() if isinstance(rule, Width)}
    assert cast(Block, from_dict("block", {"type": name, **wide})).out_channels == 64


def test_every_layer_is_initialised(name: str) -> None:
    """Parameters that nobody initialises would be whatever the memory held."""
    for block in variants(name, busy_behind=16):
        module = block.build(16, BuildContext())
        for parameter in module.parameters():
            parameter.data.fill_(math.nan) if parameter.dim() > 1 else None
        initialise(module)
        assert all(torch.isfinite(parameter).all() for parameter in module.parameters())


@torch.no_grad()
def test_what_does_nothing_passes_its_input_on(name: str) -> None:
    for block in variants(name):
        for in_channels in (16, 24):
            x = torch.randn(2, in_channels, 5, 5)
            module = block.build(in_channels, BuildContext(drop_path=0.1))
            if block.does_nothing(in_channels):
                assert torch.equal(module(x), x)
                assert torch.equal(module.eval()(x), x)
                assert not list(module.parameters())
            else:
                assert list(module.parameters())


def test_nothing_else_names_it(name: str) -> None:
    """Outside its own file (and data files), no code has the type's name as a string."""
    own = Path(search_space.__file__).parent / "blocks"
    root = own.parents[1]
    for package in ("search_space", "searchers", "evaluators", "latency", "nas"):
        for file in (root / package).rglob("*.py"):
            # `conv` is also the name of a stem, and `identity` that of an activation.
            if file.parent == own or name == "conv" or (name, file.name) == ("identity", "layers.py"):
                continue
            strings = [n.value for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Constant)]
            assert name not in strings, file


def test_a_network_of_it_has_a_cost(name: str) -> None:
    network = load_architecture("mobilenetv3-small")
    block = variants(name)[0]
    made = network.replace(stages=(search_space.Stage((dataclasses.replace(block, stride=2), block)),))
    assert count_cost(made).macs > 0
