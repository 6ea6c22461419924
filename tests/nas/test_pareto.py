"""Several objectives and limits that only evaluations tell, from the request to the files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import optuna
import pytest
from support import SMALL_SPACE, TINY_SPACE, FakeEvaluator, one_line_error, space, trials

from evaluators import Direction, Report
from evaluators.proxy import SCORE
from nas import api
from nas.cli import run as nas_here
from nas.loop import look_seed
from nas.record import STUDY_NAME
from nas.result import Interrupted, SearchResult
from search_space import Architecture, load_architecture, save_architecture

Point = tuple[float, float]


class FakeProxy(FakeEvaluator):
    """Has the score that searches by proxy training rank by, too."""

    directions: ClassVar[Mapping[str, Direction]] = {**FakeEvaluator.directions, SCORE: "maximize"}

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        for report in super().evaluate(architecture, seed=seed):
            yield Report(report.step, report.total_steps, {**report.metrics, SCORE: report.metrics["accuracy"]})


@pytest.fixture(autouse=True)
def made_up_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "make_evaluator", lambda *request, **more: FakeProxy())


def search(folder: Path, objective: str = "accuracy,macs", budget: int = 40, **more: Any) -> SearchResult:
    return api.search(space(), budget, out=folder / "run", objective=objective, workers=1, **more)


def scores(run: Path) -> dict[str, Point]:
    """`arch_id` -> mean accuracy over looks and MACs, by the journal, in order of the first looks."""
    looks: dict[str, list[dict[str, Any]]] = {}
    for row in trials(run):
        looks.setdefault(row["user_attrs"]["arch_id"], []).append(row["user_attrs"])
    return {
        arch_id: (sum(look["accuracy"] for look in found) / len(found), found[0]["macs"])
        for arch_id, found in looks.items()
    }


def front_of(points: dict[str, Point]) -> list[str]:
    """Those that no other one beats in one objective and equals in the other, the most accurate first."""

    def beaten(point: Point) -> bool:
        return any(other != point and other[0] >= point[0] and other[1] <= point[1] for other in points.values())

    return sorted((name for name, point in points.items() if not beaten(point)), key=lambda name: -points[name][0])


def hypervolume(points: dict[str, Point], reference: Point) -> float:
    """The area that the front dominates: a strip from each network's MACs to those of the next one."""
    front = [points[name] for name in reversed(front_of(points))]  # the fewest MACs come first
    ends = [*(macs for _, macs in front[1:]), reference[1]]
    return sum((end - macs) * (accuracy - reference[0]) for (accuracy, macs), end in zip(front, ends, strict=True))


