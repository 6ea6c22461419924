"""Final training: how the few best networks of a search are trained and tested before one of them wins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from evaluators.base import Direction
from evaluators.batches import Batches
from evaluators.proxy import ProxyTraining


class FinalTraining(ProxyTraining):
    """Proxy training that also looks at the test images: metrics `test_accuracy` and `test_loss`.

    Nothing may be chosen by these two. A search ranks finalists by `accuracy` or `loss`, which are of the validation
    images as before, and reports the test accuracy of the winner.
    """

    ranks_by: ClassVar[str] = "loss"
    directions: ClassVar[Mapping[str, Direction]] = {"accuracy": "maximize", "loss": "minimize"}
    needs: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def _validate(self, model: nn.Module, train: Batches) -> dict[str, float]:
        metrics = super()._validate(model, train)
        tested = self._scores(model, "test", train)
        return {**metrics, **{f"test_{name}": value for name, value in tested.items()}}
