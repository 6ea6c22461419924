"""The record of finished trials: an Optuna journal that optuna-dashboard opens, one entry a trial."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState, create_trial

from evaluators import Direction
from search_space import Architecture, InputError, SearchSpace
from search_space.component import plain_number
from search_space.space import Params

STUDY_NAME = "nas"
_STATES = {  # failed, pruned
    (False, False): TrialState.COMPLETE,
    (False, True): TrialState.PRUNED,
    (True, False): TrialState.FAIL,
}
logging.getLogger("optuna").setLevel(logging.WARNING)


@dataclass(frozen=True)
class TrialRecord:
    """A finished trial. `metrics` is empty for a failed one, which has a `reason` instead, and for a pruned one."""

    ask: int
    """Number of the sampler's proposal that became this trial."""
    params: Params
    arch_id: str
    cost: Mapping[str, float]
    metrics: Mapping[str, float]
    seconds: float
    look: int = 0
    """How often the network had been looked at before."""
    told: int = 0
    """How many trials the sampler had been told when it proposed this one."""
    rejected: Mapping[str, int] = field(default_factory=dict)
    """Proposals turned down since the previous trial, by kind: `duplicate`, `infeasible`, `filtered`."""
    reason: str = ""
    reported: Mapping[int, float] = field(default_factory=dict)
    """Step -> the objective, where a pruner was asked."""
    equivalents: float = 1.0
    """What it cost, as a share of a full evaluation: below 1 if it was pruned."""
    filtered: tuple[str, ...] = ()
    """The `arch_id`s of the proposals turned down since the previous trial because they did not pass a prefilter."""

    @property
    def failed(self) -> bool:
        """Whether it ended without a score."""
        return bool(self.reason)

    @property
    def pruned(self) -> bool:
        """Whether it was stopped early, and has no score for that."""
        return self.equivalents < 1

    def network(self, space: SearchSpace, number: int, where: str = "") -> Architecture:
        """What trial `number` was about. Raises `InputError` if its params stand for another network."""
        architecture = space.decode(space.genotype(self.params))
        if architecture.arch_id != self.arch_id:
            rule = f"trial {number} of the journal must be the network of its params"
            remedy = "restore journal.log and run.yaml from a copy"
            raise InputError(rule, self.arch_id, where=where, remedy=remedy)
        return architecture


