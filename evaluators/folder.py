"""`imagefolder:DIR`: class folders of images, or `train`, and perhaps `val` and `test`, folders of those.

`val` may also be named `valid` or `validation`.

Files are listed at once, and read when it is known how many of them, at which size, are wanted.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evaluators.class_balance import warn_if_uneven
from evaluators.decoding import read_image
from evaluators.image_cache import Decoded, Wanted, decoded
from evaluators.images import SPLIT_SEED, SPLITS, ImageData, ImageSource, Labels, OnProgress, split_off
from search_space import InputError

_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".jp2", ".png", ".webp", ".avif"),
    *(".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"),
)
_SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_SPELLINGS = {"train", "training", "val", "valid", "validation", "eval", "test", "testing"}
_VERSION = 1  # to be raised when the same files would give other pixels
_PHOTOGRAPH_PX = 64
_LOOKED_AT = 32


@dataclass(frozen=True)
class Listed:
    """Files of a split, by paths inside its folder, with their sizes (bytes), times (ns) and classes [N]."""

    folder: str
    files: tuple[str, ...]
    stamps: npt.NDArray[np.int64]
    """[N, 2]"""
    labels: Labels

    def __len__(self) -> int:
        return len(self.files)

    def take(self, places: npt.NDArray[np.int64]) -> Listed:
        """Some of them."""
        files = tuple(self.files[place] for place in places)
        return Listed(self.folder, files, self.stamps[places], self.labels[places])


class ImageFolder(ImageSource):
    """Images of a folder, at any size.

    Of more files than are wanted, a part is read in which classes have the shares they have among all, but one image at
    least; the same files however often. Raises `InputError` if there are too few.
    """

    def __init__(self, path: str, on_progress: OnProgress = lambda done, total: None) -> None:
        self.name = f"imagefolder:{path}"
        self._on_progress = on_progress
        self._loaded: dict[tuple[int, ...], ImageData] = {}
        self._told: set[str] = set()
        self.class_names, splits = _list_splits(path)
        self.num_classes = len(self.class_names)
        train = splits["train"]
        if self.num_classes < 2:
            remedy = "put images into one folder for each class"
            raise InputError(
                "images must be of two classes at least", list(self.class_names), where=path, remedy=remedy
            )
        for split in ("test", "val"):
            if split not in splits:
                keep, take = split_off(train.labels, split, path)
                train, splits[split] = train.take(keep), train.take(take)
        self.splits: Mapping[str, Listed] = {**splits, "train": train}
        warn_if_uneven(self.name, train.labels, splits["val"].labels, self.class_names)

    @functools.cached_property
    def mirrored(self) -> bool:  # type: ignore[override]
        """Not if the first images are grey: as with arrays, these may be digits or letters."""
        train = self.splits["train"]
        readable = 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for place in mixed(train.labels)[:_LOOKED_AT]:
                with contextlib.suppress(Exception):  # what cannot be read will be told of when all are read
                    pixels = read_image(f"{train.folder}/{train.files[place]}", _PHOTOGRAPH_PX)
                    if np.ptp(pixels, axis=2).any():
                        return True
                    readable += 1
        return not readable

    @property
    def size(self) -> int:
        """Files may have any size; they are taken for photographs."""
        return _PHOTOGRAPH_PX

    def load(self, *, size_px: int, train: int, val: int) -> ImageData:
        """Images [N, size_px, size_px, 3] from the cache, or read now; up to `val` test images, too."""
        limits = {"train": train, "val": val, "test": val}
        counts = tuple(min(limit, len(self.splits[name])) for name, limit in limits.items())
        asked = (size_px, *counts)
        if asked not in self._loaded:
            self._loaded[asked] = self._load(size_px, dict(zip(limits, counts, strict=True)))
        return self._loaded[asked]

    def _load(self, size_px: int, counts: Mapping[str, int]) -> ImageData:
        digest = hashlib.sha256(f"{_VERSION} {size_px}".encode())
        wanted = {}
        for name in SPLITS:
            listed = self.splits[name]
            order = mixed(listed.labels)
            paths = [f"{listed.folder}/{listed.files[place]}" for place in order]
            wanted[name] = Wanted(paths, listed.labels[order], counts[name])
            digest.update(os.fsencode("\0".join([name, os.path.realpath(listed.folder), *listed.files])))
            digest.update(listed.stamps.data)
        found = decoded(digest.hexdigest()[:32], wanted, size_px, self._on_progress)
        self._report(counts, found)
        origin = {
            "files": {name: len(self.splits[name]) for name in SPLITS},
            "unreadable_files": found.unreadable.count,
            "unreadable": dict(found.unreadable.reasons),
        }
        return ImageData(
            self.name, found.splits, self.num_classes, self.mirrored, self.class_names, found.fingerprint, origin
        )

    def _report(self, counts: Mapping[str, int], found: Decoded) -> None:
        """Once each: what is left out, and why."""
        few = [f"{counts[name]:,} of {len(self.splits[name]):,} {name}" for name in ("train", "val")]
        said = []
        if any(counts[name] < len(self.splits[name]) for name in ("train", "val")):
            said.append(f"{' and '.join(few)} images are used, as many as the recipe asks for")
        if found.unreadable.count:
            number, tried = found.unreadable.count, found.unreadable.tried
            said.append(f"{number:,} of {tried:,} files could not be read and are left out: {found.unreadable.first()}")
        for text in said:
            if text not in self._told:
                self._told.add(text)
                warnings.warn(f"{self.name}: {text}", stacklevel=5)


def mixed(labels: Labels) -> npt.NDArray[np.int64]:
    """An order of images in which every beginning has all classes in proportion; at first comes one of each.

    Random, but the same for the same labels.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # by class
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    share = rank / np.repeat(counts, counts)
    return order[np.lexsort((rng.random(len(labels)), share))]


