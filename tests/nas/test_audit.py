from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import SMALL_SPACE, TINY_SPACE, nas, space

from evaluators import EvaluationFailed, Report, Several
from evaluators.zero_cost import COUNTED, SCORES
from nas import audit
from nas.auditing import AuditInterrupted, AuditResult
from nas.auditing.result import rank
from nas.cli import run
from search_space import InputError
from search_space.errors import WorkFailed

TRUTH = np.random.default_rng(0).normal(size=40)
NOISE = np.random.default_rng(1).normal(size=(4, 40))


# Statistics.


def ranked(**scores: Any) -> dict[str, Any]:
    given = {name: ("m", values, 1.0) for name, values in {"macs": TRUTH + 1.5 * NOISE[0], **scores}.items()}
    return {one.name: one for one in rank(given, TRUTH)}


def test_the_better_score_is_told_from_macs() -> None:
    found = ranked(good=TRUTH + 0.2 * NOISE[1], perfect=TRUTH, backwards=-TRUTH, noise=NOISE[2], constant=np.ones(40))
    assert next(iter(found)) == "perfect"
    assert found["perfect"].tau == pytest.approx(1)
    assert found["perfect"].top_quarter_overlap == 1
    assert found["backwards"].tau == pytest.approx(-1)
    assert found["backwards"].top_quarter_overlap == 0
    assert found["good"].over_macs_interval[0] > 0
    assert found["backwards"].over_macs_interval[1] < 0
    assert found["constant"].tau == 0
    assert found["macs"].over_macs_interval == (0, 0)
    for one in found.values():
        assert one.tau_interval[0] - 1e-12 <= one.tau <= one.tau_interval[1] + 1e-12


def test_intervals_cover_what_they_should() -> None:
    """Of samples of 40 from a large population, nearly all intervals hold its tau."""
    rng = np.random.default_rng(3)
    truth = rng.normal(size=4_000)
    score = truth + rng.normal(size=4_000)
    whole = rank({"macs": ("m", score, 0.0)}, truth)[0].tau
    held = 0
    for _ in range(30):
        rows = rng.integers(4_000, size=40)
        low, high = rank({"macs": ("m", score[rows], 0.0)}, truth[rows])[0].tau_interval
        held += low <= whole <= high
    assert held >= 25


def verdict(score: Any) -> str:
    found = ranked(quick=score, standard=TRUTH)
    result = AuditResult(Path(), "s", "thorough", (), 1.0, (), tuple(found.values()), ("quick", "standard"), 0, "time")
    return result.verdicts[0]


def test_the_verdict_says_what_to_do() -> None:
    assert verdict(TRUTH + 0.2 * NOISE[1]).startswith("quick ranks better than macs")
    assert verdict(-TRUTH).startswith("quick ranks worse than macs, which cost nothing")
    assert verdict(TRUTH + 1.6 * NOISE[3]).startswith("macs alone rank as well as quick")
    assert "use a higher fidelity" in verdict(-TRUTH)


# Audits.


def recipe(folder: Path, name: str, **fields: Any) -> str:
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps({"base": "quick", "max_train_images": 64, "max_val_images": 64, **fields}))
    return str(file)


@pytest.fixture
def asked(tmp_path: Path) -> dict[str, Any]:
    return {
        "space": space(SMALL_SPACE),
        "networks": 5,
        "proxies": [recipe(tmp_path, "short", epochs=1)],
        "truth": recipe(tmp_path, "long", epochs=2),
        "out": tmp_path / "audit",
        "workers": 1,
    }


