"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Latency = Annotated[str, typer.Option(help="A latency table.", show_default=False)]
Interpolate = Annotated[bool, typer.Option("--interpolate", help="Fill in what the table lacks, and say so.")]
Arch = Annotated[
    str | None,
    typer.Argument(metavar="[ARCH]", help="A file, a run folder or a reference; left out: the newest run."),
]
