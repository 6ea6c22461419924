"""The architecture file as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from nas.export.base import Exporter, Job, Written
from search_space.documents import write_whole


class Json(Exporter):
    """`NAME.json`: the same as the YAML, which `nas` reads, too."""

    name = "json"

    def write(self, job: Job, folder: Path) -> Written:
        path = folder / f"{job.stem}.json"
        write_whole(path, json.dumps(job.architecture.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n")
        return Written(path, "architecture file, schema version 1")
