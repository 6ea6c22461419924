"""What evaluators share that build a network and show it images."""

from __future__ import annotations

import contextlib
import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluators.adapt import NORM_MOMENTUM, proxy_form
from evaluators.base import EvaluationFailed, Evaluator, OutOfMemory, Report, derive_seed
from evaluators.device import choose_device
from evaluators.images import ImageData, Pixels, Split
from evaluators.recipe import AUTO, Recipe, find_recipe
from search_space import Architecture, InputError, build_model
from search_space.errors import one_line


@dataclass(frozen=True)
class Batches:
    """A split on the device: images [N, C, H, W] float32, normalised, channels last; labels [N]."""

    images: Tensor
    labels: Tensor


class ImageEvaluator(Evaluator):
    """Builds each network in the form of the recipe, from a seed of its own, on the device.

    A subclass scores it. `recipe` says at which resolution, and which images; None is the default for the data.
    """

    kind: str

    def __init__(self, data: ImageData, recipe: Recipe | None = None, *, device: str = "auto") -> None:
        self.data = data
        self.device = choose_device(device)
        self.recipe = recipe or find_recipe(AUTO, data, self.device)
        self._batches: dict[tuple[str, int], Batches] = {}

    @abstractmethod
    def score(self, model: nn.Module, train: Batches, generator: torch.Generator) -> Iterator[Report]:
        """Score a network [N, C, H, W] -> [N, classes] that was just initialised, reporting as it goes."""

    def __getstate__(self) -> dict[str, Any]:
        # Each process prepares its own batches, and none needs the test images.
        splits = {name: split for name, split in self.data.splits.items() if name != "test"}
        return {**self.__dict__, "_batches": {}, "data": dataclasses.replace(self.data, splits=splits)}

    def use_device(self, device: str) -> None:
        """Compute on this device from now on."""
        self.device = choose_device(device)
        self._batches.clear()

    def describe(self) -> dict[str, Any]:
        """The data, the recipe and the device."""
        return {
            "evaluator": self.kind,
            "data": self.data.describe(),
            "recipe": self.recipe.describe(),
            "device": str(self.device),
        }

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        """Build and score; the architecture's weights and the order of images follow from the seed."""

        def make() -> tuple[nn.Module, int]:
            form = self._form(architecture)
            return build_model(form), form.input_channels

        return self._evaluate(make, derive_seed(seed, architecture.arch_id))

    def evaluate_module(self, build: Callable[[int, int], nn.Module], name: str, *, seed: int) -> Iterator[Report]:
        """Score a network that has no architecture, as `build(num_classes, resolution)` makes it, on RGB images.

        By the same recipe, but as it is: its strides stay, although the images may be far smaller than those it is
        meant for. Raises `EvaluationFailed` if it cannot be had, or cannot run, at the recipe's resolution.
        """
        return self._evaluate(lambda: (self._foreign(build), 3), derive_seed(seed, name))

    def _evaluate(self, make: Callable[[], tuple[nn.Module, int]], own_seed: int) -> Iterator[Report]:
        """Score the network that `make` builds, with its input channels."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), _one_thread(self.device):
            torch.manual_seed(own_seed)
            try:
                network, channels = make()
                model = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
                train = self.split("train", channels)
                yield from self.score(model, train, torch.Generator().manual_seed(own_seed))
            except torch.OutOfMemoryError as error:
                raise OutOfMemory(f"out of memory on {self.device}: {error}") from None
            finally:
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()

    def _foreign(self, build: Callable[[int, int], nn.Module]) -> nn.Module:
        size = self.recipe.resolution_px
        if self.recipe.width_mult != 1:
            raise EvaluationFailed("the recipe changes the width, which a network without architecture does not have")
        try:
            model = build(self.data.num_classes, size)
            with torch.no_grad():
                logits = model.eval()(torch.zeros(2, 3, size, size))
        except (RuntimeError, ValueError, TypeError, AssertionError, InputError) as error:
            # PyTorch, torchvision and timm say it each in their own way.
            raise EvaluationFailed(f"it cannot be run at {size} px: {one_line(str(error))}") from None
        if not isinstance(logits, Tensor) or logits.shape != (2, self.data.num_classes):
            raise EvaluationFailed("its output is not a score for each class")
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = NORM_MOMENTUM
        return model

    def _form(self, architecture: Architecture) -> Architecture:
        try:
            form = proxy_form(
                architecture,
                resolution=self.recipe.resolution_px,
                final_size=self.recipe.final_size_px,
                num_classes=self.data.num_classes,
                width_mult=self.recipe.width_mult,
            )
        except InputError as error:  # its blocks only divided the image, and here they need not
            raise EvaluationFailed(f"nothing is left to train at {self.recipe.resolution_px} px: {error}") from None
        if form.input_channels not in (1, 3):
            raise EvaluationFailed(f"images have 1 or 3 channels, the network expects {form.input_channels}")
        return form

    def split(self, name: str, channels: int) -> Batches:
        """A split, prepared once: thinned, resized, normalised, on the device."""
        key = (name, channels)
        if key not in self._batches:
            limit = self.recipe.max_train_images if name == "train" else self.recipe.max_val_images
            mean, std = _statistics(self.data.splits["train"].images[: self.recipe.max_train_images])
            self._batches[key] = prepare(
                self.data.splits[name], limit, self.recipe.resolution_px, channels, mean, std, self.device
            )
        return self._batches[key]


@contextlib.contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """On the CPU, always one thread: sums then run in the same order in every process, and scores are equal."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _statistics(images: Pixels) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of [N, H, W, C] images, on the scale 0 to 1."""
    pixels = images.reshape(-1, images.shape[3])
    mean = pixels.mean(0) / 255
    std = pixels.std(0) / 255
    return torch.tensor(mean, dtype=torch.float32), torch.tensor(std, dtype=torch.float32).clamp_min(1e-3)


def prepare(
    split: Split, limit: int, size: int, channels: int, mean: Tensor, std: Tensor, device: torch.device
) -> Batches:
    """Up to `limit` images [N, channels, size, size] on `device`, a random part of the split if it has more."""
    images, labels = split.images, split.labels
    # Shuffled once and for all: files are often sorted by class, and norm statistics are estimated on the first ones.
    chosen = np.random.default_rng(0).permutation(len(labels))[:limit]
    images, labels = images[chosen], labels[chosen]
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    if pixels.shape[2:] != (size, size):
        pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    pixels = (pixels - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    if (
        pixels.shape[1] != channels
    ):  # grey images for a colour network are repeated, colour ones for a grey network mixed
        pixels = pixels.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    prepared = pixels.to(device).contiguous(memory_format=torch.channels_last)
    return Batches(prepared, torch.from_numpy(labels).to(device))