def test_an_audit_ranks_every_score(asked: dict[str, Any], tmp_path: Path) -> None:
    seen: list[tuple[float, int]] = []
    result = audit(**asked, on_progress=lambda done, total: seen.append((done, total)))
    short = asked["proxies"][0]
    names = {*SCORES, *COUNTED, short, f"{short} accuracy", f"{short} loss"}
    assert {one.name for one in result.ranked} == names
    assert (result.stopped_by, result.failed, len(set(result.arch_ids))) == ("networks", 0, 5)
    assert seen == sorted(seen)
    assert {round(done, 2) for done, _ in seen} >= {0, 0.33, 1, 4.33, 5}  # by images shown, 1 epoch and then 2
    assert {total for _, total in seen} == {5}
    assert 0 < result.of("naswot").seconds_per_network < result.truth_seconds_per_network
    with open(tmp_path / "audit" / "scores.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["arch_id"] for row in rows] == list(result.arch_ids)
    assert [float(row["naswot"]) for row in rows] == list(result.of("naswot").values)
    assert (tmp_path / "audit" / "audit.png").read_bytes().startswith(b"\x89PNG")
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_loss_is_turned_so_that_more_is_better(asked: dict[str, Any], tmp_path: Path) -> None:
    result = audit(**asked)
    measured = [json.loads(line) for line in (tmp_path / "audit" / "measurements.jsonl").read_text().splitlines()]
    short = asked["proxies"][0]
    losses = [one["metrics"][f"{short}/loss"] for one in sorted(measured, key=lambda one: one["number"])]
    assert result.of(f"{short} loss").values == tuple(-loss for loss in losses)
    assert result.of(short).metric == "score"


def test_less_of_the_same_training_is_ranked_too(asked: dict[str, Any], tmp_path: Path) -> None:
    proxies = [recipe(tmp_path, "three", epochs=3), recipe(tmp_path, "one", epochs=1)]
    result = audit(**{**asked, "proxies": proxies})
    seconds = [result.of(f"{proxies[0]}{at}").seconds_per_network for at in ("@1", "@2", "")]
    assert seconds == sorted(seconds)
    assert result.of(f"{proxies[0]}@2 accuracy").metric == "accuracy"
    assert set(result.proxies) == set(proxies)
    assert f"{proxies[1]}@1" not in {one.name for one in result.ranked}


def test_what_was_measured_is_not_measured_again(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = audit(**asked)
    file = tmp_path / "audit" / "measurements.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:3]) + lines[3][:40])  # killed while it wrote
    evaluated: list[str] = []
    plain = Several.evaluate

    def spied(self: Several, architecture: Any, *, seed: int) -> Any:
        evaluated.append(architecture.arch_id)
        yield from plain(self, architecture, seed=seed)

    monkeypatch.setattr(Several, "evaluate", spied)
    again = audit(**asked)
    assert evaluated == list(whole.arch_ids[3:])
    assert [one.values for one in again.ranked] == [one.values for one in whole.ranked]
    assert again.truth_values == whole.truth_values


def test_ctrl_c_says_where_to_go_on(asked: dict[str, Any]) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(AuditInterrupted) as caught:
        audit(**asked, on_progress=stop)
    assert caught.value.out == asked["out"]
    assert audit(**asked).stopped_by == "networks"


def test_networks_that_fail_are_left_out_and_counted(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    plain, seen = Several.evaluate, []

    def failing(self: Several, architecture: Any, *, seed: int) -> Any:
        seen.append(architecture.arch_id)
        if len(seen) == 2:
            raise EvaluationFailed("it diverged")
        yield from plain(self, architecture, seed=seed)

    monkeypatch.setattr(Several, "evaluate", failing)
    result = audit(**asked)
    assert result.failed == 1
    assert list(result.arch_ids) == [seen[0], *seen[2:]]


def test_too_few_networks_are_no_audit(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Several, architecture: Any, *, seed: int) -> Any:
        raise EvaluationFailed("it diverged")
        yield Report(1, 1, {})

    monkeypatch.setattr(Several, "evaluate", failing)
    with pytest.raises(WorkFailed, match="needs 4 networks with all scores, and there are 0; the first failed: it div"):
        audit(**asked)


def test_time_ends_an_audit_early(asked: dict[str, Any]) -> None:
    with pytest.raises(WorkFailed, match="and there are 0"):
        audit(**asked, budget_minutes=1e-9)
    assert audit(**asked, budget_minutes=10).stopped_by == "networks"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 1}, "the folder has an audit with another seed"),
        ({"networks": 6}, "the folder has an audit with another networks"),
        ({"space": space(TINY_SPACE)}, "the folder has an audit with another space"),
    ],
)
def test_another_request_does_not_go_on(asked: dict[str, Any], changed: dict[str, Any], said: str) -> None:
    with pytest.raises(WorkFailed):
        audit(**asked, budget_minutes=1e-9)
    with pytest.raises(InputError, match=said):
        audit(**{**asked, **changed})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"networks": 3}, "--networks must be 4 to 100000, got 3"),
        ({"proxies": []}, "--proxy must name at least one fidelity or recipe"),
        ({"proxies": ["quik"]}, "--proxy must be a fidelity, or a recipe's .yaml or .json file, got 'quik'"),
        ({"proxies": ["quick", "quick"]}, "--proxy and --truth must differ, got 'quick'"),
        ({"truth": "table:missing.json"}, "cannot read the file: No such file or directory, got 'missing.json'"),
        ({"budget_minutes": 0}, "--budget-minutes must be above 0, got 0"),
        ({"executor": "rey"}, "--executor must be a known name, got 'rey'"),
        ({"data": "digit"}, "--data must be a known data set, got 'digit'"),
    ],
)
def test_wrong_requests(asked: dict[str, Any], changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        audit(**{**asked, **changed})
    assert str(caught.value).startswith(said)
    assert not asked["out"].exists()


def test_a_folder_with_something_else_is_refused(asked: dict[str, Any]) -> None:
    asked["out"].mkdir()
    (asked["out"] / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="must be a new or empty folder"):
        audit(**asked)


@pytest.mark.parametrize("text", ["{}\n", "[]\n", "x\n"])
def test_measurements_that_somebody_edited(asked: dict[str, Any], text: str) -> None:
    with pytest.raises(WorkFailed):
        audit(**asked, budget_minutes=1e-9)
    (asked["out"] / "measurements.jsonl").write_text(text)
    with pytest.raises(InputError, match="the measurements cannot be read"):
        audit(**asked)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.yaml").write_text(SMALL_SPACE)
    short, long = recipe(tmp_path, "short", epochs=1), recipe(tmp_path, "long", epochs=2)
    words = ["audit", "--space", str(tmp_path / "small.yaml"), "--networks", "4", "--proxy", short, "--truth", long]
    done = nas(*words, "--out", str(tmp_path / "audit"), "--workers", "2", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["networks"] == 4
    assert {"score", "tau", "tau_interval", "over_macs_interval", "seconds_per_network"} <= set(found["scores"][0])
    assert run([*words, "--out", str(tmp_path / "audit")]) == 0  # nothing left to do but to print
    printed = capsys.readouterr().out
    assert "4 random networks of small" in printed
    assert found["verdicts"][0] in printed
