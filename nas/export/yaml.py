"""The architecture file itself."""

from __future__ import annotations

from pathlib import Path

from nas.export.base import Exporter, Job, Written
from search_space import save_architecture


class Yaml(Exporter):
    """`NAME.yaml`: what `nas` reads again."""

    name = "yaml"

    def write(self, job: Job, folder: Path) -> Written:
        path = folder / f"{job.stem}.yaml"
        save_architecture(job.architecture, path)
        return Written(path, "architecture file, schema version 1")
