"""Building with a runtime that only calculates: what it puts in comes out, however often the build is broken off."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import CONDITIONS, FakeRuntime, Interrupted, one_line, true_ms
from support import TINY_SPACE, space

from latency import RUNTIMES, LatencyTable, build_table, conditions_here, load_table
from latency.build import CALIBRATION_NETWORKS, Request, request
from latency.table import Times
from search_space import InputError
from search_space.graph import SpaceGraph
from search_space.parts import parts

CHUNKS = 10
"""Of each build here: 100 networks in chunks of 24, twice."""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeRuntime]:
    """The fake runtime, registered; what is set on it is forgotten after the test."""
    made = type("Fake", (FakeRuntime,), {})
    monkeypatch.setitem(RUNTIMES, "fake", made)
    return made


@pytest.fixture
def wanted(fake: type[FakeRuntime]) -> Request:
    return request(space(), CONDITIONS, num_classes=[10, 100])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "table.json"


def part_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.part")


def interrupt(fake: type[FakeRuntime], wanted: Request, out: Path, after: int) -> None:
    """Build until so many chunks are done."""
    fake.sessions_left = after
    with pytest.raises(Interrupted):
        build_table(wanted, out)
    fake.sessions_left = float("inf")


def told(table: LatencyTable) -> tuple[Any, ...]:
    """All that a table says but for when it was made."""
    source = {name: value for name, value in table.source.items() if name not in ("date", "measuring_s")}
    return table.name, table.conditions, table.times, table.statistic, table.calibration, source


def refusal(wanted: Request, out: Path) -> str:
    with pytest.raises(InputError) as caught:
        build_table(wanted, out)
    assert one_line(caught.value), str(caught.value)
    return str(caught.value)


# What comes out.


def test_a_build_finds_the_truth(fake: type[FakeRuntime], wanted: Request, out: Path) -> None:
    progress: list[tuple[int, int]] = []
    table = build_table(wanted, out, on_progress=lambda done, total: progress.append((done, total)))
    assert progress == [(done, CHUNKS) for done in range(CHUNKS + 1)]
    assert load_table(out) == table
    assert not part_of(out).exists()
    assert set(table.times) == set(SpaceGraph(wanted.space, num_classes=[10, 100]).shapes())
    for shape, times in table.times.items():
        assert times.min_ms == times.p10_ms == times.p90_ms == pytest.approx(true_ms(shape), rel=1e-4)
        assert times.count >= fake.passes * fake.rounds
    assert len(table.calibration.networks) == CALIBRATION_NETWORKS
    for network in table.calibration.networks:
        assert network.times.p10_ms == pytest.approx(sum(map(true_ms, parts(network.architecture))), rel=1e-4)
        assert network.times.count == fake.passes * fake.rounds
    assert table.conditions == CONDITIONS
    assert table.name == "small"
    assert table.source["resolutions_px"] == [16, 32]
    assert table.source["num_classes"] == [10, 100]
    assert table.source["samples_per_network"] == fake.passes * fake.rounds


def test_calibration_finds_what_whole_networks_take_beyond_their_parts(
    fake: type[FakeRuntime], wanted: Request, out: Path
) -> None:
    fake.scale, fake.overhead_ms = 0.85, 0.25
    calibration = build_table(wanted, out).calibration
    assert calibration.scale == pytest.approx(0.85, abs=2e-3)
    assert calibration.fixed_overhead_ms == pytest.approx(0.25, abs=2e-3)
    assert calibration.mape_percent == pytest.approx(0, abs=0.1)


def test_a_machine_that_is_slow_at_times_changes_little(fake: type[FakeRuntime], wanted: Request, out: Path) -> None:
    """A third of all runs takes half as long again."""
    rng = np.random.default_rng(0)
    fake.speed = staticmethod(lambda: 1.5 if rng.random() < 1 / 3 else 1.0)
    table = build_table(wanted, out)
    errors = [(times.p10_ms or 0) / true_ms(shape) - 1 for shape, times in table.times.items()]
    assert np.median(np.abs(errors)) < 0.03
    assert table.calibration.mape_percent is not None
    assert table.calibration.mape_percent < 10


def test_the_request_has_what_was_asked_for(fake: type[FakeRuntime]) -> None:
    small = space()
    assert request(small, CONDITIONS).resolutions == (16, 32)
    assert request(small, CONDITIONS).num_classes == (10, 100, 1000)
    assert request(small.with_constants(num_classes=7), CONDITIONS).num_classes == (7,)
    chosen = request(small, CONDITIONS, resolutions=[48, 24, 48], num_classes=[3, 2, 3])
    assert (chosen.resolutions, chosen.num_classes) == ((24, 48), (2, 3))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"resolutions": [16, 3]}, "resolution must be at least the product of all strides, 4, got 3"),
        ({"resolutions": [0]}, "resolution must be"),
        ({"resolutions": [-16]}, "resolution must be"),
        ({"resolutions": [10**6]}, "resolution must be"),
        ({"resolutions": ["16"]}, "resolution must be a whole number"),
        ({"num_classes": [0]}, "num_classes must be"),
        ({"num_classes": [1.5]}, "num_classes must be a whole number"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_is_measured(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        request(space(), CONDITIONS, **asked)
    assert one_line(caught.value, said)


def test_builds_of_one_seed_time_the_same_networks(fake: type[FakeRuntime], wanted: Request, tmp_path: Path) -> None:
    one, again, other = (
        {network.architecture.arch_id for network in build_table(w, tmp_path / name).calibration.networks}
        for w, name in ((wanted, "1"), (wanted, "2"), (dataclasses.replace(wanted, seed=1), "3"))
    )
    assert one == again != other


# Broken off and taken up again.


@pytest.mark.parametrize("after", [0, 1, 4, CHUNKS - 1])
def test_an_interrupted_build_ends_as_the_unbroken_one(
    after: int, fake: type[FakeRuntime], wanted: Request, tmp_path: Path
) -> None:
    out, unbroken = tmp_path / "broken.json", tmp_path / "unbroken.json"
    interrupt(fake, wanted, out, after)
    assert not out.exists()
    assert len(part_of(out).read_text().splitlines()) == 1 + after
    sessions = []
    table = build_table(wanted, out, on_progress=lambda done, total: sessions.append(done))
    assert sessions == list(range(after, CHUNKS + 1))
    assert told(table) == told(build_table(wanted, unbroken))
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["broken.json", "unbroken.json"]


KILLED = """
import sys
from fakes import CONDITIONS, FakeRuntime
from support import space
from latency import RUNTIMES, build_table
from latency.build import request
RUNTIMES["fake"] = FakeRuntime
FakeRuntime.sessions_left, FakeRuntime.killed = 3, True
build_table(request(space(), CONDITIONS, num_classes=[10, 100]), sys.argv[1])
"""


def test_a_killed_build_ends_as_the_unbroken_one(fake: type[FakeRuntime], wanted: Request, tmp_path: Path) -> None:
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (here, here.parent)))}
    out = tmp_path / "killed.json"
    killed = subprocess.run([sys.executable, "-c", KILLED, out], env=environment, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(part_of(out).read_text().splitlines()) == 1 + 3
    assert told(build_table(wanted, out)) == told(build_table(wanted, tmp_path / "unbroken.json"))


@pytest.mark.parametrize("left", [1, 20, 0.5, -1])
def test_a_line_left_half_written_is_measured_again(
    left: float, fake: type[FakeRuntime], wanted: Request, tmp_path: Path
) -> None:
    out = tmp_path / "torn.json"
    interrupt(fake, wanted, out, 3)
    raw = part_of(out).read_bytes()
    *whole, last = raw.splitlines(keepends=True)
    cut = int(left * len(last)) if isinstance(left, float) else left
    part_of(out).write_bytes(b"".join(whole) + last[:cut])
    interrupt(fake, wanted, out, 2)  # what follows the torn line must be readable, too
    sessions: list[int] = []
    table = build_table(wanted, out, on_progress=lambda done, total: sessions.append(done))
    assert sessions[0] == 4
    assert told(table) == told(build_table(wanted, tmp_path / "unbroken.json"))


@pytest.mark.parametrize("content", [b"", b'{"space": "sma'])
def test_an_unfinished_build_without_a_header_begins_again(
    content: bytes, fake: type[FakeRuntime], wanted: Request, out: Path
) -> None:
    part_of(out).write_bytes(content)
    assert build_table(wanted, out).times
    assert not part_of(out).exists()


# What lies there already.


def rows(out: Path) -> list[Any]:
    return [json.loads(line) for line in part_of(out).read_text().splitlines()]


def first_times(row: dict[str, Any]) -> list[Any]:
    taken: list[Any] = next(iter(row["times_ms"].values()))
    return taken


CORRUPTIONS: dict[str, Callable[[list[Any]], object]] = {
    "header is a list": lambda rows: rows.__setitem__(0, []),
    "header is a number": lambda rows: rows.__setitem__(0, 3),
    "row is a list": lambda rows: rows.__setitem__(1, []),
    "row is null": lambda rows: rows.__setitem__(1, None),
    "no chunk": lambda rows: rows[1].pop("chunk"),
    "no times": lambda rows: rows[1].pop("times_ms"),
    "no seconds": lambda rows: rows[1].pop("seconds"),
    "chunk out of range": lambda rows: rows[1].update(chunk=CHUNKS),
    "negative chunk": lambda rows: rows[1].update(chunk=-1),
    "chunk is text": lambda rows: rows[1].update(chunk="0"),
    "chunk is a list": lambda rows: rows[1].update(chunk=[]),
    "another chunk": lambda rows: rows[1].update(chunk=5),
    "seconds are text": lambda rows: rows[1].update(seconds="1"),
    "seconds are nan": lambda rows: rows[1].update(seconds=float("nan")),
    "times are a list": lambda rows: rows[1].update(times_ms=[]),
    "times are empty": lambda rows: rows[1].update(times_ms={}),
    "unknown job": lambda rows: rows[1]["times_ms"].update({"9999": [1.0, 1.0]}),
    "job lacks": lambda rows: rows[1]["times_ms"].popitem(),
    "samples lack": lambda rows: first_times(rows[1]).pop(),
    "samples are empty": lambda rows: first_times(rows[1]).clear(),
    "sample is text": lambda rows: first_times(rows[1]).__setitem__(0, "fast"),
    "sample is null": lambda rows: first_times(rows[1]).__setitem__(0, None),
    "sample is negative": lambda rows: first_times(rows[1]).__setitem__(0, -1.0),
    "a part too many": lambda rows: [
        taken.append(1.0) for samples in rows[1]["times_ms"].values() for taken in samples if isinstance(taken, list)
    ],
    "no parts": lambda rows: rows[1]["times_ms"].update({key: [1.0, 1.0] for key in rows[1]["times_ms"]}),
}


@pytest.mark.parametrize("what", CORRUPTIONS)
def test_a_corrupted_unfinished_build_is_refused(
    what: str, fake: type[FakeRuntime], wanted: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = Path("table.json")
    interrupt(fake, wanted, out, 2)
    changed = rows(out)
    CORRUPTIONS[what](changed)
    part_of(out).write_text("".join(json.dumps(row) + "\n" for row in changed))
    before = part_of(out).read_bytes()
    message = refusal(wanted, out)
    assert "the unfinished build cannot be read" in message
    assert "table.json.part" in message
    assert "remove it to begin again" in message
    assert part_of(out).read_bytes() == before
    assert not out.exists()


@pytest.mark.parametrize(
    "raw", [b"\xff\xfe\n", b"\x00\n", b"{}}\n", b"[" * 100_000 + b"\n", b"{" + b"9" * 9_000 + b"\n"]
)
def test_an_unreadable_unfinished_build_is_refused(
    raw: bytes, fake: type[FakeRuntime], wanted: Request, out: Path
) -> None:
    for before in (b"", json.dumps(wanted.to_dict()).encode() + b"\n"):
        part_of(out).write_bytes(before + raw)
        assert "cannot be read" in refusal(wanted, out)
        assert part_of(out).read_bytes() == before + raw


def test_a_folder_in_the_place_of_the_unfinished_build_is_refused(
    fake: type[FakeRuntime], wanted: Request, out: Path
) -> None:
    part_of(out).mkdir()
    assert "cannot be read" in refusal(wanted, out)


OTHERS: dict[str, Callable[[Request], Request]] = {
    "seed": lambda wanted: dataclasses.replace(wanted, seed=1),
    "resolutions_px": lambda wanted: dataclasses.replace(wanted, resolutions=(16,)),
    "num_classes": lambda wanted: dataclasses.replace(wanted, num_classes=(10,)),
    "conditions": lambda wanted: dataclasses.replace(wanted, conditions=dataclasses.replace(CONDITIONS, threads=2)),
    "space": lambda wanted: dataclasses.replace(wanted, space=space(TINY_SPACE)),
    "space_sha256": lambda wanted: dataclasses.replace(wanted, space=wanted.space.with_constants(norm_eps=0.5)),
}


@pytest.mark.parametrize("what", OTHERS)
def test_an_unfinished_build_of_something_else_is_left_alone(
    what: str, fake: type[FakeRuntime], wanted: Request, out: Path
) -> None:
    interrupt(fake, wanted, out, 2)
    before = part_of(out).read_bytes()
    assert f"another {what}" in refusal(OTHERS[what](wanted), out)
    assert part_of(out).read_bytes() == before
    assert build_table(wanted, out).times


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_lies_at_the_place_is_not_overwritten(
    kind: str, fake: type[FakeRuntime], wanted: Request, out: Path
) -> None:
    out.mkdir() if kind == "folder" else out.write_text("precious")
    fake.sessions_left = 0
    assert "there is a file already" in refusal(wanted, out)
    assert out.is_dir() if kind == "folder" else out.read_text() == "precious"
    assert not part_of(out).exists()


@pytest.mark.parametrize("place", ["below-a-file/table.json", "x" * 300, "a\0b", ""])
def test_a_place_that_cannot_be_written_is_refused(
    place: str, fake: type[FakeRuntime], wanted: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("below-a-file").write_text("precious")
    fake.sessions_left = 0  # it is refused before anything is measured
    refusal(wanted, Path(place))
    assert Path("below-a-file").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(fake: type[FakeRuntime], wanted: Request, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "cannot write there" in refusal(wanted, tmp_path / "table.json")


def test_a_folder_that_is_not_there_is_made(fake: type[FakeRuntime], wanted: Request, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder" / "table.json"
    table = build_table(wanted, out)
    assert load_table(out) == table


def test_of_two_builds_at_one_place_the_second_is_refused(fake: type[FakeRuntime], wanted: Request, out: Path) -> None:
    refused: list[str] = []

    def build_another(done: int, total: int) -> None:
        if done == 1:
            refused.append(refusal(wanted, out))
            assert build_table(wanted, out.with_name("elsewhere.json")).times

    table = build_table(wanted, out, on_progress=build_another)
    assert ["another process is building there" in message for message in refused] == [True]
    assert load_table(out) == table


# With a real runtime.


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_a_real_table_of_a_tiny_space(runtime: str, out: Path) -> None:
    tiny = space(TINY_SPACE)
    table = build_table(request(tiny, conditions_here(runtime), num_classes=[10]), out)
    assert load_table(out) == table
    assert set(table.times) == set(SpaceGraph(tiny, num_classes=[10]).shapes())
    counts = Counter(shape.part.kind for shape in table.times)
    assert counts == {"stem": 1, "block": 4, "head": 1}
    assert all((times.p10_ms or 0) > 0 for times in table.times.values())
    assert table.calibration.scale > 0
    assert table.conditions.device_name


def test_samples_become_ordered_statistics() -> None:
    for samples in itertools.permutations([3.0, 1.0, 2.0, 4.0]):
        times = Times.of(samples)
        assert (times.count, times.min_ms, times.p10_ms, times.p50_ms, times.p90_ms) == (4, 1.0, 1.3, 2.5, 3.7)
    assert Times.of([0.0]).min_ms == 1e-6  # a part that was optimised away
    with pytest.raises(InputError):
        Times.of([1.0, float("nan")])