class _FolderIsLocked(JournalFileOpenLock):
    """No lock: the run folder is locked as a whole, and a lock file would outlive a killed process."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return


class TrialLog:
    """Appends trials to the journal and reads them back."""

    def __init__(
        self, path: Path, directions: Sequence[Direction], distributions: Mapping[str, BaseDistribution]
    ) -> None:
        self._distributions = dict(distributions)
        self._path = path
        if path.exists():
            _drop_torn_line(path)
        try:
            storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_FolderIsLocked(str(path))))
            if STUDY_NAME in optuna.get_all_study_names(storage):
                self._study = optuna.load_study(study_name=STUDY_NAME, storage=storage)
            else:
                self._study = optuna.create_study(storage=storage, study_name=STUDY_NAME, directions=directions)
            found = [direction.name.lower() for direction in self._study.directions]
            if found != list(directions):
                raise ValueError(f"it is of a search that would {' and '.join(found)}")
        except Exception as error:  # whatever Optuna meets in a file that somebody has edited
            raise _unreadable(path, error) from None

    def append(self, record: TrialRecord, values: Sequence[float] | None, excess: Mapping[str, float]) -> None:
        """Add a finished trial; it is on the disk when this returns.

        `values` are those of the objectives, None for a failed or pruned trial, so that Optuna takes nothing that was
        seen on the way for a result; `excess` over each limit is at most 0 if kept.
        """
        attributes: dict[str, Any] = {
            "arch_id": record.arch_id,
            **record.cost,
            **record.metrics,
            "seconds": round(record.seconds, 3),
            "ask": record.ask,
            "look": record.look,
            "told": record.told,
            "rejected": dict(record.rejected),
        }
        if record.filtered:
            attributes["filtered"] = list(record.filtered)
        if record.failed:
            attributes["reason"] = record.reason
        if record.pruned:
            attributes["equivalents"] = record.equivalents
        trial = create_trial(
            state=_STATES[record.failed, record.pruned],
            values=values,
            params=dict(record.params),
            distributions=self._distributions,
            user_attrs=attributes,
            intermediate_values=dict(record.reported),
        )
        for name, value in excess.items():
            trial.set_constraint(name, value)
        self._study.add_trial(trial)

    def read(self, cost_names: tuple[str, ...]) -> list[TrialRecord]:
        """All finished trials, in order."""
        return _records(self._study, cost_names, self._path)


def read_trials(path: Path, cost_names: tuple[str, ...]) -> list[TrialRecord]:
    """All finished trials of a journal that another process may be writing; none of one that is not there yet.

    Raises `InputError` if it cannot be read.
    """
    if not path.exists():
        return []
    try:
        storage = JournalStorage(JournalFileBackend(str(path), lock_obj=_FolderIsLocked(str(path))))
        if STUDY_NAME not in optuna.get_all_study_names(storage):
            return []
        study = optuna.load_study(study_name=STUDY_NAME, storage=storage)
    except Exception as error:  # whatever Optuna meets in a file that somebody has edited
        raise _unreadable(path, error) from None
    return _records(study, cost_names, path)


def _records(study: optuna.Study, cost_names: tuple[str, ...], path: Path) -> list[TrialRecord]:
    records: list[TrialRecord] = []
    for trial in study.get_trials(deepcopy=False):
        try:
            record = _record(trial, cost_names)
            if records and record.ask <= records[-1].ask:
                raise ValueError("trials are out of order")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _unreadable(path, error) from None
        records.append(record)
    return records


def _unreadable(path: Path, error: Exception) -> InputError:
    rule = f"the journal cannot be read: {type(error).__name__}: {error}"
    return InputError(rule, where=str(path), remedy="restore it from a copy, or start a new run")


def _record(trial: FrozenTrial, cost_names: tuple[str, ...]) -> TrialRecord:
    attributes = dict(trial.user_attrs)
    known = {name: attributes.pop(name) for name in ("ask", "arch_id", "seconds", "rejected")}
    counts = {name: attributes.pop(name, 0) for name in ("look", "told")}  # journals of earlier versions lack them
    reason, filtered = attributes.pop("reason", ""), attributes.pop("filtered", [])
    equivalents = float(attributes.pop("equivalents", 1))
    reported = {step: float(value) for step, value in trial.intermediate_values.items()}
    cost = {name: plain_number(float(attributes.pop(name))) for name in cost_names}
    metrics = {name: float(value) for name, value in attributes.items()}
    numbers = (known["ask"], *counts.values())
    if not all(isinstance(number, int) for number in numbers) or not isinstance(known["rejected"], dict):
        raise TypeError("ask, look and told must be numbers, rejected a mapping")
    pruned = equivalents < 1
    if not 0 < equivalents <= 1 or (pruned and not reported) or trial.state is not _STATES.get((bool(reason), pruned)):
        raise ValueError(f"the attributes of a trial are not those of one that is {trial.state.name}")
    if not isinstance(filtered, list) or not all(isinstance(arch_id, str) for arch_id in filtered):
        raise TypeError("filtered must be a list of arch_ids")
    return TrialRecord(
        params=dict(trial.params),
        cost=cost,
        metrics=metrics,
        reason=reason,
        reported=reported,
        equivalents=equivalents,
        filtered=tuple(filtered),
        **known,
        **counts,
    )


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line that a killed process left half written; the next entry would be glued to it."""
    with open(path, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        back = min(size, 1 << 20)
        file.seek(size - back)
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(size - back + tail.rfind(b"\n") + 1)
