"""Zero-cost scores as evaluators: nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from evaluators.base import Direction, EvaluationFailed, Evaluator, Report
from evaluators.batches import Batches
from evaluators.images import ImageSource
from evaluators.on_images import ImageEvaluator
from evaluators.recipe import Recipe
from evaluators.zero_cost.scores import Score, grad_norm, naswot, snip, synflow, zico
from search_space import Architecture, InputError
from search_space.cost import count_cost
from search_space.errors import did_you_mean

SCORES: dict[str, Score] = {
    "synflow": synflow,
    "snip": snip,
    "grad_norm": grad_norm,
    "naswot": naswot,
    "zico": zico,
}
COUNTED = ("params", "macs", "activations")
NAMES = (*SCORES, *COUNTED)
_BATCHES = 2


class ZeroCost(ImageEvaluator):
    """A score of the network as it is initialised; the metric has the score's name, and more is better.

    It sees two batches of the recipe's size, of training images at the recipe's resolution; smaller ones if there are
    not enough images for two without a common one. Another seed means other weights and other images, so scores are
    noisy.
    """

    def __init__(self, name: str, data: ImageSource, recipe: Recipe | None = None, *, device: str = "auto") -> None:
        super().__init__(data, recipe, device=device)
        if name not in SCORES:
            raise InputError("a zero-cost score must be a known name", name, remedy=did_you_mean(name, NAMES))
        images = min(len(data.splits["train"]), self.recipe.max_train_images)
        if images < 2 * _BATCHES:  # batch norms need two images
            raise InputError(f"zero-cost scores need at least {2 * _BATCHES} training images", images, where=data.name)
        self.images_seen = _BATCHES * min(self.recipe.batch_size, images // _BATCHES)
        self.name = name
        self.kind = f"zero-cost:{name}"
        self.directions = {name: "maximize"}  # type: ignore[misc]

    def score(self, model: nn.Module, train: Batches, generator: torch.Generator) -> Iterator[Report]:
        """One report."""
        size = min(self.recipe.batch_size, len(train.labels) // _BATCHES)
        order = torch.randperm(len(train.labels), generator=generator)[: _BATCHES * size].to(self.device)
        batches = [(train.images[chosen], train.labels[chosen]) for chosen in order.view(_BATCHES, size)]
        value = SCORES[self.name](model.train(), batches)
        if not math.isfinite(value):
            raise EvaluationFailed(f"{self.name} is {value} for this network")
        yield Report(1, 1, {self.name: value})


class Counted(Evaluator):
    """The plainest of scores: parameters, multiply–adds or activations at the deployment resolution; more is better."""

    noisy = False

    def __init__(self, name: str) -> None:
        if name not in COUNTED:
            raise InputError("a counted score must be a known name", name, remedy=did_you_mean(name, COUNTED))
        self.name = name
        self.directions: Mapping[str, Direction] = {name: "maximize"}  # type: ignore[misc]

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        """One report, whatever the seed."""
        yield Report(1, 1, {self.name: count_cost(architecture).metrics()[self.name]})

    def describe(self) -> dict[str, Any]:
        """Its name."""
        return {"evaluator": f"zero-cost:{self.name}"}
