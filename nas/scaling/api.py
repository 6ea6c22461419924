"""Scaling from Python: `nas.scale(...)`."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from latency import LatencyTable, Predictor, load_table
from latency.measure import OnProgress
from nas import runs
from nas.architectures import resolve
from nas.constraints import COUNTED
from nas.known import Known
from nas.latency_tables import AUTO, find_table
from nas.scaling.files import file_name, write_family
from nas.scaling.fits import Fit, is_fit, newest_fit, read_fit
from nas.scaling.result import FamilyMember, ScalingResult
from nas.scaling.solve import solve
from nas.target import parse_target
from search_space import Architecture, InputError, count_cost
from search_space.families import family as published
from search_space.families import multiplied
from search_space.footprint import refuse_too_large
from search_space.scaling import PHI, CompoundRule, Member, ScalingRule
from search_space.scaling_space import scaling_space

Phi = float | str | Sequence[float]
_MOST_MEMBERS = 100
_NUMBER = r"[-+]?(?:[0-9]{1,9}\.?[0-9]{0,9}|\.[0-9]{1,9})"


@dataclass(frozen=True)
class _Chosen:
    """A base and what phi means for it."""

    base: Architecture
    rule: ScalingRule | None
    """None where two multipliers say it all."""
    source: str
    cost: str = "macs"


def scale(
    arch: str | os.PathLike[str] | Architecture | None = None,
    *,
    phi: Phi | None = None,
    target: str = "",
    family: str = "",
    alpha: float | None = None,
    beta: float | None = None,
    gamma: float | None = None,
    width_mult: float | Sequence[float] | None = None,
    resolution: int | Sequence[int] | None = None,
    latency: str | os.PathLike[str] = "",
    interpolate: bool = False,
    out: str | os.PathLike[str] | None = None,
    on_measure: OnProgress = lambda done, total: None,
) -> ScalingResult:
    """Scale a network, to one size or several.

    `arch` is a file, a run folder, `RUN/ARCH_ID`, a reference or a value; None is the newest run. `phi` is a number,
    several, or text as `"0..7"`; `target`, as `"macs=1G"`, solves for it. What it means is up to `family`, or to
    `alpha`, `beta` and `gamma`; without them, to the newest fit of this network under `runs/`, else to the paper's 1.2,
    1.1 and 1.15.
    `width_mult` and `resolution` (px) are MobileNet's multipliers instead, all combinations of them.
    `latency` is a table's file, or `auto`. Networks are written into the folder `out`, if it is given; networks of
    another family in it bring a warning.
    Raises `InputError` for what cannot be, before any network is built.
    """
    asked = {"phi": phi, "target": target or None, "family": family or None}
    given = [
        name for name, value in {**asked, "alpha": alpha, "beta": beta, "gamma": gamma}.items() if value is not None
    ]
    if width_mult is not None or resolution is not None:
        if given:
            rule = "--width-mult and --resolution go without phi"
            raise InputError(rule, f"--{given[0]}", remedy="leave one of them out")
        base, _ = resolve_base(arch)
        known = _known(latency, interpolate)
        return _result(_Chosen(base, None, "multipliers"), _multiplied(base, width_mult, resolution), known, out)
    phis = read_wish(phi, target)
    chosen = _choose(arch, family, {"alpha": alpha, "beta": beta, "gamma": gamma})
    members = [_member(chosen, one) for one in phis]  # refuses what cannot be, before anything is measured
    known = _known(latency, interpolate, functools.partial(_auto_table, chosen, phis, on_measure))
    if chosen.cost not in known.names and isinstance(chosen.rule, CompoundRule):  # fitted to a latency unknown here
        chosen = dataclasses.replace(chosen, rule=dataclasses.replace(chosen.rule, ratio=None), cost="macs")
        members = [_member(chosen, one) for one in phis]
    if target:
        chosen, members = _solved(chosen, target, known)
    return _result(chosen, members, known, out)


def read_wish(phi: Phi | None, target: str) -> list[float]:
    """The phi asked for, none if there is a target instead. Raises `InputError` unless it is one of the two."""
    if (phi is None) == (not target):
        rule = "say how far to scale: phi, or a target" if phi is None else "phi and a target exclude each other"
        raise InputError(rule, remedy="as --phi 3, --phi 0..7, --target macs=1G, or --width-mult 0.75")
    if phi is None:
        parse_target(target)
        return []
    return _phis(phi)


def resolve_base(arch: str | os.PathLike[str] | Architecture | None) -> tuple[Architecture, Fit | None]:
    """The network to scale, and what was fitted for it; of a fit's own folder, that fit and its base."""
    if isinstance(arch, Architecture):
        return arch, newest_fit(arch)
    path = runs.newest_run() if arch is None else Path(arch)
    if is_fit(path):
        fit = read_fit(path)
        return fit.base, fit
    base = resolve(os.fspath(path))
    return base, newest_fit(base)


def _choose(arch: str | os.PathLike[str] | Architecture | None, family: str, given: dict[str, float | None]) -> _Chosen:
    coefficients = {name: value for name, value in given.items() if value is not None}
    if family:
        if coefficients:
            rule = "a published family has coefficients of its own"
            raise InputError(rule, f"--{next(iter(coefficients))}", remedy="leave out one of them")
        return _Chosen(resolve_base(arch)[0], published(family), "published")
    base, fit = resolve_base(arch)
    if coefficients:
        return _Chosen(base, CompoundRule(**coefficients), "given")
    if fit is not None:
        return _Chosen(base, fit.rule, str(fit.run), fit.cost)
    return _Chosen(base, CompoundRule(), "default")


