"""A stand-alone Python file that needs torch only."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import torch

from nas.export.base import Exporter, Job, Written, check_logits
from nas.export.formatter import formatted
from nas.export.names import class_name, module_name, shown_name
from nas.export.source import Code, ModuleWriter, block_functions, head_expression, render
from nas.export.source.functions import BlockExpression
from nas.rows import network_rows, text_table
from search_space import Architecture, count_cost
from search_space.component import field_rules, plain_number
from search_space.documents import write_whole
from search_space.errors import WorkFailed, one_line
from search_space.network import Network, initialise

_TEMPLATE = '''\
"""{title}

{table}

{cost} at {resolution} px. Parameters are named as in the weights that go with it:

    model = {name}()
    model.load_state_dict(safetensors.torch.load_file("{stem}.safetensors"))
"""

from __future__ import annotations

{imports}

{definitions}

{functions}


class {name}(nn.Module):
    """[N, {channels}, H, W] → [N, num_classes] logits."""

    def __init__(self{signature}) -> None:
        super().__init__()
        self.stem = {stem_expression}
        self.blocks = nn.Sequential(
{blocks}
        )
        self.head = {head}
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))
'''


class Torch(Exporter):
    """`NAME.py`, with underscores: a class for the network, and what it is made of."""

    name = "torch"

    def write(self, job: Job, folder: Path) -> Written:
        source = network_source(job.architecture, job.stem)
        path = folder / f"{module_name(job.stem)}.py"
        write_whole(path, source)
        model = load_source(source, class_name(job.architecture))
        try:
            model.load_state_dict(job.model.state_dict())
        except RuntimeError as error:
            raise WorkFailed(
                f"the source has other parameters than the network: {one_line(str(error))[:300]}"
            ) from None
        images = job.images(2)
        with torch.no_grad():
            difference = check_logits("the source", job.logits(images), model.eval()(images))
        note = f"class {class_name(job.architecture)}, needs torch only; logits within {difference:.1g} of the greatest"
        return Written(path, note)


def load_source(source: str, name: str) -> torch.nn.Module:
    """An instance of the class `name` of a source. Raises `WorkFailed` if it does not run."""
    module = types.ModuleType("exported_network")
    sys.modules[module.__name__] = module  # dataclasses and annotations look their module up
    try:
        exec(compile(source, "exported_network.py", "exec"), module.__dict__)  # what we have just written
        model: torch.nn.Module = module.__dict__[name]()
    except Exception as error:
        raise WorkFailed(f"the source does not run: {type(error).__name__}: {one_line(str(error))[:300]}") from error
    finally:
        del sys.modules[module.__name__]
    return model


def network_source(architecture: Architecture, stem: str) -> str:
    """The whole file. Raises `InputError` for a module that cannot be written as source, naming it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Network(architecture)
        classes = architecture.num_classes
        other = Network(architecture.replace(num_classes=classes + 1)).head
    code = Code()
    code.imports.add("from torch import Tensor, nn")
    name = code.claim(class_name(architecture), architecture)
    writer = ModuleWriter(code, (model.stem, model.blocks, model.head))
    writer.define_classes()
    code.definitions["initialise"] = code.function(initialise)
    functions, calls = block_functions(_block_expressions(architecture, model.blocks, writer))
    head, any_classes = head_expression(writer.expression(model.head), writer.expression(other), classes, classes + 1)
    cost = count_cost(architecture)
    return formatted(
        _TEMPLATE.format(
            title=_title(architecture),
            table=text_table(network_rows(architecture)),
            cost=f"{cost.params:,} parameters, {cost.macs:,} multiply–adds",
            resolution=architecture.resolution,
            stem=stem,
            name=name,
            imports="\n".join(code.import_lines()),
            definitions="\n\n\n".join(code.definitions.values()),
            functions="\n\n".join(functions),
            channels=architecture.input_channels,
            signature=f", num_classes: int = {classes}" if any_classes else "",
            stem_expression=render(writer.expression(model.stem)),
            blocks="\n".join(f"            {call}," for call in calls),
            head=head,
        )
    )


def _title(architecture: Architecture) -> str:
    return f"{shown_name(architecture)} ({architecture.arch_id}). A row is n equal blocks, s the stride of the first."


def _block_expressions(
    architecture: Architecture, modules: torch.nn.Sequential, writer: ModuleWriter
) -> list[BlockExpression]:
    found, channels = [], architecture.stem.out_channels
    for block, module in zip(architecture.blocks, modules, strict=True):
        fields = {name: repr(plain_number(getattr(block, name))) for name in field_rules(type(block))}
        known = {"in_channels": str(channels), "out_channels": str(block.out_channels), **fields}
        found.append(BlockExpression(writer.expression(module), block.type, known))
        channels = block.out_channels
    return found
