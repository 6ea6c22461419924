"""Every network that a run has evaluated can be named, shown and exported, not only the best."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest
from support import FakeEvaluator, one_line_error, space, trials

from evaluators import Evaluator
from nas import api
from nas.architectures import resolve
from nas.cli import run
from search_space import load_architecture


@pytest.fixture
def evaluator(monkeypatch: pytest.MonkeyPatch) -> FakeEvaluator:
    fake = FakeEvaluator()
    monkeypatch.setattr(api, "make_evaluator", lambda *request, **more: dataclasses.replace(fake))
    return fake


def search(folder: Path, **more: object) -> Path:
    settings: dict[str, object] = {"searcher": "random", "workers": 1, "objective": "accuracy", "finalists": 0, **more}
    return api.search(space(), 12, out=folder / "run", **settings).run  # type: ignore[arg-type]


def looks(folder: Path) -> dict[str, list[float]]:
    """`arch_id` -> the accuracy of each look, by the journal."""
    found: dict[str, list[float]] = {}
    for row in trials(folder):
        found.setdefault(row["user_attrs"]["arch_id"], []).append(row["user_attrs"]["accuracy"])
    return found


def test_all_networks_are_listed_the_best_first(evaluator: Evaluator, tmp_path: Path) -> None:
    folder = search(tmp_path)
    rows = list(csv.DictReader((folder / "networks.csv").open()))
    means = {arch_id: sum(found) / len(found) for arch_id, found in looks(folder).items()}
    assert [row["arch_id"] for row in rows] == sorted(means, key=lambda arch_id: -means[arch_id])
    assert len(rows) > 3
    assert rows[0]["arch_id"] == load_architecture(folder / "best.yaml").arch_id
    for row in rows:
        assert float(row["accuracy"]) == pytest.approx(means[row["arch_id"]])
        assert int(row["looks"]) == len(looks(folder)[row["arch_id"]])


def test_each_of_them_can_be_named(evaluator: Evaluator, tmp_path: Path) -> None:
    folder = search(tmp_path)
    for row in csv.DictReader((folder / "networks.csv").open()):
        found = resolve(f"{folder}/{row['arch_id']}")
        assert found.arch_id == found.provenance["arch_id"] == row["arch_id"]
        assert found.provenance["run"] == str(folder)
        assert (found.provenance["trial"], found.provenance["looks"]) == (int(row["trial"]), int(row["looks"]))
        assert found.provenance["metrics"]["accuracy"] == pytest.approx(float(row["accuracy"]))
        assert found.provenance["metrics"]["macs"] == float(row["macs"])
    best = load_architecture(folder / "best.yaml")
    again = resolve(f"{folder}/{best.arch_id}")
    assert again == best
    assert again.name == best.name


def test_on_the_command_line(evaluator: Evaluator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = search(tmp_path)
    last = list(csv.DictReader((folder / "networks.csv").open()))[-1]["arch_id"]
    assert run(["show", f"{folder}/{last}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["arch_id"] == last
    assert run(["export", f"{folder}/{last}", "--to", "yaml", "--out", str(tmp_path / "exported")]) == 0
    (written,) = (tmp_path / "exported").glob("*.yaml")
    assert load_architecture(written).arch_id == last


def test_those_without_a_score_have_no_metrics(evaluator: FakeEvaluator, tmp_path: Path) -> None:
    evaluator.misbehave = {3: "fail"}
    folder = search(tmp_path)
    (failed,) = (row["user_attrs"]["arch_id"] for row in trials(folder) if "reason" in row["user_attrs"])
    found = resolve(f"{folder}/{failed}")
    assert found.arch_id == failed
    assert "metrics" not in found.provenance


def test_what_is_not_there(evaluator: Evaluator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = search(tmp_path)
    before = (folder / "journal.log").read_bytes()
    assert run(["show", f"{folder}/0123456789ab"]) == 2
    error = one_line_error(capsys)
    assert "no trial of the run has this arch_id, got '0123456789ab'" in error
    assert "networks.csv lists those that were scored" in error
    assert run(["show", f"{folder}/worst.yaml"]) == 2
    assert "cannot read the file" in one_line_error(capsys)
    # A line that the search is just writing, or that a killed one left, is neither read nor cut off.
    (folder / "journal.log").write_bytes(before[:-40])
    *_, last = (row["user_attrs"]["arch_id"] for row in trials(folder))
    assert run(["show", f"{folder}/{last}"]) == 0
    assert (folder / "journal.log").read_bytes() == before[:-40]
    capsys.readouterr()
    (folder / "journal.log").unlink()
    assert run(["show", f"{folder}/{last}"]) == 2
    assert "no trial of the run has this arch_id" in one_line_error(capsys)
    assert not (folder / "journal.log").exists()
