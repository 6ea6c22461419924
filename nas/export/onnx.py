"""ONNX, checked with ONNX Runtime. Which exporter, and why batch norms are kept: docs/decisions/0013."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch

from nas.export.base import Exporter, Job, Written, check_logits
from search_space.errors import WorkFailed, one_line

OPSET = 18


class Onnx(Exporter):
    """`NAME.onnx`: weights included, under their own names; input `images`, output `logits`, any batch size."""

    name = "onnx"
    holds_weights = True
    packages: ClassVar[Mapping[str, str]] = {"onnx": "onnx", "onnxruntime": "onnx"}

    def write(self, job: Job, folder: Path) -> Written:
        import onnxruntime

        path = folder / f"{job.stem}.onnx"
        _export(job, path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        images = job.images(3)
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            (found,) = session.run(None, {"images": images.numpy()})
        except Exception as error:  # its errors have no common base
            raise WorkFailed(f"ONNX Runtime cannot run the network: {one_line(str(error))[:300]}") from error
        difference = check_logits("ONNX Runtime", job.logits(images), torch.from_numpy(found))
        runtime = f"ONNX Runtime {onnxruntime.__version__}: logits within {difference:.1g} of the greatest"
        return Written(path, f"opset {OPSET}, any batch size; {runtime}")


def _export(job: Job, path: Path) -> None:
    # A failed export prints its graph on stdout, which is for results.
    with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of deprecation
        try:
            torch.onnx.export(
                job.model,
                (job.images(2),),
                path,
                dynamo=False,
                training=torch.onnx.TrainingMode.PRESERVE,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["logits"],
                dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
            )
        except RuntimeError as error:
            raise WorkFailed(f"PyTorch's exporter to ONNX refuses the network: {one_line(str(error))[:300]}") from error
