"""How fast latencies are predicted from a table.

    python scripts/bench_latency.py [--space mobilenetv3]

Networks are decoded beforehand and never seen before; the naive walk, which looks every block up by a key spelled from
its fields as published tables do, takes turns with ours. The table's times are made up: only the look-up counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from latency import Conditions, LatencyTable, Predictor, Times
from latency.signature import to_plain
from search_space import Architecture, load_space
from search_space.graph import SpaceGraph
from search_space.parts import PartShape, parts

ROUNDS = 9
NETWORKS = 4_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="mobilenetv3")
    arguments = parser.parse_args()
    space, rng = load_space(arguments.space), np.random.default_rng(0)
    shapes = SpaceGraph(space).shapes()
    times = {shape: Times.of(rng.uniform(0.1, 1.0, 4)) for shape in shapes}
    table = LatencyTable("made up", Conditions("torch", "none"), times)
    predictor = Predictor(table)
    keyed = {_key(shape): ms for shape, ms in table.part_ms.items()}

    def naive(architecture: Architecture) -> float:
        return sum(keyed[_key(shape.at_inference())] for shape in parts(architecture))

    ours_rate, naive_rate = [], []
    for turn in range(ROUNDS + 1):
        networks = [space.decode(space.sample(rng)) for _ in range(NETWORKS)]
        rates = _rate(predictor.latency_ms, networks), _rate(naive, networks)
        if turn:  # the first round warms up
            ours_rate.append(rates[0])
            naive_rate.append(rates[1])
        assert abs(predictor.latency_ms(networks[0]) - naive(networks[0])) < 1e-9
    ratios = [ours / slow for ours, slow in zip(ours_rate, naive_rate, strict=True)]
    _report("predictions of decoded networks", ours_rate, "a second")
    _report("naive walk with spelled keys", naive_rate, "a second")
    _report("ratio", ratios, "")


def _key(shape: PartShape) -> str:
    return "-".join(f"{name}:{value}" for name, value in to_plain(shape).items())


def _rate(predict: Callable[[Architecture], float], networks: Sequence[Architecture]) -> float:
    started = time.perf_counter()
    for architecture in networks:
        predict(architecture)
    return len(networks) / (time.perf_counter() - started)


def _report(name: str, values: Sequence[float], unit: str) -> None:
    low, high = min(values), max(values)
    print(f"{name:<34} {statistics.median(values):>12,.1f} {unit}  ({low:,.1f} to {high:,.1f}, {len(values)} rounds)")


if __name__ == "__main__":
    main()
