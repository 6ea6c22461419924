"""What the formats for other model libraries share: places in messages, checks of stem and head, weights by order.

Their networks have the same layers in the same order under other names, so that weights are carried over by order; the
logits are compared then.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from nas.export.base import Job, Written, check_logits
from nas.export.formatter import formatted
from nas.export.names import module_name, shown_name
from nas.export.weights import write_weights
from search_space import Architecture, Block
from search_space.documents import write_whole
from search_space.errors import WorkFailed, one_line
from search_space.foreign import NotExpressible, refuse_other_fields
from search_space.head import PooledHead
from search_space.stem import ConvStem


@contextmanager
def located(architecture: Architecture, place: str) -> Iterator[None]:
    """Give any `NotExpressible` raised inside its place in the architecture."""
    try:
        yield
    except NotExpressible as error:
        if error.where:
            raise
        where = ".".join(word for word in (place, error.field) if word)
        error.where, error.remedy = f"{where} of {architecture.name}", "--to torch can express every network"
        raise


def numbered(architecture: Architecture) -> Iterator[tuple[str, int, Block]]:
    """Place, input channels and block, in order."""
    channels = architecture.stem.out_channels
    for number, stage in enumerate(architecture.stages):
        for index, block in enumerate(stage.blocks):
            yield f"stages[{number}].blocks[{index}]", channels, block
            channels = block.out_channels


def check_stem(library: str, architecture: Architecture) -> ConvStem:
    """The stem, if it is a convolution with stride 2 and nothing else. Raises `NotExpressible`."""
    stem = architecture.stem
    with located(architecture, "stem"):
        if not isinstance(stem, ConvStem):
            raise NotExpressible(library, "type", stem.type)
        refuse_other_fields(library, stem, ("kernel_size", "activation"))
        if stem.stride != 2:
            raise NotExpressible(library, "stride", stem.stride, "its stem has stride 2")
    return stem


def check_head(library: str, architecture: Architecture) -> PooledHead:
    """The head, if it is of the usual kind. Raises `NotExpressible`."""
    head = architecture.head
    with located(architecture, "head"):
        if not isinstance(head, PooledHead):
            raise NotExpressible(library, "type", head.type)
        refuse_other_fields(library, head, ("conv_channels", "hidden_channels", "activation", "dropout"))
    return head


def write_library_model(library: str, body: str, job: Job, folder: Path) -> Written:
    """Write `NAME_LIBRARY.py` from the source of a `create_model`, and the weights under the library's names, if given.

    Raises `WorkFailed` if the library's network is not the same.
    """
    path = folder / f"{module_name(job.stem)}_{library}.py"
    weights = folder / f"{job.stem}.{library}.safetensors"
    lines = [f"{shown_name(job.architecture)} ({job.architecture.arch_id}) for {library}."]
    if job.weights_given:
        lines += ["", "model = create_model()", f'model.load_state_dict(safetensors.torch.load_file("{weights.name}"))']
    text = "\n".join(lines)
    source = formatted(f'"""{text}{chr(10) if len(lines) > 1 else ""}"""\n\n{body}')
    write_whole(path, source)
    model = _create(library, source)
    state = by_order(job.model.state_dict(), model, library)
    model.load_state_dict(state)
    images = job.images(2)
    with torch.no_grad():
        difference = check_logits(f"{library}'s network", job.logits(images), model.eval()(images))
    note = f"`create_model()`, {library}'s {type(model).__name__}; logits within {difference:.1g} of the greatest"
    if not job.weights_given:
        return Written(path, note)
    write_weights(weights, state, job.architecture.arch_id)
    return Written(path, f"{note}; weights under its names: `{weights.name}`", (weights,))


def _create(library: str, source: str) -> nn.Module:
    module = types.ModuleType(f"exported_{library}")
    try:
        exec(compile(source, f"exported_{library}.py", "exec"), module.__dict__)  # what we have just written
        model: nn.Module = module.__dict__["create_model"]()
    except Exception as error:
        reason = f"{type(error).__name__}: {one_line(str(error))[:300]}"
        raise WorkFailed(f"{library} does not build the network: {reason}") from error
    return model


def by_order(state: Mapping[str, Tensor], model: nn.Module, library: str) -> dict[str, Tensor]:
    """Our tensors under the names of a library's network. Raises `WorkFailed` if their number or sizes differ."""
    theirs = model.state_dict()
    if len(theirs) != len(state):
        raise WorkFailed(f"{library}'s network has {len(theirs)} tensors instead of {len(state)}")
    named = {}
    for (name, wanted), (own, tensor) in zip(theirs.items(), state.items(), strict=True):
        if wanted.numel() != tensor.numel() or wanted.squeeze().shape != tensor.squeeze().shape:
            shapes = f"{list(wanted.shape)} instead of {list(tensor.shape)}"
            raise WorkFailed(f"in {library}'s network, {own} is {name} and has shape {shapes}")
        named[name] = tensor.reshape(wanted.shape)
    return named