@pytest.mark.parametrize("searcher", ["evolution", "random", "nsga2"])
def test_the_front_is_that_of_the_journal(searcher: str, tmp_path: Path) -> None:
    result = search(tmp_path, searcher=searcher)
    run, points = tmp_path / "run", scores(tmp_path / "run")
    expected = front_of(points)
    assert len(expected) > 2
    assert [network.arch_id for network in result.front] == expected
    files = sorted((run / "pareto").iterdir())
    assert [file.name for file in files] == [f"{place:03}-{name}.yaml" for place, name in enumerate(expected)]
    loaded = [load_architecture(file) for file in files]
    assert [one.arch_id for one in loaded] == expected
    for one in loaded:
        assert one.provenance["metrics"]["accuracy"] == pytest.approx(points[one.arch_id][0])
    rows = list(csv.DictReader((run / "pareto.csv").open()))
    assert [row["arch_id"] for row in rows] == expected
    assert [row["file"] for row in rows] == [file.name for file in files]
    assert [float(row["macs"]) for row in rows] == [points[name][1] for name in expected]
    assert load_architecture(run / "best.yaml").arch_id == expected[0]
    assert (run / "pareto.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert not list(run.rglob(".pareto*"))


@pytest.mark.parametrize("searcher", ["evolution", "predictor"])
def test_the_hypervolume_over_time(searcher: str, tmp_path: Path) -> None:
    result = search(tmp_path, searcher=searcher)
    points = scores(tmp_path / "run")
    reference = (min(accuracy for accuracy, _ in points.values()), max(macs for _, macs in points.values()))
    assert result.reference_point == {"accuracy": pytest.approx(reference[0]), "macs": reference[1]}
    rows = list(csv.reader((tmp_path / "run" / "hypervolume.csv").open()))
    assert rows[0] == ["trial", "hypervolume"]
    numbers = [row["user_attrs"]["arch_id"] for row in trials(tmp_path / "run")]
    for number, volume in rows[1:]:
        known = {name: points[name] for name in numbers[: int(number) + 1]}
        assert float(volume) == pytest.approx(hypervolume(known, reference))
    volumes = [float(volume) for _, volume in rows[1:]]
    assert volumes == sorted(volumes)
    assert result.hypervolume == volumes[-1] == pytest.approx(hypervolume(points, reference))


def test_the_summary(tmp_path: Path) -> None:
    result = search(tmp_path, searcher="predictor", budget=30)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary == json.loads(json.dumps(result.to_dict()))
    assert set(summary["counts"]) == {"complete", "again", "failed", "pruned", "infeasible", "duplicate", "filtered"}
    assert summary["counts"]["complete"] == 30
    assert summary["best"]["arch_id"] == summary["front"][0]["arch_id"]
    assert [set(network) for network in summary["front"]] == [{"arch_id", "looks", "metrics"}] * len(summary["front"])
    assert set(summary["reference_point"]) == {"accuracy", "macs"}
    assert summary["hypervolume"] > 0


def test_one_objective_has_no_front(tmp_path: Path) -> None:
    result = search(tmp_path, "accuracy", searcher="evolution", budget=10)
    assert (result.front, result.hypervolume) == ((), None)
    assert not (tmp_path / "run" / "pareto").exists()


def test_second_looks_count_into_the_files(tmp_path: Path) -> None:
    result = api.search(space(TINY_SPACE), 20, out=tmp_path / "run", searcher="predictor", workers=1)
    assert result.counts["again"] == 16
    assert result.best is not None
    found = [row["user_attrs"] for row in trials(tmp_path / "run")]
    own = [row["accuracy"] for row in found if row["arch_id"] == result.best.arch_id]
    assert result.best.looks == len(own) > 1
    assert result.best.metrics["accuracy"] == pytest.approx(sum(own) / len(own))
    origin = load_architecture(tmp_path / "run" / "best.yaml").provenance
    assert (origin["looks"], origin["metrics"]) == (len(own), result.best.metrics)


class Stopped(KeyboardInterrupt):
    """Stands for Ctrl-C."""


def test_an_interrupted_search_leaves_its_front_and_a_resumed_one_clears_it_away(tmp_path: Path) -> None:
    def stop(state: Any) -> None:
        if state.done == 12:
            raise Stopped

    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        search(tmp_path, searcher="evolution", on_change=stop)
    early = {file.name for file in (run / "pareto").iterdir()}
    assert {name[4:-5] for name in early} == set(front_of(scores(run)))
    assert json.loads((run / "summary.json").read_text())["stopped_by"] == "interrupted"
    (run / "pareto" / "999-stale.yaml").write_text("stale")
    result = api.resume(run)
    assert {file.name[4:-5] for file in (run / "pareto").iterdir()} == {network.arch_id for network in result.front}
    unbroken = api.search(
        space(), 40, out=tmp_path / "whole", objective="accuracy,macs", searcher="evolution", workers=1
    )
    assert result.front == unbroken.front
    for name in ("pareto.csv", "hypervolume.csv"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


# Limits that only evaluations tell.


@pytest.mark.parametrize("searcher", ["predictor", "evolution", "tpe"])
def test_the_winner_keeps_a_limit_that_was_learned(searcher: str, tmp_path: Path) -> None:
    result = search(tmp_path, "macs", searcher=searcher, constraints=["accuracy>=0.65"])
    points = scores(tmp_path / "run")
    assert min(accuracy for accuracy, _ in points.values()) < 0.65
    kept = [name for name, (accuracy, _) in points.items() if accuracy >= 0.65]
    assert result.best is not None
    assert points[result.best.arch_id][1] == min(points[name][1] for name in kept)
    assert load_architecture(tmp_path / "run" / "best.yaml").arch_id == result.best.arch_id


@pytest.mark.parametrize("searcher", ["predictor", "evolution"])
def test_the_front_keeps_a_limit_that_was_learned(searcher: str, tmp_path: Path) -> None:
    result = search(tmp_path, searcher=searcher, constraints=["accuracy>=0.65"])
    assert len(result.front) > 1
    assert all(network.metrics["accuracy"] >= 0.65 for network in result.front)
    kept = {name: point for name, point in scores(tmp_path / "run").items() if point[0] >= 0.65}
    if searcher == "evolution":
        assert [network.arch_id for network in result.front] == front_of(kept)


def test_a_limit_that_nothing_keeps(tmp_path: Path) -> None:
    for objective in ("macs", "accuracy,macs"):
        folder = tmp_path / objective
        folder.mkdir()
        result = search(folder, objective, budget=20, constraints=["accuracy>=0.999"], searcher="evolution")
        assert (result.best, result.front, result.counts["complete"]) == (None, (), 20)
        assert not (folder / "run" / "best.yaml").exists()
        assert api.resume(folder / "run").best is None


class Flattering(FakeProxy):
    """The first look at a network promises much."""

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        accuracy = 0.9 if seed == look_seed(0, 0) else 0.1
        yield Report(1, 1, {"accuracy": accuracy, "loss": 1.0, SCORE: accuracy})


def test_what_turns_out_to_break_the_limit_is_not_left_behind_as_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "make_evaluator", lambda *request, **more: Flattering())
    two = space(TINY_SPACE.replace("{choice: [3, 5]}", "3"))
    best_file, seen = tmp_path / "run" / "best.yaml", []
    result = api.search(
        two,
        4,
        out=tmp_path / "run",
        constraints=["accuracy>=0.7"],
        searcher="predictor",
        workers=1,
        on_change=lambda state: seen.append(best_file.exists()),
    )
    assert any(seen)
    assert result.best is None
    assert not best_file.exists()


# What others see.


def test_optuna_sees_objectives_values_and_limits(tmp_path: Path) -> None:
    search(tmp_path, budget=12, constraints=["accuracy>=0.6", "macs<=1M"], searcher="evolution")
    file = optuna.storages.journal.JournalFileBackend(str(tmp_path / "run" / "journal.log"))
    study = optuna.load_study(study_name=STUDY_NAME, storage=optuna.storages.JournalStorage(file))
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    for trial in study.trials:
        accuracy, macs = trial.user_attrs["accuracy"], trial.user_attrs["macs"]
        assert trial.values == [accuracy, macs]
        limits = {"accuracy>=0.6": (0.6 - accuracy) / 0.6, "macs<=1000000": macs / 1e6 - 1}
        assert trial.constraints == pytest.approx(limits)
        assert space().decode(space().genotype(trial.params)).arch_id == trial.user_attrs["arch_id"]
    best = {trial.user_attrs["arch_id"] for trial in study.best_trials}
    assert best == {network.name[4:-5] for network in (tmp_path / "run" / "pareto").iterdir()}


# Requests that cannot be met.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--objective", "accuracy,speed"], "--objective must be a metric of the evaluator, or known before training"),
        (["--objective", "accuracy,mac"], "did you mean macs?"),
        (["--objective", "accuracy,accuracy"], "the metrics of --objective must differ"),
        (["--objective", "accuracy,"], "--objective must be metrics separated by commas"),
        (["--objective", "accuracy,loss,macs,params,memory_mb"], "at most 4 metrics"),
        (["--objective", "macs"], "must be something that has to be evaluated"),
        (["--objective", "macs,params", "--constraint", "memory_mb<=1G"], "must be something that has to be evaluated"),
        (["--objective", "accuracy,latency_ms"], "latency_ms needs a latency table"),
        (["--objective", "accuracy,macs", "--target", "macs=1M"], "--target needs a single objective"),
        (["--objective", "loss", "--target", "macs=1M"], "--target needs an objective of which more is better"),
        (["--objective", "accuracy,macs", "--searcher", "netadapt"], "takes one objective only"),
        (["--objective", "accuracy,macs", "--searcher", "reinforce"], "takes one objective only"),
        (["--constraint", "accuracy>=70"], "accuracy is a share of images, from 0 to 1"),
        (["--constraint", "f1>=0.7"], "--constraint must be on a metric that is known"),
        (["--constraint", "latency<=20"], "did you mean latency_ms?"),
        (["--start", "mobilenetv2"], "is not in space small"),
        (["--start", "nowhere.yaml"], "nowhere.yaml"),
        (["--start", "a.yaml", "--constraint", "macs<=80K"], "a network of --start must satisfy macs<=80000"),
        (["--searcher", "nowhere:Sampler"], "cannot be imported: ModuleNotFoundError"),
        (["--searcher", "optuna:Study"], "must name a subclass of optuna.samplers.BaseSampler"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL_SPACE)
    save_architecture(known_network(), Path("a.yaml"))
    assert nas_here(["search", "--space", "small.yaml", "--budget", "3", "--out", "run", *options]) == 2
    assert message in one_line_error(capsys)
    assert not Path("run").exists()


def known_network(option: int = 1) -> Architecture:
    return space().decode([option] * len(space().genes))


def test_known_networks_are_begun_with_once_each(tmp_path: Path) -> None:
    save_architecture(known_network().replace(num_classes=10, name="another"), tmp_path / "a.yaml")
    start = [known_network(), tmp_path / "a.yaml", known_network(0), known_network()]
    result = search(tmp_path, "accuracy", budget=6, searcher="evolution", start=start)
    found = [row["user_attrs"]["arch_id"] for row in trials(tmp_path / "run")]
    assert found[:2] == [known_network().arch_id, known_network(0).arch_id]
    assert result.counts["complete"] == len(set(found)) == 6
    assert api.resume(tmp_path / "run").counts == result.counts


def test_netadapt_starts_beyond_the_limit(tmp_path: Path) -> None:
    result = search(tmp_path, "accuracy", 200, searcher="netadapt", start=[known_network()], constraints=["macs<=150K"])
    first = trials(tmp_path / "run")[0]["user_attrs"]
    assert first["arch_id"] == known_network().arch_id
    assert first["macs"] > 150_000
    assert result.best is not None
    assert result.best.metrics["macs"] <= 150_000
    assert result.stopped_by == "exhausted"
