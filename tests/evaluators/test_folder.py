"""Folders of real images: what is listed, read, cached, left out and said."""

from __future__ import annotations

import json
import os
import pickle
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evaluators import ImageData, ImageSource, ProxyTraining, Recipe, load_images
from evaluators.folder import mixed
from evaluators.image_cache import cache_folder
from search_space import InputError
from search_space.errors import WorkFailed

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def write(folder: Path, **classes: int) -> Path:
    """So many images of each class, each of one colour of its own."""
    for label, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("RGB", (9, 7), (number % 256, number // 256, label)).save(folder / name / f"{number}.png")
    return folder


def quiet(path: Path) -> ImageSource:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_images(f"imagefolder:{path}")


def load(source: ImageSource, train: int = 1_000, val: int = 1_000, size_px: int = 8) -> ImageData:
    return source.load(size_px=size_px, train=train, val=val)


def whole(path: Path, **wanted: int) -> ImageData:
    return load(load_images(f"imagefolder:{path}"), **wanted)


def shown(data: ImageData) -> Counter[tuple[int, ...]]:
    """The colours of all images."""
    return Counter(tuple(image[0, 0].tolist()) for split in data.splits.values() for image in split.images)


def test_each_image_is_in_one_split_with_its_own_class(photos: Path) -> None:
    data = load(quiet(write(photos, cat=20, dog=30)))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 32, "val": 8, "test": 10}
    assert set(shown(data).values()) == {1}
    for split in data.splits.values():
        assert split.images.shape[1:] == (8, 8, 3)
        assert (split.images[:, 0, 0, 2] == split.labels).all()
    assert data.class_names == ("cat", "dog")
    assert data.mirrored


def test_grey_images_may_be_letters_and_are_not_mirrored(photos: Path) -> None:
    for name in "bd":
        (photos / name).mkdir(parents=True)
        for number in range(20):
            Image.new("L", (9, 7), 10 * number).save(photos / name / f"{number}.png")
        (photos / name / "broken.png").write_text("none")
    assert not quiet(photos).mirrored
    write(photos, b=20, d=20)
    assert quiet(photos).mirrored


def test_splits_may_be_given(photos: Path) -> None:
    write(photos / "train", cat=6, dog=6)
    write(photos / "val", cat=2, dog=3)
    write(photos / "test", cat=0, dog=1)
    with pytest.warns(UserWarning, match="folders without images are no classes: cat"):
        data = whole(photos)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 12, "val": 5, "test": 1}
    assert data.splits["test"].labels.tolist() == [1]


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_names_of_the_validation_images(name: str, photos: Path) -> None:
    write(photos / "train", cat=10, dog=10)
    write(photos / name, cat=3, dog=4)
    write(photos / "test", cat=1, dog=1)
    write(photos, **{".cache": 1, "__MACOSX": 1})
    data = load(quiet(photos))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 20, "val": 7, "test": 2}


def test_splits_of_other_names_are_no_classes(photos: Path) -> None:
    for name in ("Training", "Testing"):
        write(photos / name, cat=6, dog=6)
    with pytest.raises(InputError, match=r"must be named train, got 'Testing, Training' .*photos.*; rename it"):
        load_images(f"imagefolder:{photos}")


def test_validation_images_in_two_folders(photos: Path) -> None:
    for name in ("train", "valid", "validation"):
        write(photos / name, cat=6, dog=6)
    with pytest.raises(InputError, match=r"val images must be in one folder, got .*valid, validation.*photos.*; put"):
        load_images(f"imagefolder:{photos}")


def test_folders_that_are_not_used_are_named(photos: Path) -> None:
    for name in ("train", "eval", "test"):
        write(photos / name, cat=10, dog=10)
    with pytest.warns(UserWarning, match=r"photos: beside train only val \(or valid, validation\) .* used, not eval$"):
        data = whole(photos)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 16, "val": 4, "test": 20}
    for number in range(6):
        (photos / f"more {number}").mkdir()
    with pytest.warns(UserWarning, match=r"not eval, more 0, more 1, more 2, more 3 and 2 more$"):
        load_images(f"imagefolder:{photos}")


