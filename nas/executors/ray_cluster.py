"""The Ray cluster that evaluations run on: the one at hand, or one of our own."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any, Literal

from evaluators import Evaluator
from search_space import InputError
from search_space.errors import WorkFailed, one_line

_RULE = "--ray-address must be the address of a running Ray cluster"
_START = "start one with `ray start --head`, or leave it out for one of our own"
Connection = Literal["found", "attached", "own"]
"""Whose it was before: somebody's, who will end it; nobody's; nor was there a cluster."""
_SETTINGS = 4  # the type of frame that both sides of HTTP/2 begin with
# Ray ends the whole process, without a word to Python, when it has not heard from the cluster's head for 60 s.
_PATIENCE_S = 20.0


class ClusterLost(WorkFailed):
    """The head of the cluster is gone, and with it every evaluation under way."""


def connect(address: str, workers: int, evaluator: Evaluator) -> Connection:
    """Connect to a cluster.

    In this order: the connection there is; `address`, else RAY_ADDRESS; the cluster this machine is a node of; one of
    our own with a CPU for each worker. `auto` stands for any but the last, `local` for the last.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        return "found"
    given = address if address not in ("", "auto") else os.environ.get("RAY_ADDRESS", "")
    if given in ("", "auto"):
        # Ray would try for minutes, then end the process, if what it remembers of this machine is gone.
        remembered = _remembered()
        if remembered and answers(remembered):
            _init(None, remembered)
            return "attached"
        if "auto" in (address, given):
            raise InputError(_RULE, "auto", remedy=f"none is running here: {_START}")
    elif given != "local":
        if "://" in given:
            remedy = "use HOST:PORT on a node of the cluster, or submit the search with `ray job submit`"
            raise InputError("Ray's client does not stream reports", given, where="--ray-address", remedy=remedy)
        if not answers(given):
            where = "" if address else "RAY_ADDRESS"
            raise InputError(_RULE, given, where=where, remedy=f"nothing answers there; {_START}")
        # Ray looks for the token of a cluster it remembers, not for that of one it is told: "127.0.0.1:6379" has to do.
        mine = not os.environ.get("RAY_ADDRESS") and _same(given, _remembered())
        _init(None if mine else given, given)
        return "attached"
    memory = max(100 * 2**20, 2 * _size(evaluator))
    _init("local", "", num_cpus=workers, object_store_memory=memory, include_dashboard=False)
    return "own"


def _remembered() -> str:
    """The cluster last started on, or joined by, this machine, as `ray.init()` would find it."""
    from ray._private import services

    return services.find_bootstrap_address(None) or ""


def _same(given: str, remembered: str) -> bool:
    (host, _, port), (its_host, _, its_port) = given.rpartition(":"), remembered.rpartition(":")
    try:
        return port == its_port and socket.gethostbyname(host) in ("127.0.0.1", its_host)
    except OSError:
        return False


def answers(address: str, timeout_s: float = 5.0) -> bool:
    """Whether a server of Ray's kind answers at HOST:PORT: one that speaks HTTP/2, and says so by its settings."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout_s) as connection:
            if os.environ.get("RAY_USE_TLS") == "1":
                return True
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0]))
            return connection.recv(4)[3:] == bytes([_SETTINGS])
    except (OSError, ValueError, OverflowError):
        return False


def _init(address: str | None, shown: str, **options: Any) -> None:
    import ray
    from ray._private import worker

    try:
        with _own_signals():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (Exception, SystemExit) as error:  # SystemExit: Ray ends what cannot reach a cluster by a signal
        text = one_line(str(error))
        if not shown:
            raise WorkFailed(f"Ray could not be started here: {text}") from None
        remedy = "what answers there is something else" if isinstance(error, SystemExit) else f"Ray says: {text[:300]}"
        if "RAY_AUTH_MODE" not in os.environ:
            remedy += "; set RAY_AUTH_MODE=token if its nodes ask for a token"
        raise InputError(_RULE, shown, remedy=remedy) from None
    # Else a thread of Ray's prints what it has to say about each dead worker on the standard output.
    worker._worker_logs_enabled = False


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray makes SIGTERM leave without clearing up; keep what was there."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _size(evaluator: Evaluator) -> int:
    from ray import cloudpickle

    buffers: list[pickle.PickleBuffer] = []
    head: bytes = cloudpickle.dumps(  # type: ignore[no-untyped-call]
        evaluator, protocol=5, buffer_callback=buffers.append
    )
    return len(head) + sum(buffer.raw().nbytes for buffer in buffers)


def require_answer(address: str) -> None:
    """Raises `ClusterLost` if the head stays silent; it may be back in a moment if it keeps its state elsewhere."""
    limit = time.monotonic() + _PATIENCE_S
    while not answers(address, timeout_s=2.0):
        if time.monotonic() > limit:
            raise ClusterLost(f"the Ray cluster at {address} is gone; `nas resume` goes on once there is one again")
        time.sleep(0.5)


def check_room(workers: int, gpus: float, *, own: bool) -> None:
    """Warn if not all workers find a place at once: a cluster may grow.

    Raises `InputError` for GPUs that cannot be had: our `own` cluster is this machine and does not grow.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if gpus and own and not any(node.get("GPU", 0) for node in nodes):
        remedy = "leave it out, or use a cluster that has some (--ray-address)"
        raise InputError("--gpus-per-trial needs a machine with GPUs", gpus, remedy=remedy)
    # The small number: 10 × 0.1 GPU fit on one.
    room = sum(int(min(node.get("CPU", 0), node.get("GPU", 0) / gpus + 1e-6 if gpus else workers)) for node in nodes)
    if room < workers:
        each = "1 CPU" + (f" and {gpus:g} GPU" if gpus else "")
        rest = f"{room}: the others start as it grows" if room else "none: the search begins once it grows"
        asked = f"asked for {workers} workers with {each} each"
        warnings.warn(f"{asked}, the Ray cluster has room for {rest}", stacklevel=2)


def paths() -> dict[str, Any]:
    """The runtime environment of workers: where to find modules that are not installed, on machines that have them."""
    own = [path for path in sys.path if path and not path.startswith((sys.prefix, sys.base_prefix))]
    return {"env_vars": {"PYTHONPATH": os.pathsep.join(own)}} if own else {}
