"""Proxy training: each candidate is trained for a moment, on small images, and ranked by what it has learnt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from evaluators.adapt import silence_branches
from evaluators.base import Direction, EvaluationFailed, Report, derive_seed
from evaluators.batches import Batches, slices
from evaluators.device import amp_dtype, autocast, fork_rng
from evaluators.on_images import ImageEvaluator, Make
from evaluators.recipe import Recipe
from search_space import Architecture
from search_space.cost import count_cost

_EVAL_BATCH = 512
_LEAST_LOSS = 1e-6
_NEARLY_NEW = 4  # epochs
SCORE = "score"


class ProxyTraining(ImageEvaluator):
    """Short training from scratch; metrics `accuracy` (share of validation images, 0 to 1), `loss` and `train_loss`
    (nats) and `score`.

    `loss` is the validation cross-entropy without label smoothing. Batch-norm statistics are estimated anew before
    validation: those gathered while weights were moving fast would make the loss noise. `train_loss` is the mean over
    the batches of the epoch, smoothing included. `score` (`proxy_score`) is made of both losses, and makes up for what
    capacity brings only in longer training; networks without an architecture have none.
    """

    kind = "proxy"
    ranks_by: ClassVar[str] = SCORE
    """The metric that orders networks most like long training does, for searches that name no objective."""
    directions: ClassVar[Mapping[str, Direction]] = {SCORE: "maximize", "accuracy": "maximize", "loss": "minimize"}

    def describe(self) -> dict[str, Any]:
        """The data, the recipe, the device and its precision."""
        return {**super().describe(), "amp": str(amp_dtype(self.device))}

    @property
    def steps(self) -> int:
        """Epochs, of all trainings."""
        return self.recipe.epochs * self.recipe.trainings

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        """Build, train and validate; the architecture's weights and the order of images follow from the seed."""
        activations = count_cost(architecture).activations
        for report in super().evaluate(architecture, seed=seed):
            metrics = dict(report.metrics)
            if "loss" in metrics:
                learned = metrics["train_loss"] - least_loss(self.recipe.label_smoothing, self.data.num_classes)
                epoch = min(report.step, self.recipe.epochs)
                metrics[SCORE] = proxy_score(metrics["loss"], learned, activations, self.recipe, epoch)
            yield Report(report.step, report.total_steps, metrics)

    def _evaluate(self, make: Make, own_seed: int) -> Iterator[Report]:
        """Train as often as the recipe says; once the first training has ended, tell the means of those that have."""
        ended: list[Mapping[str, float]] = []
        for turn in range(self.recipe.trainings):
            seed = own_seed if turn == 0 else derive_seed(own_seed, str(turn))
            for report in super()._evaluate(make, seed):
                if report.step == report.total_steps:
                    ended.append(report.metrics)
                metrics = {name: fmean(one[name] for one in ended) for name in ended[0]} if ended else report.metrics
                yield Report(turn * report.total_steps + report.step, self.steps, metrics)

    def score(self, model: nn.Module, train: Batches, generator: torch.Generator) -> Iterator[Report]:
        """Train and validate; one report an epoch."""
        recipe = self.recipe
        if recipe.zero_init_residual:
            silence_branches(model)
        batch = min(recipe.batch_size, len(train.labels))
        steps = max(1, len(train.labels) // batch)
        optimizer = make_optimizer(model, recipe, fused=self.device.type in ("cpu", "cuda"))
        average = None
        if recipe.ema_decay:
            average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))  # type: ignore[no-untyped-call]
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=recipe.learning_rate,
            total_steps=steps * recipe.epochs + 1,
            pct_start=0.3,
            cycle_momentum=recipe.optimizer == "adamw",  # sgd's is what the recipe says
        )
        scaler = torch.amp.GradScaler(self.device.type, enabled=amp_dtype(self.device) is torch.float16)
        for epoch in range(1, recipe.epochs + 1):
            model.train()
            order = torch.randperm(len(train.labels), generator=generator)
            total = torch.zeros((), device=self.device)
            for images, labels in train.in_turn(torch.split(order[: steps * batch].to(self.device), batch)):
                augmented = augment(images, recipe, generator)
                with autocast(self.device):
                    loss = F.cross_entropy(model(augmented), labels, label_smoothing=recipe.label_smoothing)
                optimizer.zero_grad(set_to_none=True)
                scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                scaler.step(optimizer)
                scaler.update()
                schedule.step()
                if average is not None:
                    average.update_parameters(model)
                total += loss.detach()
            train_loss = total.item() / steps
            if not math.isfinite(train_loss):
                raise EvaluationFailed(f"training diverged: the loss is {train_loss} in epoch {epoch}")
            if epoch < recipe.epochs:
                learned = self._validate(average or model, train) if epoch in self.rungs else {}
                yield Report(epoch, recipe.epochs, {**learned, "train_loss": train_loss})
        yield Report(
            recipe.epochs, recipe.epochs, {**self._validate(average or model, train), "train_loss": train_loss}
        )

    @torch.no_grad()
    def _validate(self, model: nn.Module, train: Batches) -> dict[str, float]:
        sample = train.images[: self.recipe.norm_images]
        # Batch norms learn in training mode, where dropout draws: training must go on as if nobody had looked.
        with fork_rng(self.device), autocast(self.device):
            update_bn(torch.split(sample, _EVAL_BATCH), model)
        return self._scores(model.eval(), "val", train)

    @torch.no_grad()
    def _scores(self, model: nn.Module, split: str, train: Batches) -> dict[str, float]:
        """Accuracy and loss of a model in evaluation mode on the images of a split, in the form of those of `train`."""
        batches = self.split(split, *train.images.shape[1:3])
        parts = slices(len(batches), _EVAL_BATCH)
        with autocast(self.device):
            logits = torch.cat([model(images) for images, _ in batches.in_turn(parts)]).float()
        loss = F.cross_entropy(logits, batches.labels).item()
        if not math.isfinite(loss):
            raise EvaluationFailed(f"the {'validation' if split == 'val' else split} loss is {loss}")
        return {"accuracy": (logits.argmax(1) == batches.labels).sum().item() / len(batches.labels), "loss": loss}


