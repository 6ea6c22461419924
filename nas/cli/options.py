"""Options that several commands have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from latency import Predictor

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Latency = Annotated[str, typer.Option(help="A latency table.", show_default=False)]
Interpolate = Annotated[bool, typer.Option("--interpolate", help="Fill in what the table lacks, and say so.")]
Resolutions = Annotated[
    str,
    typer.Option("--resolution", help="In px, separated by commas, instead of the space's own.", show_default=False),
]
Arch = Annotated[
    str | None,
    typer.Argument(
        metavar="[ARCH]", help="A file, a run folder, RUN/ARCH_ID, a reference or timm:NAME; left out: the newest run."
    ),
]


def numbers(option: str, text: str) -> list[int] | None:
    """Whole numbers separated by commas; None for nothing."""
    from search_space import InputError
    from search_space.rules import Integer

    if not text:
        return None
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
        raise InputError(f"{option} must be whole numbers separated by commas", text, remedy="write it as 160,224")
    return [Integer(1, 1_000_000).check(option, int(word)) for word in words]


def refuse_without(needed: str, context: typer.Context, *names: str) -> None:
    """Raise `InputError` for parameters that were given but do nothing without the option `needed`."""
    from search_space import InputError

    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = f"--{name.replace('_', '-')}"
            remedy = f"add {needed}, or leave out {option}"
            raise InputError(f"{option} does nothing without {needed}", context.params[name], remedy=remedy)


def table_predictor(latency: str, interpolate: bool) -> Predictor | None:
    """What `--latency` and `--interpolate` ask for; None for neither."""
    from latency import Predictor, load_table
    from search_space import InputError

    if latency:
        return Predictor(load_table(latency), interpolate=interpolate)
    if interpolate:
        raise InputError("--interpolate needs a latency table", remedy="add --latency FILE")
    return None
