"""Building a table: networks that cover every part shape of a space, timed in place, calibrated on whole networks.

An unfinished build lies beside the table as `TABLE.part`, a line for each chunk measured; building again goes on there.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from latency.conditions import Conditions
from latency.measure import Chunk, InPlace, Job, OnProgress, Samples, Whole, measure_chunk, plan
from latency.runtimes import make_runtime
from latency.table import Calibration, LatencyTable, Measured, Times, is_number
from latency.table_file import save_table
from search_space import Architecture, InputError, SearchSpace
from search_space.architecture import ARCHITECTURE_RULES
from search_space.graph import PartGraph
from search_space.json_lines import append_line, read_lines
from search_space.parts import PartShape, parts
from search_space.rules import Integer
from search_space.space_file import at_resolutions

CALIBRATION_NETWORKS = 40
_LEAST_NETWORKS = 60
"""So many networks are timed in place at least: a block's time depends on what ran before it."""
_FEW_GENOTYPES = 10_000
NUM_CLASSES = (10, 100, 1000)
"""Heads are measured for these numbers of classes, if the space does not state its own."""


@dataclass(frozen=True)
class Request:
    """What a table is to be built for."""

    space: SearchSpace
    conditions: Conditions
    resolutions: tuple[int, ...]
    num_classes: tuple[int, ...]
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data, by which an unfinished build is recognised."""
        return {
            "nas": importlib.metadata.version("nas"),
            "space": self.space.name,
            "space_sha256": hashlib.sha256(json.dumps(self.space.plain, sort_keys=True).encode()).hexdigest()[:16],
            "conditions": self.conditions.to_dict(),
            "resolutions_px": list(self.resolutions),
            "num_classes": list(self.num_classes),
            "seed": self.seed,
        }


def request(
    space: SearchSpace,
    conditions: Conditions,
    *,
    resolutions: Sequence[int] | None = None,
    num_classes: Sequence[int] | None = None,
    seed: int = 0,
) -> Request:
    """A request with its defaults filled in: all resolutions of the space; its number of classes, or `NUM_CLASSES`."""
    Integer(0, 2**63 - 1).check("--seed", seed)
    at = at_resolutions(space, resolutions) if resolutions else space  # refuses those that the space cannot have
    default = (space.constants["num_classes"],) if "num_classes" in space.constants else NUM_CLASSES
    classes = tuple(sorted(set(num_classes or default)))
    for value in classes:
        ARCHITECTURE_RULES["num_classes"].check("num_classes", value)
    return Request(space, conditions, tuple(sorted(at.resolutions)), classes, seed)


def build_table(
    wanted: Request, out: str | os.PathLike[str], *, on_progress: OnProgress = lambda done, total: None
) -> LatencyTable:
    """Measure, write the table to `out`, and return it.

    Raises `InputError` if something lies at `out`, another process is building there, or an unfinished build there is
    for something else. Stopped or killed, it goes on where it was when it is called again.
    """
    target = Path(out)
    runtime = make_runtime(wanted.conditions)
    with _locked(target):
        if target.exists():
            raise InputError("there is a file already", str(target), remedy="use another --out, or remove it")
        jobs = _jobs(wanted)
        chunks = plan(
            len(jobs),
            passes=runtime.passes,
            rounds=runtime.rounds,
            at_once=runtime.open_at_once,
            rng=np.random.default_rng(wanted.seed),
        )
        part = PartFile(target.with_name(f"{target.name}.part"), wanted.to_dict(), chunks, jobs)
        on_progress(len(part.done), len(chunks))
        for chunk in chunks:
            if chunk.number not in part.done:
                part.append(chunk, measure_chunk(runtime, jobs, chunk))
                on_progress(len(part.done), len(chunks))
        table = _table(wanted, jobs, part)
        save_table(table, target)
        part.path.unlink()
    return table


def _jobs(wanted: Request) -> list[Job]:
    """The networks to time: those that cover the space in place, random ones as wholes."""
    rng = np.random.default_rng(wanted.seed)
    graph = wanted.space.graph(resolutions=wanted.resolutions, num_classes=wanted.num_classes)
    covering = list(graph.cover(rng))
    in_place = covering + [graph.sample(rng) for _ in range(_LEAST_NETWORKS - len(covering))]
    return [*map(InPlace, in_place), *map(Whole, _calibration_networks(graph, wanted.space, rng))]


def _calibration_networks(graph: PartGraph, space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
    """Random distinct networks, of a small space at most half of it: some must be left to check the table with."""
    count = CALIBRATION_NETWORKS
    if space.num_genotypes <= _FEW_GENOTYPES:
        count = min(count, max(1, space.size // 2))
    found: dict[str, Architecture] = {}
    for _ in range(100 * count):
        architecture = graph.sample(rng)
        found.setdefault(architecture.arch_id, architecture)
        if len(found) == count:
            break
    return list(found.values())


def _table(wanted: Request, jobs: Sequence[Job], part: PartFile) -> LatencyTable:
    by_shape: dict[PartShape, list[float]] = defaultdict(list)
    networks = []
    taken = part.samples(len(jobs))
    for job, samples in zip(jobs, taken, strict=True):
        if isinstance(job, InPlace):
            for shape, times in zip(parts(job.architecture), samples.T, strict=True):
                by_shape[shape.at_inference()] += times.tolist()
        elif isinstance(job, Whole):
            networks.append(Measured(job.architecture, Times.of(samples)))
    times = {shape: Times.of(taken) for shape, taken in by_shape.items()}
    sums = [
        sum(times[shape.at_inference()].p10_ms or 0.0 for shape in parts(network.architecture)) for network in networks
    ]
    source = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "nas": importlib.metadata.version("nas"),
        "cpus": os.cpu_count(),
        "space": wanted.space.name,
        "resolutions_px": list(wanted.resolutions),
        "num_classes": list(wanted.num_classes),
        "networks_timed_in_place": len(jobs) - len(networks),
        "samples_per_network": len(taken[0]),
        "measuring_s": round(part.seconds, 1),
    }
    return LatencyTable(
        wanted.space.name, wanted.conditions, times, calibration=Calibration.fit(sums, networks), source=source
    )


class PartFile:
    """What an unfinished build has measured: a header, then a line of JSON for each chunk."""

    def __init__(self, path: Path, header: dict[str, Any], chunks: Sequence[Chunk], jobs: Sequence[Job]) -> None:
        self.path = path
        self._chunks = {chunk.number: chunk for chunk in chunks}
        self._jobs = jobs
        self.done: dict[int, dict[str, Any]] = {}
        self._last = time.monotonic()
        header = json.loads(json.dumps(header))
        if path.exists():
            self._read(header)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            append_line(self.path, header)

    @property
    def seconds(self) -> float:
        """Time spent measuring, over all sessions."""
        return sum(float(row["seconds"]) for row in self.done.values())

    def samples(self, count: int) -> list[Samples]:
        """The samples of each job, those of all passes together."""
        taken: list[list[Samples]] = [[] for _ in range(count)]
        for number in sorted(self.done):
            for index, times in self.done[number]["times_ms"].items():
                taken[int(index)].append(np.asarray(times))
        return [np.concatenate(passes) for passes in taken]

    def append(self, chunk: Chunk, samples: dict[int, Samples]) -> None:
        """Add a chunk; it is on the disk when this returns."""
        now = time.monotonic()
        times = {str(index): np.round(taken, 6).tolist() for index, taken in samples.items()}
        row = {"chunk": chunk.number, "seconds": round(now - self._last, 3), "times_ms": times}
        self._last = now
        append_line(self.path, row)
        self.done[chunk.number] = row

    def _read(self, header: dict[str, Any]) -> None:
        try:
            found, *rows = read_lines(self.path) or [None]
            differs = [name for name in header if found is not None and found.get(name) != header[name]]
            for row in [] if differs else rows:
                self._check(row)
                self.done[row["chunk"]] = row
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            rule = f"the unfinished build cannot be read: {type(error).__name__}: {error}"
            raise InputError(rule, str(self.path), remedy="remove it to begin again") from None
        if differs:
            rule = f"an unfinished build with another {' and '.join(differs)} lies there"
            raise InputError(rule, str(self.path), remedy="finish that one, use another --out, or remove it")
        if found is None:
            append_line(self.path, header)

    def _check(self, row: dict[str, Any]) -> None:
        """Raise if a row is not what this build writes for its chunk."""
        chunk, seconds, times = self._chunks[row["chunk"]], row["seconds"], row["times_ms"]
        if not (is_number(seconds) and seconds >= 0 and set(times) == set(map(str, chunk.jobs))):
            raise ValueError("a line of another build")
        for index in chunk.jobs:
            samples, job = np.asarray(times[str(index)], dtype=float), self._jobs[index]
            width = [len(parts(job.architecture))] if isinstance(job, InPlace) else []
            if list(samples.shape) != [chunk.rounds, *width] or not (samples >= 0).all() or np.isinf(samples).any():
                raise ValueError("times that cannot be")


class _locked:
    """One build at a time at one place."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __enter__(self) -> None:
        if not self._target.name:
            raise InputError("--out must name a file", str(self._target), remedy="add a file name")
        file = self._target.with_name(f".{self._target.name}.lock")
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(file, timeout=0)
            self._lock.acquire()
        except filelock.Timeout:
            busy = file.exists()  # else it is a place where nothing can be made, as /proc
            rule = "another process is building there" if busy else "cannot write there"
            remedy = "wait for it" if busy else "choose a place that can be written"
            raise InputError(rule, str(self._target), remedy=remedy) from None
        except (OSError, ValueError) as error:
            rule = f"cannot write there: {getattr(error, 'strerror', None) or error}"
            raise InputError(rule, str(self._target), remedy="choose a place that can be written") from None

    def __exit__(self, *error: object) -> None:
        self._lock.release()
        if self._target.exists():  # nobody will build here again
            self._target.with_name(f".{self._target.name}.lock").unlink(missing_ok=True)
