"""Progress on stderr: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.cli.output import duration, quantity

if TYPE_CHECKING:
    from nas.state import State

_PLAIN_SECONDS = 10.0


@dataclass(frozen=True)
class SearchProgress:
    """What a search calls as it goes on."""

    on_change: Callable[[State], None]
    on_measure: Callable[[int, int], None]
    on_score: Callable[[int, int], None]
    on_train: Callable[[int, int], None]
    on_read: Callable[[int, int], None]


@contextmanager
def show_progress(title: str) -> Iterator[SearchProgress]:
    """Progress of a search, and of reading, scoring, measuring and training around it; a bar of its own for each."""
    with _bars_in_turn() as bar:
        yield SearchProgress(
            bar(lambda: _live(title) if sys.stderr.isatty() else contextlib.nullcontext(_plain(title))),
            bar(lambda: show_steps("measuring latency")),
            bar(lambda: show_steps("zero-cost scores")),
            bar(lambda: show_steps("training finalists")),
            bar(lambda: show_steps("reading images")),
        )


@contextmanager
def show_steps_in_turn(*titles: str) -> Iterator[tuple[Callable[[float, int], None], ...]]:
    """For each title a function as that of `show_steps`."""
    with _bars_in_turn() as bar:
        yield tuple(bar(functools.partial(show_steps, title)) for title in titles)


_Start = Callable[[], contextlib.AbstractContextManager[Callable[..., None]]]


@contextmanager
def _bars_in_turn() -> Iterator[Callable[[_Start], Callable[..., None]]]:
    """Makes bars, each of which is started when it is first called for, and ends the one before."""
    with contextlib.ExitStack() as shown:
        current: list[tuple[_Start, Callable[..., None]]] = []

        def bar(start: _Start) -> Callable[..., None]:
            def call(*state: Any) -> None:
                if not current or current[0][0] is not start:
                    shown.close()
                    current[:] = [(start, shown.enter_context(start()))]
                current[0][1](*state)

            return call

        yield bar


@contextmanager
def show_steps(title: str) -> Iterator[Callable[[float, int], None]]:
    """A function to be called with the steps done, parts of steps included, and their number."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(TextColumn("{task.description}"), *columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(title, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)
    else:
        yield _plain_steps(title)


def _plain_steps(title: str) -> Callable[[float, int], None]:
    started = time.monotonic()
    first: float | None = None
    said, ended = float("-inf"), False

    def on_step(done: float, total: int) -> None:
        nonlocal first, said, ended
        first = done if first is None else first  # steps of an earlier session took no time in this one
        now = time.monotonic()
        ends = done >= total
        known = ended if ends else now - said < _PLAIN_SECONDS
        if known:
            return
        said, ended = now, ends
        fresh = done - first
        left = duration((now - started) / fresh * (total - done)) if fresh else "?"
        print(
            f"{title}: {round(done, 1):g}/{total}  {duration(now - started)} elapsed, {left} left",
            file=sys.stderr,
            flush=True,
        )

    return on_step


def _status(state: State) -> str:
    """Best so far, proposals rejected before training, trials failed."""
    best = "no network yet"
    if state.best is not None:
        metrics = state.best.metrics
        shown = [name for name in dict.fromkeys((*state.ranked_by, *_SHOWN)) if name in metrics]
        best = "best " + "  ".join(f"{name} {quantity(metrics[name])}" for name in shown)
    if len(state.front) > 1:
        best = f"front of {len(state.front)}  {best}"
    counts = state.counts
    rejected = f"{counts['infeasible']} infeasible, {counts['duplicate']} duplicate, {counts['failed']} failed"
    if counts["pruned"]:
        rejected = f"{state.done} trials, {counts['pruned']} pruned, {rejected}"
    if counts["filtered"]:
        rejected = f"{counts['filtered']} filtered, {rejected}"
    return f"{best}  ({rejected})"


_SHOWN = ("accuracy", "loss")


class _Clock:
    """Elapsed and remaining time, by the pace of this session."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def text(self, state: State) -> str:
        elapsed = time.monotonic() - self._started
        fresh = state.spent - state.spent_before
        left = duration(elapsed / fresh * (state.budget - state.spent)) if fresh > 0 else "?"
        return f"{duration(elapsed)} elapsed, {left} left"


@contextmanager
def _live(title: str) -> Iterator[Callable[[State], None]]:
    """A bar, and below it a line on what was found; both fit into 80 columns."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.text import Text

    clock = _Clock()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[clock]}"),
    )
    task = bar.add_task(title, total=None, clock="")
    below = Text("loading data, starting workers")
    with Live(Group(bar, below), console=Console(stderr=True), refresh_per_second=4):

        def on_change(state: State) -> None:
            bar.update(task, completed=state.spent, total=state.budget, clock=clock.text(state))
            below.plain = _status(state)

        yield on_change


def _plain(title: str) -> Callable[[State], None]:
    clock = _Clock()
    said = [-1.0, -1.0]  # trials done, and when

    def on_change(state: State) -> None:
        now = time.monotonic()
        finished = not state.affords(1)
        if state.done == said[0] or not (finished or now - said[1] >= _PLAIN_SECONDS):
            return
        said[:] = [state.done, now]
        spent = f"{state.spent:.1f}" if state.counts["pruned"] else str(state.done)
        print(f"{title}: {spent}/{state.budget}  {clock.text(state)}  {_status(state)}", file=sys.stderr, flush=True)

    return on_change
