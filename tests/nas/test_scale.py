"""`nas scale` and fits of its coefficients, on networks small enough to be counted and trained at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import NO_CHOICE, one_line_error, space, trials

import nas
from latency import Conditions, LatencyTable, Predictor, Times, load_table, save_table
from latency.table import Calibration
from nas.cli import run
from nas.result import Interrupted
from nas.scaling import fit_scaling, scale
from nas.scaling.fits import newest_fit, read_fit
from nas.scaling.solve import solve
from nas.target import Target
from search_space import InputError, count_cost, load_architecture, save_architecture
from search_space.cost import part_cost
from search_space.scaling import CompoundRule
from search_space.scaling_space import ScalingSpace, scaling_space

BASE = space(NO_CHOICE).decode(()).replace(name="small", resolution=32, num_classes=10)
GRID = {"alpha": [1, 1.4, 2], "beta": [1, 1.4, 1.6], "gamma": [1, 1.25, 1.5]}
QUICK = {"grid": GRID, "tolerance": 0.3, "evaluator": "zero-cost:params", "workers": 1}


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    save_architecture(BASE, "small.yaml")
    return "small.yaml"


def told(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    assert run(["scale", *arguments, "--json"]) == status
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


KEYS = {
    *("phi", "name", "file", "arch_id", "width_mult", "depth_mult", "resolution", "params", "macs"),
    *("ratio_asked", "ratio_reached"),
}


def test_a_family(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    family = told(capsys, base, "--phi", "0..3")["family"]
    assert [one["phi"] for one in family] == [0, 1, 2, 3]
    assert [one["file"] for one in family] == [f"scaled/b{phi}.yaml" for phi in range(4)]
    assert family[0]["arch_id"] == BASE.arch_id
    at_base = count_cost(BASE).macs
    for one in family:
        assert set(one) == KEYS
        written = load_architecture(one["file"])
        assert (written.arch_id, written.name, written.resolution) == (one["arch_id"], one["name"], one["resolution"])
        cost = count_cost(written)
        assert (cost.params, cost.macs) == (one["params"], one["macs"])
        assert one["ratio_reached"] == cost.macs / at_base
        assert one["ratio_asked"] == pytest.approx(CompoundRule().promised ** one["phi"])
        assert written.provenance["scaled_from"] == {"name": "small", "arch_id": BASE.arch_id}
    assert run(["scale", base, "--phi", "0..3"]) == 0
    shown = capsys.readouterr().out
    assert "alpha 1.2  beta 1.1  gamma 1.15  (default)" in shown
    assert "b3.yaml" in shown


def test_fractional_negative_and_given_coefficients(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = told(capsys, base, "--phi", "-1, 0.5", "--alpha", "2", "--gamma", "1")
    assert answer["rule"] == {"rule": "compound", "alpha": 2, "beta": 1.1, "gamma": 1, "source": "given"}
    assert [Path(one["file"]).name for one in answer["family"]] == ["b-1.yaml", "b0.5.yaml"]
    assert [one["depth_mult"] for one in answer["family"]] == [0.5, pytest.approx(2**0.5)]
    assert told(capsys, base, "--phi", "-1")["family"][0]["phi"] == -1


def test_multipliers(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = told(capsys, base, "--width-mult", "1,2", "--resolution", "32,64")
    assert [one["phi"] for one in answer["family"]] == [None] * 4
    files = ["w1-r32.yaml", "w1-r64.yaml", "w2-r32.yaml", "w2-r64.yaml"]
    assert [Path(one["file"]).name for one in answer["family"]] == files
    assert [one["ratio_asked"] for one in answer["family"]] == [1, 4, 4, 16]
    assert answer["family"][0]["arch_id"] == BASE.arch_id
    assert told(capsys, base, "--resolution", "48")["family"][0]["width_mult"] == 1


@pytest.mark.parametrize(("metric", "factor"), [("macs", 0.8), ("macs", 1), ("macs", 2.3), ("params", 1.5)])
def test_a_target_is_met_and_not_exceeded(metric: str, factor: float) -> None:
    goal = factor * count_cost(BASE).metrics()[metric]
    result = scale(BASE, target=f"{metric}={goal}")
    (found,) = result.members
    assert found.metrics[metric] <= goal
    assert result.cost == metric
    assert found.member.ratio_asked == pytest.approx(factor)
    assert found.ratio_reached <= factor
    assert found.member.phi is not None
    following = CompoundRule().member(BASE, found.member.phi + 0.01).architecture
    assert count_cost(following).metrics()[metric] > goal


def test_solving_for_phi() -> None:
    asked: list[float] = []

    def cost_at(phi: float) -> float:
        asked.append(phi)
        return float(2.0**phi)

    for goal, expected in ((5, 2.32), (1, 0), (0.3, -1.74), (4, 2)):
        assert solve(cost_at, Target("macs", goal), (-4, 4, 0.01)) == expected
    assert solve(cost_at, Target("macs", 5), (0, 7, 1)) == 2
    assert len(asked) < 60
    for goal, message in (
        (100, "the largest network, at phi 4, has macs 16"),
        (0.01, "the smallest network, at phi -4"),
    ):
        with pytest.raises(InputError, match=message):
            solve(cost_at, Target("macs", goal), (-4, 4, 0.01))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say how far to scale"),
        (["--phi", "x"], "--phi must be a number, several, or a range"),
        (["--phi", ""], "--phi must be a number"),
        (["--phi", "nan"], "--phi must be a number"),
        (["--phi", "3..1"], "--phi must stand for 1 to 100 networks"),
        (["--phi", "0..1000000000"], "--phi must stand for 1 to 100 networks"),
        (["--phi", "200"], "phi must be -100 to 100"),
        (["--phi", "99"], "(phi 99); choose a phi nearer to 0"),
        (["--phi", "1", "--target", "macs=1M"], "phi and a target exclude each other"),
        (["--target", "macs"], "--target must be METRIC=NUMBER"),
        (["--target", "latency_ms=4"], "latency_ms needs a latency table"),
        (["--target", "accuracy=1"], "known before training"),
        (["--target", "macs=1"], "no phi gives macs=1"),
        (["--phi", "1", "--family", "b0"], "--family must be a known name"),
        (["--phi", "1", "--family", "efficientnet-v1", "--alpha", "2"], "has coefficients of its own"),
        (["--phi", "0.5", "--family", "efficientnet-v1"], "whole number from 0 to 7"),
        (["--phi", "1", "--alpha", "0.5"], "alpha must be 1 to 4"),
        (["--phi", "1", "--width-mult", "2"], "go without phi"),
        (["--alpha", "2", "--width-mult", "2"], "go without phi"),
        (["--width-mult", "wide"], "--width-mult must be numbers"),
        (["--width-mult", "0"], "--width-mult must be 0.05 to 16"),
        (["--resolution", "1"], "resolution must be at least the product of all strides"),
        (["--resolution", "a"], "--resolution must be whole numbers"),
        (["--phi", "1", "--interpolate"], "--interpolate needs a latency table"),
        (["--phi", "1", "--latency", "none.json"], "cannot read the file"),
        (["--target", "macs=1M", "--latency", "auto"], "--latency auto goes with --phi"),
        (["--phi", "1", "--out", "/proc/x"], "cannot write the file"),
        (
            ["--phi", "1", "--budget", "5"],
            "--budget does nothing without --fit, got 5; add --fit, or leave out --budget",
        ),
        (["--fit", "--alpha", "2"], "--fit finds coefficients itself, got '--alpha'"),
        (["--fit", "--family", "efficientnet-v1"], "--fit finds coefficients itself"),
        (["--fit", "--phi", "x"], "--phi must be a number, several, or a range"),
        (["--fit", "--target", "fast"], "--target must be METRIC=NUMBER"),
        (["--fit", "--cost", "params"], "--cost must be macs or latency_ms"),
        (["--fit", "--cost", "latency_ms"], "needs a latency table"),
        (["--fit", "--tolerance", "2"], "--tolerance must be"),
        (["--fit", "--budget", "0"], "--budget must be 1 to"),
        (["--fit", "--evaluator", "guess"], "--evaluator must be"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_2(
    base: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["scale", base, *arguments]) == 2
    assert message in one_line_error(capsys)
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "scaled").exists()


def test_what_would_explode_memory_is_refused_before_it_is_built(
    base: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search_space.footprint.memory_here_bytes", lambda: 200_000)
    monkeypatch.setattr("nas.scaling.api.count_cost", None)
    for arguments in (["--phi", "0,9"], ["--width-mult", "16"], ["--phi", "7", "--family", "efficientnet-v1"]):
        assert run(["scale", base, *arguments]) == 2
        message = capsys.readouterr().err
        assert "GB of weights and" in message
        assert arguments[1].rpartition(",")[2] in message


def test_nothing_is_written_if_one_of_the_family_cannot_be(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["scale", base, "--phi", "0,99"]) == 2
    assert not Path("scaled").exists()


def test_another_family_in_the_same_folder_is_told_of(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["scale", base, "--phi", "0..2"]) == 0
    assert run(["scale", base, "--phi", "1..3"]) == 0
    Path("scaled/notes.yaml").write_text("not: ours\n")
    save_architecture(BASE, "scaled/base.yaml")
    assert capsys.readouterr().err == ""
    assert run(["scale", base, "--phi", "0..1", "--alpha", "1.4"]) == 0
    warning = capsys.readouterr().err
    assert "scaled: replaced b0.yaml, b1.yaml of another family (of small)" in warning
    assert "scaled: b2.yaml, b3.yaml there are of another family (of small)" in warning
    save_architecture(BASE.replace(name="other", resolution=64), "other.yaml")
    assert run(["scale", "other.yaml", "--width-mult", "0.5"]) == 0
    warning = capsys.readouterr().err
    assert "scaled: b0.yaml, b1.yaml, b2.yaml, b3.yaml there are of another family (of small)" in warning
    assert "replaced" not in warning
    assert run(["scale", "other.yaml", "--width-mult", "0.75", "--resolution", "32,64", "--out", "apart"]) == 0
    assert run(["scale", "other.yaml", "--width-mult", "1", "--out", "apart"]) == 0
    assert capsys.readouterr().err == ""


# Fits.


def test_a_fit_doubles_the_cost_and_is_used_from_then_on(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    fitted = fit_scaling(base, **QUICK)  # type: ignore[arg-type]
    assert fitted.search.stopped_by == "exhausted"
    at_base = count_cost(BASE).macs
    scored = trials(fitted.search.run)
    assert len(scored) == len({row["user_attrs"]["arch_id"] for row in scored}) >= 3
    assert all(1.4 <= row["user_attrs"]["macs"] / at_base <= 2.6 for row in scored)
    assert fitted.rule is not None
    best = CompoundRule(fitted.rule.alpha, fitted.rule.beta, fitted.rule.gamma).member(BASE, 1).architecture
    assert count_cost(best).params == max(row["user_attrs"]["params"] for row in scored)
    assert fitted.ratio_reached == count_cost(best).macs / at_base
    found = load_architecture(fitted.search.run / "best.yaml")
    assert found.arch_id == best.arch_id
    assert found.provenance["scaling"]["alpha"] >= 1

    run_folder = str(fitted.search.run)
    by_network, by_folder, by_default = (told(capsys, *arch, "--phi", "1") for arch in ([base], [run_folder], []))
    assert by_network == by_folder == by_default
    assert by_network["rule"]["source"] == run_folder
    assert by_network["rule"]["alpha"] == fitted.rule.alpha
    assert by_network["base"]["arch_id"] == BASE.arch_id
    (one,) = by_network["family"]
    assert (one["arch_id"], one["ratio_asked"]) == (best.arch_id, 2)
    assert told(capsys, base, "--phi", "1", "--alpha", "1.2")["rule"]["source"] == "given"
    assert told(capsys, "mobilenetv3-small", "--phi", "0")["rule"]["source"] == "default"


def test_all_of_the_grid_that_is_allowed_is_tried(base: str) -> None:
    fitted = fit_scaling(base, **QUICK)  # type: ignore[arg-type]
    at_base = count_cost(BASE).macs
    networks = {}
    for alpha in GRID["alpha"]:
        for beta in GRID["beta"]:
            for gamma in GRID["gamma"]:
                scaled = CompoundRule(alpha, beta, gamma).member(BASE, 1).architecture
                networks[scaled.arch_id] = count_cost(scaled).macs / at_base
    allowed = {arch_id for arch_id, ratio in networks.items() if 1.4 <= ratio <= 2.6}
    assert {row["user_attrs"]["arch_id"] for row in trials(fitted.search.run)} == allowed


def test_a_fit_is_resumed_as_a_search(base: str) -> None:
    whole = fit_scaling(base, out="whole", seed=3, **QUICK)  # type: ignore[arg-type]

    def stop(state: Any) -> None:
        if state.done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        fit_scaling(base, out="broken", seed=3, on_change=stop, **QUICK)  # type: ignore[arg-type]
    assert len(trials(Path("broken"))) < len(trials(Path("whole")))
    nas.resume("broken")
    assert trials(Path("broken")) == trials(Path("whole"))
    assert read_fit(Path("broken")).rule == whole.rule


def test_nothing_on_the_grid_costs_twice_as_much(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"no network of small-scaling (has|was found that satisfies) macs"):
        fit_scaling(base, **{**QUICK, "grid": {"alpha": 1, "beta": [1, 4], "gamma": 1}})  # type: ignore[arg-type]


def test_a_fit_that_has_found_nothing_yet(base: str) -> None:
    fitted = fit_scaling(base, out="runs/first", **QUICK)  # type: ignore[arg-type]
    (fitted.search.run / "best.yaml").unlink()
    assert newest_fit(BASE) is None
    with pytest.raises(InputError, match=r"the fit has found no coefficients yet, .* `nas resume runs/first`"):
        scale("runs/first", phi=1)


def test_fit_and_family_in_one_command(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--fit",
        "--tolerance",
        "0.4",
        "--budget",
        "2",
        "--workers",
        "1",
        "--phi",
        "0,1",
        "--run",
        "runs/fitted",
    ]
    answer = told(capsys, base, *arguments)
    assert answer["fit"]["run"] == answer["rule"]["source"] == "runs/fitted"
    assert answer["fit"]["counts"]["complete"] == 2
    assert {"alpha", "beta", "gamma", "ratio_reached"} <= set(answer["fit"])
    assert [one["phi"] for one in answer["family"]] == [0, 1]
    recipe = (Path("runs/fitted") / "run.yaml").read_text()
    assert "reference_px: 32" in recipe  # so that resolution counts for something in the proxy
    assert "capacity_weight: 0.0" in recipe  # but not twice
    assert "train_loss_weight: 0.0" in recipe


# Latency.


def table_of(networks: ScalingSpace, file: str = "table.json", *, scale: float = 2.0) -> str:
    """A made-up table: a part takes a microsecond for each thousand MACs, and 10."""
    times = {shape: Times(1, *[0.01 + part_cost(shape).macs / 1e6] * 4) for shape in networks.graph().shapes()}
    made = LatencyTable("made-up", Conditions("torch", "a device"), times, calibration=Calibration(scale, 0.1))
    save_table(made, file)
    return file


def test_predicted_latency_of_a_family(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = table_of(scaling_space(BASE, {"phi": [0, 1, 2]}))
    family = told(capsys, base, "--phi", "0..2", "--latency", file)["family"]
    predictor = Predictor(load_table(file))
    for one in family:
        assert set(one) == KEYS | {"latency_ms"}
        assert one["latency_ms"] == predictor.latency_ms(load_architecture(one["file"]))
    assert run(["scale", base, "--phi", "3", "--latency", file]) == 2
    assert "lacks" in capsys.readouterr().err


def test_a_latency_is_solved_for(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    large = BASE.replace(resolution=224)
    save_architecture(large, "large.yaml")
    file = table_of(scaling_space(large, {"phi": [0, 1, 2, 3, 4]}))
    goal = 1.2 * Predictor(load_table(file)).latency_ms(CompoundRule().member(large, 2).architecture)
    arguments = ["--target", f"latency_ms={goal}", "--latency", file]
    assert run(["scale", "large.yaml", *arguments]) == 2
    assert "--interpolate" in capsys.readouterr().err
    (found,) = told(capsys, "large.yaml", *arguments, "--interpolate")["family"]
    assert 2 <= found["phi"] < 3
    assert found["latency_ms"] <= goal
    assert found["ratio_reached"] <= found["ratio_asked"]


def test_a_fit_to_latency(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = table_of(scaling_space(BASE, {**GRID, "phi": 1}))
    fitted = fit_scaling(base, cost="latency_ms", latency=file, **QUICK)  # type: ignore[arg-type]
    predictor = Predictor(load_table(file))
    at_base = predictor.latency_ms(BASE)
    for row in trials(fitted.search.run):
        assert 1.4 <= row["user_attrs"]["latency_ms"] / at_base <= 2.6
    assert fitted.rule is not None
    assert read_fit(fitted.search.run).cost == "latency_ms"
    with_table = told(capsys, base, "--phi", "1", "--latency", file)
    assert with_table["cost"] == "latency_ms"
    assert with_table["family"][0]["ratio_asked"] == 2
    assert with_table["family"][0]["ratio_reached"] == pytest.approx(fitted.ratio_reached)
    without = told(capsys, base, "--phi", "1")  # what is known then are multiply–adds, and what they should be
    assert without["cost"] == "macs"
    assert without["family"][0]["ratio_asked"] == pytest.approx(fitted.rule.promised)
