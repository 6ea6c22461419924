from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators import load_images
from search_space import InputError

RNG = np.random.default_rng(0)


def arrays(count: int = 40, shape: tuple[int, ...] = (8, 8, 3)) -> tuple[Any, Any]:
    return RNG.integers(0, 256, (count, *shape)).astype(np.uint8), np.arange(count) % 4


def test_digits_come_with_the_package() -> None:
    data = load_images("digits")
    assert data.num_classes == 10
    assert data.splits["train"].images.max() == 255
    assert not data.mirrored
    assert data.fingerprint() == load_images("digits").fingerprint()


def test_npz_with_all_splits(tmp_path: Path) -> None:
    (x, y), (xv, yv), (xt, yt) = arrays(40), arrays(8), arrays(4)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_val=xv, y_val=yv, x_test=xt, y_test=yt)
    data = load_images(f"npz:{tmp_path / 'd.npz'}")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 40, "val": 8, "test": 4}
    assert data.mirrored


def test_npz_labels_may_be_any_whole_numbers_and_images_floats(tmp_path: Path) -> None:
    x, y = arrays(60, (8, 8))
    np.savez(tmp_path / "d.npz", x_train=x / 255, y_train=(y * 10 - 5)[:, None])
    data = load_images(f"npz:{tmp_path / 'd.npz'}")
    assert data.num_classes == 4
    assert set(data.splits["train"].labels) == {0, 1, 2, 3}
    assert data.splits["train"].images.dtype == np.uint8
    assert data.splits["train"].images.max() > 200


def test_shared_cifar10(cifar10_small: str) -> None:
    data = load_images(cifar10_small)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 8000, "val": 2000, "test": 2000}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x_train": arrays()[0]}, "an npz data set needs y_train"),
        ({}, "an npz data set needs x_train"),
        ({"x_train": arrays()[0], "y_train": arrays()[1][:-1]}, "train needs as many labels as images, 40, got 39"),
        ({"x_train": arrays()[0], "y_train": arrays()[1] * 0}, "at least two classes, got 1"),
        ({"x_train": arrays()[0], "y_train": arrays()[1] / 2}, "labels must be whole numbers [N], got 'float64"),
        ({"x_train": arrays()[0].astype(np.int32), "y_train": arrays()[1]}, "must be uint8, or floats from 0 to 1"),
        ({"x_train": arrays()[0] * 1.5, "y_train": arrays()[1]}, "must be uint8, or floats from 0 to 1"),
        ({"x_train": arrays()[0] * np.nan, "y_train": arrays()[1]}, "must be uint8, or floats from 0 to 1"),
        ({"x_train": arrays()[0][:0], "y_train": arrays()[1][:0]}, "must be an array [N, H, W]"),
        ({"x_train": arrays()[0][0], "y_train": arrays()[1][:1]}, "train needs as many labels as images, 8, got 1"),
        ({"x_train": arrays(8)[0], "y_train": arrays(8)[1]}, "every class needs at least 5 images to split off test"),
        (
            {"x_train": arrays()[0], "y_train": arrays()[1], "x_val": arrays()[0], "y_val": arrays()[1] + 1},
            "val labels must be classes of the training images, got 4",
        ),
        ({"x_train": arrays()[0], "y_train": arrays()[1], "x_test": arrays()[0]}, "an npz data set needs y_test"),
        ({"x_train": np.array([object()]), "y_train": arrays()[1]}, "not a readable npz file"),
    ],
)
def test_bad_npz_is_refused_in_one_line(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **content)
    with pytest.raises(InputError) as caught:
        load_images(f"npz:{tmp_path / 'd.npz'}")
    assert message in str(caught.value)
    assert "d.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"text", None])
def test_what_is_not_npz_at_all(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(InputError, match="not a readable npz file"):
        load_images(f"npz:{tmp_path / 'd.npz'}")


@pytest.mark.parametrize("spec", ["digit", "npz", "imagefolder", "", "mnist:x", "npz:", "imagefolder:"])
def test_unknown_data_set(spec: str) -> None:
    with pytest.raises(InputError):
        load_images(spec)


def test_fashion_mnist_from_a_local_folder(tmp_path: Path) -> None:
    """Files as they are distributed (IDX, gzip or not), made here: nothing is downloaded."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", 50), ("t10k", 20)):
        images = (
            struct.pack(">IIII", 2051, count, 28, 28) + RNG.integers(0, 256, count * 784).astype(np.uint8).tobytes()
        )
        labels = struct.pack(">II", 2049, count) + (np.arange(count) % 10).astype(np.uint8).tobytes()
        for name, content in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
            (raw / name).write_bytes(content)
            (raw / f"{name}.gz").write_bytes(gzip.compress(content))
    data = load_images("fashion-mnist", root=str(tmp_path))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 40, "val": 10, "test": 20}
    assert data.mirrored


def test_missing_cifar10_says_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cifar10 cannot be loaded.*--data-root.*CIFAR10 files there"):
        load_images("cifar10", root=str(tmp_path), download=False)
