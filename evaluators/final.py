"""Final training: how the few best networks of a search are trained and tested before one of them wins."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from evaluators.batches import Batches
from evaluators.proxy import ProxyTraining


class FinalTraining(ProxyTraining):
    """Proxy training that also looks at the test images: metrics `test_accuracy` and `test_loss`.

    Nothing may be chosen by these two. A search ranks finalists by `score`, `accuracy` or `loss`, which know nothing of
    the test images, and reports the test accuracy of the winner.
    """

    needs: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    def _validate(self, model: nn.Module, train: Batches) -> dict[str, float]:
        metrics = super()._validate(model, train)
        tested = self._scores(model, "test", train)
        return {**metrics, **{f"test_{name}": value for name, value in tested.items()}}