def test_the_recipe_decides_how_many_are_read_and_how_large(photos: Path) -> None:
    source = quiet(write(photos, cat=200, dog=50))
    recipe = Recipe(resolution_px=12, epochs=1, max_train_images=40, max_val_images=10)
    evaluator = ProxyTraining(source, recipe, device="cpu")
    with pytest.warns(UserWarning, match=r"photos: 40 of 160 train and 10 of 40 val images are used, as many as"):
        images = evaluator.images
    assert images.splits["train"].images.shape == (40, 12, 12, 3)
    assert np.bincount(evaluator.images.splits["train"].labels).tolist() == [32, 8]
    told = evaluator.describe()["data"]
    assert told["files"] == {"train": 160, "val": 40, "test": 50}
    assert told["train_images"] == 40
    assert told["train_images_by_class"] == {"cat": 32, "dog": 8}
    assert told["val_majority_share"] == 0.8
    json.dumps(told)
    with pytest.warns(UserWarning, match="80 of 160 train"):
        more = load(source, train=80, val=10, size_px=12)
    assert set(shown(more)) >= set(shown(evaluator.images))


def test_every_beginning_has_all_classes_in_proportion() -> None:
    labels = np.repeat(np.arange(4), (10, 1000, 30, 1))
    order = mixed(labels)
    assert sorted(order) == list(range(len(labels)))
    for count in (4, 100, 500, 1000):
        found = np.bincount(labels[order[:count]], minlength=4)
        assert (np.abs(found - count * np.array([10, 1000, 30, 1]) / 1041) <= 4).all()
        assert found.min() >= 1
    assert mixed(labels).tolist() == order.tolist()


