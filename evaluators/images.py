"""Images that evaluators train and validate on, in memory or mapped from files."""

from __future__ import annotations

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluators.class_balance import counts_of, describe_counts, majority_share, warn_if_uneven
from search_space import InputError
from search_space.errors import WorkFailed

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
OnProgress = Callable[[int, int], None]
SPLITS = ("train", "val", "test")
SPLIT_SEED = 0  # the split belongs to the data, not to the run: runs with other seeds stay comparable
_VAL_SHARE = _TEST_SHARE = 0.2
# Smaller arrays are sent to other processes and machines, larger ones have to be found there.
_SENT_BYTES = 2**30


class ImageSource(ABC):
    """A labelled image data set with distinct training, validation and test images, perhaps not yet read.

    Searches train on `train` and rank by it and `val`; `test` is never looked at while searching.
    """

    name: str
    splits: Mapping[str, Sized]
    num_classes: int
    mirrored: bool
    """Whether a mirror image keeps its class, so that flips may augment."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Height and width in pixels, the larger of the two."""

    @abstractmethod
    def load(self, *, size_px: int, train: int, val: int) -> ImageData:
        """The images, at least `train` and `val` of them if there are so many, for use at `size_px`.

        Raises `InputError` if too few can be read, `WorkFailed` if there is no room for them.
        """


@dataclass(frozen=True, eq=False)
class Split:
    """Images [N, H, W, C] (uint8) and labels [N] (0 … num_classes - 1)."""

    images: Pixels
    labels: Labels
    file: Path | None = None
    """What the images are mapped from, if not in memory: the first bytes of this file."""

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Split:
        """The first of them, or all if there are no more; nothing is copied."""
        return Split(self.images[:count], self.labels[:count], self.file)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.file is not None and self.images.nbytes > _SENT_BYTES:
            return map_split, (self.file, self.images.shape, self.labels)
        return Split, (self.images, self.labels)


def map_split(file: Path, shape: tuple[int, ...], labels: Labels) -> Split:
    """A split whose images [N, H, W, C] are the first in a file; what is read of it the processes of a machine share.

    Raises `WorkFailed` if it is not there.
    """
    try:
        mapped = np.memmap(file, np.uint8, "r", shape=shape)
    except (OSError, ValueError) as error:
        rule = f"the images in {file} cannot be read on this machine ({error})"
        raise WorkFailed(f"{rule}; all machines need them, so let XDG_CACHE_HOME be a folder that they share") from None
    return Split(mapped.view(np.ndarray), labels, file)  # a plain array is sent without being copied


@dataclass(frozen=True, eq=False)
class ImageData(ImageSource):
    """Images at hand."""

    name: str
    splits: Mapping[str, Split]
    num_classes: int
    mirrored: bool
    class_names: tuple[str, ...] = ()
    known_fingerprint: str = ""
    """Their fingerprint, where it was taken before."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """Plain data for the run's record: what they were chosen from, and what was left out."""

    @property
    def size(self) -> int:
        """Of the training images."""
        size: int = max(self.splits["train"].images.shape[1:3])
        return size

    def load(self, *, size_px: int, train: int, val: int) -> ImageData:
        """Themselves."""
        return self

    @functools.cached_property
    def _fingerprint(self) -> str:
        if self.known_fingerprint:
            return self.known_fingerprint
        digest = hashlib.sha256()
        for name in SPLITS:
            split = self.splits[name]
            digest.update(f"{name}{split.images.shape}".encode())
            digest.update(np.ascontiguousarray(split.images).data)
            digest.update(np.ascontiguousarray(split.labels).data)
        return digest.hexdigest()[:16]

    def fingerprint(self) -> str:
        """Content hash: 16 hexadecimal digits of SHA-256 over all images and labels."""
        return self._fingerprint

    def describe(self) -> dict[str, object]:
        """Plain data for the run's record."""
        height, width, channels = self.splits["train"].images.shape[1:]
        counts = {f"{name}_images": len(split) for name, split in self.splits.items()}
        shape = {"height_px": height, "width_px": width, "channels": channels, "num_classes": self.num_classes}
        names = self.class_names or tuple(map(str, range(self.num_classes)))
        by_class = describe_counts(counts_of(self.splits["train"].labels, self.num_classes), names)
        balance = {
            "train_images_by_class": by_class,
            "val_majority_share": round(majority_share(self.splits["val"].labels), 6),
        }
        return {"name": self.name, "fingerprint": self.fingerprint(), **counts, **shape, **balance, **self.origin}


