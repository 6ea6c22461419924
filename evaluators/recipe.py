"""How a candidate is trained when it is only to be ranked."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from evaluators.images import ImageSource
from search_space import InputError
from search_space.documents import read_document
from search_space.errors import did_you_mean
from search_space.rules import Integer, Number, OneOf, Rule

OPTIMIZERS = ("adamw", "sgd")

_RULES: dict[str, Rule] = {
    "resolution_px": Integer(1, 4_096),
    "epochs": Integer(1, 100_000),
    "trainings": Integer(1, 1_000),
    "max_train_images": Integer(1, 1_000_000_000),
    "max_val_images": Integer(1, 1_000_000_000),
    "batch_size": Integer(2, 65_536),
    "optimizer": OneOf(OPTIMIZERS),
    "learning_rate": Number(0, 1e30),
    "weight_decay": Number(0, 1e6),
    "label_smoothing": Number(0, 1, below=True),
    "shift_share": Number(0, 0.5),
    "final_size_px": Integer(1, 4_096),
    "capacity_weight": Number(0, 10),
    "train_loss_weight": Number(0, 1),
    "norm_images": Integer(2, 1_000_000),
    "width_mult": Number(0.05, 4),
    "ema_decay": Number(0, 1, below=True),
    "reference_px": Integer(0, 8_192),
}


@dataclass(frozen=True)
class Recipe:
    """One fidelity of proxy training. All candidates of a search are trained by the same recipe."""

    resolution_px: int
    """Images are resized to this height and width for training, whatever resolution the network is meant for."""
    epochs: int
    max_train_images: int
    max_val_images: int
    trainings: int = 1
    """So often a network is trained, from other weights and with another order of images; metrics are means."""
    batch_size: int = 32
    optimizer: str = "adamw"
    """`adamw`, whose beta1 goes from 0.95 to 0.85 and back as the learning rate rises and falls, or `sgd`, whose
    Nesterov momentum stays 0.9. The defaults below are AdamW's; a file that names `sgd` has others (`find_recipe`)."""
    learning_rate: float = 3e-3
    """Peak of a one-cycle schedule."""
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    flip: bool = False
    """Mirror images at random in training."""
    shift_share: float = 0.0
    """Shift images at random by up to this share of their size in training (0: not at all)."""
    zero_init_residual: bool = True
    """Residual branches that end on a batch norm begin as nothing (`evaluators.adapt.silence_branches`)."""
    final_size_px: int = 2
    """The last feature map is at least this high and wide: strides are dropped until it is."""
    norm_images: int = 256
    """Training images on which batch-norm statistics are estimated anew before validation."""
    capacity_weight: float = 0.15
    """How much capacity counts in the score that searches rank by (`evaluators.proxy.proxy_score`); 0: not at all."""
    train_loss_weight: float = 0.75
    """How much the training loss counts in the loss of that score, where it says something of other images (up to epoch
    4, or with shifts); 0: not at all."""
    width_mult: float = 1.0
    """All channels but the head's are multiplied by this, and rounded to 8."""
    ema_decay: float = 0.0
    """Validate an exponential moving average of the weights, by this decay a step (0: the last weights)."""
    reference_px: int = 0
    """If not 0, `resolution_px` is for networks meant for this resolution; others are trained in proportion to theirs,
    their strides being those of the former. So it shows what more resolution is worth."""

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            object.__setattr__(self, name, rule.check(name, getattr(self, name)))
        for name in ("flip", "zero_init_residual"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} must be true or false", getattr(self, name), field=name)

    def pixels(self, deployment_px: int) -> int:
        """Height and width of the images for a network that is meant for images of `deployment_px`."""
        return (
            round(self.resolution_px * deployment_px / self.reference_px) if self.reference_px else self.resolution_px
        )

    def shift_px(self, size_px: int) -> int:
        """By how many pixels images of this height and width are shifted at most in training."""
        return round(self.shift_share * size_px)

    def describe(self) -> dict[str, Any]:
        """Plain data for the run's record."""
        return dataclasses.asdict(self)


class _Extent(NamedTuple):
    """How much a network is shown: up to so many images, so often that it sees `shown` altogether, within limits."""

    images: int
    shown: int
    most_epochs: int


# What is usual for SGD, whose weight decay is a part of the gradient: AdamW's 0.05 would be far too much.
_SGD = {"learning_rate": 0.1, "weight_decay": 5e-4}

