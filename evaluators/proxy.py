"""Proxy training: each candidate is trained for a moment, on small images, and ranked by what it has learnt."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from evaluators.adapt import proxy_form
from evaluators.base import Direction, EvaluationFailed, Evaluator, OutOfMemory, Report, derive_seed
from evaluators.device import amp_dtype, autocast, choose_device
from evaluators.images import ImageData, Pixels, Split
from evaluators.recipe import Recipe, default_recipe
from search_space import Architecture, InputError, build_model

_EVAL_BATCH = 512


@dataclass(frozen=True)
class Batches:
    """A split on the device: images [N, C, H, W] float32, normalised, channels last; labels [N]."""

    images: Tensor
    labels: Tensor


class ProxyTraining(Evaluator):
    """Short training from scratch; metrics `accuracy` (share of validation images, 0 to 1) and `loss` (nats).

    `loss` is the validation cross-entropy without label smoothing. Batch-norm statistics are estimated anew before
    validation: those gathered while weights were moving fast would make the score noise.
    """

    directions: ClassVar[Mapping[str, Direction]] = {"accuracy": "maximize", "loss": "minimize"}

    def __init__(self, data: ImageData, recipe: Recipe | None = None, *, device: str = "auto") -> None:
        self.data = data
        self.recipe = recipe or default_recipe(data)
        self.device = choose_device(device)
        self._batches: dict[tuple[str, int], Batches] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Each process prepares its own batches, and none needs the test images.
        splits = {name: split for name, split in self.data.splits.items() if name != "test"}
        return {**self.__dict__, "_batches": {}, "data": dataclasses.replace(self.data, splits=splits)}

    def use_device(self, device: str) -> None:
        """Train on this device from now on."""
        self.device = choose_device(device)
        self._batches.clear()

    def describe(self) -> dict[str, Any]:
        """The data, the recipe and the device."""
        return {
            "evaluator": "proxy",
            "data": self.data.describe(),
            "recipe": self.recipe.describe(),
            "device": str(self.device),
            "amp": str(amp_dtype(self.device)),
        }

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        """Train and validate; one report an epoch."""
        own_seed = derive_seed(seed, architecture.arch_id)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), _one_thread(self.device):
            torch.manual_seed(own_seed)
            try:
                yield from self._train(architecture, torch.Generator().manual_seed(own_seed))
            except torch.OutOfMemoryError as error:
                raise OutOfMemory(f"out of memory on {self.device}: {error}") from None
            finally:
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()

    def _train(self, architecture: Architecture, generator: torch.Generator) -> Iterator[Report]:
        recipe = self.recipe
        try:
            form = proxy_form(
                architecture,
                resolution=recipe.resolution_px,
                final_size=recipe.final_size_px,
                num_classes=self.data.num_classes,
            )
        except InputError as error:  # its blocks only divided the image, and here they need not
            raise EvaluationFailed(f"nothing is left to train at {recipe.resolution_px} px: {error}") from None
        if form.input_channels not in (1, 3):
            raise EvaluationFailed(f"images have 1 or 3 channels, the network expects {form.input_channels}")
        train = self._split("train", form.input_channels)
        model = build_model(form).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        batch = min(recipe.batch_size, len(train.labels))
        steps = max(1, len(train.labels) // batch)
        optimizer = torch.optim.AdamW(
            _decayed(model, recipe.weight_decay), lr=recipe.learning_rate, fused=self.device.type in ("cpu", "cuda")
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=recipe.learning_rate, total_steps=steps * recipe.epochs + 1, pct_start=0.3
        )
        scaler = torch.amp.GradScaler(self.device.type, enabled=amp_dtype(self.device) is torch.float16)
        for epoch in range(1, recipe.epochs + 1):
            model.train()
            order = torch.randperm(len(train.labels), generator=generator)
            total = torch.zeros((), device=self.device)
            for step in range(steps):
                chosen = order[step * batch : (step + 1) * batch].to(self.device)
                images = augment(train.images[chosen], recipe, generator)
                with autocast(self.device):
                    loss = F.cross_entropy(model(images), train.labels[chosen], label_smoothing=recipe.label_smoothing)
                optimizer.zero_grad(set_to_none=True)
                scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                scaler.step(optimizer)
                scaler.update()
                schedule.step()
                total += loss.detach()
            train_loss = total.item() / steps
            if not math.isfinite(train_loss):
                raise EvaluationFailed(f"training diverged: the loss is {train_loss} in epoch {epoch}")
            if epoch < recipe.epochs:
                yield Report(epoch, recipe.epochs, {"train_loss": train_loss})
        yield Report(recipe.epochs, recipe.epochs, {**self._validate(model, train), "train_loss": train_loss})

    @torch.no_grad()
    def _validate(self, model: nn.Module, train: Batches) -> dict[str, float]:
        sample = train.images[: self.recipe.norm_images]
        with autocast(self.device):
            update_bn(torch.split(sample, _EVAL_BATCH), model)
            model.eval()
            val = self._split("val", train.images.shape[1])
            logits = torch.cat([model(images) for images in torch.split(val.images, _EVAL_BATCH)]).float()
        loss = F.cross_entropy(logits, val.labels).item()
        if not math.isfinite(loss):
            raise EvaluationFailed(f"the validation loss is {loss}")
        return {"accuracy": (logits.argmax(1) == val.labels).sum().item() / len(val.labels), "loss": loss}

    def _split(self, name: str, channels: int) -> Batches:
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


def _decayed(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: weight decay on matrices and kernels only, as is usual for networks with norms."""
    kernels = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


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


def augment(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Shift, and perhaps mirror, each image of a batch [N, C, H, W] on its own."""
    count, _, height, width = images.shape
    reach = round(recipe.shift_share * height)
    columns = torch.arange(width).expand(count, width)
    if recipe.flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    if not reach:
        return (
            images.gather(3, columns.to(images.device)[:, None, None, :].expand_as(images)) if recipe.flip else images
        )
    shift = torch.randint(0, 2 * reach + 1, (2, count, 1), generator=generator)
    rows = (torch.arange(height) + shift[0]).to(images.device)
    columns = (columns + shift[1]).to(images.device)
    padded = F.pad(images, (reach,) * 4, mode="replicate").permute(0, 2, 3, 1)
    index = torch.arange(count, device=images.device)[:, None, None]
    return padded[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
