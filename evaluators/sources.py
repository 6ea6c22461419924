"""Where images come from: `digits`, `fashion-mnist`, `cifar10`, `cifar100`, `npz:FILE`, `imagefolder:DIR`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from evaluators.images import SPLITS, ImageData, make_image_data
from search_space import InputError
from search_space.errors import did_you_mean, short

DEFAULT = "digits"
_FOLDER_SIZE_PX = 64
_MAX_FOLDER_IMAGES = 20_000


def load_images(spec: str, *, root: str = "data", download: bool = True) -> ImageData:
    """Load a data set by its specification, `NAME` or `npz:FILE` or `imagefolder:DIR`.

    `root` is where torchvision's data sets lie or are downloaded to. Raises `InputError`.
    """
    name, colon, argument = spec.partition(":")
    if colon and name in _WITH_ARGUMENT:
        return _WITH_ARGUMENT[name](argument)
    if spec in _TORCHVISION:
        return _torchvision(spec, root, download)
    if spec == DEFAULT:
        return _digits()
    known = [DEFAULT, *_TORCHVISION, *(f"{name}:PATH" for name in _WITH_ARGUMENT)]
    raise InputError("--data must be a known data set", spec, remedy=did_you_mean(spec, known))


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


def _imagefolder(path: str) -> ImageData:
    """A folder of class folders of images, or of `train`, and perhaps `val` and `test`, folders of those.

    Images are brought to 64×64 (shorter side, then the centre) RGB; of more than 20,000, a stratified part is kept.
    """
    root = Path(path)
    if not path or not root.is_dir():
        raise InputError("imagefolder needs a folder", path, remedy="use imagefolder:DIR, one folder a class inside")
    folders = {split: root / split for split in SPLITS if (root / split).is_dir()}
    if "train" not in folders:
        folders = {"train": root}
    given = {}
    classes: dict[str, int] | None = None
    for split, folder in folders.items():
        images, labels, found = _read_folder(folder)
        if classes is not None and found != classes:
            odd = sorted(set(found) ^ set(classes))
            raise InputError(f"{split} must have the classes of train", ", ".join(odd), where=str(folder))
        classes = found
        given[split] = (images, labels)
    return make_image_data(f"imagefolder:{path}", given, mirrored=True, where=path)


def _read_folder(folder: Path) -> tuple[Any, Any, dict[str, int]]:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    bring = v2.Compose([v2.Resize(_FOLDER_SIZE_PX, antialias=True), v2.CenterCrop(_FOLDER_SIZE_PX)])
    try:
        listing = ImageFolder(str(folder), transform=lambda image: np.asarray(bring(image)))
    except (OSError, RuntimeError) as error:
        remedy = "put images into one folder for each class"
        raise InputError(
            f"not a folder of class folders: {short(str(error))}", where=str(folder), remedy=remedy
        ) from None
    chosen = np.arange(len(listing))
    if len(chosen) > _MAX_FOLDER_IMAGES:
        from sklearn.model_selection import train_test_split

        chosen, _ = train_test_split(chosen, train_size=_MAX_FOLDER_IMAGES, stratify=listing.targets, random_state=0)
        chosen.sort()
    images = np.empty((len(chosen), _FOLDER_SIZE_PX, _FOLDER_SIZE_PX, 3), np.uint8)
    for row, index in enumerate(chosen):
        try:
            images[row], _ = listing[index]
        except Exception as error:  # image decoders each have errors of their own
            file = listing.samples[index][0]
            raise InputError(
                f"not a readable image: {short(str(error))}", where=file, remedy="remove or mend it"
            ) from None
    return images, np.asarray(listing.targets)[chosen], dict(listing.class_to_idx)


_WITH_ARGUMENT: dict[str, Callable[[str], ImageData]] = {"npz": _npz, "imagefolder": _imagefolder}
