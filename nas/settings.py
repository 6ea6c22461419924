"""What a search was asked to do: all that is needed to repeat it."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import searchers
from evaluators import ProxyTraining, recipe, sources
from nas.constraints import Constraint, parse_constraint, refuse_contradictions
from nas.executors import EXECUTORS, ExecutorOptions
from nas.objective import parse_names
from nas.prefilter import PrefilterRule, parse_features, parse_prefilter, refuse_unfit
from nas.pruning import NONE, PRUNERS
from nas.target import DEFAULT_WEIGHT, Target, parse_target
from search_space import InputError
from search_space.errors import did_you_mean
from search_space.rules import Integer, Number

_MOST_FINALISTS = 3
_TRIALS_PER_FINALIST = 8
NO_FINAL_TRAINING = "none"
# Runs from earlier versions do not have them.
_ADDED_LATER = (
    *("latency", "interpolate", "target", "target_weight", "finalists"),
    *("evaluator", "gpus_per_trial", "ray_address", "trial_timeout_s", "retries", "proxy"),
    *("final_proxy", "final_seeds", "pruner", "prefilter", "predictor_features"),
)
_NUMBERS = {
    "budget": Integer(1, 10_000_000),
    "seed": Integer(0, 2**63 - 1),
    "workers": Integer(0, 1_024),
    "finalists": Integer(0, 1_000),
    "final_seeds": Integer(1, 100),
    "retries": Integer(0, 100),
}
_TEXTS = (
    *("searcher", "objective", "evaluator", "proxy", "final_proxy", "data", "data_root", "device"),
    *("executor", "ray_address", "latency", "target", "pruner"),
    *("prefilter", "predictor_features"),
)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Settings:
    """A search request, validated when made."""

    budget: int
    seed: int = 0
    searcher: str = searchers.DEFAULT
    objective: str = ""
    """Metrics separated by commas; empty means what ranks best: a zero-cost score's own, the score of proxy
    training, else accuracy."""
    constraints: tuple[str, ...] = ()
    data: str = sources.DEFAULT
    data_root: str = "data"
    device: str = "auto"
    executor: str = "inline"
    workers: int = 0
    """Evaluations at once; 0 means one for each processor on the CPU, one on a GPU."""
    evaluator: str = "proxy"
    """`proxy`, `zero-cost:NAME`, or a benchmark's table as `table:FILE` or `noisy-table:FILE`."""
    proxy: str = recipe.AUTO
    """Fidelity of training, and of the images that zero-cost scores see: `auto`, `quick`, `standard`, `thorough`, or a
    recipe's file."""
    pruner: str = NONE
    """How trainings that fall behind are stopped: `none`, `asha`, `hyperband` or `median`."""
    gpus_per_trial: float = 0.0
    """Ray only: the share of a GPU for each worker."""
    ray_address: str = ""
    """Ray only: the cluster; empty means the one at hand, or one of our own."""
    trial_timeout_s: float | None = None
    """An evaluation that takes longer is ended; None means no limit."""
    retries: int = 2
    """So many times more an evaluation is tried that failed for a reason which may pass."""
    latency: str = ""
    """A latency table's file, or `auto` to build or reuse one for this device and space."""
    interpolate: bool = False
    """Fill in what the table lacks between measured neighbours."""
    target: str = ""
    """Soft reward, as `latency_ms=20`."""
    target_weight: float = DEFAULT_WEIGHT
    finalists: int | None = None
    """How many of the best are trained at a higher fidelity at the end, and with a latency table timed on the device;
    None means one for each eight trials of the budget, at least one and at most three, where either is to be done."""
    prefilter: str = ""
    """As `naswot:0.5`: of all networks, evaluate only those of the best half by this zero-cost score."""
    predictor_features: str = ""
    """Zero-cost scores separated by commas, from which the predictor learns, too."""
    final_proxy: str = recipe.AUTO
    """Fidelity at which finalists are trained, as `proxy`; `auto` means the one above the search's if that trains, and
    none otherwise; `none` means that they are not."""
    final_seeds: int = 3
    """So many times each finalist is trained, each time from other weights."""

    def __post_init__(self) -> None:
        for field in _TEXTS:
            if not isinstance(getattr(self, field), str):
                raise InputError(f"{field} must be text", getattr(self, field), field=field)
        if self.finalists is None:
            object.__setattr__(self, "finalists", self._default_finalists())
        for number, rule in _NUMBERS.items():
            option = f"--{number.replace('_', '-')}"
            object.__setattr__(self, number, rule.check(option, getattr(self, number)))
        for constraint in self.constraints:
            if not isinstance(constraint, str):
                raise InputError("a constraint must be text", constraint, remedy='write it as "macs<=200M"')
        searchers.check_name(self.searcher)
        kind, _, _ = self.evaluator.partition(":")
        if kind in ("table", "noisy-table") and self.proxy != recipe.AUTO:
            raise InputError("--proxy is for evaluators that see images", self.evaluator, remedy="leave it out")
        if kind in ("table", "noisy-table") and self.final_proxy not in (recipe.AUTO, NO_FINAL_TRAINING):
            why = "--final-proxy is for searches on images; a table's networks have been trained"
            raise InputError(why, self.evaluator, remedy="leave it out")
        if self.pruner not in PRUNERS:
            raise InputError("--pruner must be a known name", self.pruner, remedy=did_you_mean(self.pruner, PRUNERS))
        object.__setattr__(self, "objective", ",".join(parse_names(self.objective or self._default_objective())))
        object.__setattr__(self, "gpus_per_trial", Number(0, 64).check("--gpus-per-trial", self.gpus_per_trial))
        if self.gpus_per_trial > 1 and self.gpus_per_trial != int(self.gpus_per_trial):
            raise InputError("--gpus-per-trial must be at most 1, or a whole number", self.gpus_per_trial)
        if self.trial_timeout_s is not None:
            seconds: float = Number(0, 1e9).check("--trial-timeout", self.trial_timeout_s)
            if not seconds > 0:
                raise InputError("--trial-timeout must be above 0", seconds)
            object.__setattr__(self, "trial_timeout_s", seconds)
        if self.executor not in EXECUTORS:
            remedy = did_you_mean(self.executor, EXECUTORS)
            raise InputError("--executor must be a known name", self.executor, remedy=remedy)
        if self.executor != "ray" and (self.gpus_per_trial or self.ray_address):
            option = "--gpus-per-trial" if self.gpus_per_trial else "--ray-address"
            raise InputError(f"{option} needs --executor ray", self.executor, remedy="add --executor ray")
        if not isinstance(self.interpolate, bool):
            raise InputError("interpolate must be true or false", self.interpolate)
        object.__setattr__(self, "target_weight", Number(-1e9, 1e9).check("--target-weight", self.target_weight))
        if self.finalists and not self.latency and not self.trains_finalists:
            why = "--finalists are timed by a latency table or trained again, and neither is asked for"
            raise InputError(why, self.finalists, remedy="add --latency FILE, or --final-proxy standard")
        if not self.finalists and self.final_proxy not in (recipe.AUTO, NO_FINAL_TRAINING):
            raise InputError("--final-proxy needs finalists", self.final_proxy, remedy="leave out --finalists 0")
        if self.interpolate and not self.latency:
            raise InputError("--interpolate needs a latency table", remedy="add --latency FILE")
        target = self.parsed_target()
        if target is not None and "," in self.objective:
            remedy = "leave out --target, or all objectives but one"
            raise InputError("--target needs a single objective", self.objective, remedy=remedy)
        if target is not None:
            object.__setattr__(self, "target", str(target))
        prefilter, features = self.parsed_prefilter(), self.parsed_features()
        refuse_unfit(prefilter, features, searcher=self.searcher, evaluator=self.evaluator)
        object.__setattr__(self, "prefilter", str(prefilter or ""))
        object.__setattr__(self, "predictor_features", ",".join(features))
        # The canonical spelling, so that equal requests are equal.
        constraints = self.parsed_constraints()
        refuse_contradictions(constraints)
        object.__setattr__(self, "constraints", tuple(str(constraint) for constraint in constraints))

    def refuse_idle(self) -> None:
        """Raise `InputError` for what was asked and would do nothing; a run of an older version may have it."""
        if self.target_weight != DEFAULT_WEIGHT and not self.target:
            raise InputError("--target-weight needs a target", self.target_weight, remedy="add --target latency_ms=20")
        if self.final_seeds != Settings.final_seeds and not (self.finalists and self.trains_finalists):
            rule = "--final-seeds needs finalists that are trained again"
            raise InputError(rule, self.final_seeds, remedy="leave it out, or add --finalists 3 --final-proxy standard")

    def _default_finalists(self) -> int:
        if not self.latency and not self.trains_finalists:
            return 0
        trials = self.budget if isinstance(self.budget, int) else 1  # it is checked next
        return min(_MOST_FINALISTS, max(1, trials // _TRIALS_PER_FINALIST))

    @property
    def trains_finalists(self) -> bool:
        """Whether finalists, if there are any, are to be trained again."""
        if self.final_proxy == recipe.AUTO:
            return self.evaluator == "proxy"
        return self.final_proxy != NO_FINAL_TRAINING

    def _default_objective(self) -> str:
        kind, _, name = self.evaluator.partition(":")
        if kind == "zero-cost" and name:
            return name
        # MnasNet's weights are meant for accuracies, of which a few percent are much; scores differ more.
        return ProxyTraining.ranks_by if kind == "proxy" and not self.target else "accuracy"

    def parsed_constraints(self) -> list[Constraint]:
        """The constraints as values."""
        return [parse_constraint(text) for text in self.constraints]

    def parsed_target(self) -> Target | None:
        """The target as a value."""
        return parse_target(self.target, self.target_weight, self.objective) if self.target else None

    def parsed_prefilter(self) -> PrefilterRule | None:
        """The prefilter as a value."""
        return parse_prefilter(self.prefilter) if self.prefilter else None

    def parsed_features(self) -> tuple[str, ...]:
        """The names of the predictor's features."""
        return parse_features(self.predictor_features) if self.predictor_features else ()

    @property
    def window(self) -> int:
        """How many trials may be under way or waiting for their turn: a slow one must not idle the other workers."""
        return 1 if self.workers == 1 else 2 * self.workers

    def executor_options(self) -> ExecutorOptions:
        """How evaluations are to be run."""
        timeout_s = math.inf if self.trial_timeout_s is None else self.trial_timeout_s
        return ExecutorOptions(self.workers, self.gpus_per_trial, self.ray_address, timeout_s, self.retries)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `run.yaml`."""
        return {**dataclasses.asdict(self), "constraints": list(self.constraints)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Settings:
        """Read back what `to_dict` wrote; raises `InputError`."""
        known = {field.name for field in dataclasses.fields(cls)}
        for name in plain:
            if name not in known:
                raise InputError("settings have no field of this name", name, remedy=did_you_mean(name, known))
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
        added = {name: defaults[name] for name in _ADDED_LATER}
        plain = {**added, "final_proxy": NO_FINAL_TRAINING, **plain}
        constraints = plain.get("constraints", [])
        if "budget" not in plain or not isinstance(constraints, list):
            raise InputError("settings need a budget, and a list of constraints", remedy="restore the file")
        if plain.keys() != known or plain["workers"] == 0:
            missing = ", ".join(sorted(known - plain.keys())) or "workers"
            raise InputError(f"settings need {missing}", remedy="restore the file")
        return cls(**{**plain, "constraints": tuple(constraints)})


def parse_duration(text: str, option: str = "--time-limit") -> float:
    """Seconds of `90s`, `30m`, `2h` or `1.5d`. Raises `InputError`."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([smhd])\s*", text, re.IGNORECASE)
    seconds = float(match[1]) * _SECONDS[match[2].lower()] if match else 0.0
    if seconds <= 0:
        raise InputError(f"{option} must be a duration", text, remedy="write it as 90s, 30m or 2h")
    return seconds
