from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from evaluators import ImageData, ProxyTraining, Report, find_recipe, load_images, make_image_data, named_recipe
from evaluators.adapt import proxy_form
from evaluators.on_images import Batches
from evaluators.recipe import FIDELITIES, recorded_recipe
from search_space import InputError, load_architecture

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_images("digits")


def colour(images: int) -> ImageData:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
    return make_image_data("made up", {"train": (pixels, np.arange(images) % 4)})


@pytest.mark.parametrize("images", [20, 3_000, 20_000])
def test_fidelities_are_in_order_of_their_cost(images: int) -> None:
    data = colour(images)
    seen = []
    for fidelity in ("quick", "standard", "thorough"):
        recipe = named_recipe(fidelity, data)
        seen.append(recipe.epochs * min(recipe.max_train_images, len(data.splits["train"])))
    assert seen[0] < seen[1] < seen[2]
    assert seen[2] <= 100_000


@pytest.mark.parametrize("size_px", [16, 32])
def test_few_images_are_not_shown_over_and_over(size_px: int) -> None:
    few = (np.zeros((300, size_px, size_px, 3), np.uint8), np.arange(300) % 4)
    data = make_image_data("few", {"train": few, "val": few, "test": few})
    shown = [300 * named_recipe(fidelity, data).epochs for fidelity in ("quick", "standard", "thorough")]
    assert shown == [1_200, 3_000, 12_000]  # as docs/proxy.md says


@pytest.mark.parametrize(
    ("images", "size_px", "shifted"),
    [(1_000, 32, True), (8_000, 32, True), (8_100, 32, False), (30_000, 32, False), (1_000, 16, False)],
)
def test_large_images_that_are_seen_often_are_shifted(images: int, size_px: int, shifted: bool) -> None:
    pixels = np.zeros((images, size_px, size_px, 3), np.uint8)
    given = (pixels, np.arange(images) % 4)
    data = make_image_data("made up", dict.fromkeys(("train", "val", "test"), given))
    assert [bool(named_recipe(fidelity, data).shift_share) for fidelity in FIDELITIES] == [False, False, shifted]


def test_the_automatic_one_depends_on_data_and_device(digits: ImageData) -> None:
    assert find_recipe("auto", digits, CPU) == named_recipe("quick", digits)
    assert find_recipe("auto", digits, torch.device("cuda")) == named_recipe("standard", digits)
    assert named_recipe("quick", digits).resolution_px == 16
    assert named_recipe("quick", colour(20)).resolution_px == 32
    assert ProxyTraining(digits, device="cpu").recipe == named_recipe("quick", digits)


