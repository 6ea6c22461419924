"""How many distinct sequences of blocks the stages of a space can spell.

Different picks may spell the same sequence, within a stage (a field without effect) and across stages (where one ends
and the next begins may be unclear), so products over choices overcount. The stages form a finite automaton whose
letters are blocks; it is made deterministic on the way, so that every sequence is counted once. A block that does
nothing is no letter: it is a step that may be taken without one, depending on the channels so far.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from search_space.blocks import Block
from search_space.errors import InputError
from search_space.template import StageTemplate

_Inside = tuple[int, int, int]
"""Stage, setting, and the possible numbers of blocks still to come in the stage, as a bit mask (never 0)."""
_Places = tuple[frozenset[int], frozenset[_Inside]]
"""Stages about to begin (the number of stages means: the end), and places inside stages."""
_States = tuple[int, _Places]
"""The channels so far (0 where it does not matter), and where one may be in the stages."""
_MAX_STEPS = 3_000_000


def count_sequences(stages: Sequence[StageTemplate], in_channels: Iterable[int]) -> int:
    """The number of distinct block sequences behind so many channels, summed over the `in_channels` given.

    Blocks that do nothing are left out of the sequences. Raises `InputError` if the stages are too alike for counting.
    """
    counting = _Counting(stages)
    return sum(counting.total(channels) for channels in in_channels)


class _Counting:
    def __init__(self, stages: Sequence[StageTemplate]) -> None:
        self._stages = stages
        self._steps = 0
        self._begin = functools.cache(self._first_letters)
        self._step = functools.cache(self._letters)
        self._closed = functools.cache(self._reachable)
        settings = [setting for stage in stages for setting in stage.settings]
        self._idle_channels = {channels for setting in settings for i in (0, 1) for channels in setting.idle(i)}

    def total(self, in_channels: int) -> int:
        total = 0
        spelled: dict[_States, int] = {self._at(in_channels, (frozenset([0]), frozenset())): 1}
        while spelled:
            longer: dict[_States, int] = {}
            for states, count in spelled.items():
                beginning, _ = states[1]
                total += count * (len(self._stages) in beginning)
                for end, letters in self._step(states).items():
                    longer[end] = longer.get(end, 0) + count * letters
            spelled = longer
        return total

    def _letters(self, states: _States) -> dict[_States, int]:
        """Where the letters lead: end -> number of letters. Few letters concern the places inside stages."""
        channels, (beginning, inside) = states
        first_ends, counted = self._begin(channels, beginning)
        counted = Counter(counted)
        ends: dict[Block, _Places] = {}
        for stage, setting, remaining in inside:
            after = self._after(stage, setting, remaining)
            for letter in self._stages[stage].settings[setting].rest:
                ends[letter] = _join(ends[letter], after) if letter in ends else after
        for letter, end in ends.items():
            if channels and letter.does_nothing(channels):
                continue
            if letter in first_ends:
                counted[self._at(letter.out_channels, first_ends[letter])] -= 1
                end = _join(first_ends[letter], end)
            counted[self._at(letter.out_channels, end)] += 1
        self._spend(len(ends) + len(counted))
        return {end: count for end, count in counted.items() if count}

    def _first_letters(self, channels: int, beginning: frozenset[int]) -> tuple[dict[Block, _Places], Counter[_States]]:
        """Where each first letter of these stages leads, also counted by where that is."""
        ends: dict[Block, _Places] = {}
        for stage, index, remaining in self._beginnings(beginning):
            after = self._after(stage, index, remaining)
            for letter in self._stages[stage].settings[index].first:
                if not (channels and letter.does_nothing(channels)):
                    ends[letter] = _join(ends[letter], after) if letter in ends else after
        self._spend(len(ends))
        return ends, Counter(self._at(letter.out_channels, end) for letter, end in ends.items())

    def _beginnings(self, stages: frozenset[int]) -> Iterator[_Inside]:
        """The places in front of the first blocks of these stages."""
        for stage in stages - {len(self._stages)}:
            depths = cast(Sequence[int], self._stages[stage].num_layers.options)
            remaining = sum(1 << depth for depth in depths)
            yield from ((stage, index, remaining) for index in range(len(self._stages[stage].settings)))

    def _at(self, channels: int, places: _Places) -> _States:
        """The places with all those to which blocks that do nothing lead from them."""
        return self._closed(channels, places) if channels in self._idle_channels else (0, places)

    def _reachable(self, channels: int, places: _Places) -> _States:
        reached = places
        while True:
            further = reached
            stops = [(0, stop) for stop in self._beginnings(reached[0])] + [(1, stop) for stop in reached[1]]
            for position, (stage, setting, remaining) in stops:
                if channels in self._stages[stage].settings[setting].idle(position):
                    further = _join(further, self._after(stage, setting, remaining))
            if further == reached:
                return channels, reached
            reached = further

    @staticmethod
    def _after(stage: int, setting: int, remaining: int) -> _Places:
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


def _join(one: _Places, other: _Places) -> _Places:
    """Both; places that differ only in the blocks still to come become one."""
    masks: dict[tuple[int, int], int] = {}
    for stage, setting, remaining in (*one[1], *other[1]):
        masks[stage, setting] = masks.get((stage, setting), 0) | remaining
    return one[0] | other[0], frozenset((*place, mask) for place, mask in masks.items())
