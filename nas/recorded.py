"""Networks of a run beside its best: `RUN/ARCH_ID` names any that was evaluated."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latency import Conditions, load_table
from nas.constraints import COUNTED, Constraint, violated
from nas.csv_text import csv_text
from nas.evaluation import provenance
from nas.record import TrialRecord, read_trials
from nas.run_folder import RunFolder
from nas.scored import Scored
from search_space import Architecture, InputError, load_architecture


def networks_csv(ranked: Sequence[Scored], scored: Sequence[Scored], constraints: Sequence[Constraint]) -> str:
    """A row for each network that was scored: those that keep the limits as they rank, then those that break one."""
    kept = {one.architecture.arch_id for one in ranked}
    every = [*ranked, *(one for one in scored if one.architecture.arch_id not in kept)]
    metrics = list(dict.fromkeys(name for one in every for name in one.metrics))
    rows = [
        [
            one.architecture.arch_id,
            one.number,
            one.looks,
            "; ".join(map(str, violated(constraints, one.metrics))),
            *(one.metrics.get(metric, "") for metric in metrics),
        ]
        for one in every
    ]
    return csv_text(["arch_id", "trial", "looks", "breaks", *metrics], rows)


def with_origin(
    architecture: Architecture,
    *,
    run: Path,
    trial: int,
    space: str,
    recorded: Mapping[str, Any],
    final_seeds: int,
    looks: int | None,
    metrics: Mapping[str, float] | None,
    latency_conditions: Conditions | None = None,
    measured_conditions: Conditions | None = None,
) -> Architecture:
    """A network as a run's files have it: named after its space, with where it comes from as provenance.

    `recorded` has what `run.yaml` says of the `evaluator` and of the `final` training, which is left out if the network
    had none. What is None is left out, too.
    """
    final = recorded.get("final") if any(name.startswith("final_") for name in metrics or {}) else None
    found = {
        "arch_id": architecture.arch_id,
        "run": str(run),
        "trial": trial,
        "looks": looks,
        "space": space,
        **provenance(recorded["evaluator"]),
        "metrics": None if metrics is None else dict(metrics),
        "latency_conditions": latency_conditions and latency_conditions.to_dict(),
        "measured_conditions": measured_conditions and measured_conditions.to_dict(),
        "final": final and _final(final, final_seeds),
    }
    # What the space says of it, as how it was scaled, stays.
    origin = {**architecture.provenance, **{name: value for name, value in found.items() if value is not None}}
    return architecture.replace(name=f"{space}-{architecture.arch_id}", provenance=origin)


def _final(recorded: Mapping[str, Any], seeds: int) -> dict[str, Any]:
    recipe = {name: recorded["recipe"].get(name) for name in ("epochs", "resolution_px")}
    return {"fidelity": recorded["fidelity"], **recipe, "seeds": seeds}


def recorded_network(run: Path, arch_id: str) -> Architecture:
    """A network that the run evaluated, named after its space, with what was found of it as provenance.

    Raises `InputError` if no trial of the run has this `arch_id`.
    """
    folder = RunFolder(run)
    settings, space, plain = folder.read()
    trials = read_trials(folder.journal, COUNTED)
    found = [(number, record) for number, record in enumerate(trials) if record.arch_id == arch_id]
    if not found:
        listed = folder.networks_file.exists()
        remedy = f"{folder.networks_file} lists what was scored" if listed else f"{folder.journal} has all trials"
        raise InputError("no trial of the run has this arch_id", arch_id, where=str(run), remedy=remedy)
    for file in (folder.best_file, *run.glob(f"pareto/*-{arch_id}.yaml")):  # which know all of it
        if file.exists() and (written := load_architecture(file)).arch_id == arch_id:
            return written
    number, first = found[0]
    architecture = first.network(space, number, str(run))
    scores = _scores(architecture, found)
    return with_origin(
        architecture,
        run=run,
        trial=number,
        space=space.name,
        recorded=plain,
        final_seeds=settings.final_seeds,
        looks=None if scores is None else scores.looks,
        metrics=None if scores is None else {**scores.metrics, **_finals(folder, arch_id)},
        latency_conditions=load_table(folder.latency_file).conditions if folder.latency_file.exists() else None,
    )


def _scores(architecture: Architecture, found: Sequence[tuple[int, TrialRecord]]) -> Scored | None:
    """Means over the trials that were neither failed nor pruned; None if all were."""
    scored: Scored | None = None
    for number, record in found:
        if record.failed or record.pruned:
            continue
        if scored is None:
            scored = Scored(architecture, number, record)
        else:
            scored.look(record)
    return scored


def _finals(folder: RunFolder, arch_id: str) -> Mapping[str, Any]:
    """What came of it as a finalist, if the run has ended and it was one."""
    try:
        finalists = json.loads(folder.summary_file.read_text())["finalists"]
        return next((dict(one["metrics"]) for one in finalists if one["arch_id"] == arch_id), {})
    except (OSError, ValueError, KeyError, TypeError):
        return {}
