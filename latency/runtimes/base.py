"""What every runtime owes: it runs whole networks and single parts, and tells how long they took."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from latency.conditions import Conditions
from search_space import Architecture
from search_space.parts import PartShape


class Timed(ABC):
    """A network (or a part) ready to run."""

    @abstractmethod
    def run(self) -> float:
        """One inference, end to end: its wall time in ms, the device's work included."""


class TimedParts(ABC):
    """A network ready to run, whose parts are timed in place, one after another in one inference."""

    @abstractmethod
    def run(self) -> None:
        """One inference."""

    @abstractmethod
    def times_ms(self) -> NDArray[np.float64]:
        """[runs so far, parts]: the time of each part in each inference. Called once, after the last run."""


class Runtime(ABC):
    """Runs networks under fixed `conditions`; a runtime is one file in this folder.

    Whatever it opens is measured as it would be used: same threads, precision, batch and memory layout, weights that
    keep activations at an ordinary scale (zeros and subnormal numbers have timings of their own).
    """

    name: ClassVar[str]
    passes: ClassVar[int] = 3
    """How often a session goes over all networks. More is better against drift, but each time they are opened anew."""
    rounds: ClassVar[int] = 2
    """How often a network is timed in each pass."""

    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions

    @property
    def open_at_once(self) -> int:
        """How many networks may be open while others are timed, without disturbing them."""
        return 24

    @classmethod
    @abstractmethod
    def versions(cls) -> dict[str, str]:
        """Versions of the runtime and what it stands on. Raises `InputError` if it is not installed."""

    @classmethod
    @abstractmethod
    def check(cls, conditions: Conditions) -> None:
        """Raise `InputError` for conditions which it cannot provide."""

    @abstractmethod
    def session(self) -> contextlib.AbstractContextManager[object]:
        """The time during which things are opened and run; process-wide settings are put back at its end."""

    @abstractmethod
    def open(self, architecture: Architecture) -> Timed:
        """A network, to be timed as a whole."""

    @abstractmethod
    def open_module(self, module: nn.Module, input_shape: tuple[int, ...]) -> Timed:
        """Any network that reads [batch, *`input_shape`], its weights initialised, to be timed as a whole."""

    @abstractmethod
    def open_parts(self, architecture: Architecture) -> TimedParts:
        """A network, to be timed part by part, in the order of `search_space.parts.parts`."""

    @abstractmethod
    def open_alone(self, shape: PartShape) -> Timed:
        """A single part, to be timed alone, as most table builders do. For comparison only."""
