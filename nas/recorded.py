"""Networks of a run beside its best: `RUN/ARCH_ID` names any that was evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nas.constraints import COUNTED
from nas.csv_text import csv_text
from nas.record import TrialRecord, read_trials
from nas.run_folder import RunFolder
from nas.scored import Scored
from search_space import Architecture, InputError

NETWORKS = "networks.csv"


def networks_csv(ranked: Sequence[Scored]) -> str:
    """A row for each network, in this order: its trial, looks and metrics."""
    metrics = list(dict.fromkeys(name for one in ranked for name in one.metrics))
    rows = [
        [one.architecture.arch_id, one.number, one.looks, *(one.metrics.get(metric, "") for metric in metrics)]
        for one in ranked
    ]
    return csv_text(["arch_id", "trial", "looks", *metrics], rows)


def recorded_network(run: Path, arch_id: str) -> Architecture:
    """A network that the run evaluated, named after its space, with what was found of it as provenance.

    Raises `InputError` if no trial of the run has this `arch_id`.
    """
    folder = RunFolder(run)
    _, space, _ = folder.read()
    trials = read_trials(folder.journal, COUNTED)
    found = [(number, record) for number, record in enumerate(trials) if record.arch_id == arch_id]
    if not found:
        remedy = f"{run / NETWORKS} lists those that were scored"
        raise InputError("no trial of the run has this arch_id", arch_id, where=str(run), remedy=remedy)
    number, first = found[0]
    architecture = space.decode(space.genotype(first.params))
    scores = _scores(architecture, found)
    origin = {
        **architecture.provenance,
        "arch_id": architecture.arch_id,
        "run": str(run),
        "trial": number,
        "space": space.name,
        **({} if scores is None else {"looks": scores.looks, "metrics": dict(scores.metrics)}),
    }
    return architecture.replace(name=f"{space.name}-{architecture.arch_id}", provenance=origin)


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