def make_image_data(
    name: str,
    given: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    *,
    mirrored: bool | None = None,
    where: str = "",
) -> ImageData:
    """Check arrays and split off what is missing.

    `given` has `train` and perhaps `val` and `test`: images [N, H, W] or [N, H, W, C], uint8 or floats from 0 to 1,
    with labels [N] of any whole numbers. Missing splits are taken from the training images, stratified by class: a
    fifth for the test, a fifth of the rest for validation. `mirrored` None means: yes for colour images, no for grey
    ones (digits, letters). Warns of classes much larger than others. Raises `InputError`.
    """
    where = where or name
    arrays = {
        split: (_pixels(images, split, where), _labels(labels, split, where))
        for split, (images, labels) in given.items()
    }
    for split, (images, labels) in arrays.items():
        if len(images) != len(labels):
            raise InputError(f"{split} needs as many labels as images, {len(images)}", len(labels), where=where)
        if images.shape[3] != arrays["train"][0].shape[3]:
            raise InputError(f"{split} must have as many channels as train", images.shape[3], where=where)
    classes = np.unique(arrays["train"][1])
    if len(classes) < 2:
        raise InputError("training labels must have at least two classes", len(classes), where=where)
    for split in ("test", "val"):
        if split not in arrays:
            images, labels = arrays["train"]
            keep, take = split_off(labels, split, where)
            arrays["train"], arrays[split] = (images[keep], labels[keep]), (images[take], labels[take])
    splits = {}
    for split in SPLITS:
        images, labels = arrays[split]
        unknown = np.setdiff1d(labels, classes)
        if len(unknown):
            raise InputError(f"{split} labels must be classes of the training images", unknown[0].item(), where=where)
        splits[split] = Split(images, np.searchsorted(classes, labels).astype(np.int64))
    if mirrored is None:
        mirrored = splits["train"].images.shape[3] == 3
    names = tuple(str(label) for label in classes)
    warn_if_uneven(name, splits["train"].labels, splits["val"].labels, names)
    return ImageData(name, splits, len(classes), mirrored, names)


def split_off(labels: Labels, split: str, where: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Places of the training images to keep, and of those to take as `split`. Raises `InputError` if too few."""
    from sklearn.model_selection import train_test_split  # here: it takes seconds to load, and workers never need it

    share = _VAL_SHARE if split == "val" else _TEST_SHARE
    try:
        keep, take = train_test_split(np.arange(len(labels)), test_size=share, stratify=labels, random_state=SPLIT_SEED)
    except ValueError:
        counts = np.bincount(np.unique(labels, return_inverse=True)[1])
        rule = f"every class needs at least 5 images to split off {split} images"
        raise InputError(
            rule, int(counts.min()), where=where, remedy="add images, or give the split yourself"
        ) from None
    return keep, take


def _pixels(images: npt.ArrayLike, split: str, where: str) -> Pixels:
    array = np.asarray(images)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or 0 in array.shape or array.shape[3] not in (1, 3):
        rule = f"{split} images must be an array [N, H, W] or [N, H, W, C] with 1 or 3 channels"
        raise InputError(rule, array.shape, where=where, remedy="reshape it, or drop the alpha channel")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1:  # false for NaN
        scaled: Pixels = np.rint(array * 255).astype(np.uint8)
        return scaled
    rule = f"{split} images must be uint8, or floats from 0 to 1"
    remedy = "divide by 255" if array.dtype.kind == "f" else "convert them"
    raise InputError(
        rule,
        f"{array.dtype} up to {array.max():g}" if array.dtype.kind in "fiu" else str(array.dtype),
        where=where,
        remedy=remedy,
    )


def _labels(labels: npt.ArrayLike, split: str, where: str) -> Labels:
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        rule = f"{split} labels must be whole numbers [N]"
        raise InputError(rule, f"{array.dtype} {array.shape}", where=where, remedy="convert them")
    return array.astype(np.int64)
