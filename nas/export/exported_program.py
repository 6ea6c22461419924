"""PyTorch's own graph: `torch.export`."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from nas.export.base import Exporter, Job, Written, check_logits
from search_space.errors import WorkFailed, one_line


def exported(job: Job, *, dynamic: bool = True) -> torch.export.ExportedProgram:
    """The network's graph, of any batch size or (not `dynamic`) of one image. Raises `WorkFailed`."""
    images = job.images(2 if dynamic else 1)  # a batch of one would be taken for a constant
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(job.model, (images,), dynamic_shapes=shapes)
    except Exception as error:  # torch.export has no common base for what it raises
        raise WorkFailed(f"torch.export refuses the network: {one_line(str(error))[:300]}") from error


class ExportedProgram(Exporter):
    """`NAME.pt2`: weights included, any batch size; `torch.export.load(FILE).module()`."""

    name = "exported-program"
    holds_weights = True

    def write(self, job: Job, folder: Path) -> Written:
        path = folder / f"{job.stem}.pt2"
        torch.export.save(exported(job), path)
        images = job.images(3)
        with torch.no_grad():
            found = torch.export.load(path).module()(images)
        difference = check_logits("the exported program", job.logits(images), found)
        return Written(path, f"torch.export, any batch size; logits within {difference:.1g} of the greatest")
