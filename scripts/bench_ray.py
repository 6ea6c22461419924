"""What a second worker on Ray brings, and how many workers one driver keeps busy.

    python scripts/bench_ray.py                       # trials an hour with one and with two workers
    python scripts/bench_ray.py --simulate 100        # a search with 100 workers whose evaluations sleep for a second

The first trains the same networks on digits with one worker and with two, in turn, once each worker has warmed up, and
prints the ratio. The second runs the loop (evolution on mobilenetv3), with all workers in one process of Ray's: it
measures the driver and Ray's way of reporting, not the machine; first the executor alone, then proposing and counting,
too: of the whole search, and of what follows its first 1,000 trials, when most layers have been counted. Run it with
nothing else running.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, ClassVar

import numpy as np

from evaluators import Direction, Evaluator, ProxyTraining, Report, derive_seed, load_images
from nas.executors import Failed, Finished, Job, RayExecutor
from nas.executors.ray import _Slot
from nas.known import Known
from nas.loop import SearchLoop
from nas.state import State
from search_space import Architecture, load_space
from searchers import Problem, make_sampler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="mobilenetv3")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--networks", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--simulate", type=int, default=0, metavar="WORKERS")
    parser.add_argument("--seconds", type=float, default=1.0, help="what a simulated evaluation takes")
    parser.add_argument("--budget", type=int, default=3_000, help="trials of the simulated search")
    arguments = parser.parse_args()
    if arguments.simulate:
        simulate(arguments)
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    space, rng = load_space(arguments.space), np.random.default_rng(0)
    networks = [space.decode(space.sample(rng)) for _ in range(arguments.networks)]
    evaluator = ProxyTraining(load_images(arguments.data))
    hourly: dict[int, list[float]] = {1: [], 2: []}
    for number in range(arguments.rounds):
        for workers in (1, 2) if number % 2 else (2, 1):
            with closing(RayExecutor(evaluator, workers)) as executor:
                while executor.ready < workers:  # data prepared, PyTorch loaded
                    evaluate(executor, networks[:workers])
                evaluate(executor, networks[:workers])
                hourly[workers].append(3600 * len(networks) / evaluate(executor, networks))
    for workers, rates in hourly.items():
        print(f"{workers} worker{'s' * (workers > 1)}: {statistics.median(rates):,.0f} trials an hour {spread(rates)}")
    ratios = [two / one for one, two in zip(hourly[1], hourly[2], strict=True)]
    print(f"ratio: {statistics.median(ratios):.2f} {spread(ratios)}, {arguments.networks} networks a round")


def evaluate(executor: RayExecutor, networks: list[Architecture]) -> float:
    """The seconds it takes."""
    started = time.perf_counter()
    for key, network in enumerate(networks):
        executor.submit(Job(key, network, 0))
    ended = 0
    while ended < len(networks):
        event = executor.wait()
        assert not isinstance(event, Failed), event.reason
        ended += isinstance(event, Finished)
    return time.perf_counter() - started


def spread(values: list[float]) -> str:
    return f"(min {min(values):,.3g}, max {max(values):,.3g}, {len(values)} rounds)"


class Sleeping(Evaluator):
    """Sleeps, reports twice, and makes a score up."""

    directions: ClassVar[Mapping[str, Direction]] = {"accuracy": "maximize"}

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        for step in (1, 2):
            time.sleep(self.seconds / 2)
            yield Report(step, 2, {"accuracy": derive_seed(seed, architecture.arch_id) / 2**63})

    def describe(self) -> dict[str, Any]:
        return {"evaluator": "sleeping"}


class Simulated(RayExecutor):
    """All workers are threads of one."""

    _shared: Any = None

    def _start(self, deaths: int = 0) -> _Slot:
        if self._shared is None:
            options = {**self._options, "max_concurrency": self.workers + 1}
            self._shared = self._class.options(**options).remote(*self._arguments)
        return _Slot(self._shared, self._shared.about.remote(), deaths)


def simulate(arguments: argparse.Namespace) -> None:
    space = load_space(arguments.space)
    problem = Problem(space, known=Known().metrics)
    with closing(Simulated(Sleeping(arguments.seconds), arguments.simulate, address="local")) as executor:
        network = space.decode(space.sample(np.random.default_rng(0)))
        while executor.ready < arguments.simulate:
            evaluate(executor, [network])
        used = Used(arguments)
        evaluate(executor, [network] * arguments.budget)
        used.report("executor alone", arguments.budget)
        marks: dict[int, Used] = {}

        def mark(state: State) -> None:
            marks.setdefault(state.done, Used(arguments))

        loop = SearchLoop(
            problem,
            make_sampler("evolution", problem, 0),
            executor,
            None,
            budget=arguments.budget,
            seed=0,
            window=2 * arguments.simulate,
            on_change=mark,
        )
        used = Used(arguments)
        loop.run()
        used.report("whole search", arguments.budget)
        if arguments.budget > 1_000:
            marks[1_000].report("after 1,000 trials", arguments.budget - 1_000)


class Used:
    """Time since it was made, by the clock and of this process."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._workers, self._trials_per_s = arguments.simulate, arguments.simulate / arguments.seconds
        self._since, self._spent = time.perf_counter(), time.process_time()

    def report(self, name: str, trials: int) -> None:
        seconds, spent = time.perf_counter() - self._since, time.process_time() - self._spent
        busy, each = trials / (seconds * self._trials_per_s), 1e3 * spent / trials
        print(f"{name}: {self._workers} workers busy {busy:.1%}, the driver computes {each:.1f} ms a trial")


if __name__ == "__main__":
    main()
