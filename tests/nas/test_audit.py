from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import SMALL_SPACE, TINY_SPACE, nas, space

from evaluators import EvaluationFailed, FinalTraining, NoVerdict, Report, Several, ZeroCost
from evaluators.zero_cost import COUNTED, SCORES
from nas import audit
from nas.auditing import AuditInterrupted, AuditResult
from nas.auditing.picture import draw
from nas.cli import run
from nas.executors import Executor, make_executor
from search_space import InputError
from search_space.errors import WorkFailed


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
    names = {*SCORES, *COUNTED, short, *(f"{short} {other}" for other in ("accuracy", "loss", "train_loss"))}
    assert {one.name for one in result.ranked} == names
    assert (result.stopped_by, result.failures, len(set(result.arch_ids))) == ("networks", {}, 5)
    assert result.resolutions_px == (32,)  # the higher of two
    assert result.truth_costs == {short: 2}
    assert seen == sorted(seen)
    # By images shown, 64 for each score without training, 64 for one epoch, 128 for two.
    assert {round(8 * done) for done, _ in seen} == set(range(5 * 8 + 1))
    assert {total for _, total in seen} == {5}
    naswot = result.of("naswot")
    assert naswot is not None
    assert 0 < naswot.seconds_per_network < result.truth_seconds_per_network
    with open(tmp_path / "audit" / "scores.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["arch_id"] for row in rows] == list(result.arch_ids)
    assert [float(row["naswot"]) for row in rows] == list(naswot.values)
    assert (tmp_path / "audit" / "audit.png").read_bytes().startswith(b"\x89PNG")
    json.dumps(result.to_dict(), allow_nan=False)


def values(result: AuditResult, name: str) -> tuple[float | None, ...]:
    found = result.of(name)
    assert found is not None
    return found.values


def lines(asked: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (asked["out"] / "measurements.jsonl").read_text().splitlines()]


def test_a_loss_is_turned_so_that_more_is_better(asked: dict[str, Any]) -> None:
    result, short = audit(**asked), asked["proxies"][0]
    measured = sorted((one for one in lines(asked) if one["evaluator"] == short), key=lambda one: one["number"])
    assert values(result, f"{short} loss") == tuple(-one["metrics"][f"{short}/loss"] for one in measured)
    assert result.of(short).metric == "score"  # type: ignore[union-attr]


def test_less_of_the_same_training_is_ranked_too(asked: dict[str, Any], tmp_path: Path) -> None:
    proxies = [recipe(tmp_path, "six", epochs=6), recipe(tmp_path, "one", epochs=1)]
    result = audit(**{**asked, "proxies": proxies})
    found = {one.name: one for one in result.ranked}
    seconds = [found[f"{proxies[0]}{at}"].seconds_per_network for at in ("@2", "@4", "")]
    assert seconds == sorted(seconds)
    assert {name for name in found if "@" in name} == {f"{proxies[0]}@2", f"{proxies[0]}@4"}
    assert set(result.proxies) == set(proxies)
    above, *panels = draw(result).axes
    drawn = ["six.yaml", "six.yaml@2", "six.yaml@4", "one.yaml", *SCORES, *COUNTED]
    assert sorted(text.get_text() for text in above.texts) == sorted(drawn)
    assert len([panel for panel in panels if panel.get_title()]) == len(found)


def watch(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...]]]:
    """What is evaluated from now on: networks, and by which evaluators."""
    evaluated: list[tuple[str, tuple[str, ...]]] = []
    plain = Several.evaluate

    def spied(self: Several, architecture: Any, *, seed: int) -> Any:
        evaluated.append((architecture.arch_id, tuple(self.lacking(architecture.arch_id))))
        yield from plain(self, architecture, seed=seed)

    monkeypatch.setattr(Several, "evaluate", spied)
    return evaluated


