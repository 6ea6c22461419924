"""How a block is written in the model builders of other libraries. A block type says so itself, in its own file."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from search_space.component import Component, field_defaults, field_rules
from search_space.errors import InputError


class NotExpressible(InputError):
    """Another library has no words for a field's value; `field` names it."""

    def __init__(self, library: str, field: str, value: Any, why: str = "") -> None:
        super().__init__(f"{library} cannot express {field}" + (f": {why}" if why else ""), value, field=field)


@dataclass(frozen=True)
class Squeeze:
    """Squeeze-excite on `channels` channels, squeezed to `squeeze_channels`; `ratio` is how the block spells it."""

    channels: int
    squeeze_channels: int
    ratio: float
    variant: str


@dataclass(frozen=True)
class TimmBlock:
    """A block in the notation of timm's EfficientNet builder, stride and channels apart.

    `kind` is the leading string (`ir`, `ds`, `er`, `cn`, …); `expand_ratio` is None where the kind has none; `suffix`
    holds further options, as `_skip`.
    """

    kind: str
    kernel_size: int
    activation: str
    expand_ratio: float | None = None
    squeeze: Squeeze | None = None
    suffix: str = ""


def refuse_other_fields(library: str, component: Component, said: Collection[str]) -> None:
    """Raise `NotExpressible` for a field that is not among those `said` and is not at its default either.

    Channels and stride are always said.
    """
    defaults = field_defaults(type(component))
    for name in field_rules(type(component)):
        value = getattr(component, name)
        if name not in ("out_channels", "stride", *said) and value != defaults.get(name, value):
            raise NotExpressible(library, name, value)
