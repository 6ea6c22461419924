"""Prepared images that are kept from trial to trial."""

from __future__ import annotations

from typing import Any

from evaluators import batches
from evaluators.batches import Batches, Form, held_bytes, prepare
from evaluators.images import Split


class BatchStore:
    """Splits in the forms they were asked for, for all evaluators of a process that share it.

    Training and validation images of one form always find room, `HELD_BYTES` each; those of other forms are let go if
    there is too little, the one that was not used for longest first. Other processes begin with an empty one.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], tuple[Split, Batches, int]] = {}  # the latest used last

    def prepared(self, split: Split, limit: int, form: Form) -> Batches:
        """As `prepare` does, but each once."""
        count = min(limit, len(split))
        statistics = (*form.mean.tolist(), *form.std.tolist())
        key = (id(split), count, form.size_px, form.channels, form.device, statistics)
        found = self._kept.pop(key, None)
        if found is None:
            needed = held_bytes(count, form)
            while self._kept and self.held_bytes + needed > 2 * batches.HELD_BYTES:
                del self._kept[next(iter(self._kept))]
            found = split, prepare(split, limit, form), needed  # with the split, whose id is that of no other so long
        self._kept[key] = found
        return found[1]

    @property
    def held_bytes(self) -> int:
        """What all that is kept takes up."""
        return sum(held for _, _, held in self._kept.values())

    def __reduce__(self) -> tuple[type[BatchStore], tuple[()]]:
        return BatchStore, ()
