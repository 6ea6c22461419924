"""From image files of any kind to square RGB pixels, in parallel."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from search_space.errors import WorkFailed, one_line, short

Failure = tuple[int, str]
"""The place of a file among those asked for, and why it cannot be read."""

_CHUNK = 32
# Fewer are read faster by this process than others take to start.
_FEW = 2_000


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


def _read_chunk(paths: Sequence[str], size_px: int) -> tuple[npt.NDArray[np.uint8], list[Failure]]:
    pixels = np.empty((len(paths), size_px, size_px, 3), np.uint8)
    failures: list[Failure] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of size and metadata: what can be read is read
        for place, path in enumerate(paths):
            try:
                pixels[place - len(failures)] = read_image(path, size_px)
            except Exception as error:  # image decoders each have errors of their own
                # Decoders put the path, or an object's address, into some messages.
                reason = str(error).replace(repr(path), "").replace(path, "").split(" <")[0] or type(error).__name__
                failures.append((place, short(one_line(reason))[1:-1]))
    return pixels[: len(paths) - len(failures)], failures


def read_images(paths: Sequence[str], size_px: int) -> Iterator[tuple[npt.NDArray[np.uint8], list[Failure]]]:
    """Read files on all processors, in their order, a few at a time.

    Yields the pixels [n, size_px, size_px, 3] of those that can be read, and the places of the others among `paths`.
    Raises `WorkFailed` if a process dies of it.
    """
    import joblib
    from joblib.externals import loky

    processes = 1 if len(paths) <= _FEW else _processors()
    starts = range(0, len(paths), _CHUNK)
    work = (joblib.delayed(_read_chunk)(paths[start : start + _CHUNK], size_px) for start in starts)
    try:
        chunks: Any = joblib.Parallel(processes, return_as="generator")(work)
        for start, (pixels, failures) in zip(starts, chunks, strict=True):
            yield pixels, [(start + place, reason) for place, reason in failures]
    except loky.process_executor.TerminatedWorkerError:
        raise WorkFailed(
            "a process that reads images died: out of memory, or a file that crashes its decoder"
        ) from None
    finally:
        if processes > 1:  # they would stay for minutes, beside the workers of the search
            loky.get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
