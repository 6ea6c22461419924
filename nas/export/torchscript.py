"""TorchScript, by tracing."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from nas.export.base import Exporter, Job, Written, check_logits
from search_space.errors import WorkFailed, one_line


class TorchScript(Exporter):
    """`NAME.torchscript.pt`: weights included, any batch size; `torch.jit.load(FILE)`, also from C++ and on mobile."""

    name = "torchscript"
    holds_weights = True

    def write(self, job: Job, folder: Path) -> Written:
        path = folder / f"{job.stem}.torchscript.pt"
        images = job.images(3)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # PyTorch calls it deprecated
            try:
                traced: Any = torch.jit.trace  # PyTorch annotates neither
                torch.jit.save(traced(job.model, job.images(2), check_trace=False), path)
                load: Any = torch.jit.load
                found = load(path)(images)  # as many as were not traced: what fixes their number fails here
            except RuntimeError as error:
                raise WorkFailed(f"torch.jit refuses the network: {one_line(str(error))[:300]}") from error
        difference = check_logits("the TorchScript", job.logits(images), found)
        return Written(path, f"torch.jit.trace, any batch size; logits within {difference:.1g} of the greatest")
