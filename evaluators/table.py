"""Tabular evaluation: networks that others have trained, looked up.

Source: NAS-Bench-Macro (Su et al. 2021, "Prioritized Architecture Sampling with Monto-Carlo Tree Search",
arXiv:2103.11922), `nas-bench-macro_cifar10.json`: a mapping from eight digits, the options picked for the eight blocks
of the space `nasbench-macro`, to what came of 50 epochs on CIFAR-10 with each of three seeds. The accuracies are the
best over the epochs, on the test set: there was no validation split.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from evaluators.base import Direction, EvaluationFailed, Evaluator, Report, derive_seed
from search_space import Architecture, InputError, SearchSpace, load_space
from search_space.documents import read_text
from search_space.errors import did_you_mean
from search_space.rules import Integer, Number
from search_space.space import Genotype

SPACE = "nasbench-macro"
_KEY = re.compile("[012]{8}")
_MAX_BYTES = 50_000_000
_PERCENT = Number(0, 100)
_COUNT = Integer(1, 10**15)
_FIELDS = ("test_acc", "mean_acc", "std", "params", "flops")
_MEAN_TOLERANCE = 0.001
_REMEDY = "restore the file from where it came"


@dataclass(frozen=True)
class TableEntry:
    """What the table knows of one network."""

    key: str
    """The table's name for it, blocks that do nothing at the end of their stage."""
    accuracies: tuple[float, ...]
    """Test accuracy with each training seed, as a share, 0 to 1."""
    params: int
    macs: int

    @property
    def accuracy(self) -> float:
        """The mean over the seeds."""
        return fmean(self.accuracies)


class TabularEvaluator(Evaluator):
    """Looks networks up in NAS-Bench-Macro's file; the only metric is `accuracy` (test accuracy, a share, 0 to 1).

    It is the mean over the table's training seeds or, if `noisy`, the accuracy with one of them, drawn by the
    evaluation's seed. Raises `InputError` if the file is not as published.
    """

    directions: ClassVar[Mapping[str, Direction]] = {"accuracy": "maximize"}

    def __init__(self, path: str | os.PathLike[str], *, noisy: bool = False) -> None:
        self.noisy = noisy
        self._path = os.fspath(path)
        text = read_text(self._path, _MAX_BYTES)
        self._sha256 = hashlib.sha256(text.encode()).hexdigest()
        self.entries: Mapping[str, TableEntry] = _entries(_parsed(text, self._path), self._path)
        """`arch_id` -> what the table knows, for each distinct network."""

    @property
    def space(self) -> SearchSpace:
        """The space of the table's networks."""
        return load_space(SPACE)

    def architectures(self) -> list[Architecture]:
        """The table's distinct networks, in the order of `entries`."""
        space = self.space
        return [space.decode(_genotype(entry.key)) for entry in self.entries.values()]

    def true_accuracy(self, arch_id: str) -> float:
        """The mean accuracy over all training seeds, 0 to 1; raises `EvaluationFailed` for a network not there."""
        return self._entry(arch_id, arch_id).accuracy

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        """One report."""
        arch_id = architecture.arch_id
        entry = self._entry(arch_id, f"{architecture.name} ({arch_id})")
        accuracy = entry.accuracy
        if self.noisy:
            accuracy = entry.accuracies[derive_seed(seed, arch_id) % len(entry.accuracies)]
        yield Report(1, 1, {"accuracy": accuracy})

    def describe(self) -> dict[str, Any]:
        """The file and its content hash."""
        return {
            "evaluator": "table",
            "file": Path(self._path).name,
            "sha256": self._sha256,
            "networks": len(self.entries),
            "noisy": self.noisy,
        }

    def _entry(self, arch_id: str, name: str) -> TableEntry:
        if arch_id not in self.entries:
            raise EvaluationFailed(f"{name} is not in {self._path}, which has networks of space {SPACE}, unchanged")
        return self.entries[arch_id]


def _parsed(text: str, path: str) -> dict[str, Any]:
    def refuse_constant(name: str) -> None:
        raise InputError("a table has finite numbers only", name, where=path, remedy=_REMEDY)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError("a key may stand only once", twice, where=path, remedy="remove one")
        return made

    try:
        parsed = json.loads(text, object_pairs_hook=unique, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}:{error.colno}"
        raise InputError(f"not valid JSON: {error.msg}", where=where, remedy=_REMEDY) from None
    except RecursionError:
        raise InputError("the file is nested too deeply", where=path, remedy=_REMEDY) from None
    except InputError:
        raise
    except ValueError:  # Python reads no integers of many thousand digits
        raise InputError("a number is too long", where=path, remedy=_REMEDY) from None
    if not isinstance(parsed, dict) or not parsed:
        raise InputError("a table must be a mapping of networks to records", parsed, where=path, remedy=_REMEDY)
    return parsed


def _entries(table: Mapping[str, Any], path: str) -> dict[str, TableEntry]:
    """`arch_id` -> entry; several keys may be one network, and must then say the same of it."""
    space = load_space(SPACE)
    entries: dict[str, TableEntry] = {}
    first_keys: dict[Genotype, str] = {}
    for key, record in table.items():
        if not _KEY.fullmatch(key):
            raise InputError("a network must be named by 8 digits, each 0, 1 or 2", key, where=path, remedy=_REMEDY)
        canonical = space.canonical(_genotype(key))
        first = first_keys.setdefault(canonical, key)
        if first != key:
            if record != table[first]:
                rule = f"{first} and {key} are the same network and must have equal records"
                raise InputError(rule, where=path, remedy=_REMEDY)
            continue
        try:
            entry = _entry("".join(map(str, canonical)), record)
        except InputError as error:
            raise error.located(", ".join(part for part in (path, key, error.field) if part)) from None
        entries[space.decode(canonical).arch_id] = entry
    return entries


def _genotype(key: str) -> Genotype:
    return tuple(map(int, key))


def _entry(key: str, record: Any) -> TableEntry:
    if not isinstance(record, dict):
        raise InputError("a record must be a mapping", record, remedy=_REMEDY)
    for name in record:
        if name not in _FIELDS:
            raise InputError("a record has no field of this name", name, remedy=did_you_mean(name, _FIELDS))
    for name in _FIELDS:
        if name not in record:
            raise InputError(f"a record needs {name}", remedy=_REMEDY)
    seeds = record["test_acc"]
    if not isinstance(seeds, list) or not seeds:
        rule = "test_acc must be a list of accuracies in percent, one for each seed"
        raise InputError(rule, seeds, field="test_acc", remedy=_REMEDY)
    percents = [_PERCENT.check("test_acc", percent) for percent in seeds]
    mean = _PERCENT.check("mean_acc", record["mean_acc"])
    _PERCENT.check("std", record["std"])
    if abs(mean - fmean(percents)) > _MEAN_TOLERANCE:
        raise InputError("mean_acc must be the mean of test_acc", mean, field="mean_acc", remedy=_REMEDY)
    return TableEntry(
        key=key,
        accuracies=tuple(percent / 100 for percent in percents),
        params=_COUNT.check("params", record["params"]),
        macs=_COUNT.check("flops", record["flops"]),
    )
