"""What every zero-cost score owes. A new one is a line in `SCORES`, and is tested here without another."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from evaluators import EvaluationFailed, ImageData, Recipe, ZeroCost, load_images, make_image_data
from evaluators.zero_cost import SCORES
from evaluators.zero_cost.scores import Batch, Score
from search_space import Architecture, InputError, load_architecture, load_space, presets, references

RECIPE = Recipe(8, 1, max_train_images=64, max_val_images=64, batch_size=8, width_mult=0.25)
BY_GRADIENT = ["snip", "grad_norm", "zico"]
every = pytest.mark.parametrize("name", sorted(SCORES))


@functools.cache
def digits() -> ImageData:
    return load_images("digits")


@functools.cache
def drawn(channels: int, classes: int = 3) -> ImageData:
    """Images of noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % classes
    return make_image_data("noise", {"train": (rng.integers(0, 256, (60, 9, 13, channels), dtype=np.uint8), labels)})


def score(name: str, architecture: Architecture, data: ImageData | None = None, seed: int = 0) -> float:
    (report,) = ZeroCost(name, data or digits(), RECIPE, device="cpu").evaluate(architecture, seed=seed)
    return report.metrics[name]


def network(channels: int = 3) -> Architecture:
    return load_architecture("mobilenetv3-small").replace(input_channels=channels)


def plain(*layers: nn.Module) -> tuple[nn.Module, list[Batch]]:
    torch.manual_seed(0)
    for layer in layers:
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    batches = [(torch.randn(6, 8), torch.randint(4, (6,))) for _ in range(2)]
    return nn.Sequential(*layers), batches


@every
def test_same_seed_same_score(name: str) -> None:
    assert score(name, network()) == score(name, network())
    assert score(name, network(), seed=1) != score(name, network())


@every
def test_all_convolutions_count_whatever_speeds_them_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = score(name, network())
    monkeypatch.setattr("evaluators.on_images.speed_up_convolutions", lambda model: model)
    error = 5e-3 if name == "zico" else 1e-3  # it divides by what is almost nothing
    assert found == pytest.approx(score(name, network()), rel=error)


@every
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("expected", [1, 3])
def test_grey_and_colour_images(name: str, channels: int, expected: int) -> None:
    assert math.isfinite(score(name, network(expected), drawn(channels)))


@every
def test_fewer_images_than_two_batches_have(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = dataclasses.replace(RECIPE, max_train_images=21, batch_size=512)
    shown: list[Batch] = []

    def watched(model: nn.Module, batches: Sequence[Batch], compute: Score = SCORES[name]) -> float:
        shown.extend(batches)
        return compute(model, batches)

    monkeypatch.setitem(SCORES, name, watched)
    (report,) = ZeroCost(name, drawn(3), recipe, device="cpu").evaluate(network(), seed=0)
    assert math.isfinite(report.metrics[name])
    assert [len(images) for images, _ in shown] == [10, 10]
    assert len(torch.cat([images for images, _ in shown]).flatten(1).unique(dim=0)) == 20


@every
def test_next_to_no_images(name: str) -> None:
    with pytest.raises(InputError, match=r"need at least 4 training images, got 3 \(noise\)"):
        ZeroCost(name, drawn(3), dataclasses.replace(RECIPE, max_train_images=3), device="cpu")


@every
@pytest.mark.parametrize("reference", sorted(set(references()) - {"efficientnetv2-m", "efficientnetv2-l"}))
def test_published_networks_have_a_score(name: str, reference: str) -> None:
    assert math.isfinite(score(name, load_architecture(reference)))


@every
@pytest.mark.parametrize("preset", sorted(presets()))
def test_networks_of_every_preset_have_different_scores(name: str, preset: str) -> None:
    space, rng = load_space(preset), np.random.default_rng(0)
    values = {score(name, space.decode(space.sample(rng)).replace(num_classes=10)) for _ in range(2)}
    assert len(values) == 2
    assert all(math.isfinite(value) for value in values)


@every
def test_the_model_is_left_as_it_was(name: str) -> None:
    model, batches = plain(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    before = [parameter.clone() for parameter in model.parameters()]
    SCORES[name](model, batches)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert model[2](torch.tensor([-1.0])) == 0  # type: ignore[index]


@every
def test_a_network_without_activations(name: str) -> None:
    value = SCORES[name](*plain(nn.Linear(8, 16), nn.Linear(16, 4)))
    assert math.isfinite(value) if name != "naswot" else value == -math.inf


@every
def test_a_network_that_is_dead(name: str) -> None:
    """Nothing gets through: the lowest score, or none, but no error."""
    model, batches = plain(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    value = SCORES[name](model, batches)
    assert value == (0.0 if name in ("snip", "grad_norm") else -math.inf)


@every
def test_a_network_with_a_single_class(name: str) -> None:
    """The loss is 0 whatever the images: scores by gradient have nothing to go by."""
    model, batches = plain(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    value = SCORES[name](model, [(shown, torch.zeros_like(labels)) for shown, labels in batches])
    expected = {"snip": 0.0, "grad_norm": 0.0, "zico": -math.inf}
    assert value == expected[name] if name in BY_GRADIENT else math.isfinite(value)


@every
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_give_no_score(name: str, value: float) -> None:
    model, batches = plain(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        model[0].weight.fill_(value)  # type: ignore[index,union-attr,operator]
    assert not math.isfinite(SCORES[name](model, batches)) or name == "naswot"


@every
def test_what_is_no_number_is_a_failure_with_a_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (math.nan, math.inf, -math.inf):
        monkeypatch.setitem(SCORES, name, lambda model, batches, value=value: value)
        with pytest.raises(EvaluationFailed, match=f"{name} is {value} for this network"):
            score(name, network())


@every
def test_what_it_looks_at(name: str) -> None:
    """Only scores by gradient depend on the labels, and synflow depends on no image either."""
    model, batches = plain(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    before = SCORES[name](model, batches)
    others = [(shown, (labels + 1) % 4) for shown, labels in batches]
    assert (SCORES[name](model, others) != before) == (name in BY_GRADIENT)
    others = [(shown.flip(1) + 1, labels) for shown, labels in batches]
    assert (SCORES[name](model, others) != before) == (name != "synflow")
