"""The command line. `main` is the `nas` command.

Exit status: 0 done; 1 the work failed or was interrupted; 2 the request was wrong, said in one line on stderr.
Commands import what they need when they run: `nas --help` must not wait for PyTorch.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Any

import typer

from nas.cli import audit, bench, compare, describe, export, import_, latency, scale, search

app = typer.Typer(
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Neural architecture search for mobile convolutional networks.",
)
describe.add_to(app)
search.add_to(app)
latency.add_to(app)
export.add_to(app)
scale.add_to(app)
audit.add_to(app)
bench.add_to(app)
import_.add_to(app)
compare.add_to(app)

# Usage errors as typer raises them; typer has its own copy of click since 0.2x, so go by ancestry.
_UsageProblem: Any = typer.BadParameter.__mro__[2]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"nas {version('nas')}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Neural architecture search for mobile convolutional networks."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line and exit."""
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; its exit status."""
    try:
        status = app(args=arguments, prog_name="nas", standalone_mode=False)
        sys.stdout.flush()
        return min(status, 1) if isinstance(status, int) else 0  # Ctrl-C is 130 to typer
    except typer.Exit as stop:
        return min(stop.exit_code, 1)
    except _UsageProblem as error:
        message = " ".join(error.format_message().split()).rstrip(".")
        context = getattr(error, "ctx", None)
        if message:
            print(f"error: {message}; see `{context.command_path if context else 'nas'} --help`", file=sys.stderr)
        return 2
    except ValueError as error:
        from search_space.errors import InputError  # here, because it loads PyTorch

        if not isinstance(error, InputError):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads any more
        return 1
    except OSError as error:  # a full disk, a folder that went away
        print(f"error: {error}; nothing that was recorded is lost", file=sys.stderr)
        return 1
    except Exception as error:
        from search_space.errors import WorkFailed  # here, because it loads PyTorch

        if not isinstance(error, WorkFailed):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
