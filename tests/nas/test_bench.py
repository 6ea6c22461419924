"""Searchers against one another, on a made-up table of the whole benchmark."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import itertools
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from support import one_line_error

import nas
from evaluators import Report, TabularEvaluator
from nas.benchmark import BenchInterrupted, BenchResult
from nas.benchmark.runs import TableKnown
from nas.benchmark.truth import Truth, absolute
from nas.cli import run
from nas.constraints import parse_constraint
from search_space import Architecture, InputError, count_cost, load_space
from searchers import Objective

SPACE = load_space("nasbench-macro")
BUDGET = 30


def record(genotype: tuple[int, ...]) -> dict[str, Any]:
    """The larger, the better, so that a search which does not keep its limits shows; three seeds half a point apart."""
    size = [place * option for place, option in enumerate(genotype, 3)]
    rng = random.Random(repr(genotype))
    percent = 70 + sum(size) / 5 + rng.random()
    accuracies = [percent + rng.gauss(0, 0.5) for _ in range(3)]
    macs = 1_000_000 + 100_000 * sum(size) + rng.randrange(1000)
    return {"test_acc": accuracies, "mean_acc": fmean(accuracies), "std": 0.5, "params": macs // 10, "flops": macs}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    genotypes = itertools.product(range(3), repeat=8)
    records = {"".join(map(str, genotype)): record(SPACE.canonical(genotype)) for genotype in genotypes}
    path = tmp_path_factory.mktemp("bench") / "table.json"
    path.write_text(json.dumps(records))
    return path


@pytest.fixture(scope="module")
def read_once() -> Callable[..., TabularEvaluator]:
    return functools.cache(TabularEvaluator)


@pytest.fixture(autouse=True)
def _read_once(read_once: Callable[..., TabularEvaluator], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.benchmark.api.TabularEvaluator", read_once)


@pytest.fixture(scope="module")
def evaluator(table: Path) -> TabularEvaluator:
    return TabularEvaluator(table)


def bench(table: Path, searchers: list[str], seeds: int = 2, **options: Any) -> BenchResult:
    return nas.bench(table, searchers, options.pop("budget", BUDGET), seeds, processes=1, **options)


def values(result: BenchResult, searcher: str) -> Any:
    return next(curve for curve in result.curves if curve.searcher == searcher).values


def test_command(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "some.png"
    request = ["bench", "--table", str(table), "--searchers", "local, predictor", "--budget", str(BUDGET)]
    request += ["--seeds", "3", "--first-seed", "7", "--processes", "1", "--out", str(picture)]
    assert run([*request, "--json"]) == 0
    captured = capsys.readouterr()
    assert "bench: 0/9 " in captured.err
    assert "bench: 9/9 " in captured.err
    found = json.loads(captured.out)
    per_searcher = found.pop("searchers")
    assert found == {
        "table": str(table),
        "objectives": ["accuracy"],
        "constraints": [],
        "allowed_networks": 3969,
        "budget": BUDGET,
        "seeds": 3,
        "first_seed": 7,
        "noise": True,
        "workers": 1,
        "plot": str(picture),
        "csv": str(tmp_path / "some.csv"),
    }
    assert set(per_searcher) == {"local", "predictor", "random"}
    for one in per_searcher.values():
        assert set(one) == {"regret", "ms_per_trial", "seeds", "ended_at"}
        assert set(one["regret"]) == {"25", "30"}
        assert all(set(figures) == {"mean", "standard_error"} for figures in one["regret"].values())
        assert one["seeds"] == 3
        assert one["ms_per_trial"] > 0
    ends = [one["regret"]["30"]["mean"] for one in per_searcher.values()]
    assert ends == sorted(ends)
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "some.csv").read_text())))
    assert list(rows[0]) == ["searcher", "evaluations", "regret", "standard_error"]
    assert [int(row["evaluations"]) for row in rows] == [*range(1, BUDGET + 1)] * 3
    for name, one in per_searcher.items():
        (row,) = [row for row in rows if row["searcher"] == name and row["evaluations"] == "25"]
        assert float(row["regret"]) == one["regret"]["25"]["mean"]
        assert float(row["standard_error"]) == one["regret"]["25"]["standard_error"]


def test_what_people_see(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    request = ["bench", "--table", str(table), "--searchers", "netadapt", "--constraint", "macs<=p40", "--noise-free"]
    assert run([*request, "--budget", "60", "--seeds", "1", "--processes", "1", "--out", str(page)]) == 0
    captured = capsys.readouterr().out
    assert captured.startswith("regret in percentage points, mean ± standard error\naccuracy, macs<=")
    assert "1 seeds, noise-free; the best of 1,588 networks" in captured
    (adapted,) = [line for line in captured.splitlines() if line.startswith(" netadapt")]
    assert "no pick" in adapted
    assert "ended at" in adapted
    assert f"curves         {page}, {page.with_suffix('.csv')}" in captured
    text = page.read_text()
    assert "<svg" in text
    assert "table.json: accuracy, macs&lt;=" in text
    assert "src=" not in text


def test_regret_falls_from_the_true_best(table: Path, evaluator: TabularEvaluator) -> None:
    result = bench(table, ["local", "evolution"], noise=False)
    assert not result.noise
    assert [curve.searcher for curve in result.curves][-1] == "random"
    for curve in result.curves:
        assert curve.values.shape == (2, BUDGET)
        assert (curve.values >= 0).all()
        assert (np.diff(curve.values, axis=1) <= 0).all()  # without noise the pick is the best that was seen
        assert (curve.values[:, -1] < curve.values[:, 0]).all()
        assert (curve.mean == curve.values.mean(axis=0)).all()
        assert curve.standard_error == pytest.approx(abs(curve.values[0] - curve.values[1]) / 2)
        # Student's t with one degree of freedom: 12.7 standard errors.
        assert curve.interval[1] - curve.mean == pytest.approx(12.7062 * curve.standard_error, rel=1e-4)
    percents = sorted((100 * entry.accuracy for entry in evaluator.entries.values()), reverse=True)
    regrets = {round(percents[0] - percent, 6) for percent in percents}
    assert {round(value, 6) for curve in result.curves for value in curve.values.flat} <= regrets


def test_picks_are_judged_by_true_means(table: Path) -> None:
    """With noise, the network that looked best is not always better than the pick before."""
    result = bench(table, ["random"], seeds=6)
    found = values(result, "random")
    assert (found >= 0).all()
    assert (np.diff(found, axis=1) > 0).any()
    assert len(np.unique(found[:, -1])) > 1


def test_the_noise_of_each_seed_is_its_own(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[float]] = {}
    evaluate = TabularEvaluator.evaluate

    def spied(self: TabularEvaluator, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        for report in evaluate(self, architecture, seed=seed):
            seen.setdefault(architecture.arch_id, set()).add(report.metrics["accuracy"])
            yield report

    monkeypatch.setattr(TabularEvaluator, "evaluate", spied)
    # NetAdapt begins with the same network always.
    bench(table, ["netadapt"], seeds=10, budget=1)
    # All ten draw the same of the three accuracies once in 20,000 tables.
    assert max(map(len, seen.values())) > 1


def test_regret_by_hand(evaluator: TabularEvaluator) -> None:
    entries = evaluator.entries
    best = max(entries, key=lambda arch_id: entries[arch_id].accuracy)
    other = next(iter(entries))
    truth = Truth(entries, (Objective("accuracy", "maximize"),), [])
    by_hand = 100 * (entries[best].accuracy - entries[other].accuracy)
    assert by_hand > 1
    assert truth.figures([(other,), (other,), (best,)]) == pytest.approx([by_hand, by_hand, 0.0])
    assert np.isnan(truth.figures([()])).all()


def test_hypervolume_by_hand(evaluator: TabularEvaluator) -> None:
    entries = evaluator.entries
    limit = parse_constraint("macs<=4M")
    truth = Truth(entries, (Objective("accuracy", "maximize"), Objective("macs", "minimize", True)), [limit])
    allowed = [arch_id for arch_id, entry in entries.items() if entry.macs <= 4_000_000]
    assert truth.allowed == len(allowed)
    worst = (min(entry.accuracy for entry in entries.values()), max(entry.macs for entry in entries.values()))

    def volume(picked: list[str]) -> float:
        """Steps of a staircase, from the most accurate network down."""
        area, fewest = 0.0, worst[1]
        for entry in sorted((entries[arch_id] for arch_id in picked), key=lambda entry: -entry.accuracy):
            if entry.macs < fewest:
                area, fewest = area + (entry.accuracy - worst[0]) * (fewest - entry.macs), entry.macs
        return area

    some = allowed[:5]
    expected = [volume(some) / volume(allowed), 1.0, 0.0]
    assert 0 < expected[0] < 1
    assert truth.figures([tuple(some), tuple(allowed), ()]) == pytest.approx(expected)


def test_constraints_are_kept_and_regret_is_against_the_best_allowed(table: Path, evaluator: TabularEvaluator) -> None:
    result = bench(table, ["local"], constraints=["macs<=p40", "params>=200K"], noise=False, budget=120)
    (bound, least) = (parse_constraint(text) for text in result.constraints)
    macs = sorted(entry.macs for entry in evaluator.entries.values())
    assert bound.bound == macs[1587]  # of 3,969 networks 1,588, just above 40 %, do not exceed it
    assert (least.metric, least.at_most, least.bound) == ("params", False, 200_000)
    assert result.allowed == sum(entry.params >= 200_000 for entry in evaluator.entries.values()) - (3969 - 1588)
    assert (values(result, "local") >= 0).all()  # larger networks are better, and would have negative regret
    assert values(result, "local")[:, -1].mean() < 0.5


@pytest.mark.parametrize(("text", "share"), [("params>=p75", 0.75), ("macs<=p100", 1.0), (" macs <= P0.1 ", 0.001)])
def test_percentiles(text: str, share: float, evaluator: TabularEvaluator) -> None:
    limit = absolute(text, evaluator.entries)
    assert limit.at_most == ("<=" in text)
    found = [getattr(entry, limit.metric) for entry in evaluator.entries.values()]
    assert limit.bound in found
    assert sum(value <= limit.bound for value in found) >= share * len(found)
    assert sum(value < limit.bound for value in found) < share * len(found)


def test_two_objectives(table: Path) -> None:
    result = bench(table, ["predictor", "local"], objective="accuracy,macs", noise=False)
    plain = result.to_dict()
    assert plain["objectives"] == ["accuracy", "macs"]
    assert {next(iter(one)) for one in plain["searchers"].values()} == {"hypervolume_ratio"}
    for curve in result.curves:
        assert (curve.values > 0).all()
        assert (curve.values <= 1).all()
        assert (np.diff(curve.values, axis=1) >= 0).all()
    ends = [curve.mean[-1] for curve in result.curves]
    assert ends == sorted(ends, reverse=True)
    assert ends[0] > 0.8
    assert result.to_csv().startswith("searcher,evaluations,hypervolume_ratio,standard_error\n")


def test_one_that_ends_by_itself_keeps_its_last_pick(table: Path) -> None:
    result = bench(table, ["netadapt"], constraints="macs<=p40", noise=False, budget=60)
    (curve,) = (curve for curve in result.curves if curve.searcher == "netadapt")
    assert curve.ended_at is not None
    assert 2 < curve.ended_at < 60
    assert np.isnan(curve.values[:, 0]).all()  # it begins with a network that is not allowed
    assert (curve.values[:, curve.ended_at :] == curve.values[:, [curve.ended_at - 1]]).all()  # as NaN would not be
    plain = result.to_dict()["searchers"]
    assert plain["netadapt"]["ended_at"] == curve.ended_at
    assert plain["random"]["ended_at"] is None
    assert result.to_csv().count("\nnetadapt,1,,\n") == 1
    none_yet = bench(table, ["netadapt"], constraints="macs<=p40", budget=1)
    assert [curve.searcher for curve in none_yet.curves] == ["random", "netadapt"]
    figures = none_yet.to_dict()["searchers"]["netadapt"]["regret"]["1"]
    assert figures == {"mean": None, "standard_error": None}


def test_batches(table: Path) -> None:
    single, batches = bench(table, ["evolution"]), bench(table, ["evolution"], workers=4)
    assert batches.workers == 4
    assert not np.array_equal(values(single, "evolution"), values(batches, "evolution"))


def test_the_time_of_evaluations_does_not_count(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(self: TabularEvaluator, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
        yield Report(1, 1, {"accuracy": 0.5})

    monkeypatch.setattr(TabularEvaluator, "evaluate", slow)
    (curve,) = bench(table, ["random"], seeds=1, budget=10).curves
    assert 0 < curve.ms_per_trial < 25


def test_any_optuna_sampler_and_one_seed(table: Path) -> None:
    result = bench(table, ["optuna.samplers:RandomSampler"], seeds=1)
    assert np.array_equal(values(result, "optuna.samplers:RandomSampler"), values(result, "random"))
    figures = result.to_dict()["searchers"]["random"]["regret"]["30"]
    assert figures["standard_error"] is None
    assert figures["mean"] is not None


def test_checkpoints(table: Path) -> None:
    result = bench(table, ["random"], seeds=1, budget=1)
    expected = {1: (1,), 25: (25,), 60: (25, 50, 60), 300: (25, 50, 100, 200, 300), 400: (25, 50, 100, 200, 300, 400)}
    for budget, checkpoints in expected.items():
        assert dataclasses.replace(result, budget=budget).checkpoints == checkpoints


SCRIPT = """\
import os, signal, sys
import nas

