"""That images need not fit into memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER_IN_LITTLE_MEMORY = """
import io, resource, sys
from pathlib import Path
import torch
from PIL import Image
from evaluators import Recipe, load_images, ProxyTraining
from evaluators.batches import Unprepared

def data_mb():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmData:")[1].split()[0]) / 1024

torch.set_num_threads(1)
folder = Path(sys.argv[1])
for split, count in (("train", 2000), ("val", 250), ("test", 250)):
    for label in range(2):
        (folder / split / str(label)).mkdir(parents=True)
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (100 + label, 0, 0)).save(file, "PNG")
        for number in range(count):
            (folder / split / str(label) / f"{number}.png").write_bytes(file.getvalue())
limit = int((data_mb() + 200) * 2**20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
recipe = Recipe(resolution_px=128, epochs=1, max_train_images=4_000, max_val_images=500)
evaluator = ProxyTraining(load_images(f"imagefolder:{folder}"), recipe, device="cpu")
train = evaluator.split("train", 3, 128)
assert isinstance(train.images, Unprepared)
shown = sum(len(labels) for images, labels in train.in_turn(torch.randperm(4_000).split(32)) if images.isfinite().all())
print(shown, sum(split.images.nbytes for split in evaluator.images.splits.values()) // 10**6)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory")
def test_a_folder_larger_than_the_memory_there_is(tmp_path: Path) -> None:
    """246 MB decoded, 786 MB as tensors, with 200 MB to be had."""
    done = subprocess.run(
        [sys.executable, "-c", FOLDER_IN_LITTLE_MEMORY, str(tmp_path / "photos")],
        # One arena: with one for each thread, how much memory glibc keeps for itself is chance.
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["4000", "245"]