def test_what_was_measured_is_not_measured_again(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = audit(**asked)
    file, short = asked["out"] / "measurements.jsonl", asked["proxies"][0]
    each = len(SCORES) + 2
    written = file.read_text().splitlines(keepends=True)
    assert len(written) == 5 * each
    file.write_text("".join(written[: 4 * each - 1]) + written[4 * each - 1][:40])  # killed while it wrote
    evaluated, workers = watch(monkeypatch), list[int]()

    def counted(kind: str, evaluator: Any, options: Any, log: Path) -> Executor:
        workers.append(options.workers)
        return make_executor(kind, evaluator, options, log)

    monkeypatch.setattr("nas.auditing.api.make_executor", counted)
    again = audit(**asked)
    assert workers == [1]  # networks that lack different things do not wait for each other
    assert dict(evaluated) == {whole.arch_ids[3]: ("truth",), whole.arch_ids[4]: (*SCORES, short, "truth")}
    assert [one.values for one in again.ranked] == [one.values for one in whole.ranked]
    assert again.truth_values == whole.truth_values


def test_more_networks_and_other_proxies_go_on_with_an_audit(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, short = audit(**asked), asked["proxies"][0]
    other = recipe(tmp_path, "other", epochs=1, batch_size=16)
    evaluated = watch(monkeypatch)
    seen: list[float] = []
    asked["proxies"] = [short, other]
    more = audit(**{**asked, "networks": 6}, on_progress=lambda done, total: seen.append(done))
    assert seen[0] == pytest.approx(5 * 8 / 9, abs=1e-3)
    assert seen[-1] == 6
    assert evaluated[:5] == [(arch_id, (other,)) for arch_id in first.arch_ids]
    assert evaluated[5:] == [(more.arch_ids[5], (*SCORES, short, other, "truth"))]
    assert values(more, short)[:5] == values(first, short)
    fresh = audit(**{**asked, "networks": 6, "out": tmp_path / "fresh"})
    assert {one.name: one.values for one in fresh.ranked} == {one.name: one.values for one in more.ranked}


def test_ctrl_c_says_where_to_go_on(asked: dict[str, Any]) -> None:
    def stop(done: float, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(AuditInterrupted) as caught:
        audit(**asked, on_progress=stop)
    assert caught.value.out == asked["out"]
    assert audit(**asked).stopped_by == "networks"


def fail_at_first(monkeypatch: pytest.MonkeyPatch, times: int, error: Exception) -> list[str]:
    """Let zico fail so often; the networks that it is asked for."""
    plain, seen = ZeroCost.evaluate, list[str]()

    def failing(self: ZeroCost, architecture: Any, *, seed: int) -> Any:
        if self.name == "zico":
            seen.append(architecture.arch_id)
            if len(seen) <= times:
                raise error
        yield from plain(self, architecture, seed=seed)

    monkeypatch.setattr(ZeroCost, "evaluate", failing)
    return seen


def test_a_score_that_fails_is_missing_and_said(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = fail_at_first(monkeypatch, 1, EvaluationFailed("no number"))
    result = audit(**asked)
    assert result.failures == {"zico": "1 of 5 networks failed, the first: no number"}
    assert (len(result.arch_ids), result.stopped_by) == (5, "networks")
    assert [value is None for value in values(result, "zico")] == [True, False, False, False, False]
    assert None not in values(result, "naswot")
    audit(**asked)
    assert seen == list(result.arch_ids)  # it would fail again


def test_what_may_pass_is_tried_again_by_itself(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = fail_at_first(monkeypatch, 1, NoVerdict("too much"))
    evaluated = watch(monkeypatch)
    result = audit(**asked)
    assert seen == [*result.arch_ids, result.arch_ids[0]]
    assert evaluated[5:] == [(result.arch_ids[0], ("zico",))]
    assert result.failures == {}
    assert None not in values(result, "zico")


def test_what_still_may_pass_is_tried_again_when_the_audit_goes_on(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = fail_at_first(monkeypatch, 7, MemoryError("too much"))  # all five, then these twice
    result = audit(**asked)
    assert result.failures == {}
    assert len(seen) == 5 + 5 + 2
    seen.clear()
    (asked["out"] / "measurements.jsonl").unlink()
    fail_at_first(monkeypatch, 15, MemoryError("too much"))
    result = audit(**asked)
    assert result.failures == {"zico": "5 of 5 networks failed, the first: MemoryError: too much"}
    assert "zico" not in {one.name for one in result.ranked}
    assert audit(**asked).failures == {}


def test_networks_without_a_truth_are_left_out(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    plain, seen = FinalTraining.evaluate, []

    def failing(self: FinalTraining, architecture: Any, *, seed: int) -> Any:
        seen.append(architecture.arch_id)
        if len(seen) == 2:
            raise EvaluationFailed("it diverged")
        yield from plain(self, architecture, seed=seed)

    monkeypatch.setattr(FinalTraining, "evaluate", failing)
    result = audit(**asked)
    assert result.failures == {"truth": "1 of 5 networks failed, the first: it diverged"}
    assert list(result.arch_ids) == [seen[0], *seen[2:]]


def test_too_few_networks_are_no_audit(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Several, architecture: Any, *, seed: int) -> Any:
        raise EvaluationFailed("it diverged")
        yield Report(1, 1, {})

    monkeypatch.setattr(Several, "evaluate", failing)
    with pytest.raises(
        WorkFailed, match="needs 4 networks with a truth, and there are 0; 5 of 5 networks failed, the first: it div"
    ):
        audit(**asked)


def test_time_ends_an_audit_early(asked: dict[str, Any]) -> None:
    with pytest.raises(WorkFailed, match="and there are 0"):
        audit(**asked, budget_minutes=1e-9)
    assert audit(**asked, budget_minutes=10).stopped_by == "networks"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 1}, "the folder has an audit with another seed"),
        ({"space": space(TINY_SPACE)}, "the folder has an audit with another space"),
    ],
)
def test_another_request_does_not_go_on(asked: dict[str, Any], changed: dict[str, Any], said: str) -> None:
    with pytest.raises(WorkFailed):
        audit(**asked, budget_minutes=1e-9)
    with pytest.raises(InputError, match=said):
        audit(**{**asked, **changed})


def test_another_recipe_of_the_same_name_does_not_go_on(asked: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(WorkFailed):
        audit(**asked, budget_minutes=1e-9)
    recipe(tmp_path, "long", epochs=3)
    with pytest.raises(InputError, match="the folder has an audit with another recipe of truth"):
        audit(**asked)


def test_other_images_do_not_go_on(asked: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(WorkFailed):
        audit(**asked, budget_minutes=1e-9)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (200, 8, 8, 3), dtype=np.uint8), np.arange(200) % 10
    np.savez(tmp_path / "other.npz", x_train=images, y_train=labels)
    with pytest.raises(InputError, match="the folder has an audit with other images"):
        audit(**asked, data=f"npz:{tmp_path / 'other.npz'}")


def test_a_folder_of_an_older_version_is_left_alone(asked: dict[str, Any]) -> None:
    asked["out"].mkdir()
    (asked["out"] / "audit.yaml").write_text("seed: 0\nscores: {}\n")
    with pytest.raises(InputError, match="the folder has an audit of an older version of nas"):
        audit(**asked)
    assert (asked["out"] / "audit.yaml").read_text() == "seed: 0\nscores: {}\n"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"networks": 3}, "--networks must be 4 to 100000, got 3"),
        ({"proxies": []}, "--proxy must name at least one fidelity or recipe"),
        ({"proxies": ["quik"]}, "--proxy must be a fidelity, or a recipe's .yaml or .json file, got 'quik'"),
        ({"proxies": ["quick", "quick"]}, "--proxy and --truth must differ, got 'quick'"),
        ({"proxies": ["naswot"]}, "--proxy must name fidelities or recipes, got 'naswot'"),
        ({"gpus_per_trial": 1}, "--gpus-per-trial needs --executor ray, got 'inline'"),
        ({"ray_address": "auto"}, "--ray-address needs --executor ray, got 'inline'"),
        ({"executor": "ray", "device": "cuda"}, "with --executor ray, GPUs are given out by --gpus-per-trial"),
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
