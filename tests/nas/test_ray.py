"""On real Ray clusters: two nodes, and every way for a part of them to die."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import FakeEvaluator, LearningEvaluator, search_loop, space, trials

from evaluators import Evaluator, Report, derive_seed
from nas.executors import (
    Executor,
    Failed,
    Finished,
    Job,
    ProcessExecutor,
    RayExecutor,
    Retrying,
    WorkersCannotStart,
    ray_cluster,
)
from nas.executors.ray_cluster import ClusterLost, answers
from nas.executors.ray_worker import Worker, Worn
from nas.state import State
from search_space import Architecture, InputError

BUDGET = 12
WINDOW = 4


@dataclasses.dataclass
class Quick(FakeEvaluator):
    """Needs no counting, which workers would have to load; may say where it ran."""

    located: bool = False

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        self.count += 1
        metrics = {"accuracy": derive_seed(seed, architecture.arch_id) / 2**63}
        if self.located:
            import ray

            node = ray.get_runtime_context().get_node_id()
            metrics |= {"node": float(int(node[:12], 16)), "pid": float(os.getpid())}
        for step in (1, 2):
            time.sleep(self.seconds / 2)
            yield Report(step, 2, metrics)


class Leaky(Quick):
    """Makes its worker believe that each evaluation leaves 1 GB behind."""

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        from nas.executors import ray_worker

        ray_worker.held_bytes = lambda: self.count * 10**9
        yield from super().evaluate(architecture, seed=seed)


class Unreadable(FakeEvaluator):
    def __reduce__(self) -> Any:
        return (_raise, ())


def _raise() -> None:
    raise ModuleNotFoundError("No module named 'mine'")


def start_node(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [Path(sys.executable).with_name("ray"), "start", "--block", *arguments, "--num-cpus", "1"]
    command += ["--object-store-memory", str(80 * 2**20), "--disable-usage-stats"]
    with open(folder / "nodes.log", "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a node with all that it has started: the session, since workers have process groups of their own."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(int(entry.name)) == process.pid:
                os.kill(int(entry.name), signal.SIGKILL)
    process.wait()


def wait_until(condition: Any, limit_s: float = 60.0) -> None:
    limit = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def own_place() -> Iterator[Path]:
    """Nothing that Ray remembers or listens to is shared with other tests, or with this machine."""
    with tempfile.TemporaryDirectory(prefix="nas", dir="/tmp", ignore_cleanup_errors=True) as folder:  # short: sockets
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_TMPDIR", folder)
            patch.setenv("RAY_AUTH_MODE", "disabled")
            patch.setenv("RAY_worker_niceness", "0")  # else tests that run beside these starve the workers
            patch.delenv("RAY_ADDRESS", raising=False)
            yield Path(folder)
        for pid in processes(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Cluster:
    """Two nodes with one CPU each, started as people start them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self.head = start_node(folder, "--head", "--port", self.address.split(":")[1], "--include-dashboard", "false")
        wait_until(lambda: answers(self.address))
        wait_until((folder / "ray" / "ray_current_cluster").exists)
        self.start_other()

    def start_other(self) -> None:
        """Make two nodes of one."""
        self.other = start_node(self.folder, "--address", self.address)
        wait_until(lambda: len(processes(self.folder, "raylet/raylet")) == 2)

    def close(self) -> None:
        end(self.other)
        end(self.head)


@pytest.fixture(scope="module")
def clusters() -> Iterator[list[Cluster]]:
    with own_place() as folder:
        made = [Cluster(folder)]
        yield made
        made[0].close()


@pytest.fixture
def cluster(clusters: list[Cluster]) -> Cluster:
    """In one piece, whatever tests were run before."""
    if clusters[0].head.returncode is not None:
        clusters[0].close()
        clusters[0] = Cluster(clusters[0].folder)
    elif clusters[0].other.returncode is not None:
        clusters[0].start_other()
    return clusters[0]


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    with own_place() as folder:
        yield folder


