"""How fast the pipeline around training is.

    python scripts/bench_pipeline.py                  # decode + cost, `nas --help`, and a short search
    python scripts/bench_pipeline.py --budget 300     # the whole default search (many minutes)

Prints one line a figure. Run it with nothing else running; figures are ratios or the median of several rounds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="mobilenetv3")
    parser.add_argument("--budget", type=int, default=12, help="trials of the timed search; 0: none")
    arguments = parser.parse_args()
    bench_help()
    bench_decode_and_cost(arguments.space)
    if arguments.budget:
        bench_search(arguments.space, arguments.budget)


def report(name: str, values: list[float], unit: str) -> None:
    spread = f"min {min(values):.4g}, max {max(values):.4g}, {len(values)} rounds" if len(values) > 1 else "one round"
    print(f"{name:<44} {statistics.median(values):>10.4g} {unit}   ({spread})", flush=True)


def bench_help() -> None:
    nas = Path(sys.executable).with_name("nas")
    seconds = []
    for _ in range(7):
        started = time.perf_counter()
        subprocess.run([nas, "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    report("nas --help", seconds, "s")


def bench_decode_and_cost(name: str) -> None:
    import torch

    from search_space import count_cost, load_space

    torch.set_num_threads(1)
    space, rng = load_space(name), np.random.default_rng(0)

    def architectures_per_second(count: int) -> float:
        genotypes = [space.sample(rng) for _ in range(count)]
        started = time.perf_counter()
        for genotype in genotypes:
            count_cost(space.decode(genotype))
        return count / (time.perf_counter() - started)

    report(f"decode + cost, first 200 of {name}", [architectures_per_second(200)], "architectures/s")
    architectures_per_second(3_000)
    warm = [architectures_per_second(1_000) for _ in range(7)]
    report("decode + cost, fresh ones, after 3,200", warm, "architectures/s")


def bench_search(name: str, budget: int) -> None:
    import nas
    from nas.run_folder import RunFolder

    with tempfile.TemporaryDirectory() as folder:
        result = nas.search(name, budget, finalists=0, out=Path(folder) / "run")
        settings, _, _ = RunFolder(Path(folder) / "run").read()
    share = result.training_time_s / (result.wall_time_s * settings.workers)
    report(f"nas search --space {name} --budget {budget}", [result.wall_time_s], f"s with {settings.workers} workers")
    report("of the workers' time, training", [100 * share], "%")


if __name__ == "__main__":
    main()
