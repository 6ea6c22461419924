"""From the words of a request to the evaluator that it names."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from evaluators import Evaluator, ImageEvaluator, ImageSource, ProxyTraining, Recipe, find_recipe, load_images
from evaluators.device import choose_device
from evaluators.recipe import recorded_recipe
from evaluators.table import TabularEvaluator
from evaluators.zero_cost import COUNTED, NAMES, Counted, ZeroCost
from nas.settings import Settings
from search_space import InputError, SearchSpace
from search_space.errors import did_you_mean, listed

_FEW_IMAGES = 100
KINDS = ("proxy", *(f"zero-cost:{name}" for name in NAMES), "table:FILE", "noisy-table:FILE")
"""How `--evaluator` may be written. A noisy table gives one random seed's score, a table their mean."""


def make_evaluator(
    settings: Settings,
    recorded: Mapping[str, Any] | None = None,
    on_read: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluator:
    """The evaluator of a request, or with `recorded` that of a run: what its `describe` gave. Raises `InputError`.

    `on_read` is called as images are read from a folder, with those done and their number.
    """
    kind, _, file = settings.evaluator.partition(":")
    if settings.evaluator == "proxy":
        return ProxyTraining(*_images(settings, recorded, on_read), device=device_here(settings))
    if kind == "zero-cost" and file in COUNTED:
        return Counted(file)
    if kind == "zero-cost" and file in NAMES:
        return ZeroCost(file, *_images(settings, recorded, on_read), device=device_here(settings))
    if kind in ("table", "noisy-table") and file:
        return TabularEvaluator(file, noisy=kind == "noisy-table")
    remedy = did_you_mean(settings.evaluator, KINDS)
    raise InputError("--evaluator must be proxy, zero-cost:NAME or table:FILE", settings.evaluator, remedy=remedy)


def cheap_evaluators(names: Iterable[str], evaluator: Evaluator) -> dict[str, Evaluator]:
    """Zero-cost scores by name, on the images, in the form and on the device of a search's own evaluator."""
    made: dict[str, Evaluator] = {}
    for name in names:
        if name in COUNTED:
            made[name] = Counted(name)
        elif isinstance(evaluator, ImageEvaluator):
            scorer = ZeroCost(name, evaluator.data, evaluator.recipe, device=str(evaluator.device))
            scorer.images, scorer.store = evaluator.images, evaluator.store
            made[name] = scorer
        else:
            remedy = f"use {listed(COUNTED)}"
            raise InputError("this zero-cost score needs images, and the evaluator has none", name, remedy=remedy)
    return made


def _images(
    settings: Settings, recorded: Mapping[str, Any] | None, on_read: Callable[[int, int], None]
) -> tuple[ImageSource, Recipe]:
    data = load_images(settings.data, root=settings.data_root, on_progress=on_read)
    if recorded is not None:
        return data, recorded_recipe(recorded.get("recipe"))
    return data, find_recipe(settings.proxy, data, worker_device(settings))


def worker_device(settings: Settings) -> torch.device:
    """The device that evaluations run on, which need not be that of this process."""
    return torch.device("cuda") if settings.gpus_per_trial else choose_device(device_here(settings))


def device_here(settings: Settings) -> str:
    """The device for this process; with Ray, workers that have a share of a GPU use that, whatever there is here."""
    if settings.executor != "ray":
        return settings.device
    if not settings.gpus_per_trial and settings.device not in ("auto", "cpu"):
        rule = "with --executor ray, GPUs are given out by --gpus-per-trial"
        raise InputError(rule, settings.device, where="--device", remedy="add --gpus-per-trial 1, or a share")
    return "cpu"


def described(evaluator: Evaluator, settings: Settings) -> dict[str, Any]:
    """What a run records of its evaluator, the device of Ray's workers included."""
    plain = evaluator.describe()
    if settings.gpus_per_trial:
        plain["device"] = "cuda"
        if "amp" in plain:
            plain["amp"] = "as each worker's GPU has it"
    return plain


def refuse_changed(evaluator: Evaluator, recorded: Mapping[str, Any], settings: Settings, where: str) -> None:
    """Raise `InputError` unless the evaluator is the one that a run began with."""
    now = evaluator.describe()
    if now["evaluator"] != recorded.get("evaluator"):
        raise InputError("the evaluator must be the one the run began with", where=where, remedy="restore the file")
    refuse_other_data(now.get("data", {}), recorded.get("data", {}), settings, where)
    if any(now.get(name) != recorded.get(name) for name in ("sha256", "noisy")):
        rule = "the table must be what the run began with"
        raise InputError(rule, settings.evaluator, where=where, remedy="restore it, or start a new run")


def refuse_other_data(now: Mapping[str, Any], recorded: Mapping[str, Any], settings: Settings, where: str = "") -> None:
    """Raise `InputError` unless images, as they describe themselves, are those that a run began with."""
    if now.get("fingerprint") != recorded.get("fingerprint"):
        rule = "the data must be what the run began with"
        raise InputError(rule, settings.data, where=where, remedy="restore it, or start a new run")


def fit_evaluator(evaluator: Evaluator, space: SearchSpace) -> Evaluator:
    """The evaluator, showing images in proportion to a network's resolution if that is what the space is about.

    The score is then of validation loss alone, whatever the recipe says: with more resolution capacity would count
    twice, and training losses have no common measure where dropout grows with a network.
    """
    if isinstance(evaluator, ImageEvaluator):
        if space.reference_px:
            recipe = evaluator.recipe
            reference_px = recipe.reference_px or space.reference_px
            evaluator.recipe = dataclasses.replace(
                recipe, reference_px=reference_px, capacity_weight=0.0, train_loss_weight=0.0
            )
        if evaluator.recipe.reference_px:
            evaluator.show_up_to(max(space.resolutions))
    return evaluator


def read_images(evaluators: Iterable[Evaluator]) -> None:
    """Read all images that will be needed, so that what is wrong with them is known before anything is trained.

    Those who want more begin: of a folder, the others' images are the first of theirs, and are not read again.
    """
    seeing = [one for one in evaluators if isinstance(one, ImageEvaluator)]
    for one in sorted(seeing, key=lambda one: (one.recipe.max_train_images, one.recipe.max_val_images), reverse=True):
        one.describe()  # which reads them


def warn_of_few_images(evaluators: Iterable[Evaluator]) -> None:
    """Say how far accuracies go by chance, if trained networks are validated on fewer than 100 images."""
    trainings = [one for one in evaluators if isinstance(one, ProxyTraining)]
    counts = [min(len(one.data.splits["val"]), one.recipe.max_val_images) for one in trainings]
    if counts and min(counts) < _FEW_IMAGES:
        # Of a network that is right on half of them, where it is widest.
        chance = 1.96 * (0.25 / min(counts)) ** 0.5
        said = f"accuracies on {min(counts)} validation images are uncertain by up to ±{chance:.2f} (95 %)"
        warnings.warn(f"{said}, and so is what ranks first", stacklevel=3)


def fit_space(space: SearchSpace, evaluator: Evaluator) -> SearchSpace:
    """The space for the user's own classes, unless it says for how many itself. Raises `InputError`."""
    if not isinstance(evaluator, ImageEvaluator):
        return space
    classes = evaluator.data.num_classes
    if "num_classes" not in space.constants:
        space = space.with_constants(num_classes=classes)
    if space.constants["num_classes"] < classes:
        rule = f"num_classes of the space must be at least that of the data, {classes}"
        raise InputError(rule, space.constants["num_classes"], where=space.name, remedy="raise it, or leave it out")
    if space.constants.get("input_channels", 3) not in (1, 3):
        rule = "input_channels must be 1 or 3 for images"
        raise InputError(rule, space.constants["input_channels"], where=space.name, remedy="change it, or leave it out")
    return space


def provenance(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """By what a network was scored, for its architecture file; `recorded` is the evaluator as `run.yaml` has it."""
    kind, data = recorded.get("evaluator"), recorded.get("data", {}).get("name")
    if kind == "proxy":
        plain = {"data": data, "proxy_resolution_px": recorded.get("recipe", {}).get("resolution_px")}
    else:
        plain = {"evaluator": kind, "data": data, "file": recorded.get("file")}
    return {name: value for name, value in plain.items() if value is not None}


def default_workers(evaluator: Evaluator, settings: Settings) -> int:
    """One for each processor this process may use, each training with one thread; one on a GPU, or for a table.

    With shares of GPUs, as many as this machine's have room for; of a cluster's, nothing is known yet.
    """
    if not isinstance(evaluator, ImageEvaluator) or evaluator.device.type != "cpu":
        return 1
    if share := settings.gpus_per_trial:
        # As Ray counts: a share is of one GPU, so that 0.4 fit two to each; the small number is for 10 × 0.1.
        return max(1, int(torch.cuda.device_count() * (int(1 / share + 1e-6) if share < 1 else 1 / share)))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
