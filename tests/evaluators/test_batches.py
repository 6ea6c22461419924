from __future__ import annotations

import pickle
import sys
import threading
from typing import Any

import numpy as np
import pytest
import torch

from evaluators import ProxyTraining, Recipe, Several, ZeroCost, batches, load_images, make_image_data
from evaluators.batch_store import BatchStore
from evaluators.batches import Batches, Form, Unprepared, prepare, slices, statistics
from evaluators.images import Split
from search_space import load_space

RNG = np.random.default_rng(0)


def both_ways(
    size: tuple[int, int], given: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[Batches, Batches]:
    """The same images, held in memory and prepared as needed."""
    images = RNG.integers(0, 256, (90, *size, given)).astype(np.uint8)
    data = make_image_data("noise", {"train": (images, np.arange(90) % 3)})
    train = data.splits["train"]
    form = Form(16, wanted, *statistics(train, 50), torch.device("cpu"))
    held = prepare(train, 50, form)
    monkeypatch.setattr("evaluators.batches.HELD_BYTES", 0)
    return held, prepare(train, 50, form)


@pytest.mark.parametrize("size", [(16, 16), (24, 40), (8, 8)])
@pytest.mark.parametrize(("given", "wanted"), [(3, 3), (1, 3), (3, 1), (1, 1)])
def test_images_prepared_as_needed_are_the_same(
    size: tuple[int, int], given: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, needed = both_ways(size, given, wanted, monkeypatch)
    assert isinstance(held.images, torch.Tensor)
    assert isinstance(needed.images, Unprepared)
    assert held.images.shape == needed.images.shape
    assert torch.equal(held.labels, needed.labels)
    order = torch.randperm(50)
    for parts in (torch.split(order, 16), slices(50, 16)):
        pairs = list(zip(held.in_turn(parts), needed.in_turn(parts), strict=True))
        assert sum(len(labels) for (_, labels), _ in pairs) == 50
        for (one, labels), (other, also) in pairs:
            assert torch.equal(one, other)
            assert torch.equal(labels, also)
            assert one.is_contiguous(memory_format=torch.channels_last)
            assert other.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_is_prepared_while_the_one_before_is_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    _, needed = both_ways((16, 16), 3, 3, monkeypatch)
    prepared: list[str] = []
    second = threading.Event()
    whole = Unprepared.__getitem__

    def prepare_noticed(self: Unprepared, chosen: Any) -> torch.Tensor:
        prepared.append(threading.current_thread().name)
        if len(prepared) == 2:
            second.set()
        return whole(self, chosen)

    monkeypatch.setattr(Unprepared, "__getitem__", prepare_noticed)
    turn = needed.in_turn(slices(50, 10))
    next(turn)
    assert second.wait(60)  # nobody has asked for it yet
    turn.close()
    assert len(prepared) <= 3  # and no more than that was begun
    assert threading.current_thread().name not in prepared


def test_a_batch_that_cannot_be_prepared_is_an_error_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    _, needed = both_ways((16, 16), 3, 3, monkeypatch)
    with pytest.raises(IndexError):
        list(needed.in_turn([torch.tensor([0]), torch.tensor([77])]))


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics(channels: int) -> None:
    images = RNG.integers(20, 90, (700, 5, 4, channels)).astype(np.uint8)
    mean, std = statistics(Split(images, np.zeros(700, np.int64)), 700)
    pixels = images.reshape(-1, channels) / 255
    np.testing.assert_allclose(mean, pixels.mean(0), rtol=1e-6)
    np.testing.assert_allclose(std, pixels.std(0), rtol=1e-6)
    assert statistics(Split(images * 0, np.zeros(700, np.int64)), 700)[1].min() > 0


def test_images_are_normalised_by_those_that_are_used_and_not_by_the_first_class() -> None:
    """Files are often sorted by class."""
    images = np.repeat(np.arange(0, 200, dtype=np.uint8), 10)[:, None, None, None] + np.zeros((1, 6, 6, 3), np.uint8)
    train = Split(images, np.repeat(np.arange(2), 1000))
    form = Form(6, 3, *statistics(train, 300), torch.device("cpu"))
    std, mean = torch.std_mean(prepare(train, 300, form).images[:], correction=0)
    assert mean.item() == pytest.approx(0, abs=1e-5)
    assert std.item() == pytest.approx(1, abs=1e-4)


# What is kept.


def test_each_split_is_prepared_once_for_all_who_share_it() -> None:
    data = load_images("digits")
    several = Several({name: ZeroCost(name, data, device="cpu") for name in ("naswot", "snip")})
    again = pickle.loads(pickle.dumps(several))
    for evaluators in (several.evaluators, again.evaluators):
        first, second = (one.split("train", 3, 16) for one in evaluators.values())
        assert first is second
    assert several.evaluators["snip"].split("train", 3, 16) is not first


def test_of_many_forms_the_latest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    train = load_images("digits").load(size_px=8, train=64, val=64).splits["train"]
    monkeypatch.setattr("evaluators.batches.HELD_BYTES", 4 * 50 * 3 * 16**2)
    store = BatchStore()

    def prepared(size_px: int) -> Batches:
        return store.prepared(train, 50, Form(size_px, 3, *statistics(train, 50), torch.device("cpu")))

    largest, smaller = prepared(16), prepared(12)
    assert prepared(16) is largest
    prepared(15)
    assert prepared(16) is largest
    assert prepared(12) is not smaller
    assert store.held_bytes <= 2 * batches.HELD_BYTES
    assert isinstance(prepared(17).images, Unprepared)
    assert prepared(16) is largest


def test_a_second_trial_imports_and_prepares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(resolution_px=16, epochs=1, max_train_images=64, max_val_images=64)
    evaluator = ProxyTraining(load_images("digits"), recipe, device="cpu")
    space = load_space("nasbench-macro")
    list(evaluator.evaluate(space.decode((0, 1, 2, 1, 1, 2, 1, 1)), seed=0))
    modules = set(sys.modules)
    monkeypatch.setattr("evaluators.batch_store.prepare", None)
    list(evaluator.evaluate(space.decode((1, 2, 2, 1, 1, 2, 2, 1)), seed=1))
    assert set(sys.modules) == modules


def test_a_trial_scores_the_same_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(resolution_px=16, epochs=1, max_train_images=80, max_val_images=64, flip=True, shift_share=0.1)
    network = load_space("nasbench-macro").decode((0, 1, 2, 1, 1, 2, 1, 1))
    data = load_images("digits")
    scores = []
    for held_bytes in (2**30, 0):
        monkeypatch.setattr("evaluators.batches.HELD_BYTES", held_bytes)
        evaluator = ProxyTraining(data, recipe, device="cpu")
        scores.append(list(evaluator.evaluate(network, seed=0))[-1].metrics)
    assert scores[0] == scores[1]
