"""An audit's folder: what was asked, and what was measured of each network, a line each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas.folder_lock import lock_folder
from search_space import InputError
from search_space.documents import read_document, to_yaml, write_whole
from search_space.json_lines import append_line, read_lines


@dataclass(frozen=True)
class Measured:
    """A network with all its scores, or the reason why there are none."""

    number: int
    arch_id: str
    metrics: Mapping[str, float]
    """`SCORE/METRIC` -> value."""
    seconds: Mapping[str, float]
    """Score -> what it took to compute."""
    reason: str = ""


class AuditFolder:
    """Locked while it is open; what has been appended survives whatever happens to the process."""

    def __init__(self, path: Path, asked: Mapping[str, Any]) -> None:
        self.path = path
        self._file = path / "measurements.jsonl"
        self._lock = lock_folder(path, "audit")
        try:
            self._claim(dict(asked))
            self.measured = self._read()
        except BaseException:
            self.close()
            raise

    def _claim(self, asked: dict[str, Any]) -> None:
        """Note what is asked; raise `InputError` if the folder has another audit, or something else."""
        request = self.path / "audit.yaml"
        if request.exists():
            found = read_document(request).mapping(())
            changed = [name for name in {**asked, **found} if asked.get(name) != found.get(name)]
            if changed:
                rule = f"the folder has an audit with another {changed[0]}"
                raise InputError(
                    rule, where=str(self.path), remedy="ask for the same again to go on, or use another --out"
                )
        elif any(path.name != ".lock" for path in self.path.iterdir()):
            raise InputError("--out must be a new or empty folder, or an audit's", str(self.path))
        else:
            write_whole(request, to_yaml(asked))

    def _read(self) -> list[Measured]:
        try:
            return [Measured(**plain) for plain in read_lines(self._file)]
        except (ValueError, TypeError) as error:
            rule = f"the measurements cannot be read: {error}"
            raise InputError(rule, where=str(self._file), remedy="restore it from a copy, or start anew") from None

    def append(self, measured: Measured) -> None:
        """It is on the disk when this returns."""
        append_line(self._file, asdict(measured))
        self.measured.append(measured)

    def write(self, name: str, text: str) -> None:
        """Replace a file of the folder."""
        write_whole(self.path / name, text)

    def close(self) -> None:
        """Give the folder back."""
        self._lock.release()