def _list_splits(path: str) -> tuple[tuple[str, ...], dict[str, Listed]]:
    """Names of the classes, and the splits that are there."""
    if not path or not Path(path).is_dir():
        raise InputError("imagefolder needs a folder", path, remedy="use imagefolder:DIR, one folder a class inside")
    folders = _split_folders(path)
    names: tuple[str, ...] = ()
    splits = {}
    for split, folder in folders.items():
        found = _list_classes(folder)
        names = names or tuple(found)
        odd = sorted(set(found) - set(names))
        if odd:
            raise InputError(f"{split} must have the classes of train", ", ".join(map(shown, odd)), where=folder)
        number = {name: label for label, name in enumerate(names)}
        files = [(file, number[name]) for name, files in found.items() for file in files]
        stamps = np.array([_stamp(f"{folder}/{file}") for file, _ in files], np.int64)
        labels = np.array([label for _, label in files], np.int64)
        splits[split] = Listed(folder, tuple(file for file, _ in files), stamps, labels)
    return tuple(map(shown, names)), splits


def _split_folders(path: str) -> dict[str, str]:
    """The folder of each split that is there: the whole one if none of them is `train`. Warns of those not used."""
    if not Path(path, "train").is_dir():
        _refuse_other_spellings(path)
        return {"train": path}
    folders: dict[str, str] = {}
    for split, names in _SPLIT_FOLDERS.items():
        there = [name for name in names if Path(path, name).is_dir()]
        if len(there) > 1:
            remedy = "put them into one of these folders, and remove or rename the others"
            raise InputError(f"{split} images must be in one folder", ", ".join(there), where=path, remedy=remedy)
        if there:
            folders[split] = f"{path}/{there[0]}"
    known = {name for names in _SPLIT_FOLDERS.values() for name in names}
    others = [shown(name) for name in _folders_in(path) if name not in known]
    if others:
        text = f"beside train only val (or valid, validation) and test are used, not {', '.join(others[:5])}"
        more = f" and {len(others) - 5:,} more" if len(others) > 5 else ""
        warnings.warn(f"{path}: {text}{more}", stacklevel=4)
    return folders


def _refuse_other_spellings(path: str) -> None:
    """Raise `InputError` if what would be taken for classes looks like splits."""
    names = _folders_in(path)
    if names and {name.lower() for name in names} <= _SPELLINGS:
        rule = "the folder of training images must be named train"
        raise InputError(rule, ", ".join(map(shown, names)), where=path, remedy="rename it")


def _folders_in(folder: str) -> list[str]:
    """Names of what might be splits or classes, sorted."""
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not _hidden(entry.name))
    except OSError as error:
        raise InputError(f"a folder of images cannot be read: {error.strerror}", where=folder) from None


def _list_classes(folder: str) -> dict[str, list[str]]:
    """Image files of each class, sorted."""
    names = _folders_in(folder)
    found = {name: sorted(_image_files(folder, name)) for name in names}
    empty = [shown(name) for name, files in found.items() if not files]
    if len(empty) == len(names):
        remedy = "put images into one folder for each class"
        raise InputError("not a folder of class folders with images", where=folder, remedy=remedy)
    if empty:
        warnings.warn(f"{folder}: folders without images are no classes: {', '.join(empty[:5])}", stacklevel=4)
    return {name: files for name, files in found.items() if files}


def _image_files(folder: str, name: str) -> Iterator[str]:
    """Paths inside `folder` of images in one of its folders, and deeper; links are followed, but not twice."""
    seen = set()
    start = len(f"{folder}/")
    for place, inner, files in os.walk(f"{folder}/{name}", followlinks=True):
        real = os.path.realpath(place)
        inner[:] = [] if real in seen else sorted(one for one in inner if not _hidden(one))
        if real not in seen:
            seen.add(real)
            for file in files:
                if file.lower().endswith(_SUFFIXES) and not _hidden(file):
                    yield f"{place}/{file}"[start:]


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _stamp(file: str) -> tuple[int, int]:
    """Size and time of change; nothing of a link that leads nowhere, which will be found unreadable."""
    try:
        about = Path(file).stat()
    except OSError:
        return (-1, -1)
    return (about.st_size, about.st_mtime_ns)


def shown(name: str) -> str:
    """A file's name as text, even if it was none."""
    return os.fsencode(name).decode("utf-8", "replace")
