"""Decoded images on disk: read once, then mapped by every process that needs them, in this run and in later ones."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from evaluators.decoding import read_images
from evaluators.images import Labels, OnProgress, Pixels, Split, map_split
from search_space import InputError
from search_space.errors import WorkFailed

_MOST_UNREADABLE = 0.5
_NAMED = 20
_ABOUT = "about.json"
_FINGERPRINT = 16  # hexadecimal digits


@dataclass(frozen=True)
class Wanted:
    """Files to be read, in this order, until `count` could be; and the label of each."""

    files: Sequence[str]
    labels: Labels
    count: int


@dataclass
class Unreadable:
    """Files that could not be read: how many of those tried, and why the first of them."""

    tried: int = 0
    count: int = 0
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, file: str, reason: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.reasons) < _NAMED:
            self.reasons[file] = reason

    def first(self, named: int = 3) -> str:
        """The first few, in words."""
        few = [f"{file} ({reason})" for file, reason in list(self.reasons.items())[:named]]
        return ", ".join(few) + (f" and {self.count - len(few):,} more" if self.count > len(few) else "")


@dataclass(frozen=True)
class Decoded:
    """Images of each split, and a hash of them all."""

    splits: dict[str, Split]
    unreadable: Unreadable
    """Of all that were tried, perhaps for more images than these."""
    fingerprint: str


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/nas/images`, by default under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nas" / "images"


def decoded(key: str, wanted: Mapping[str, Wanted], size_px: int, on_progress: OnProgress) -> Decoded:
    """The images of each split [N, size_px, size_px, 3], read now unless they are in the cache under this key.

    The key says which files, in which order; an entry with more images of each split will do. Whoever comes second
    waits for the first. Raises `InputError` if most cannot be read, `WorkFailed` if there is no room.
    """
    counts = {name: one.count for name, one in wanted.items()}
    place = cache_folder() / "-".join([key, *map(str, counts.values())])
    found = _find(key, counts)
    if found is not None:
        return found
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{place}.lock"):
            found = _find(key, counts)
            if found is None:  # nobody was faster
                with _new_folder(place) as folder:
                    _refuse_if_too_large(folder, sum(counts.values()) * size_px**2 * 3)
                    _fill(folder, wanted, size_px, on_progress)
                found = _open(place)
    except OSError as error:
        remedy = "let XDG_CACHE_HOME be a folder with room"
        raise WorkFailed(f"images cannot be kept in {place.parent}: {error.strerror or error}; {remedy}") from None
    assert found is not None
    return found


def _find(key: str, counts: Mapping[str, int]) -> Decoded | None:
    """So many images of each split, from the smallest entry that has them."""
    large_enough = []
    for place in cache_folder().glob(f"{key}-*"):
        numbers = place.name.split("-")[1:]
        if len(numbers) == len(counts) and all(map(str.isdecimal, numbers)):  # neither a lock nor a part
            held = tuple(map(int, numbers))
            if all(one >= count for one, count in zip(held, counts.values(), strict=True)):
                large_enough.append((held, place))
    return next(filter(None, (_open_part(place, counts) for _, place in sorted(large_enough))), None)


def _open_part(place: Path, counts: Mapping[str, int]) -> Decoded | None:
    """The first images of an entry: the same, with the same fingerprint, as if no more had been read."""
    whole = _open(place)
    if whole is None or all(len(split) <= counts[name] for name, split in whole.splits.items()):
        return whole
    splits = {name: split.first(counts[name]) for name, split in whole.splits.items()}
    if len(np.unique(splits["train"].labels)) < len(np.unique(whole.splits["train"].labels)):
        return None  # a class's first files may be unreadable, which is an error if there are no others
    digest = hashlib.sha256()
    for name, split in splits.items():
        digest.update(split.images.data)
        digest.update(_seal(name, split.labels))
    return Decoded(splits, whole.unreadable, digest.hexdigest()[:_FINGERPRINT])


def _seal(name: str, labels: Labels) -> bytes:
    """What is hashed of a split after its pixels."""
    return f"{name} {len(labels)}".encode() + labels.tobytes()


def _open(place: Path) -> Decoded | None:
    """What is there, if it is whole."""
    try:
        about = json.loads((place / _ABOUT).read_text())
        with np.load(place / "labels.npz", allow_pickle=False) as labels:
            splits = {
                name: map_split(place / f"{name}.bin", tuple(shape), labels[name])
                for name, shape in about["shapes"].items()
            }
        whole = all((place / f"{name}.bin").stat().st_size == split.images.nbytes for name, split in splits.items())
        return Decoded(splits, Unreadable(**about["unreadable"]), str(about["fingerprint"])) if whole else None
    except Exception:  # whatever is wrong with it, it can be made again
        return None


@contextlib.contextmanager
def _new_folder(place: Path) -> Iterator[Path]:
    """A folder to fill that gets its name when it is whole; what earlier ones have left behind is removed."""
    for left in [place, *place.parent.glob(f"{place.name}.*.part")]:
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{place.name}.", suffix=".part", dir=place.parent))
    try:
        yield folder
        folder.rename(place)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _refuse_if_too_large(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        remedy = "let XDG_CACHE_HOME be a folder with room, or a recipe use fewer or smaller images"
        raise WorkFailed(
            f"images need {needed / 1e9:.1f} GB in {folder.parent}, {free / 1e9:.1f} GB are free; {remedy}"
        )


def _fill(folder: Path, wanted: Mapping[str, Wanted], size_px: int, on_progress: OnProgress) -> None:
    unreadable = Unreadable()
    labels: dict[str, Labels] = {}
    shapes: dict[str, list[int]] = {}
    digest = hashlib.sha256()
    total, before, done = sum(one.count for one in wanted.values()), 0, 0
    for name, one in wanted.items():
        kept: list[int] = []
        failed: list[int] = []
        with open(folder / f"{name}.bin", "wb") as file:
            for pixels, good, bad in _read(one, size_px, unreadable):
                file.write(pixels.data)
                digest.update(pixels.data)
                kept.extend(good)
                failed.extend(bad)
                done = before + len(kept)
                on_progress(done, total)
            _sync(file)
        labels[name] = one.labels[kept]
        lost = [place for place in failed if one.labels[place] not in labels[name]]
        if lost and (name == "train" or not kept):
            rule = f"every class needs a {name} image that can be read"
            raise InputError(rule, where=f"{one.files[lost[0]]}", remedy=f"mend {unreadable.first()}")
        digest.update(_seal(name, labels[name]))
        before += one.count
        shapes[name] = [len(kept), size_px, size_px, 3]
    if done < total:  # some are missing for good
        on_progress(total, total)
    with open(folder / "labels.npz", "wb") as file:
        np.savez(file, **labels)  # type: ignore[arg-type]
        _sync(file)
    fingerprint = digest.hexdigest()[:_FINGERPRINT]
    about = {"shapes": shapes, "unreadable": dataclasses.asdict(unreadable), "fingerprint": fingerprint}
    with open(folder / _ABOUT, "w") as text:
        json.dump(about, text)
        _sync(text)


def _read(one: Wanted, size_px: int, unreadable: Unreadable) -> Iterator[tuple[Pixels, list[int], list[int]]]:
    """Pixels, the places of their files, and of files that cannot be read; until there are as many as are wanted."""
    start, missing = 0, one.count
    while missing and start < len(one.files):
        files = one.files[start : start + missing]
        done = 0
        for pixels, failures in read_images(files, size_px):
            for place, reason in failures:
                unreadable.add(files[place], reason)
            bad = {place for place, _ in failures}
            size = len(pixels) + len(bad)
            good = [start + place for place in range(done, done + size) if place not in bad]
            yield pixels, good, [start + place for place in sorted(bad)]
            done += size
            missing -= len(pixels)
        unreadable.tried += len(files)
        if unreadable.count > _MOST_UNREADABLE * unreadable.tried:
            rule = f"{unreadable.count:,} of {unreadable.tried:,} image files cannot be read"
            raise InputError(rule, where=unreadable.first(), remedy="mend or remove them")
        start += len(files)


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
