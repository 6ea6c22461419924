"""How many distinct sequences of blocks the stages of a space can spell.

Different picks may spell the same sequence, within a stage (a field without effect) and across stages (where one ends
and the next begins may be unclear), so products over choices overcount. The stages form a finite automaton whose
letters are blocks; it is made deterministic on the way, so that every sequence is counted once.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from typing import cast

from search_space.blocks import Block
from search_space.errors import InputError
from search_space.template import StageTemplate

_Inside = tuple[int, int, int]
"""Stage, setting, and the possible numbers of blocks still to come in the stage, as a bit mask (never 0)."""
_States = tuple[frozenset[int], frozenset[_Inside]]
"""Stages about to begin (the number of stages means: the end), and places inside stages."""
_NOWHERE: _States = (frozenset(), frozenset())
_MAX_STEPS = 3_000_000


def count_sequences(stages: Sequence[StageTemplate]) -> int:
    """The number of distinct block sequences. Raises `InputError` if the stages are too alike for it to be counted."""
    return _Counting(stages).total()


class _Counting:
    def __init__(self, stages: Sequence[StageTemplate]) -> None:
        self._stages = stages
        self._steps = 0
        self._begin = functools.cache(self._first_letters)
        self._step = functools.cache(self._letters)

    def total(self) -> int:
        total = 0
        spelled: dict[_States, int] = {(frozenset([0]), frozenset()): 1}
        while spelled:
            longer: dict[_States, int] = {}
            for states, count in spelled.items():
                total += count * (len(self._stages) in states[0])
                for end, letters in self._step(states).items():
                    longer[end] = longer.get(end, 0) + count * letters
            spelled = longer
        return total

    def _letters(self, states: _States) -> dict[_States, int]:
        """Where the letters lead: end -> number of letters. Few letters concern the places inside stages."""
        beginning, inside = states
        first_ends, counted = self._begin(beginning)
        counted = Counter(counted)
        ends: dict[Block, _States] = {}
        for stage, setting, remaining in inside:
            after = self._after(stage, setting, remaining)
            for letter in self._stages[stage].settings[setting].rest:
                ends[letter] = _join(ends[letter], after) if letter in ends else after
        for letter, end in ends.items():
            if letter in first_ends:
                counted[first_ends[letter]] -= 1
                end = _join(first_ends[letter], end)
            counted[end] += 1
        self._spend(len(ends) + len(counted))
        return {end: count for end, count in counted.items() if count}

    def _first_letters(self, beginning: frozenset[int]) -> tuple[dict[Block, _States], Counter[_States]]:
        """Where each first letter of these stages leads, also counted by where that is."""
        ends: dict[Block, _States] = {}
        for stage in beginning - {len(self._stages)}:
            depths = cast(Sequence[int], self._stages[stage].num_layers.options)
            remaining = sum(1 << depth for depth in depths)
            for index, setting in enumerate(self._stages[stage].settings):
                after = self._after(stage, index, remaining)
                for letter in setting.first:
                    ends[letter] = _join(ends[letter], after) if letter in ends else after
        self._spend(len(ends))
        return ends, Counter(ends.values())

    @staticmethod
    def _after(stage: int, setting: int, remaining: int) -> _States:
        """One block later: still inside the stage, or the next one begins, or either."""
        left = remaining >> 1
        beginning = frozenset([stage + 1] if left & 1 else [])
        left &= ~1
        return beginning, frozenset([(stage, setting, left)] if left else [])

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MAX_STEPS:
            rule = "the stages are too alike for the distinct networks to be counted"
            raise InputError(rule, remedy="give neighbouring stages other widths, or a stride between them")


def _join(one: _States, other: _States) -> _States:
    """Both; places that differ only in the blocks still to come become one."""
    masks: dict[tuple[int, int], int] = {}
    for stage, setting, remaining in (*one[1], *other[1]):
        masks[stage, setting] = masks.get((stage, setting), 0) | remaining
    return one[0] | other[0], frozenset((*place, mask) for place, mask in masks.items())