def processes(folder: Path | str, name: str = "") -> list[int]:
    """Those that belong to Ray's sessions in this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            ours = f"RAY_TMPDIR={folder}\0".encode() in environment
            ray = any(part in command for part in (b"ray::", b"raylet", b"gcs_server", b"/ray/"))
            if ours and ray and name.encode() in command and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def drive(folder: str, address: str, workers: str = "2", patience_s: str = "20") -> None:
    """What the process of a search does: search on Ray until the budget is spent."""
    ray_cluster._PATIENCE_S = float(patience_s)
    with closing(Retrying(RayExecutor(Quick(seconds=0.4), int(workers), address=address), 2)) as executor:
        try:
            search_loop(Path(folder), budget=BUDGET, window=WINDOW, executor=lambda _: executor).run()
        except (ClusterLost, KeyboardInterrupt) as error:
            print(type(error).__name__, error)
            raise SystemExit(1) from None


def start_driver(folder: Path, address: str, *more: str) -> subprocess.Popen[str]:
    here = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    code = f"import sys; sys.path[:0] = {here}; from test_ray import drive; drive(*sys.argv[1:])"
    handler = "import signal; signal.signal(signal.SIGTERM, signal.default_int_handler);"  # as the command line does
    command = [sys.executable, "-c", handler + code, str(folder), address, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def network(number: int) -> Architecture:
    return space().decode(space().sample(np.random.default_rng(number)))


def finish(executor: Executor, *numbers: int) -> list[Mapping[str, float]]:
    """Evaluate networks; what was found, in the order of their ends."""
    for number in numbers:
        executor.submit(Job(number, network(number), 0))
    found: list[Mapping[str, float]] = []
    while len(found) < len(numbers):
        event = executor.wait()
        assert not isinstance(event, Failed)
        found += [event.metrics] if isinstance(event, Finished) else []
    return found


def done(folder: Path) -> int:
    return len(trials(folder)) if (folder / "journal.log").exists() else 0


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The record of the search, by the inline executor."""
    folder = tmp_path_factory.mktemp("unbroken")
    search_loop(folder, budget=BUDGET, window=WINDOW, evaluator=Quick()).run()
    return trials(folder)


def test_processes_give_the_record_that_the_inline_executor_gives(
    unbroken: list[dict[str, Any]], tmp_path: Path
) -> None:
    with closing(ProcessExecutor(Quick(), 2)) as executor:
        search_loop(tmp_path, budget=BUDGET, window=WINDOW, executor=lambda _: executor).run()
    assert trials(tmp_path) == unbroken