# For images of up to 16 px, trained at 16 px; and for all others, trained at 32 px. What 50 epochs of CIFAR-10 take
# (2.5 million images of 32 px) is 250 times what quick takes, 104 times standard, 26 times thorough. Half the
# resolution with four times the images costs the same, but see decision 23.
_SMALL = {
    "quick": _Extent(768, 1_536, 4),
    "standard": _Extent(2_000, 4_000, 10),
    "thorough": _Extent(4_000, 16_000, 40),
}
_LARGE = {
    "quick": _Extent(5_000, 10_000, 4),
    "standard": _Extent(12_000, 24_000, 10),
    "thorough": _Extent(24_000, 96_000, 40),
}
_SMALL_PX, _LARGE_PX = 16, 32
# What capacity has yet to bring is the less, the longer the training: see decision 24.
_CAPACITY_WEIGHTS = {"quick": 0.2, "standard": 0.15, "thorough": 0.1}
# Large images that are seen so often are shifted, or else they are learnt by heart: see decision 26.
_SEEN_OFTEN, _SHIFT_SHARE = 12, 0.125  # epochs, of their size
FIDELITIES = tuple(_LARGE)
AUTO = "auto"
"""`standard` on a GPU, `quick` on the CPU."""


def named_recipe(fidelity: str, data: ImageSource) -> Recipe:
    """`quick`, `standard` or `thorough` for a data set: small images are trained at 16 px, all others at 32 px.

    Images are mirrored where that keeps their class; large ones are shifted, too, if each is seen often enough to be
    learnt by heart otherwise (decision 26).
    """
    small = data.size <= _SMALL_PX
    extent = (_SMALL if small else _LARGE)[fidelity]
    images = min(extent.images, len(data.splits["train"]))
    epochs = min(extent.most_epochs, max(2, extent.shown // images))
    return Recipe(
        resolution_px=_SMALL_PX if small else _LARGE_PX,
        epochs=epochs,
        max_train_images=extent.images,
        max_val_images=2_000,
        batch_size=32 if small else 16,
        flip=data.mirrored,
        shift_share=_SHIFT_SHARE if epochs >= _SEEN_OFTEN and not small else 0.0,
        capacity_weight=_CAPACITY_WEIGHTS[fidelity],
    )


def training_cost(recipe: Recipe, data: ImageSource) -> float:
    """What training a network by a recipe costs, up to a factor of the network's own: images shown · px² · width²."""
    shown = recipe.trainings * recipe.epochs * min(recipe.max_train_images, len(data.splits["train"]))
    return shown * (recipe.resolution_px * recipe.width_mult) ** 2


def next_fidelity(recipe: Recipe, data: ImageSource) -> str | None:
    """The cheapest fidelity that costs more than `recipe`; None if none does."""
    cost = training_cost(recipe, data)
    return next((name for name in FIDELITIES if training_cost(named_recipe(name, data), data) > cost), None)


def find_recipe(text: str, data: ImageSource, device: torch.device, *, option: str = "--proxy") -> Recipe:
    """The recipe that `--proxy` (or another `option`) names: `auto`, a fidelity's name, or a YAML or JSON file with
    fields of `Recipe`.

    Fields that a file leaves out are those of its `base`, a fidelity, by default `standard`; but if it names `sgd`, its
    learning rate and weight decay are 0.1 and 5e-4. Raises `InputError`.
    """
    if text == AUTO:
        return named_recipe("quick" if device.type == "cpu" else "standard", data)
    if text in FIDELITIES:
        return named_recipe(text, data)
    if not is_file(text):
        remedy = did_you_mean(text, (AUTO, *FIDELITIES))
        raise InputError(f"{option} must be a fidelity, or a recipe's .yaml or .json file", text, remedy=remedy)
    document = read_document(text)
    fields = [field.name for field in dataclasses.fields(Recipe)]
    plain = dict(document.mapping((), dict.fromkeys(("base", *fields), False)))
    with document.at(()):
        base = OneOf(FIDELITIES).check("base", plain.pop("base", "standard"))
        usual = _SGD if plain.get("optimizer") == "sgd" else {}
        return dataclasses.replace(named_recipe(base, data), **{**usual, **plain})


def recorded_recipe(plain: Any) -> Recipe:
    """The recipe of a run's record, as `describe` gave it. Raises `InputError`.

    No field may be missing: a recipe that an older version wrote does not say how its networks were trained in what
    that version did not know.
    """
    remedy = "start a new run"
    if not isinstance(plain, dict):
        raise InputError("the recorded recipe cannot be read", plain, remedy=remedy)
    missing = [field.name for field in dataclasses.fields(Recipe) if field.name not in plain]
    if missing:
        rule = f"the recorded recipe has no {missing[0]}, so it is of an older version of nas"
        raise InputError(rule, remedy=f"resume the run by that version, or {remedy}")
    try:
        return Recipe(**plain)
    except TypeError as error:
        raise InputError(f"the recorded recipe cannot be read: {error}", remedy=remedy) from None


def is_file(text: str) -> bool:
    """Whether `--proxy` names a file, by its suffix."""
    return Path(text).suffix.lower() in (".yaml", ".yml", ".json")