def _phis(phi: Phi) -> list[float]:
    """The numbers of `3`, `-1,0.5` or `0..7`, each once."""
    if not isinstance(phi, str):
        numbers = [PHI.check("phi", one) for one in (phi if isinstance(phi, Iterable) else [phi])]
    else:
        numbers = []
        for word in phi.split(","):
            ends = re.fullmatch(rf"\s*({_NUMBER})\s*(?:\.\.\s*({_NUMBER})\s*)?", word)
            if ends is None:
                raise InputError("--phi must be a number, several, or a range", phi, remedy="as 3, -1,0.5 or 0..7")
            first, last = float(ends[1]), float(ends[2] or ends[1])
            steps = max(0, math.floor(last - first) + 1)
            numbers += [first + step for step in range(min(steps, _MOST_MEMBERS + 1))]
    found = list(dict.fromkeys(numbers))
    if not 1 <= len(found) <= _MOST_MEMBERS:
        rule = f"--phi must stand for 1 to {_MOST_MEMBERS} networks"
        raise InputError(rule, phi, remedy="write a range upwards, as 0..7")
    return found


def _member(chosen: _Chosen, phi: float) -> Member:
    """One network, sure to fit into memory. Raises `InputError` that names phi."""
    assert chosen.rule is not None
    where = f"phi {phi:g}"
    try:
        member = chosen.rule.member(chosen.base, phi)
    except InputError as error:
        remedy = "choose a phi nearer to 0" if abs(phi) > 1 else error.remedy
        raise InputError(error.rule, error.value, where=where, remedy=remedy) from None
    refuse_too_large(member.architecture, where)
    return member


def _multiplied(
    base: Architecture, width_mult: float | Sequence[float] | None, resolution: int | Sequence[int] | None
) -> list[Member]:
    widths = _several(width_mult, 1.0)
    pixels = _several(resolution, base.resolution)
    members = [multiplied(base, width, cast(int, size)) for width, size in itertools.product(widths, pixels)]
    for member in members:
        refuse_too_large(member.architecture, member.architecture.name)
    return members


def _several(given: float | Sequence[float] | None, default: float) -> list[float]:
    if given is None:
        return [default]
    found = list(dict.fromkeys(given)) if isinstance(given, Iterable) else [given]
    if not 1 <= len(found) <= _MOST_MEMBERS:
        raise InputError(f"1 to {_MOST_MEMBERS} multipliers can be asked for", len(found))
    return found


def _known(latency: str | os.PathLike[str], interpolate: bool, auto: Callable[[], LatencyTable] | None = None) -> Known:
    """What can be said of the networks without training: their cost and, with a table, their latency."""
    text = os.fspath(latency)
    if not text:
        if interpolate:
            raise InputError("--interpolate needs a latency table", remedy="add --latency FILE")
        return Known()
    if text == AUTO and auto is None:
        raise _no_auto()
    table = auto() if text == AUTO and auto is not None else load_table(text)
    return Known(Predictor(table, interpolate=interpolate), interpolate=interpolate)


def _auto_table(chosen: _Chosen, phis: Sequence[float], on_measure: OnProgress) -> LatencyTable:
    """A table for the networks at these phi and the base."""
    rule = chosen.rule
    if not phis or not isinstance(rule, CompoundRule):
        raise _no_auto()
    every = sorted({0.0, *phis})
    coefficients: dict[str, float | list[float]] = {
        "phi": every,
        "alpha": rule.alpha,
        "beta": rule.beta,
        "gamma": rule.gamma,
    }
    space = scaling_space(chosen.base, coefficients)
    return find_table(AUTO, space, on_build=on_measure)[0]


def _no_auto() -> InputError:
    rule = "--latency auto goes with --phi and coefficients alpha, beta and gamma"
    return InputError(rule, remedy="give a table's file; docs/scaling.md says how to build one")


def _solved(chosen: _Chosen, text: str, known: Known) -> tuple[_Chosen, list[Member]]:
    """The largest network that keeps to the target; ratios are then those of the target's metric."""
    assert chosen.rule is not None
    target = parse_target(text)
    if target.metric not in known.names:
        raise InputError(f"{target.metric} needs a latency table", where="--target", remedy="add --latency FILE")

    @functools.cache
    def cost_at(phi: float) -> float:
        return _metric(known, _member(chosen, phi).architecture, target.metric)

    member = _member(chosen, solve(cost_at, target, chosen.rule.sought))
    ratio = target.goal / _metric(known, chosen.base, target.metric)
    return dataclasses.replace(chosen, cost=target.metric), [dataclasses.replace(member, ratio_asked=ratio)]


def _metric(known: Known, architecture: Architecture, metric: str) -> float:
    """What is counted needs no table, which may lack the network."""
    return count_cost(architecture).metrics()[metric] if metric in COUNTED else known.metrics(architecture)[metric]


def _result(
    chosen: _Chosen, members: Sequence[Member], known: Known, out: str | os.PathLike[str] | None
) -> ScalingResult:
    at_base = _metric(known, chosen.base, chosen.cost)
    family = []
    for member in members:
        metrics = known.metrics(member.architecture)
        file = None if out is None else Path(out) / file_name(member)
        family.append(FamilyMember(member, metrics, metrics[chosen.cost] / at_base, file))
    write_family(family)  # now that all of them are known to be right
    rule = {"rule": chosen.source} if chosen.rule is None else chosen.rule.describe()
    return ScalingResult(chosen.base, rule, chosen.source, chosen.cost, tuple(family))