def test_images_are_read_once(photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(photos, cat=10, dog=10)
    steps: list[tuple[int, int]] = []
    first = load(load_images(f"imagefolder:{photos}", on_progress=lambda *step: steps.append(step)))
    assert steps[-1] == (20, 20)
    assert steps == sorted(steps)
    monkeypatch.setattr("evaluators.image_cache.read_images", None)
    again = whole(photos)
    assert again.fingerprint() == first.fingerprint()
    for name, split in again.splits.items():
        assert (split.images == first.splits[name].images).all()
        assert (split.labels == first.splits[name].labels).all()
    assert not [path for path in cache.iterdir() if path.suffix == ".part"]


@pytest.mark.parametrize("unreadable", [0, 9])
def test_the_first_of_more_images_are_what_would_be_read_alone(
    unreadable: int, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(photos, cat=60, dog=40)
    for number in range(unreadable):
        (photos / "cat" / f"{3 * number}.png").write_bytes(b"not an image")
    alone = whole(photos, train=20, val=10)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    whole(photos, train=15, val=12)  # too few of one split
    whole(photos, train=50, val=12)
    monkeypatch.setattr("evaluators.image_cache.read_images", None)
    part = whole(photos, train=20, val=10)
    assert part.fingerprint() == alone.fingerprint()
    assert {name: len(split) for name, split in part.splits.items()} == {"train": 20, "val": 10, "test": 10}
    for name, split in part.splits.items():
        assert (split.images == alone.splits[name].images).all()
        assert (split.labels == alone.splits[name].labels).all()
    monkeypatch.setattr("evaluators.images._SENT_BYTES", 0)
    copy = pickle.loads(pickle.dumps(part.splits["train"]))
    assert (copy.images == alone.splits["train"].images).all()


def test_a_class_missing_among_the_first_is_an_error_whatever_the_cache_has(photos: Path) -> None:
    data = whole(write(photos, cat=100, dog=10), train=60)
    first = data.splits["train"].images[: data.num_classes]
    (dog,) = (image[0, 0, 0] for image in first if image[0, 0, 2] == 1)
    (photos / "dog" / f"{dog}.png").write_bytes(b"not an image")
    for _ in range(2):
        with pytest.raises(InputError, match=r"every class needs a train image that can be read \(.*dog/"):
            whole(photos, train=4)
        whole(photos, train=60)


def test_what_changes_is_read_again(photos: Path) -> None:
    write(photos, cat=10, dog=10)
    before = whole(photos).fingerprint()
    os.utime(photos / "cat" / "0.png", (1, 1))
    assert whole(photos).fingerprint() == before  # read again, but the same images
    Image.new("RGB", (9, 7), (99, 99, 99)).save(photos / "cat" / "3.png")
    assert (99, 99, 99) in shown(whole(photos))
    assert whole(photos).fingerprint() != before
    assert whole(photos, size_px=9).splits["train"].images.shape[1] == 9


def test_a_spoilt_cache_is_made_again(photos: Path, cache: Path) -> None:
    write(photos, cat=10, dog=10)
    before = whole(photos).fingerprint()
    (entry,) = (path for path in cache.iterdir() if path.is_dir())
    for spoil in ("train.bin", "labels.npz", "about.json"):
        (entry / spoil).write_bytes((entry / spoil).read_bytes()[:-5])
        assert sum(shown(whole(photos)).values()) == 20
        (entry / spoil).unlink()
        assert whole(photos).fingerprint() == before


def test_a_cache_that_cannot_be_written(photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(photos, cat=10, dog=10)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(WorkFailed, match=r"images cannot be kept in .*XDG_CACHE_HOME"):
        whole(photos)


def test_a_disk_that_is_full(photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(photos, cat=10, dog=10)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100})())
    with pytest.raises(WorkFailed, match=r"images need 0\.0 GB in .* are free"):
        whole(photos)
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_nothing_is_left_of_a_reading_that_was_stopped(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    write(photos, cat=10, dog=10)
    with pytest.raises(KeyboardInterrupt):
        load(load_images(f"imagefolder:{photos}", on_progress=stop))
    assert not [path for path in cache.iterdir() if path.is_dir()]
    assert sum(shown(whole(photos)).values()) == 20


def test_unreadable_files_are_counted_named_and_left_out(photos: Path) -> None:
    write(photos, cat=40, dog=40)
    for number in (3, 4, 5, 6, 7):
        (photos / "cat" / f"{number}.png").write_bytes(b"not an image")
    (photos / "dog" / "gone.png").symlink_to(photos / "nowhere.png")
    match = r"6 of 81 files could not be read and are left out: .*\.png \(.*\), .*\.png \(.*\), .* and 3 more"
    with pytest.warns(UserWarning, match=match):
        data = whole(photos)
    assert sum(shown(data).values()) == 75
    told = data.describe()
    assert told["unreadable_files"] == 6
    unreadable: Any = told["unreadable"]
    assert unreadable[f"{photos}/cat/3.png"] == "cannot identify image file"
    with pytest.warns(UserWarning, match="6 of 81 files"):  # and again when it comes from the cache
        assert whole(photos).fingerprint() == data.fingerprint()


def test_others_are_read_instead_of_unreadable_ones(photos: Path) -> None:
    write(photos, cat=40, dog=40)
    for number in range(10):
        (photos / "cat" / f"{number}.png").write_bytes(b"not an image")
    with pytest.warns(UserWarning, match="could not be read"):
        data = whole(photos, train=30, val=8)
    assert len(data.splits["train"]) == 30
    assert len(data.splits["val"]) == 8


def test_most_files_unreadable_is_an_error(photos: Path) -> None:
    write(photos, cat=10, dog=10)
    for number in range(10):
        (photos / "cat" / f"{number}.png").write_bytes(b"not an image")
    (photos / "dog" / "1.png").write_bytes(b"not an image")
    (photos / "dog" / "2.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"image files cannot be read \(.*\.png \(cannot identify image file\)"):
        whole(photos)


def test_a_class_without_a_readable_image_is_an_error(photos: Path) -> None:
    write(photos, cat=100, dog=10)
    for number in range(10):
        (photos / "dog" / f"{number}.png").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"every class needs a train image that can be read \(.*dog/"):
        whole(photos)


def test_what_lies_about_in_folders(photos: Path) -> None:
    write(photos, cat=6, dog=6)
    for hidden in (".git", ".ipynb_checkpoints", "__MACOSX"):
        write(photos, **{hidden: 2})
        write(photos / "cat", **{hidden: 2})
    (photos / "cat" / "._0.png").write_bytes(b"resource fork")
    (photos / "cat" / "Thumbs.db").write_bytes(b"?")
    (photos / "labels.csv").write_text("?")
    (photos / "empty").mkdir()
    write(photos / "dog", deeper=1)
    (photos / "dog" / "loop").symlink_to(photos / "dog", target_is_directory=True)
    Image.new("RGB", (5, 5)).save(photos / "dog" / "UPPER.PNG")
    write(photos.parent / "elsewhere", linked=5)
    (photos / "links").symlink_to(photos.parent / "elsewhere" / "linked", target_is_directory=True)
    with pytest.warns(UserWarning, match="folders without images are no classes: empty"):
        source = load_images(f"imagefolder:{photos}")
    data = load(source)
    assert data.class_names == ("cat", "dog", "links")
    assert sum(len(split) for split in data.splits.values()) == 6 + 8 + 5


def test_any_names(photos: Path) -> None:
    write(photos, **{"Straße 写真": 6, "a b\n": 6, "with: colon": 6})
    (photos / "a b\n" / "über.png").write_bytes(b"?")
    bad = os.fsencode(photos) + b"/latin\xe9"
    os.mkdir(bad)  # noqa: PTH102
    for number in range(6):
        Image.new("RGB", (5, 5)).save(os.fsdecode(bad + b"/%d\xff.png" % number))
    with pytest.warns(UserWarning, match=r"über\.png"):
        data = whole(photos)
    assert sorted(data.class_names) == ["Straße 写真", "a b\n", "latin�", "with: colon"]
    assert sum(len(split) for split in data.splits.values()) == 24
    from search_space.documents import parse_document, to_yaml

    assert parse_document(to_yaml(data.describe())).data == data.describe()


def test_uneven_classes_are_reported(photos: Path) -> None:
    write(photos, cat=150, dog=10)
    match = r"uneven classes: 'cat' has 96 training images, 'dog' 6; guessing one class alone is right on 92\.3%"
    with pytest.warns(UserWarning, match=match):
        load_images(f"imagefolder:{photos}")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({}, "needs a folder"),
        ({"cat": 6}, "two classes at least"),
        ({"cat": 0, "dog": 0}, "not a folder of class folders"),
        ({"cat": 6, "dog": 1}, "at least 5 images to split off test images, got 1"),
        ({"train": 6, "dog": 2}, "not a folder of class folders"),
    ],
)
def test_what_is_no_data_set_is_refused(classes: dict[str, int], message: str, photos: Path) -> None:
    write(photos, **classes)
    with pytest.raises(InputError, match=message):
        load_images(f"imagefolder:{photos}")


def test_val_has_a_class_of_its_own(photos: Path) -> None:
    write(photos / "train", cat=6, dog=6)
    write(photos / "val", cat=6, owl=6)
    with pytest.raises(InputError, match="val must have the classes of train, got 'owl'"):
        load_images(f"imagefolder:{photos}")


def test_who_comes_second_waits_for_the_first(photos: Path) -> None:
    write(photos, cat=100, dog=100)
    steps: list[set[int]] = [set(), set()]
    sources = [
        load_images(f"imagefolder:{photos}", on_progress=lambda done, total, mine=mine: mine.add(done))
        for mine in steps
    ]
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(load, sources)
    assert first.fingerprint() == second.fingerprint()
    assert sorted(map(bool, steps)) == [False, True]


@pytest.mark.parametrize("sent_bytes", [0, 2**30])
def test_a_copy_elsewhere_has_the_same_images(
    sent_bytes: int, photos: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr("evaluators.images._SENT_BYTES", sent_bytes)
    recipe = Recipe(resolution_px=16, epochs=1, max_train_images=64, max_val_images=64)
    evaluator = ProxyTraining(quiet(write(photos, cat=30, dog=30)), recipe, device="cpu")
    pickled = pickle.dumps(evaluator)
    assert (len(pickled) > 20_000) == bool(sent_bytes)
    copy = pickle.loads(pickled)
    assert set(copy.images.splits) == {"train", "val"}
    assert torch.equal(copy.split("val", 3, 16).images, evaluator.split("val", 3, 16).images)
    if not sent_bytes:
        (entry,) = (path for path in cache.iterdir() if path.is_dir())
        entry.rename(entry.with_name("elsewhere"))
        with pytest.raises(WorkFailed, match=r"cannot be read on this machine .*XDG_CACHE_HOME"):
            pickle.loads(pickled)
