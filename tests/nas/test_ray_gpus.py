"""Room in a cluster, and shares of GPUs: what can be told without either."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from support import FakeEvaluator

from evaluators import ProxyTraining, load_images
from nas.evaluation import default_workers, described
from nas.executors.ray_cluster import check_room
from nas.executors.ray_worker import Worker
from nas.settings import Settings
from search_space import InputError


def test_workers_with_a_gpu_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[str] = []
    monkeypatch.setattr(FakeEvaluator, "use_device", lambda self, device: devices.append(device))
    Worker(FakeEvaluator(), math.inf, "")
    Worker(FakeEvaluator(), math.inf, "cuda")
    assert devices == ["cuda"]


def nodes(*resources: dict[str, float]) -> Any:
    return lambda: [{"Alive": True, "Resources": one} for one in resources]


@pytest.mark.parametrize(
    ("workers", "gpus", "resources", "room"),
    [
        (8, 0.0, [{"CPU": 4.0}], "4: the others start"),
        (8, 0.0, [{"CPU": 1.5}, {"CPU": 1.5}], "2: the others start"),
        (8, 0.25, [{"CPU": 4.0, "GPU": 1.0}, {"CPU": 64.0}], "4: the others start"),
        (8, 1.0, [{"CPU": 4.0}], "none: the search begins once it grows"),
        (4, 0.25, [{"CPU": 4.0, "GPU": 1.0}], ""),
        (10, 0.1, [{"CPU": 12.0, "GPU": 1.0}], ""),
    ],
)
def test_too_little_room_is_said(
    workers: int, gpus: float, resources: list[dict[str, float]], room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.nodes", nodes(*resources))
    with pytest.warns(match=f"has room for {room}") if room else contextlib.nullcontext():
        check_room(workers, gpus, own=False)


def test_gpus_that_cannot_be_had_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.nodes", nodes({"CPU": 4.0}))
    with pytest.raises(InputError, match="needs a machine with GPUs"):
        check_room(2, 0.25, own=True)
    with pytest.raises(InputError, match="at most 1, or a whole number"):
        Settings(1, executor="ray", gpus_per_trial=1.5)


@pytest.mark.parametrize(
    ("gpus", "share", "workers"), [(1, 1.0, 1), (1, 0.25, 4), (1, 0.1, 10), (2, 0.4, 4), (4, 2.0, 2), (0, 0.5, 1)]
)
def test_as_many_workers_as_gpus_have_room_for(
    gpus: int, share: float, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    settings = Settings(1, executor="ray", gpus_per_trial=share)
    assert default_workers(ProxyTraining(load_images("digits"), device="cpu"), settings) == workers


def test_the_precision_of_gpus_elsewhere_is_not_recorded_as_that_of_this_machine() -> None:
    told = described(ProxyTraining(load_images("digits"), device="cpu"), Settings(1, executor="ray", gpus_per_trial=1))
    assert (told["device"], told["amp"]) == ("cuda", "as each worker's GPU has it")
