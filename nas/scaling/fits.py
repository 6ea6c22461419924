"""Fits of scaling coefficients, as their run folders hold them: a search of a `ScalingSpace`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from nas import runs
from nas.constraints import LATENCY, Constraint
from nas.run_folder import RunFolder
from search_space import Architecture, InputError, load_architecture
from search_space.scaling import CompoundRule
from search_space.scaling_space import ScalingSpace


@dataclass(frozen=True)
class Fit:
    """The coefficients that a search of a network's scaled forms has found."""

    run: Path
    base: Architecture
    rule: CompoundRule
    cost: str
    """The metric whose ratio to the base was asked for."""


def is_fit(run: Path) -> bool:
    """Whether the folder is a run that searched a `ScalingSpace`."""
    try:
        return "\n  scaling:" in (run / "run.yaml").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


def read_fit(run: Path) -> Fit:
    """What a fit has found so far. Raises `InputError` if that is nothing."""
    folder = RunFolder(run)
    settings, space, _ = folder.read()
    if not isinstance(space, ScalingSpace):
        raise InputError("the run is not a fit of scaling coefficients", str(run), remedy="make one with --fit")
    if not folder.best_file.exists():
        rule = "the fit has found no coefficients yet"
        raise InputError(rule, str(run), remedy=f"go on with `nas resume {run}`")
    picked = space.coefficients(load_architecture(folder.best_file))
    cost = _bound_on_both_sides(settings.parsed_constraints())
    ratio = space.ratio if cost else None
    rule_found = CompoundRule(picked["alpha"], picked["beta"], picked["gamma"], ratio)
    return Fit(run, space.base, rule_found, cost or "macs")


def newest_fit(base: Architecture) -> Fit | None:
    """The newest fit under `runs/` for this very network that has found something."""
    found = [path.parent for path in runs.RUNS.glob("*/run.yaml") if is_fit(path.parent)]
    for run in sorted(found, key=lambda path: (path / "run.yaml").stat().st_mtime, reverse=True):
        if not (run / "best.yaml").exists():
            continue
        try:
            fit = read_fit(run)
        except InputError as error:  # of whichever network it is
            warnings.warn(f"a fit of scaling coefficients is passed over: {error}", stacklevel=2)
            continue
        if fit.base.arch_id == base.arch_id:
            return fit
    return None


def _bound_on_both_sides(constraints: list[Constraint]) -> str:
    for metric in ("macs", LATENCY):
        if {constraint.at_most for constraint in constraints if constraint.metric == metric} == {True, False}:
            return metric
    return ""
