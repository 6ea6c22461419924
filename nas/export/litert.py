"""LiteRT (TensorFlow Lite), run once in its own interpreter."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from nas.export.base import Exporter, Job, Written, check_logits, need
from search_space.errors import WorkFailed, one_line


class LiteRt(Exporter):
    """`NAME.tflite`: weights included, one image, [1, channels, H, W] float32."""

    name = "litert"
    holds_weights = True
    packages: ClassVar[Mapping[str, str]] = {"litert_torch": "litert", "ai_edge_litert": "litert"}

    def write(self, job: Job, folder: Path) -> Written:
        path = folder / f"{job.stem}.tflite"
        converter = need("litert_torch", "litert", "--to litert")
        runtime = need("ai_edge_litert.interpreter", "litert", "--to litert")
        images = job.images(1)
        try:
            # It prints its progress on stdout, which is for results.
            with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
                warnings.simplefilter("ignore")
                converter.convert(job.model, (images,)).export(str(path))
        except Exception as error:  # they have no common base
            raise WorkFailed(f"LiteRT's converter refuses the network: {one_line(str(error))[:300]}") from error
        found = run(runtime.Interpreter(model_path=str(path)), images)
        difference = check_logits("LiteRT", job.logits(images), found)
        return Written(path, f"float32, one image; its interpreter's logits within {difference:.1g} of the greatest")


def run(interpreter: Any, images: torch.Tensor) -> torch.Tensor:
    """The output of a network with one input and one output."""
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(taken["index"], images.numpy())
    interpreter.invoke()
    return torch.from_numpy(interpreter.get_tensor(given["index"]).copy())
