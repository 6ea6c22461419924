"""An object for several processes of this machine, whose arrays they share instead of copying them."""

from __future__ import annotations

import mmap
import pickle
import tempfile
from dataclasses import dataclass
from typing import Any

from search_space.errors import WorkFailed

_ALIGNMENT = 64  # bytes: what NumPy and PyTorch compute with at full speed


@dataclass(frozen=True)
class Pickled:
    """What a process has to be told, beside the file's descriptor."""

    head: bytes
    extents: tuple[tuple[int, int], ...]
    """Offset and size in bytes of each array in the file."""


class SharedPickle:
    """A pickle whose arrays lie in a file without a name, which is gone when all processes that have it are.

    Arrays are mapped: pages are read when they are needed, and shared until a process writes to its own. Raises
    `WorkFailed` if there is no room.
    """

    def __init__(self, value: Any) -> None:
        buffers: list[pickle.PickleBuffer] = []
        head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        extents = []
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            for buffer in buffers:
                with buffer.raw() as raw:
                    offset = -(-self._file.tell() // _ALIGNMENT) * _ALIGNMENT
                    self._file.seek(offset)
                    self._file.write(raw)
                    extents.append((offset, raw.nbytes))
            self._file.flush()
        except OSError as error:
            size = sum(buffer.raw().nbytes for buffer in buffers) / 1e9
            rule = f"the data cannot be handed to workers: {size:.1f} GB in {tempfile.gettempdir()}: {error.strerror}"
            raise WorkFailed(f"{rule}; let TMPDIR be a folder with room") from None
        self.pickled = Pickled(head, tuple(extents))

    @property
    def descriptor(self) -> int:
        """Of the file, to be inherited."""
        return self._file.fileno()

    def close(self) -> None:
        """Let go of the file; processes that have it keep it."""
        self._file.close()


def load(pickled: Pickled, descriptor: int) -> Any:
    """The object, in a process that has inherited the file."""
    if not any(size for _, size in pickled.extents):
        return pickle.loads(pickled.head, buffers=[b""] * len(pickled.extents))
    view = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY))
    return pickle.loads(pickled.head, buffers=[view[offset : offset + size] for offset, size in pickled.extents])
