"""The choice of device and precision, as far as its logic can be tested without one."""

from __future__ import annotations

import contextlib

import pytest
import torch

from evaluators.device import amp_dtype, autocast, choose_device
from search_space import InputError


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_fastest_there_is(cuda: bool, mps: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)
    assert choose_device().type == chosen


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_amp_on_cuda_only(bf16: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: bf16)
    assert amp_dtype(torch.device("cuda")) is dtype
    assert amp_dtype(torch.device("cpu")) is None
    assert amp_dtype(torch.device("mps")) is None


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
