"""What every export format owes. One file in this folder for each."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from search_space import Architecture, InputError
from search_space.errors import WorkFailed, one_line
from search_space.network import Network

TOLERANCE = 1e-3
"""By how much logits may differ, as a share of the greatest: runtimes sum in other orders."""


@dataclass(frozen=True)
class Job:
    """A network that is to be written. `stem` is what its files are called, without an ending."""

    architecture: Architecture
    make_model: Callable[[], Network]
    stem: str
    weights_given: bool
    """False if the weights are initial ones."""

    @functools.cached_property
    def model(self) -> Network:
        """The network in eval mode, with the weights to be written. Made when a format first asks for it."""
        return self.make_model().eval()

    def images(self, batch: int) -> Tensor:
        """[batch, input_channels, resolution, resolution], random, always the same."""
        size = self.architecture.resolution
        generator = torch.Generator().manual_seed(0)
        return torch.randn(batch, self.architecture.input_channels, size, size, generator=generator)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """[N, num_classes], of the network itself."""
        logits: Tensor = self.model(images)
        return logits


@dataclass(frozen=True)
class Written:
    """A file that was written, with what can be said of it in the model card."""

    file: Path
    note: str
    further: tuple[Path, ...] = ()
    """Files that go with it."""


class Exporter(ABC):
    """A format in which networks leave.

    `write` is called with an empty folder to write into, and has to make sure that what it wrote is the network: it
    loads it back and compares logits (`check_logits`).
    """

    name: ClassVar[str]
    holds_weights: ClassVar[bool] = False
    """Whether the file holds weights, so that the same weights are written beside it."""
    packages: ClassVar[Mapping[str, str]] = {}
    """Import name of a top-level package -> extra of `nas` that installs it."""

    def check(self, architecture: Architecture) -> None:
        """Raise `InputError` if the format cannot express the network, or a package is missing. Before any work."""
        for package, extra in self.packages.items():
            if importlib.util.find_spec(package) is None:
                raise _missing(package, extra, f"--to {self.name}")

    @abstractmethod
    def write(self, job: Job, folder: Path) -> Written:
        """Write the network into `folder`. Raises `InputError`, or `WorkFailed` if the result is not the network."""


def need(module: str, extra: str, where: str) -> Any:
    """A module of an optional package; raises `InputError` if it is not there, or `WorkFailed` if it is broken."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        if error.name in (module, package):
            raise _missing(package, extra, where) from None
        raise WorkFailed(f"{package} does not load: {one_line(str(error))} ({where})") from error


def _missing(package: str, extra: str, where: str) -> InputError:
    return InputError(f"{package} is not installed", where=where, remedy=f"pip install 'nas[{extra}]'")


def check_logits(what: str, expected: Tensor, found: Tensor) -> float:
    """The greatest difference, relative to the greatest logit; raises `WorkFailed` if it is above `TOLERANCE`."""
    if expected.shape != found.shape:
        raise WorkFailed(f"{what} gives logits of shape {list(found.shape)} instead of {list(expected.shape)}")
    if not torch.isfinite(expected).all():
        raise WorkFailed(f"{what} cannot be checked: the network's own logits are not finite")
    scale = float(expected.abs().max())
    difference = float((expected - found).abs().max()) / scale if scale else float(found.abs().max())
    if not difference <= TOLERANCE:
        raise WorkFailed(
            f"{what} does not compute what the network does: logits differ by {difference:.2g} of the most"
        )
    return difference
