"""Every network that a run has evaluated can be named, shown and exported, not only the best."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import TINY_SPACE, FakeEvaluator, LearningEvaluator, one_line_error, space, trials

from nas import api
from nas.architectures import resolve
from nas.cli import run
from search_space import InputError, load_architecture


@pytest.fixture
def evaluator(monkeypatch: pytest.MonkeyPatch) -> FakeEvaluator:
    fake = FakeEvaluator()
    monkeypatch.setattr(api, "make_evaluator", lambda *request, **more: dataclasses.replace(fake))
    return fake


def search(folder: Path, described: str = TINY_SPACE, budget: int = 20, **more: Any) -> Path:
    settings = {"searcher": "random", "workers": 1, "objective": "accuracy", "finalists": 0, **more}
    return api.search(space(described), budget, out=folder / "run", **settings).run


def listed(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "networks.csv").open()))


def looks(folder: Path) -> dict[str, list[float]]:
    """`arch_id` -> the accuracy of each look, by the journal."""
    found: dict[str, list[float]] = {}
    for row in trials(folder):
        if "accuracy" in row["user_attrs"]:
            found.setdefault(row["user_attrs"]["arch_id"], []).append(row["user_attrs"]["accuracy"])
    return found


def test_all_networks_are_listed_in_the_order_of_the_search(evaluator: FakeEvaluator, tmp_path: Path) -> None:
    folder = search(tmp_path)
    rows = listed(folder)
    seen = looks(folder)
    means = {arch_id: sum(found) / len(found) for arch_id, found in seen.items()}
    assert [row["arch_id"] for row in rows] == sorted(means, key=lambda arch_id: -means[arch_id])
    assert rows[0]["arch_id"] == load_architecture(folder / "best.yaml").arch_id
    assert max(int(row["looks"]) for row in rows) > 1
    for row in rows:
        assert float(row["accuracy"]) == pytest.approx(means[row["arch_id"]])
        assert int(row["looks"]) == len(seen[row["arch_id"]])
        assert row["breaks"] == ""


@pytest.mark.parametrize("more", [{}, {"objective": "accuracy,macs"}, {"searcher": "predictor"}])
def test_each_of_them_can_be_named(more: dict[str, str], evaluator: FakeEvaluator, tmp_path: Path) -> None:
    folder = search(tmp_path, **more)
    rows = listed(folder)
    assert {row["arch_id"] for row in rows} == set(looks(folder))
    for row in rows:
        found = resolve(f"{folder}/{row['arch_id']}")
        origin = found.provenance
        assert found.arch_id == origin["arch_id"] == row["arch_id"]
        assert (origin["run"], origin["evaluator"], origin["file"]) == (str(folder), "fake", "made up")
        assert (origin["trial"], origin["looks"]) == (int(row["trial"]), int(row["looks"]))
        assert origin["metrics"]["accuracy"] == pytest.approx(float(row["accuracy"]))
        assert origin["metrics"]["macs"] == float(row["macs"])
    best = load_architecture(folder / "best.yaml")
    again = resolve(f"{folder}/{best.arch_id}")
    assert again.to_dict() == best.to_dict()
    # What the journal alone tells of it is the same, too.
    (folder / "best.yaml").unlink()
    for file in folder.glob("pareto/*.yaml"):
        file.unlink()
    assert resolve(f"{folder}/{best.arch_id}").to_dict() == best.to_dict()


def test_on_the_command_line(evaluator: FakeEvaluator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = search(tmp_path)
    last = listed(folder)[-1]["arch_id"]
    assert run(["show", f"{folder}/{last}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["arch_id"] == last
    assert run(["export", f"{folder}/{last}", "--to", "yaml", "--out", str(tmp_path / "exported")]) == 0
    (written,) = (tmp_path / "exported").glob("*.yaml")
    assert load_architecture(written).arch_id == last
    assert run(["scale", f"{folder}/{last}", "--phi", "1", "--out", str(tmp_path / "scaled")]) == 0
    assert load_architecture(tmp_path / "scaled" / "b1.yaml").provenance["scaled_from"]["arch_id"] == last


def test_what_breaks_a_limit_is_listed_last(evaluator: FakeEvaluator, tmp_path: Path) -> None:
    folder = search(tmp_path, constraints=["accuracy>=0.999"])
    assert not (folder / "best.yaml").exists()
    rows = listed(folder)
    assert {row["arch_id"] for row in rows} == set(looks(folder))
    assert {row["breaks"] for row in rows} == {"accuracy>=0.999"}
    assert resolve(f"{folder}/{rows[0]['arch_id']}").arch_id == rows[0]["arch_id"]


def test_finalists_are_told_of_what_came_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"data": "digits", "evaluator": "zero-cost:naswot", "objective": ""}
    monkeypatch.chdir(tmp_path)
    Path("short.yaml").write_text("{base: quick, epochs: 1, max_train_images: 64, max_val_images: 64}\n")
    folder = search(tmp_path, budget=4, finalists=2, final_proxy="short.yaml", final_seeds=1, **data)
    finalists = json.loads((folder / "summary.json").read_text())["finalists"]
    best = load_architecture(folder / "best.yaml")
    (other,) = (one for one in finalists if one["arch_id"] != best.arch_id)
    origin = resolve(f"{folder}/{other['arch_id']}").provenance
    assert origin["metrics"]["final_accuracy"] == other["metrics"]["final_accuracy"]
    for name in ("final", "evaluator", "data"):
        assert origin[name] == best.provenance[name]


@pytest.mark.parametrize("how", ["fail", "prune"])
def test_those_without_a_score_have_no_metrics(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeEvaluator(misbehave={0: "fail"}) if how == "fail" else LearningEvaluator()
    monkeypatch.setattr(api, "make_evaluator", lambda *request, **more: dataclasses.replace(fake))
    folder = search(tmp_path, pruner="none" if how == "fail" else "asha")
    scored = looks(folder)
    without = {row["user_attrs"]["arch_id"] for row in trials(folder)} - set(scored)
    assert without
    for arch_id in without:
        found = resolve(f"{folder}/{arch_id}")
        assert found.arch_id == arch_id
        assert "metrics" not in found.provenance
    assert {row["arch_id"] for row in listed(folder)} == set(scored)


def test_what_is_not_there(evaluator: FakeEvaluator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = search(tmp_path)
    journal = folder / "journal.log"
    before = journal.read_bytes()
    assert run(["show", f"{folder}/0123456789ab"]) == 2
    error = one_line_error(capsys)
    assert "no trial of the run has this arch_id, got '0123456789ab'" in error
    assert "networks.csv lists what was scored" in error
    assert run(["show", f"{folder}/worst.yaml"]) == 2
    assert "cannot read the file" in one_line_error(capsys)
    # A line that the search is just writing, or that a killed one left, is neither read nor cut off.
    journal.write_bytes(before[:-40])
    *_, last = (row["user_attrs"]["arch_id"] for row in trials(folder))
    assert run(["show", f"{folder}/{last}"]) == 0
    assert journal.read_bytes() == before[:-40]
    capsys.readouterr()
    (folder / "networks.csv").unlink()
    for text in (b"", None):
        journal.unlink()
        if text is not None:
            journal.write_bytes(text)
        assert run(["show", f"{folder}/{last}"]) == 2
        assert "no trial of the run has this arch_id" in one_line_error(capsys)
        assert journal.exists() == (text is not None)


def test_a_reference_is_one_inside_a_run_folder_too(
    evaluator: FakeEvaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(search(tmp_path))
    assert resolve("mobilenetv3-large").name == "mobilenetv3-large"


def test_a_journal_of_other_networks_is_refused(evaluator: FakeEvaluator, tmp_path: Path) -> None:
    folder = search(tmp_path)
    last = listed(folder)[-1]["arch_id"]
    plain = yaml.safe_load((folder / "run.yaml").read_text())
    plain["space"]["stem"]["out_channels"] *= 2
    (folder / "run.yaml").write_text(json.dumps(plain))
    with pytest.raises(InputError, match="must be the network of its params"):
        resolve(f"{folder}/{last}")
