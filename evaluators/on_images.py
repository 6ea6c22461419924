"""What evaluators share that build a network and show it images."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from evaluators.adapt import NORM_MOMENTUM, proxy_form
from evaluators.base import EvaluationFailed, Evaluator, NoVerdict, Report, derive_seed
from evaluators.batch_store import BatchStore
from evaluators.batches import Batches, Form, statistics
from evaluators.cpu_convolutions import speed_up_convolutions
from evaluators.device import choose_device, fork_rng
from evaluators.images import ImageData, ImageSource
from evaluators.recipe import AUTO, Recipe, find_recipe
from search_space import Architecture, InputError, build_model
from search_space.errors import one_line

Make = Callable[[], tuple[nn.Module, int, int]]
"""A network, the channels of its input, and the height and width of its images."""


class ImageEvaluator(Evaluator):
    """Builds each network in the form of the recipe, from a seed of its own, on the device.

    A subclass scores it. `recipe` says at which resolution, and which images; None is the default for the data.
    Images that still lie in files are read when they are first asked for.
    """

    kind: str
    needs: ClassVar[tuple[str, ...]] = ("train", "val")
    """The splits of the data that copies in other processes take along."""

    def __init__(self, data: ImageSource, recipe: Recipe | None = None, *, device: str = "auto") -> None:
        self.data = data
        self.device = choose_device(device)
        self.recipe = recipe or find_recipe(AUTO, data, self.device)
        self._size_px = self.recipe.resolution_px
        self.store = BatchStore()
        """Of prepared images; others may have the same one."""

    @functools.cached_property
    def images(self) -> ImageData:
        """The images, read. Raises `InputError` if too few can be, `WorkFailed` if there is no room for them."""
        recipe = self.recipe
        return self.data.load(size_px=self._size_px, train=recipe.max_train_images, val=recipe.max_val_images)

    @functools.cached_property
    def _normalisation(self) -> tuple[Tensor, Tensor]:
        return statistics(self.images.splits["train"], self.recipe.max_train_images)

    @abstractmethod
    def score(self, model: nn.Module, train: Batches, generator: torch.Generator) -> Iterator[Report]:
        """Score a network [N, C, H, W] -> [N, classes] that was just initialised, reporting as it goes."""

    def __getstate__(self) -> dict[str, Any]:
        # Each process prepares its own batches, of the images that it needs, and of no more than have been read.
        splits = {name: split for name, split in self.images.splits.items() if name in self.needs}
        images = dataclasses.replace(self.images, splits=splits)
        return {**self.__dict__, "data": images, "images": images}

    def use_device(self, device: str) -> None:
        """Compute on this device from now on."""
        self.device = choose_device(device)

    def show_up_to(self, deployment_px: int) -> None:
        """Have images that are large enough for networks meant for so many pixels."""
        size_px = max(self.recipe.resolution_px, self.recipe.pixels(deployment_px))
        if size_px != self._size_px:
            self._size_px = size_px
            for name in ("images", "_normalisation"):
                self.__dict__.pop(name, None)

    def describe(self) -> dict[str, Any]:
        """The data, the recipe and the device."""
        return {
            "evaluator": self.kind,
            "data": self.images.describe(),
            "recipe": self.recipe.describe(),
            "device": str(self.device),
        }

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        """Build and score; the architecture's weights and the order of images follow from the seed."""

        def make() -> tuple[nn.Module, int, int]:
            form = self._form(architecture)
            return build_model(form), form.input_channels, self.recipe.pixels(architecture.resolution)

        return self._evaluate(make, derive_seed(seed, architecture.arch_id))

    def evaluate_module(self, build: Callable[[int, int], nn.Module], name: str, *, seed: int) -> Iterator[Report]:
        """Score a network that has no architecture, as `build(num_classes, resolution)` makes it, on RGB images.

        By the same recipe, but as it is: its strides stay, although the images may be far smaller than those it is
        meant for. Raises `EvaluationFailed` if it cannot be had, or cannot run, at the recipe's resolution.
        """
        return self._evaluate(lambda: (self._foreign(build), 3, self.recipe.resolution_px), derive_seed(seed, name))

    def _evaluate(self, make: Make, own_seed: int) -> Iterator[Report]:
        """Score the network that `make` builds, with its input channels and the size of its images."""
        with fork_rng(self.device), _one_thread(self.device):
            torch.manual_seed(own_seed)
            try:
                network, channels, pixels = make()
                model = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
                if self.device.type == "cpu":
                    speed_up_convolutions(model)
                train = self.split("train", channels, pixels)
                yield from self.score(model, train, torch.Generator().manual_seed(own_seed))
            except torch.OutOfMemoryError as error:
                raise NoVerdict(f"out of memory on {self.device}: {error}") from None
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

    def split(self, name: str, channels: int, pixels: int) -> Batches:
        """A split, prepared once: thinned, resized to `pixels`, normalised, on the device."""
        limit = self.recipe.max_train_images if name == "train" else self.recipe.max_val_images
        form = Form(pixels, channels, *self._normalisation, self.device)
        return self.store.prepared(self.images.splits[name], limit, form)


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