print("the script runs")
request = dict(searchers=["predictor"], budget=25, seeds=2)
one, two = (nas.bench(sys.argv[1], **request, processes=processes) for processes in (1, 2))
assert [(a.values == b.values).all() for a, b in zip(one.curves, two.curves)] == [True, True]
try:
    stop = lambda done, total: done and os.kill(os.getpid(), signal.SIGINT)
    nas.bench(sys.argv[1], ["evolution"], 300, 20, on_progress=stop)
except KeyboardInterrupt as stop:
    print("runs", sum(len(curve.seeds) for curve in stop.result.curves) < 10)
"""


def test_processes(table: Path, tmp_path: Path) -> None:
    """A script without `if __name__ == "__main__"`; the figures do not depend on processes; Ctrl-C ends them all."""
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py", str(table)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the script runs\nruns True\n"
    assert "Traceback" not in done.stderr


def test_what_had_finished_is_kept(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[tuple[int, int]] = []

    def stop_after(count: int) -> BenchInterrupted:
        def on_progress(done: int, total: int) -> None:
            steps.append((done, total))
            if done == count:
                raise KeyboardInterrupt

        with pytest.raises(BenchInterrupted) as stopped:
            bench(table, ["evolution"], seeds=3, on_progress=on_progress)
        return stopped.value

    assert stop_after(0).result is None
    steps.clear()
    stopped = stop_after(4)
    assert steps == [(done, 6) for done in range(5)]
    assert stopped.result is not None
    assert sorted(len(curve.seeds) for curve in stopped.result.curves) == [1, 3]

    def interrupted(*arguments: Any, **options: Any) -> BenchResult:
        raise stopped

    monkeypatch.setattr("nas.benchmark.bench", interrupted)
    out = tmp_path / "bench.png"
    assert run(["bench", "--table", str(table), "--searchers", "evolution", "--out", str(out), "--json"]) == 1
    captured = capsys.readouterr()
    assert {one["seeds"] for one in json.loads(captured.out)["searchers"].values()} == {1, 3}
    assert "interrupted: only what had finished is shown" in captured.err
    assert out.exists()
    assert out.with_suffix(".csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--searchers", "tepe"], "--searcher must be a known name, or module:Class, got 'tepe'; did you mean tpe?"),
        (["--searchers", "tpe,tpe"], "--searchers must differ, got 'tpe'"),
        (["--searchers", "tpe,"], "--searcher must be a known name, or module:Class, got ''"),
        (["--searchers", "no.such:Thing"], "--searcher no.such:Thing cannot be imported"),
        (["--searchers", "tpe", "--budget", "0"], "--budget must be 1 to"),
        (["--searchers", "tpe", "--seeds", "0"], "--seeds must be 1 to"),
        (["--searchers", "tpe", "--first-seed", "-1"], "--first-seed must be"),
        (["--searchers", "tpe", "--workers", "0"], "--workers must be 1 to"),
        (["--searchers", "tpe", "--processes", "-1"], "--processes must be"),
        (["--searchers", "tpe", "--out", "bench.pdf"], "--out must end in .png or .html, got 'bench.pdf'"),
        (["--searchers", "tpe", "--out", "no/bench.png"], "--out must be a file in a folder that can be written"),
        (["--searchers", "tpe", "--objective", "macs"], "--objective of a bench must be accuracy, alone or with"),
        (["--searchers", "tpe", "--objective", "accuracy,loss"], "--objective of a bench must be accuracy, alone or"),
        (["--searchers", "netadapt", "--objective", "accuracy,macs"], "takes one objective only, got 'accuracy,macs'"),
        (["--searchers", "tpe", "--constraint", "latency_ms<=3"], "--constraint of a bench must be on params or macs"),
        (["--searchers", "tpe", "--constraint", "loss<=p3"], "--constraint of a bench must be on params or macs"),
        (["--searchers", "tpe", "--constraint", "macs<=p0"], "a percentile must be above 0, and at most 100"),
        (["--searchers", "tpe", "--constraint", "macs<=p101"], "a percentile must be above 0, and at most 100"),
        (["--searchers", "tpe", "--constraint", "macs<p40"], "--constraint must be METRIC<=NUMBER"),
        (["--searchers", "tpe", "--constraint", "macs<=3"], "no network of nasbench-macro has macs<=3"),
        (["--searchers", "tpe", "--constraint", "macs<=p1", "--constraint", "params>=p99"], "no network of the table"),
        (
            ["--searchers", "tpe", "--constraint", "macs>=p100", "--objective", "accuracy,macs"],
            "every allowed network is the table's worst by one of the objectives",
        ),
    ],
)
def test_bad_requests(
    arguments: list[str],
    message: str,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nas.benchmark.api._spread", lambda *arguments: pytest.fail("something was run"))
    assert run(["bench", "--table", str(table), *arguments]) == 2
    said = one_line_error(capsys)
    assert said.startswith(f"error: {message}") or message in said
    assert list(tmp_path.iterdir()) == []


def test_bad_tables(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = json.loads(table.read_text())
    del records["22222222"]
    part = tmp_path / "part.json"
    part.write_text(json.dumps(records))
    with pytest.raises(InputError, match=r"a bench needs a table of all 3,969 networks .*, got 3968 \(.*part.json\)"):
        nas.bench(part, ["tpe"])
    assert run(["bench", "--table", str(tmp_path / "none.json"), "--searchers", "tpe"]) == 2
    assert "cannot read the file" in capsys.readouterr().err


def test_what_is_known_is_what_would_be_counted(nasbench_macro: Path) -> None:
    real = TabularEvaluator(nasbench_macro)
    known = TableKnown(real.entries)
    network = real.architectures()[1234]
    counted = count_cost(network).metrics()
    assert known.metrics(network) == {name: counted[name] for name in known.names}
