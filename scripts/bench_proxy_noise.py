"""How much of the default proxy's score is the network, and how much the seed.

    python scripts/bench_proxy_noise.py --networks 24 --data digits

Trains random networks of a space twice, with two seeds, and prints Kendall's tau between the two rankings, with the
range of nine bootstraps in ten. A tau near 0 means that the score ranks noise, however good the accuracies look.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import kendalltau

from evaluators import ProxyTraining, load_images
from nas.executors import Finished, Job, ProcessExecutor
from search_space import count_cost, load_space


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="mobilenetv3")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--networks", type=int, default=24)
    arguments = parser.parse_args()
    space, rng = load_space(arguments.space), np.random.default_rng(0)
    networks = [space.decode(space.sample(rng)) for _ in range(arguments.networks)]
    executor = ProcessExecutor(ProxyTraining(load_images(arguments.data)), 2)
    results: dict[int, Finished] = {}
    try:
        for key in range(2 * len(networks)):
            executor.submit(Job(key, networks[key // 2], seed=key % 2))
        while len(results) < 2 * len(networks):
            event = executor.wait()
            if isinstance(event, Finished):
                results[event.key] = event
    finally:
        executor.close()
    seconds = np.mean([result.seconds for result in results.values()])
    macs = np.array([count_cost(network).macs for network in networks])
    print(f"{len(networks)} networks of {arguments.space} on {arguments.data}, {seconds:.1f} s a training")
    for metric in ProxyTraining.directions:
        scores = np.array([results[key].metrics[metric] for key in range(2 * len(networks))]).reshape(-1, 2)
        noise = np.sqrt(np.mean((scores[:, 0] - scores[:, 1]) ** 2) / 2)
        print(
            f"{metric}: mean {scores.mean():.3f}, between networks sd {scores.mean(1).std():.3f}, seed sd {noise:.3f}"
        )
        print(f"  tau between seeds {with_interval(scores[:, 0], scores[:, 1])}")
        print(f"  tau with macs     {with_interval(scores.mean(1), macs)}")


def with_interval(a: np.ndarray, b: np.ndarray) -> str:
    rng, draws = np.random.default_rng(0), []
    for _ in range(1_000):
        chosen = rng.integers(len(a), size=len(a))
        draws.append(kendalltau(a[chosen], b[chosen]).statistic)
    low, high = np.nanquantile(draws, [0.05, 0.95])
    return f"{kendalltau(a, b).statistic:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
