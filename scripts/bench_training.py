"""How much of a bare PyTorch loop's speed proxy training keeps, what its convolutions bring, and what share of a trial
is not training.

    python scripts/bench_training.py                                      # digits, a few networks of mobilenetv3
    python scripts/bench_training.py --space nasbench-macro --data npz:FILE --rounds 7     # images of 32 px

For each network, in turn in every round: a whole trial as a search runs it, and two loops of forward, backward and
optimizer step on one batch that never changes (same network, batch size, optimizer, precision, memory format and
thread), one with the convolutions of a trial and one with PyTorch's own. Prints images a second in training as a ratio
to the loop with the same convolutions, which leaves what proxy training adds to each step; the ratio of the two loops,
which is what the convolutions bring; and the share of the trial that goes into anything but training: building,
batch-norm statistics estimated anew, validation. Run it with nothing else running.
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
from evaluators.cpu_convolutions import speed_up_convolutions
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


def bare(evaluator: ProxyTraining, architecture: Architecture, steps: int, *, stock: bool) -> float:
    """Images a second of the plainest loop, with a trial's convolutions or with PyTorch's own."""
    recipe = evaluator.recipe
    form = evaluator._form(architecture)
    torch.set_num_threads(1)
    model = build_model(form).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    if not stock:
        speed_up_convolutions(model)
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
    parser.add_argument("--data", default="digits", help="as of `nas search`: npz:FILE, imagefolder:DIR, …")
    parser.add_argument("--proxy", default="quick")
    parser.add_argument("--networks", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=48, help="of each bare loop, each round")
    arguments = parser.parse_args()
    data = load_images(arguments.data)
    evaluator = Timed(data, find_recipe(arguments.proxy, data, choose_device("cpu")), device="cpu")
    space, rng = load_space(arguments.space), np.random.default_rng(0)
    networks = [space.decode(space.sample(rng)) for _ in range(arguments.networks)]
    trial(evaluator, networks[0], 0)  # data prepared, PyTorch warm
    ratios, gains, shares, speeds = [], [], [], []
    for number in range(arguments.rounds):
        for network in networks:
            speed = {}  # in turn from either end, as what comes first may have it easier
            for what in ("stock", "bare", "trial")[:: -1 if number % 2 else 1]:
                if what == "trial":
                    speed[what], share = trial(evaluator, network, number)
                    shares.append(share)
                else:
                    speed[what] = bare(evaluator, network, arguments.steps, stock=what == "stock")
            ratios.append(speed["trial"] / speed["bare"])
            gains.append(speed["bare"] / speed["stock"])
            speeds.append(speed["bare"])
    print(f"{len(networks)} networks of {arguments.space}, {arguments.data}, {arguments.proxy}, one thread")
    print(f"bare loop          {np.median(speeds):.0f} images/s, with the convolutions of a trial")
    print(f"proxy training     {ratio(ratios, arguments.rounds)} of that")
    print(f"these              make the bare loop {ratio(gains, arguments.rounds)} times as fast as PyTorch's own do")
    print(f"not training       {100 * np.median(shares):.1f} % of a trial ({100 * max(shares):.1f} % at most)")


def ratio(values: list[float], rounds: int) -> str:
    """The median, and between which the medians of the rounds are."""
    by_round = np.median(np.reshape(values, (rounds, -1)), axis=1)
    return f"{np.median(values):.3f} ({by_round.min():.3f} to {by_round.max():.3f})"


if __name__ == "__main__":
    main()
