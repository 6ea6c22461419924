"""The run folder: every file a search writes or reads, in one place."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from nas.folder_lock import lock_folder
from nas.settings import Settings
from search_space import Architecture, InputError, SearchSpace, dump_architecture
from search_space.architecture_file import top_level
from search_space.documents import Document, Row, read_document, to_yaml, write_whole
from search_space.space import Params
from search_space.space_file import parse_space

_RUN_KEYS = {
    **dict.fromkeys(("schema_version", "settings", "space", "evaluator", "started", "versions", "host"), True),
    "latency": False,
    "start": False,
    "final": False,
}


class RunFolder:
    """A run's files. Only the process that holds the lock writes; every file but the journal is written whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_file = path / "run.yaml"
        self.journal = path / "journal.log"
        self.best_file = path / "best.yaml"
        self.summary_file = path / "summary.json"
        self.networks_file = path / "networks.csv"
        self.latency_file = path / "latency.json"
        self.worker_log = path / "workers.log"
        self.scores_file = path / "zero-cost.jsonl"
        self.finalists_file = path / "finalists.jsonl"
        self._lock: filelock.BaseFileLock | None = None
        self._made = not path.exists()

    @classmethod
    def create(
        cls,
        path: Path,
        settings: Settings,
        space: SearchSpace,
        evaluator: Mapping[str, Any],
        latency: str = "",
        start: Sequence[Params] = (),
        final: Mapping[str, Any] | None = None,
    ) -> RunFolder:
        """Make a new run folder, locked; raises `InputError` if something is there already.

        `latency` is the text of the latency table, if there is one; `start` are the networks to begin with;
        `final` says how finalists are to be trained, and on which images.
        """
        if not space.plain:
            raise InputError("a search needs a space that was loaded from a file or a preset", space.name)
        folder = cls(path)
        folder.refuse_if_used()
        folder.lock()
        try:
            folder.refuse_if_used()  # somebody may have been faster
        except InputError:
            folder.unlock()
            raise
        plain = {
            "schema_version": 1,
            "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "settings": settings.to_dict(),
            "space": _rows(space.plain),
            "evaluator": dict(evaluator),
            "versions": versions(),
            "host": {"platform": platform.platform(), "machine": platform.machine(), "cpus": os.cpu_count()},
        }
        if latency:
            write_whole(folder.latency_file, latency)
            plain["latency"] = {"sha256": _sha256(folder.latency_file)}
        if start:
            plain["start"] = [dict(params) for params in start]
        if final is not None:
            plain["final"] = dict(final)
        write_whole(folder.run_file, to_yaml(plain))
        return folder

    def refuse_if_used(self, option: str = "--out") -> None:
        """Raise `InputError` if something is there already; `option` asked for it."""
        if self.run_file.exists():
            remedy = f"use another {option}, or `nas resume {self.path}`"
            raise InputError("there is a run already", str(self.path), remedy=remedy)
        if self.path.exists() and (not self.path.is_dir() or any(path.name != ".lock" for path in self.path.iterdir())):
            raise InputError(f"{option} must be a new or empty folder", str(self.path), remedy=f"use another {option}")

    def discard(self) -> None:
        """Undo `create`: nothing has come of the run, and the same place may be asked for again."""
        shutil.rmtree(self.path, ignore_errors=True)
        if not self._made:
            self.path.mkdir(exist_ok=True)

    def lock(self) -> None:
        """Take the folder for this process; raises `InputError` if another has it. Ends with the process at latest."""
        self._lock = lock_folder(self.path, "run")

    def unlock(self) -> None:
        """Give the folder back."""
        if self._lock is not None:
            self._lock.release()

    def read(self) -> tuple[Settings, SearchSpace, dict[str, Any]]:
        """Settings, space and the rest of `run.yaml`; raises `InputError`."""
        if not self.run_file.exists():
            raise InputError(
                "not a run folder: there is no run.yaml", str(self.path), remedy="name a folder under runs/"
            )
        document = read_document(self.run_file)
        plain = top_level(document, _RUN_KEYS)
        for section in ("evaluator", "versions", "host"):
            document.mapping((section,))
        for section in ("data", "recipe"):
            if section in plain["evaluator"] or plain["evaluator"].get("evaluator") == "proxy":
                document.mapping(("evaluator",), {**dict.fromkeys(plain["evaluator"], False), section: True})
                document.mapping(("evaluator", section))
        if "final" in plain:
            document.mapping(("final",), {"fidelity": True, "recipe": True, "data": False})
            for section in ("recipe", "data"):
                if section in plain["final"]:
                    document.mapping(("final", section))
        for place in range(len(document.sequence(("start",))) if "start" in plain else 0):
            document.mapping(("start", place))
        with document.at(("settings",)):
            settings = Settings.from_dict(document.mapping(("settings",)))
        space = parse_space(Document(document.mapping(("space",)), str(self.run_file)))
        return settings, space, plain

    def check_latency(self, plain: Mapping[str, Any]) -> None:
        """Raise `InputError` unless the latency table is the one the run began with; `plain` is from `read`."""
        recorded = plain.get("latency")
        found = _sha256(self.latency_file) if self.latency_file.is_file() else "no file"
        if not isinstance(recorded, dict) or recorded.get("sha256") != found:
            rule = "the latency table must be the one the run began with"
            raise InputError(rule, where=str(self.latency_file), remedy="restore it, or start a new run")

    def earlier_wall_time_s(self) -> float:
        """Wall time of the sessions before this one, as far as their summary was written."""
        try:
            return float(json.loads(self.summary_file.read_text())["wall_time_s"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0

    def write_best(self, architecture: Architecture | None) -> None:
        """Replace `best.yaml`; None removes it, if what it holds turned out not to be the best."""
        if architecture is None:
            self.best_file.unlink(missing_ok=True)
        else:
            write_whole(self.best_file, dump_architecture(architecture))

    def write_networks(self, text: str) -> None:
        """Replace `networks.csv`."""
        write_whole(self.networks_file, text)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace `summary.json`."""
        write_whole(self.summary_file, json.dumps(summary, indent=2, allow_nan=False) + "\n")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _rows(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A space file's data, stages on a line each."""
    if "base" in plain:
        return {**plain, "base": _rows(plain["base"])}
    return {**plain, "stages": [Row(stage) for stage in plain["stages"]]}


def versions() -> dict[str, str]:
    """Versions of what decides about results."""
    names = ("nas", "torch", "torchvision", "optuna", "numpy", "scikit-learn")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
