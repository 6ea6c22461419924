"""ExecuTorch, for phones and microcontrollers; run once in its own runtime."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from nas.export.base import Exporter, Job, Written, check_logits, need
from nas.export.exported_program import exported
from search_space.errors import WorkFailed, one_line


class ExecuTorch(Exporter):
    """`NAME.pte`: weights included, one image, lowered to XNNPACK (ARM and x86 CPUs) as far as it goes."""

    name = "executorch"
    holds_weights = True
    packages: ClassVar[Mapping[str, str]] = {"executorch": "executorch"}

    def write(self, job: Job, folder: Path) -> Written:
        path = folder / f"{job.stem}.pte"
        exir = need("executorch.exir", "executorch", "--to executorch")
        xnnpack = need("executorch.backends.xnnpack.partition.xnnpack_partitioner", "executorch", "--to executorch")
        runtime = need("executorch.runtime", "executorch", "--to executorch")
        graph = exported(job, dynamic=False)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                edge = exir.to_edge_transform_and_lower(graph, partitioner=[xnnpack.XnnpackPartitioner()])
                path.write_bytes(edge.to_executorch().buffer)
        except Exception as error:  # they have no common base
            raise WorkFailed(f"ExecuTorch refuses the network: {one_line(str(error))[:300]}") from error
        images = job.images(1)
        (found,) = runtime.Runtime.get().load_program(path).load_method("forward").execute([images])
        difference = check_logits("ExecuTorch", job.logits(images), found)
        return Written(path, f"XNNPACK, one image; its runtime's logits within {difference:.1g} of the greatest")
