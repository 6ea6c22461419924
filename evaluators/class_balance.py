"""How evenly a data set's images are spread over its classes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_UNEVEN = 10
_LISTED_CLASSES = 20


def counts_of(labels: npt.NDArray[np.int64], num_classes: int) -> npt.NDArray[np.int64]:
    """How many images each class has [num_classes]."""
    return np.bincount(labels, minlength=num_classes).astype(np.int64)


def describe_counts(counts: npt.NDArray[np.int64], names: Sequence[str]) -> dict[str, Any]:
    """By class; of more than 20 classes, the least, the median and the most."""
    if len(counts) <= _LISTED_CLASSES:
        return {name: int(count) for name, count in zip(names, counts, strict=True)}
    return {"least": int(counts.min()), "median": float(np.median(counts)), "most": int(counts.max())}


def majority_share(labels: npt.NDArray[np.int64]) -> float:
    """The share of the largest class: the accuracy of always guessing it."""
    return float(np.bincount(labels).max() / len(labels))


def warn_if_uneven(data: str, train: npt.NDArray[np.int64], val: npt.NDArray[np.int64], names: Sequence[str]) -> None:
    """Warn if the largest class has more than ten times the training images of the smallest."""
    counts = counts_of(train, len(names))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] > _UNEVEN * counts[least]:
        sizes = f"{names[most]!r} has {counts[most]:,} training images, {names[least]!r} {counts[least]:,}"
        guess = f"guessing one class alone is right on {majority_share(val):.1%} of the validation images"
        warnings.warn(f"{data} has uneven classes: {sizes}; {guess}, and accuracy counts images", stacklevel=3)