@pytest.mark.parametrize("how", ["given", "environment", "remembered"])
def test_a_running_cluster_is_used_and_no_other_started(
    how: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    before = processes(cluster.folder, "gcs_server"), processes(cluster.folder, "raylet/raylet")
    if how == "environment":
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    with closing(RayExecutor(Quick(), 1, address=cluster.address if how == "given" else "")):
        port = ray.get_runtime_context().gcs_address.split(":")[1]
        assert port == cluster.address.split(":")[1]
        assert (processes(cluster.folder, "gcs_server"), processes(cluster.folder, "raylet/raylet")) == before
    assert not ray.is_initialized()
    assert answers(cluster.address)  # it was not ours to end


def test_a_worker_that_keeps_memory_is_replaced(cluster: Cluster) -> None:
    with closing(RayExecutor(Leaky(located=True), 1, address=cluster.address)) as executor:
        pids = [finish(executor, key)[0]["pid"] for key in range(3)]
    assert pids[0] == pids[1] != pids[2]  # what the first leaves is taken for the data


def test_workers_that_cannot_start_end_the_search(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.executors.ray._MAX_DEATHS_AT_START", 2)  # each takes some seconds
    with closing(RayExecutor(Unreadable(), 1, address=cluster.address)) as executor:
        executor.submit(Job(0, network(0), 0))
        with pytest.raises(WorkersCannotStart, match="No module named 'mine'; nas and its dependencies must be"):
            executor.wait()


def test_a_killed_driver_leaves_nothing_behind_and_resumes(
    cluster: Cluster, unbroken: list[dict[str, Any]], tmp_path: Path
) -> None:
    driver = start_driver(tmp_path, cluster.address)
    wait_until(lambda: done(tmp_path) >= 3)
    assert processes(cluster.folder, "ray::Worker")
    driver.kill()
    driver.communicate()
    wait_until(lambda: not processes(cluster.folder, "ray::Worker"), 20)
    assert done(tmp_path) < BUDGET
    drive(str(tmp_path), cluster.address)
    assert trials(tmp_path) == unbroken


def test_losing_a_worker_and_a_node_costs_no_trial(
    cluster: Cluster, unbroken: list[dict[str, Any]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pids: list[int] = []

    def lose(state: State) -> None:
        if state.done == 2 and pids:
            os.kill(pids.pop(), signal.SIGKILL)
        if state.done == 6 and cluster.other.returncode is None:
            end(cluster.other)

    with closing(Retrying(RayExecutor(Quick(seconds=0.4, located=True), 2, address=cluster.address), 2)) as executor:
        at: dict[float, float] = {}
        while len(at) < 2:  # both workers are up, one on each node
            at = {metrics["node"]: metrics["pid"] for metrics in finish(executor, 0, 1)}
        pids.append(int(next(iter(at.values()))))
        search_loop(tmp_path, budget=BUDGET, window=WINDOW, executor=lambda _: executor, on_change=lose).run()
    attributes = [row["user_attrs"] for row in trials(tmp_path)]
    assert [row["arch_id"] for row in attributes] == [row["user_attrs"]["arch_id"] for row in unbroken]
    assert not pids
    assert cluster.other.returncode is not None
    assert len({row["node"] for row in attributes[:4]}) == 2
    assert len({row["node"] for row in attributes[-2:]}) == 1
    assert capfd.readouterr().out == ""  # Ray has much to say about it


class Interrupted(Exception):
    """Stands for the process being killed."""


def test_pruning_on_ray_is_pruning_here_also_when_workers_die_and_it_is_resumed(
    cluster: Cluster, tmp_path: Path
) -> None:
    common: dict[str, Any] = {"budget": 8, "window": WINDOW, "pruner": "asha", "searcher": "random"}
    expected = search_loop(tmp_path / "here", evaluator=LearningEvaluator(), **common)
    expected.run()
    assert expected.state.counts["pruned"] > 3

    killed: list[int] = []

    def disturb(state: State) -> None:
        if state.done == 3 and not killed:
            killed.append(processes(cluster.folder, "ray::Worker")[0])
            os.kill(killed[0], signal.SIGKILL)
        if state.done == 6:
            raise Interrupted

    def on_ray(evaluator: Evaluator) -> Executor:
        return executors.enter_context(closing(Retrying(RayExecutor(evaluator, 2, address=cluster.address), 2)))

    with contextlib.ExitStack() as executors:
        slow = LearningEvaluator(seconds=0.5)
        loop = search_loop(tmp_path / "there", evaluator=slow, executor=on_ray, on_change=disturb, **common)
        with pytest.raises(Interrupted):
            loop.run()
    with contextlib.ExitStack() as executors:
        resumed = search_loop(tmp_path / "there", evaluator=LearningEvaluator(), executor=on_ray, **common)
        resumed.run()
    assert resumed.state.replayed == 6
    assert trials(tmp_path / "there") == trials(tmp_path / "here")
    assert resumed.state.spent == expected.state.spent


def test_the_cluster_is_looked_after_while_workers_are_silent(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(address: str) -> None:
        raise ClusterLost(address)

    monkeypatch.setattr("nas.executors.ray._CHECK_S", 0.1)
    with closing(RayExecutor(Quick(), 1, address=cluster.address)) as executor:
        executor.submit(Job(0, network(0), 0))
        monkeypatch.setattr(ray_cluster, "require_answer", lost)
        with pytest.raises(ClusterLost):
            executor.wait()


def test_losing_the_cluster_ends_the_search_with_a_reason(cluster: Cluster, tmp_path: Path) -> None:
    driver = start_driver(tmp_path, cluster.address, "2", "1")
    wait_until(lambda: done(tmp_path) >= 1)
    end(cluster.head)
    output, errors = driver.communicate(timeout=40)
    assert driver.returncode == 1
    assert output.startswith("ClusterLost the Ray cluster at")
    assert output.endswith("is gone; `nas resume` goes on once there is one again\n")
    assert "Traceback" not in errors


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_cluster_of_our_own_ends_with_us(how: signal.Signals, elsewhere: Path, tmp_path: Path) -> None:
    assert not processes(elsewhere)
    driver = start_driver(tmp_path, "local", "1")
    wait_until(lambda: done(tmp_path) >= 1)
    driver.send_signal(how)
    output, _ = driver.communicate(timeout=20)
    assert ("KeyboardInterrupt" in output) == (how == signal.SIGTERM)  # Ray would have it exit
    # After kill -9 nobody tells Ray's agents; they notice within a minute.
    names = ("",) if how == signal.SIGTERM else ("ray::Worker", "raylet/raylet", "gcs_server")
    wait_until(lambda: not any(processes(elsewhere, name) for name in names), 20)
    assert 1 <= done(tmp_path) < BUDGET


# What needs no cluster.


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "127.0.0.1:nonsense", "127.0.0.1:99999", "auto"])
def test_an_address_without_a_cluster_is_refused_at_once(address: str, elsewhere: Path) -> None:
    started = time.monotonic()
    with pytest.raises(InputError, match="--ray-address must be the address of a running Ray cluster, got"):
        RayExecutor(Quick(), 1, address=address)
    assert time.monotonic() - started < 10


def test_what_is_not_ray_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert not answers(f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)


def test_a_worker_says_when_memory_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    held = iter([10**9, 10**9, 2 * 10**9])
    monkeypatch.setattr("nas.executors.ray_worker.held_bytes", lambda: next(held))
    worker = Worker(FakeEvaluator(), math.inf, "")
    job = Job(0, network(0), 0)
    said = [[type(event).__name__ for event in worker.run(job)] for _ in range(3)]
    usual = ["Started", "Progress", "Progress", "Finished"]
    assert said == [usual, usual, [*usual[:-1], Worn.__name__, "Finished"]]


def test_nothing_imports_ray_before_it_is_used() -> None:
    code = "import sys, nas, nas.executors, nas.cli; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
