"""From image files of any kind to square RGB pixels, in parallel."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from search_space.errors import WorkFailed, one_line

Failure = tuple[int, str]
"""The place of a file among those asked for, and why it cannot be read."""

Chunk = tuple[npt.NDArray[np.uint8], list[Failure]]
_CHUNK = 32
_FEW = 500  # not worth starting processes for
_REASON = 100  # characters


def read_image(path: str, size_px: int) -> npt.NDArray[np.uint8]:
    """The middle square of an image as [size_px, size_px, 3].

    Turned as EXIF says, the first frame of several, transparency on white, grey repeated, 16-bit values scaled to 8.
    Raises whatever the decoder does.
    """
    with Image.open(path) as image:
        # JPEG files are decoded at a fraction of their size, at least twice as large as asked for.
        image.draft("RGB", (2 * size_px, 2 * size_px))
        image.load()
        turned: Image.Image = image
        with contextlib.suppress(Exception):  # spoilt EXIF data do not spoil the picture
            turned = ImageOps.exif_transpose(image)
        return np.asarray(ImageOps.fit(_rgb(turned), (size_px, size_px), Image.Resampling.BILINEAR))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _of_many_bits(image).convert("RGB")
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), coloured).convert("RGB")
    return image.convert("RGB")


def _of_many_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as 8; of more bits, or floats, nobody knows which value is white."""
    values = np.asarray(image)
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 65_535:
        raise ValueError(f"pixels of mode {image.mode} are beyond 16 bits")
    return Image.fromarray((values >> 8).astype(np.uint8))


class _Chunks(Dataset[Chunk]):
    """Files, a few at a time: those that can be read as [n, size_px, size_px, 3], and the others."""

    def __init__(self, paths: Sequence[str], size_px: int) -> None:
        self._paths = paths
        self._size_px = size_px

    def __len__(self) -> int:
        return -(-len(self._paths) // _CHUNK)

    def __getitem__(self, number: int) -> Chunk:
        start = number * _CHUNK
        paths = self._paths[start : start + _CHUNK]
        pixels = np.empty((len(paths), self._size_px, self._size_px, 3), np.uint8)
        failures: list[Failure] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of size and metadata: what can be read is read
            for place, path in enumerate(paths):
                try:
                    pixels[place - len(failures)] = read_image(path, self._size_px)
                except Exception as error:  # image decoders each have errors of their own
                    # Decoders put the path, or an object's address, into some messages.
                    reason = str(error).replace(repr(path), "").replace(path, "").split(" <")[0].strip(" :")
                    failures.append((start + place, one_line(reason)[:_REASON] or type(error).__name__))
        return pixels[: len(paths) - len(failures)], failures


def read_images(paths: Sequence[str], size_px: int) -> Iterator[Chunk]:
    """Read files on all processors, in their order, a few at a time.

    Yields the pixels [n, size_px, size_px, 3] of those that can be read, and the places of the others among `paths`.
    Raises `WorkFailed` if a process dies of it.
    """
    # Other ways to start processes run the caller's script again.
    forked = "fork" in multiprocessing.get_all_start_methods() and len(paths) > _FEW
    loader: DataLoader[Chunk] = DataLoader(
        _Chunks(paths, size_px),
        batch_size=None,
        num_workers=_processors() if forked else 0,
        multiprocessing_context="fork" if forked else None,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # the global one is not ours
    )
    try:
        yield from loader
    except RuntimeError as error:
        reason = "out of memory, or a file that crashes its decoder"
        raise WorkFailed(f"a process that reads images died ({reason}): {error}") from None


def _as_it_is(chunk: Any) -> Any:
    return chunk


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