def test_a_file_changes_what_it_names(digits: ImageData, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("base: quick\nepochs: 7\noptimizer: sgd\nlearning_rate: 1e-1\n")
    recipe = find_recipe(str(file), digits, CPU)
    assert (recipe.epochs, recipe.optimizer, recipe.learning_rate) == (7, "sgd", 0.1)
    assert recipe.max_train_images == named_recipe("quick", digits).max_train_images
    (tmp_path / "plain.json").write_text('{"epochs": 3}')
    assert find_recipe(str(tmp_path / "plain.json"), digits, CPU).max_train_images == 2_000  # standard


def test_a_file_that_names_sgd_has_what_is_usual_for_it(digits: ImageData, tmp_path: Path) -> None:
    def found(text: str) -> tuple[float, float]:
        file = tmp_path / "mine.yaml"
        file.write_text(text)
        recipe = find_recipe(str(file), digits, CPU)
        return recipe.learning_rate, recipe.weight_decay

    assert found("optimizer: sgd") == (0.1, 5e-4)
    assert found("optimizer: sgd\nweight_decay: 0.05\nbase: quick") == (0.1, 0.05)
    assert found("optimizer: sgd\nlearning_rate: 3.0e-3") == (3e-3, 5e-4)
    assert found("optimizer: adamw") == found("epochs: 3") == (3e-3, 0.05)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch: 3", "the file has no field of this name, got 'epoch' (FILE:1, epoch)"),
        ("epochs: 0", "epochs must be 1 to 100000, got 0 (FILE:1, epochs); use a whole number from 1 to 100000"),
        ("\noptimizer: adam", "optimizer must be one of its known names, got 'adam' (FILE:2, optimizer)"),
        ("base: slow", "base must be one of its known names, got 'slow' (FILE:1, base)"),
        ("ema_decay: 1", "ema_decay must be 0 to below 1, got 1 (FILE:1, ema_decay)"),
        ("flip: 1", "flip must be true or false, got 1 (FILE:1, flip)"),
        ("zero_init_residual: 0", "zero_init_residual must be true or false, got 0 (FILE:1, zero_init_residual)"),
        ("train_loss_weight: 2", "train_loss_weight must be 0 to 1, got 2 (FILE:1, train_loss_weight)"),
        ("- epochs", "the file must be a mapping of names to values, got ['epochs'] (FILE:1)"),
        ("", "the file is empty (FILE)"),
    ],
)
def test_a_wrong_file_is_refused(digits: ImageData, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        find_recipe(str(file), digits, CPU)
    assert str(caught.value).replace(str(file), "FILE").startswith(said)


@pytest.mark.parametrize("text", ["quik", "", "mine.txt"])
def test_an_unknown_name_is_refused(digits: ImageData, text: str) -> None:
    with pytest.raises(InputError, match="--proxy must be a fidelity, or a recipe's"):
        find_recipe(text, digits, CPU)
    with pytest.raises(InputError, match="No such file"):
        find_recipe("missing.yaml", digits, CPU)


def test_a_narrower_form_keeps_its_depth() -> None:
    network = load_architecture("mobilenetv3-small")
    form = proxy_form(network, resolution=32, final_size=2, num_classes=10, width_mult=0.5)
    plain = proxy_form(network, resolution=32, final_size=2, num_classes=10)
    assert [block.kind for block in form.blocks] == [block.kind for block in plain.blocks]
    assert [(a.out_channels, b.out_channels) for a, b in zip(form.blocks, plain.blocks, strict=True)][:4] == [
        (8, 16),
        (16, 24),
        (16, 24),
        (24, 40),
    ]


@pytest.mark.parametrize("text", ["optimizer: sgd", "ema_decay: 0.9", "width_mult: 0.5"])
def test_what_a_recipe_says_is_done(digits: ImageData, tmp_path: Path, text: str) -> None:
    file, network = tmp_path / "mine.yaml", load_architecture("mobilenetv3-small")
    scores = []
    for recipe in ("base: quick", f"base: quick\n{text}"):
        file.write_text(recipe)
        evaluator = ProxyTraining(digits, find_recipe(str(file), digits, CPU), device="cpu")
        scores.append(dict(list(evaluator.evaluate(network, seed=0))[-1].metrics))
    assert scores[0]["loss"] != scores[1]["loss"]
    assert scores[1]["accuracy"] > 0.2


class Shown(ProxyTraining):
    """Remembers the size of the images and the strides of the network."""

    def score(self, model: nn.Module, train: Batches, generator: torch.Generator) -> Iterator[Report]:
        strides = [m.stride[0] for m in model.modules() if isinstance(m, nn.Conv2d)]
        yield Report(1, 1, {"pixels": train.images.shape[2], "strided": sum(stride > 1 for stride in strides)})


def test_with_a_reference_resolution_images_are_in_proportion_and_strides_as_they_were(digits: ImageData) -> None:
    network = load_architecture("mobilenetv3-small")

    def shown(reference_px: int, resolution: int) -> dict[str, float]:
        recipe = dataclasses.replace(named_recipe("quick", digits), reference_px=reference_px)
        evaluator = Shown(digits, recipe, device="cpu")
        return dict(next(evaluator.evaluate(network.replace(resolution=resolution), seed=0)).metrics)

    assert shown(0, 224) == shown(0, 288) == shown(224, 224)
    assert shown(224, 224)["pixels"] == 16
    larger = shown(224, 288)
    assert larger["pixels"] == 21
    assert larger["strided"] == shown(224, 224)["strided"] < 5


def test_it_can_be_trained_at_a_resolution_in_proportion(digits: ImageData) -> None:
    recipe = dataclasses.replace(named_recipe("quick", digits), reference_px=224, max_train_images=64, epochs=1)
    network = load_architecture("mobilenetv3-small").replace(resolution=272)
    *_, last = ProxyTraining(digits, recipe, device="cpu").evaluate(network, seed=0)
    assert 0 <= last.metrics["accuracy"] <= 1


def test_a_recorded_recipe_must_be_whole(digits: ImageData) -> None:
    recipe = named_recipe("quick", digits)
    plain = recipe.describe()
    assert recorded_recipe(plain) == recipe
    assert recorded_recipe({**plain, "optimizer": "sgd"}).learning_rate == recipe.learning_rate  # as it is
    older = {name: value for name, value in plain.items() if name != "zero_init_residual"}
    with pytest.raises(InputError, match="has no zero_init_residual, so it is of an older version"):
        recorded_recipe(older)
    for broken in (None, {**plain, "speed": 1}):
        with pytest.raises(InputError, match="cannot be read"):
            recorded_recipe(broken)
