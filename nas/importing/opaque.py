"""Whole networks from elsewhere that have no architecture value: baselines to compare with."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from latency.measure import Foreign
from nas.importing import timm_models
from search_space import InputError
from search_space.cost import Cost, count_module
from search_space.errors import did_you_mean, one_line, short

# Where torchvision's constructors take the image size, and under which name.
_TORCHVISION_SIZES: dict[str, Callable[[int], dict[str, Any]]] = {
    "vision_transformer": lambda size: {"image_size": size},
    "maxvit": lambda size: {"input_size": (size, size)},
}
# Further outputs that only their own training used.
_TORCHVISION_AUXILIARY = ("googlenet", "inception_v3")


@dataclass(frozen=True)
class OpaqueNetwork:
    """A network from torchvision or timm, used as it is: [N, 3, resolution, resolution] → [N, num_classes] logits.

    It can be counted, timed and trained, but not searched, scaled, pruned or predicted part by part.
    """

    name: str
    """As `torchvision:vit_b_16`."""
    resolution: int
    """Pixels for which its published weights are meant; cost and latency are those at it."""
    make: Callable[[int, int], nn.Module]
    """(number of classes, resolution in pixels) → the network, freshly initialised."""
    num_classes: int = 1000

    def build(self) -> nn.Module:
        """The network, freshly initialised."""
        return self.make(self.num_classes, self.resolution)

    def cost(self) -> Cost:
        """Counted cost; `unseen` names operations that could not be counted. Raises `InputError` if it cannot run."""
        try:
            return count_module(self.build(), self._input_shape)
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            reason = short(one_line(str(error)), 200)
            rule = f"the network cannot be counted at {self.resolution} px: {type(error).__name__}: {reason}"
            raise InputError(rule, self.name, remedy="name another one") from None

    def job(self) -> Foreign:
        """To be timed."""
        return Foreign(self.build, self._input_shape)

    @property
    def _input_shape(self) -> tuple[int, int, int]:
        return 3, self.resolution, self.resolution


def torchvision_network(name: str) -> OpaqueNetwork:
    """`torchvision:NAME`, a classification network. Raises `InputError` for an unknown name."""
    models: Any = importlib.import_module("torchvision.models")
    known = models.list_models(module=models)
    if name not in known:
        rule = "torchvision has no classification network of this name"
        near = did_you_mean(name, known)
        remedy = near if near.startswith("did") else "torchvision.models.list_models() lists them"
        raise InputError(rule, name, where=f"torchvision:{name}", remedy=remedy)
    weights = models.get_model_weights(name)
    resolution = int(weights.DEFAULT.transforms.keywords["crop_size"])

    def make(num_classes: int, size: int) -> nn.Module:
        family = models.get_model_builder(name).__module__.rpartition(".")[2]
        sized = _TORCHVISION_SIZES.get(family)
        extra = sized(size) if sized is not None else {}
        if name in _TORCHVISION_AUXILIARY:
            extra |= {"aux_logits": False, "init_weights": False}
        network: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **extra)
        return network

    return OpaqueNetwork(f"torchvision:{name}", resolution, make)


def timm_network(name: str) -> OpaqueNetwork:
    """`timm:NAME`. Raises `InputError` for an unknown name."""
    model: Any = timm_models.create(name)
    resolution = timm_models.stated_resolution(model)
    takes_size = "img_size" in inspect.signature(type(model).__init__).parameters
    timm = timm_models.need_timm()

    def make(num_classes: int, size: int) -> nn.Module:
        extra = {"img_size": size} if takes_size and size != resolution else {}
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes, **extra)
        return network

    return OpaqueNetwork(f"timm:{name}", resolution, make)
