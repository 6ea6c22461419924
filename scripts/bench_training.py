"""How much of a bare PyTorch loop's speed proxy training keeps, and what share of a trial is spent on validation.

    python scripts/bench_training.py                                      # digits, a few networks of mobilenetv3
    python scripts/bench_training.py --space nasbench-macro --data npz:FILE --rounds 7

For each network, in turn in every round: a loop of forward, backward and optimizer step on one batch that never
changes, and a whole trial as a search runs it (same network, batch size, optimizer, precision, memory format and
thread). Prints images a second in training as a ratio to the bare loop, and the share of the trial that goes into
anything but training: building, batch-norm statistics estimated anew, validation. Run it with nothing else running.
"""

from __future__ import annotations

import argparse
import time
from collections import deque

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from evaluators import ProxyTraining, find_recipe, load_images
from evaluators.batches import Batches
from evaluators.device import choose_device
from evaluators.proxy import make_optimizer
from search_space import Architecture, build_model, load_space


class Timed(ProxyTraining):
    """Proxy training that notes when training began, when it ended, and how many images it saw."""

    began_s = ended_s = 0.0

    def score(self, model: nn.Module, train: Batches, generator: torch.Generator):  # type: ignore[no-untyped-def]
        self.began_s = time.perf_counter()
        yield from super().score(model, train, generator)

    def _validate(self, model: nn.Module, train: Batches) -> dict[str, float]:
        self.ended_s = time.perf_counter()
        return super()._validate(model, train)


def bare(evaluator: ProxyTraining, architecture: Architecture, steps: int) -> float:
    """Images a second of the plainest loop."""
    recipe = evaluator.recipe
    form = evaluator._form(architecture)
    torch.set_num_threads(1)
    model = build_model(form).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = make_optimizer(model, recipe, fused=True)
    train = evaluator.split("train", form.input_channels, form.resolution)
    images, labels = train.images[: recipe.batch_size].clone(), train.labels[: recipe.batch_size]
    for step in range(steps + 2):
        if step == 2:
            started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(images), labels, label_smoothing=recipe.label_smoothing).backward()
        optimizer.step()
    return steps * len(labels) / (time.perf_counter() - started)


def trial(evaluator: Timed, architecture: Architecture, seed: int) -> tuple[float, float]:
    """Images a second in training, and the share of the trial that is anything else."""
    recipe = evaluator.recipe
    images = min(recipe.max_train_images, len(evaluator.images.splits["train"]))
    batch = min(recipe.batch_size, images)
    shown = recipe.epochs * max(1, images // batch) * batch
    started = time.perf_counter()
    deque(evaluator.evaluate(architecture, seed=seed), maxlen=0)
    whole_s, training_s = time.perf_counter() - started, evaluator.ended_s - evaluator.began_s
    return shown / training_s, 1 - training_s / whole_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="mobilenetv3")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--proxy", default="quick")
    parser.add_argument("--networks", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=48, help="of the bare loop, each round")
    arguments = parser.parse_args()
    data = load_images(arguments.data)
    evaluator = Timed(data, find_recipe(arguments.proxy, data, choose_device("cpu")), device="cpu")
    space, rng = load_space(arguments.space), np.random.default_rng(0)
    networks = [space.decode(space.sample(rng)) for _ in range(arguments.networks)]
    trial(evaluator, networks[0], 0)  # data prepared, PyTorch warm
    ratios, shares, speeds = [], [], []
    for number in range(arguments.rounds):
        for network in networks:
            if number % 2:
                speed = bare(evaluator, network, arguments.steps)
                trained, share = trial(evaluator, network, number)
            else:
                trained, share = trial(evaluator, network, number)
                speed = bare(evaluator, network, arguments.steps)
            ratios.append(trained / speed)
            shares.append(share)
            speeds.append(speed)
    by_round = np.median(np.reshape(ratios, (arguments.rounds, -1)), axis=1)
    print(f"{len(networks)} networks of {arguments.space}, {arguments.data}, {arguments.proxy}, one thread")
    print(f"bare loop          {np.median(speeds):.0f} images/s")
    spread = f"medians of rounds {by_round.min():.3f} to {by_round.max():.3f}"
    print(f"proxy training     {np.median(ratios):.3f} of that ({spread})")
    print(f"not training       {100 * np.median(shares):.1f} % of a trial ({100 * max(shares):.1f} % at most)")


if __name__ == "__main__":
    main()
