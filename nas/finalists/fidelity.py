"""How finalists are trained: the fidelity above that of the search, or another that was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from evaluators import (
    Evaluator,
    FinalTraining,
    ImageEvaluator,
    ProxyTraining,
    Recipe,
    find_recipe,
    load_images,
    named_recipe,
    next_fidelity,
    training_cost,
)
from evaluators.device import choose_device
from evaluators.recipe import AUTO, recorded_recipe
from nas.evaluation import device_here, refuse_other_data
from nas.settings import Settings
from search_space import InputError

SAME = "that of the search"


@dataclass(frozen=True)
class FinalFidelity:
    """How finalists are trained."""

    name: str
    """`quick`, `standard`, `thorough`, a recipe's file, or `SAME`."""
    evaluator: FinalTraining
    costs: float
    """So many times as much as an evaluation of the search; infinite if that trains nothing."""

    def describe(self) -> dict[str, Any]:
        """Plain data for the run's record: the images, too, which may be others than those of the search."""
        plain = self.evaluator.describe()
        return {"fidelity": self.name, "data": plain["data"], "recipe": plain["recipe"]}

    def refuse_changed(self, recorded: Mapping[str, Any], settings: Settings, where: str) -> None:
        """Raise `InputError` unless the images are those that a run began with, if it recorded them."""
        if "data" in recorded:
            refuse_other_data(self.describe()["data"], recorded["data"], settings, where)


def final_fidelity(
    settings: Settings,
    evaluator: Evaluator,
    recorded: Mapping[str, Any] | None = None,
    *,
    on_read: Callable[[int, int], None] = lambda done, total: None,
) -> FinalFidelity | None:
    """That of a request, or with `recorded` that of a run: what its `describe` gave. None if there is to be none.

    Raises `InputError` for a recipe that cannot be read.
    """
    if not settings.finalists or not settings.trains_finalists:
        return None
    if settings.final_proxy == AUTO and not isinstance(evaluator, ProxyTraining):
        return None
    if isinstance(evaluator, ImageEvaluator):
        data, device = evaluator.data, evaluator.device
    else:
        data = load_images(settings.data, root=settings.data_root, on_progress=on_read)
        device = choose_device(device_here(settings))
    if recorded is not None:
        name, recipe = _read(recorded)
    elif settings.final_proxy != AUTO:
        name = settings.final_proxy
        recipe = find_recipe(name, data, device, option="--final-proxy")
    else:
        assert isinstance(evaluator, ProxyTraining)
        name = next_fidelity(evaluator.recipe, data) or SAME
        recipe = evaluator.recipe if name == SAME else named_recipe(name, data)
    costs = math.inf
    if isinstance(evaluator, ProxyTraining):
        costs = max(1.0, training_cost(recipe, data) / training_cost(evaluator.recipe, data))
    return FinalFidelity(name, FinalTraining(data, recipe, device=str(device)), costs)


def _read(recorded: Mapping[str, Any]) -> tuple[str, Recipe]:
    try:
        return str(recorded["fidelity"]), recorded_recipe(recorded["recipe"])
    except KeyError as error:
        rule = f"the recorded recipe of the finalists cannot be read: {error}"
        raise InputError(rule, remedy="restore run.yaml, or start a new run") from None