def proxy_score(loss: float, train_loss: float, activations: int, recipe: Recipe, epoch: int) -> float:
    """(millions of activations) ^ capacity_weight / ((1 - w) loss + w train_loss), w train_loss_weight. More is better.

    Of two networks with the same loss after a short training, the one with more feature maps at its deployment
    resolution will be ahead after a long one: it learns more slowly, and goes further (decision 24 has measurements).
    `train_loss` is that of this epoch, less what label smoothing leaves of it (`least_loss`). While images are nearly
    new it says as much as validation does, of more images (Ru et al. 2021, "Speedy performance estimation for neural
    architecture search"; decision 27 has measurements). Later, unless they are shifted, they may be learnt by heart: w
    is 0 then.
    """
    new = epoch <= _NEARLY_NEW or recipe.shift_px(recipe.resolution_px) > 0
    weight = recipe.train_loss_weight if new else 0.0
    both = (1 - weight) * loss + weight * train_loss
    return float((activations / 1e6) ** recipe.capacity_weight / max(both, _LEAST_LOSS))


def least_loss(label_smoothing: float, num_classes: int) -> float:
    """The cross-entropy (nats) of smoothed labels with themselves, which no network can go below."""
    smoothed = F.one_hot(torch.tensor(0), num_classes) * (1 - label_smoothing) + label_smoothing / num_classes
    return float(torch.special.entr(smoothed).sum())


def make_optimizer(model: nn.Module, recipe: Recipe, *, fused: bool) -> torch.optim.Optimizer:
    """The optimizer of a recipe."""
    groups = _decayed(model, recipe.weight_decay)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True, fused=fused)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=fused)


def _decayed(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: weight decay on matrices and kernels only, as is usual for networks with norms."""
    kernels = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def augment(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Shift, and perhaps mirror, each image of a batch [N, C, H, W] on its own."""
    count, _, height, width = images.shape
    reach = recipe.shift_px(height)
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
