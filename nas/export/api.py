"""Exporting: all files of a request are made in a folder beside, and put into place once the last one is right."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from latency import Predictor
from nas.export import EXPORTERS, Exporter, Job, exporter
from nas.export.card import model_card
from nas.export.names import file_stem
from nas.export.weights import load_weights, read_weights, write_weights
from search_space import Architecture, InputError, build_model, load_architecture
from search_space.documents import write_whole
from search_space.network import Network

CARD = "model_card.md"
_ARCHITECTURE = "yaml"
"""The format that is always written: `load_model` reads it."""


@dataclass(frozen=True)
class Exported:
    """What an export left in its folder."""

    files: Mapping[str, Path]
    """Format -> file, in the order asked for."""
    architecture: Path
    weights: Path | None
    card: Path

    def to_dict(self) -> dict[str, object]:
        """Plain data of `nas export --json`."""
        return {
            "files": {name: str(path) for name, path in self.files.items()},
            "architecture": str(self.architecture),
            "weights": None if self.weights is None else str(self.weights),
            "model_card": str(self.card),
        }


def export_network(
    architecture: Architecture,
    to: Sequence[str],
    out: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    predictor: Predictor | None = None,
) -> Exported:
    """Write a network in the formats `to` into the folder `out`, with its architecture file and a model card.

    `weights` is a safetensors file with the network's tensors; without it the weights are initial ones, drawn with
    seed 0. `predictor` tells the latency that the card states. Raises `InputError` for a request that cannot be met, in
    which case nothing is written, and `WorkFailed` if what a format wrote is not the network.
    """
    chosen = _chosen(to)
    for one in chosen:
        one.check(architecture)
    folder, stem = Path(out), file_stem(architecture)
    _refuse_another(folder, stem, architecture)
    predicted = None if predictor is None else (predictor.predict(architecture).latency_ms, predictor.table.conditions)
    job = _job(architecture, stem, weights)
    with _beside(folder) as work:
        written = {one.name: one.write(job, work) for one in chosen}
        if _ARCHITECTURE not in written:
            written = {**written, _ARCHITECTURE: EXPORTERS[_ARCHITECTURE].write(job, work)}
        state = None
        if weights is not None or any(one.holds_weights for one in chosen):
            state = work / f"{stem}.safetensors"
            write_weights(state, job.model.state_dict(), architecture.arch_id)
        card = work / CARD
        write_whole(card, model_card(job, written, state, weights, predicted))
        made = [path for one in written.values() for path in (one.file, *one.further)]
        _put(folder, [*made, *([] if state is None else [state]), card])
    return Exported(
        {one.name: folder / written[one.name].file.name for one in chosen},
        folder / written[_ARCHITECTURE].file.name,
        None if state is None else folder / state.name,
        folder / CARD,
    )


def _chosen(to: Sequence[str]) -> list[Exporter]:
    chosen = [exporter(name) for name in dict.fromkeys(name.strip() for name in to)]
    if not chosen:
        raise InputError("--to needs a format", remedy=f"use one or more of {', '.join(EXPORTERS)}")
    return chosen


def _job(architecture: Architecture, stem: str, weights: str | os.PathLike[str] | None) -> Job:
    if weights is None:
        return Job(architecture, lambda: _initial(architecture), stem, False)
    state = read_weights(weights, "--weights")
    model = Network(architecture)
    load_weights(model, state, os.fspath(weights), "--weights")
    return Job(architecture, lambda: model, stem, True)


def _initial(architecture: Architecture) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_model(architecture)


def _refuse_another(folder: Path, stem: str, architecture: Architecture) -> None:
    """Raise `InputError` if the folder holds the export of another network: files of both would lie side by side."""
    if not (folder / CARD).is_file():
        return
    own = folder / f"{stem}.yaml"
    try:
        same = load_architecture(own) == architecture
    except InputError:
        same = False
    if not same:
        rule = "the folder holds the export of another network"
        raise InputError(rule, str(folder), where="--out", remedy="use another --out, or remove it")


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A folder to work in, on the same disk. If the work fails, nothing is left, not even a new `folder`."""
    new = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".nas-export-", dir=folder))
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise _unwritable(folder, error) from None
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        for path in new:
            with suppress(OSError):  # it holds something now
                path.rmdir()


def _put(folder: Path, files: Sequence[Path]) -> None:
    for path in files:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    for path in files:
        try:
            os.replace(path, folder / path.name)
        except OSError as error:
            raise _unwritable(folder / path.name, error) from None


def _unwritable(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    remedy = "choose a place that can be written"
    return InputError(f"cannot write the files: {reason}", str(path), where="--out", remedy=remedy)
