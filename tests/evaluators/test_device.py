"""The choice of device and precision, as far as its logic can be tested without one."""

from __future__ import annotations

import contextlib

import pytest
import torch

from evaluators.device import amp_dtype, autocast, choose_device, fork_rng
from search_space import InputError


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_fastest_there_is(cuda: bool, mps: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)
    assert choose_device().type == chosen


def test_amp_on_cuda_is_what_the_hardware_of_that_very_device_has(monkeypatch: pytest.MonkeyPatch) -> None:
    ampere, turing = torch.device("cuda:0"), torch.device("cuda:1")
    monkeypatch.setattr("torch.cuda.get_device_capability", {ampere: (8, 6), turing: (7, 5)}.__getitem__)
    assert amp_dtype(ampere) is torch.bfloat16
    assert amp_dtype(turing) is torch.float16
    monkeypatch.setattr("torch.version.hip", "6.0")
    assert amp_dtype(turing) is torch.bfloat16
    assert amp_dtype(torch.device("cpu")) is None
    assert amp_dtype(torch.device("mps")) is None


def test_what_is_drawn_in_between_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    apple = [1]
    monkeypatch.setattr("torch.mps.get_rng_state", lambda: list(apple))
    monkeypatch.setattr("torch.mps.set_rng_state", lambda state: apple.__setitem__(slice(None), state))
    before = torch.get_rng_state()
    with fork_rng(torch.device("mps")):
        torch.rand(3)
        apple[0] = 2
    assert apple == [1]
    assert torch.equal(torch.get_rng_state(), before)


def test_no_autocast_on_the_cpu() -> None:
    assert isinstance(autocast(torch.device("cpu")), contextlib.nullcontext)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta", "cpu:gpu"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        choose_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(InputError, match=r"the device cannot be used.*use auto, cpu, cuda"):
        choose_device("cuda")
