"""An audit's folder: what was asked, and what was measured of each network, a line for each evaluator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nas.folder_lock import lock_folder
from search_space import InputError
from search_space.documents import parse_document, read_document, to_yaml, write_whole
from search_space.json_lines import append_line, read_lines


@dataclass(frozen=True)
class Measured:
    """A network's scores by one evaluator, or the reason why there are none."""

    number: int
    arch_id: str
    evaluator: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    """`SCORE/METRIC` -> value."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Score -> what it took to compute."""
    reason: str = ""
    again: bool = False
    """Whether it failed for a reason that may have passed."""


class AuditFolder:
    """Locked while it is open; what has been appended survives whatever happens to the process.

    The same space and seed go on with it, with more networks or other evaluators, too: what an evaluator of some name
    is may not change.
    """

    def __init__(self, path: Path, space: Any, seed: int, evaluators: Mapping[str, Any]) -> None:
        self.path = path
        self._file = path / "measurements.jsonl"
        self._lock = lock_folder(path, "audit")
        try:
            self._claim(parse_document(to_yaml({"space": space, "seed": seed, "evaluators": evaluators})).data)
            self._measured = {(one.number, one.evaluator): one for one in self._read()}
        except BaseException:
            self.close()
            raise

    def _claim(self, asked: dict[str, Any]) -> None:
        """Note what is asked; raise `InputError` if the folder has another audit, or something else."""
        request = self.path / "audit.yaml"
        if request.exists():
            found = read_document(request).mapping(())
            if "evaluators" not in found:
                rule = "the folder has an audit of an older version of nas"
                raise InputError(rule, where=str(self.path), remedy="use another --out")
            changed = [(0, f"another {name}") for name in ("space", "seed") if asked[name] != found.get(name)]
            for name in asked["evaluators"].keys() & found["evaluators"].keys():
                now, before = (_identity(one["evaluators"][name]) for one in (asked, found))
                parts = [part for part in now if now[part] != before.get(part)]
                changed += [_said(name, part, before.get(part), now[part]) for part in parts]
            if changed:
                rule = f"the folder has an audit with {min(changed)[1]}"
                remedy = "ask for the same, for more networks or for other proxies to go on, or use another --out"
                raise InputError(rule, where=str(self.path), remedy=remedy)
            asked["evaluators"] = {**found["evaluators"], **asked["evaluators"]}
        elif any(path.name != ".lock" for path in self.path.iterdir()):
            raise InputError("--out must be a new or empty folder, or an audit's", str(self.path))
        write_whole(request, to_yaml(asked))

    def _read(self) -> list[Measured]:
        try:
            return [Measured(**plain) for plain in read_lines(self._file)]
        except (ValueError, TypeError) as error:
            rule = f"the measurements cannot be read: {error}"
            raise InputError(rule, where=str(self._file), remedy="restore it from a copy, or start anew") from None

    def of(self, number: int, evaluator: str) -> Measured | None:
        """What is known of a network by an evaluator; None if it has not had its turn."""
        return self._measured.get((number, evaluator))

    def metrics(self, number: int, evaluator: str) -> Mapping[str, float]:
        """`SCORE/METRIC` -> value; none if it has not been scored."""
        known = self.of(number, evaluator)
        return {} if known is None else known.metrics

    def seconds(self, number: int, evaluator: str, score: str) -> float | None:
        """What a score took; None if it is not there."""
        known = self.of(number, evaluator)
        return None if known is None else known.seconds.get(score)

    def lacks(self, number: int, evaluator: str) -> bool:
        """Whether an evaluator has yet to score a network, or failed for a reason that may have passed."""
        known = self.of(number, evaluator)
        return known is None or known.again

    def missing(self, count: int, evaluators: Iterable[str]) -> dict[int, list[str]]:
        """Of the first `count` networks those that are not done -> the evaluators that they lack."""
        names = list(evaluators)
        found = {number: [name for name in names if self.lacks(number, name)] for number in range(count)}
        return {number: lacking for number, lacking in found.items() if lacking}

    def append(self, measured: Measured) -> None:
        """It is on the disk when this returns."""
        append_line(self._file, asdict(measured))
        self._measured[measured.number, measured.evaluator] = measured

    def write(self, name: str, text: str) -> None:
        """Replace a file of the folder."""
        write_whole(self.path / name, text)

    def close(self) -> None:
        """Give the folder back."""
        self._lock.release()


def _identity(evaluator: Mapping[str, Any]) -> dict[str, Any]:
    """What may not change of an evaluator; of images, which they are, not how many files were tried to read them."""
    return {**evaluator, "data": evaluator.get("data", {}).get("fingerprint")}


def _said(evaluator: str, part: str, before: Any, now: Any) -> tuple[int, str]:
    """What differs; of several, what brings the others with it is to be said, and has the lowest number."""
    if part == "data":
        return 1, "other images"
    if part == "device":
        return 2, f"another device: {before}, and now {now}"
    return 3, f"another {part} of {evaluator}"
