"""Where images come from: `digits`, `fashion-mnist`, `cifar10`, `cifar100`, `npz:FILE`, `imagefolder:DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from evaluators.folder import ImageFolder
from evaluators.images import SPLITS, ImageData, ImageSource, OnProgress, make_image_data
from search_space import InputError
from search_space.errors import did_you_mean, short

DEFAULT = "digits"
_WITH_ARGUMENT = ("npz", "imagefolder")


def load_images(
    spec: str,
    *,
    root: str = "data",
    download: bool = True,
    on_progress: OnProgress = lambda done, total: None,
) -> ImageSource:
    """Load a data set by its specification, `NAME` or `npz:FILE` or `imagefolder:DIR`.

    `root` is where torchvision's data sets lie or are downloaded to. A folder's images are only listed; `on_progress`
    is called as they are read later, with the images done and their number. Raises `InputError`.
    """
    name, colon, argument = spec.partition(":")
    if colon and name == "npz":
        return _npz(argument)
    if colon and name == "imagefolder":
        return ImageFolder(argument, on_progress)
    if spec in _TORCHVISION:
        return _torchvision(spec, root, download)
    if spec == DEFAULT:
        return _digits()
    known = [DEFAULT, *_TORCHVISION, *(f"{name}:PATH" for name in _WITH_ARGUMENT)]
    remedy = f"write it as imagefolder:{spec}" if spec and Path(spec).is_dir() else did_you_mean(spec, known)
    raise InputError("--data must be a known data set", spec, remedy=remedy)


def _digits() -> ImageData:
    """1,797 handwritten digits, 8×8 grey, that come with scikit-learn (UCI ML hand-written digits)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    return make_image_data("digits", {"train": (images, bunch.target)})


# Class name in torchvision.datasets, and whether a mirror image keeps its class.
_TORCHVISION = {"fashion-mnist": ("FashionMNIST", True), "cifar10": ("CIFAR10", True), "cifar100": ("CIFAR100", True)}


def _torchvision(name: str, root: str, download: bool) -> ImageData:
    import torchvision.datasets

    class_name, mirrored = _TORCHVISION[name]
    maker = getattr(torchvision.datasets, class_name)
    try:
        parts = {split: maker(root, train=split == "train", download=download) for split in ("train", "test")}
    except (OSError, RuntimeError) as error:
        remedy = f"put torchvision's {class_name} files there, or let it download them, or use --data npz:FILE"
        rule = f"{name} cannot be loaded: {short(str(error))}"
        raise InputError(rule, where=f"--data-root {root}", remedy=remedy) from None
    given = {split: (np.asarray(part.data), np.asarray(part.targets)) for split, part in parts.items()}
    return make_image_data(name, given, mirrored=mirrored)


def _npz(path: str) -> ImageData:
    """NumPy archive with `x_train`, `y_train` and perhaps `x_val`, `y_val`, `x_test`, `y_test`."""
    given: dict[str, tuple[Any, Any]] = {}
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array")
        with archive:
            for split in SPLITS:
                pair = (f"x_{split}", f"y_{split}")
                if all(key in archive for key in pair):
                    given[split] = (archive[pair[0]], archive[pair[1]])
                elif split == "train" or any(key in archive for key in pair):
                    missing = next(key for key in pair if key not in archive)
                    remedy = f"the file has {', '.join(archive.files) or 'nothing'}"
                    raise InputError(f"an npz data set needs {missing}", where=path, remedy=remedy)
    except InputError:
        raise
    except Exception as error:  # zip, zlib, NumPy and the header's parser each have errors of their own
        remedy = "write it with numpy.savez(FILE, x_train=…, y_train=…)"
        raise InputError(f"not a readable npz file: {short(str(error))}", where=path or "npz:", remedy=remedy) from None
    return make_image_data(f"npz:{path}", given, where=path)
