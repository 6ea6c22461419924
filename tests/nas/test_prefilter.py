"""Zero-cost scores beside an evaluator: what is filtered, what is counted, and that a resumed search is the same."""

from __future__ import annotations

import functools
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import SMALL_SPACE, TINY_SPACE, FakeEvaluator, one_line_error, problem, search_loop, space, trials

from evaluators import EvaluationFailed, Evaluator, NoVerdict, Report
from nas.cheap_scores import SAMPLE, CheapScores, with_cheap_scores
from nas.cli import run
from nas.prefilter import Prefilter, PrefilterRule, parse_features, parse_prefilter
from nas.settings import Settings
from search_space import Architecture, InputError, count_cost
from search_space.errors import WorkFailed
from searchers import SEARCHERS, sample_networks

EVERY = sorted(SEARCHERS.keys() - {"netadapt", "gp"})
"""NetAdapt is not to be filtered; Optuna's Gaussian process takes its time."""


def size(architecture: Architecture) -> float:
    return float(count_cost(architecture).params)


@functools.cache
def median_size() -> float:
    posed = problem()
    return float(np.median([size(posed.space.decode(one)) for one in sample_networks(posed, 0, SAMPLE)]))


def large(architecture: Architecture) -> bool:
    return size(architecture) >= median_size()


class Scripted(Evaluator):
    """Says of each network what it is told to."""

    def __init__(self, says: Mapping[str, float | Exception]) -> None:
        self.says, self.asked = says, list[str]()

    def evaluate(self, architecture: Architecture, *, seed: int) -> Iterator[Report]:
        self.asked.append(architecture.arch_id)
        said = self.says.get(architecture.arch_id, 1.0)
        if isinstance(said, Exception):
            raise said
        yield Report(1, 1, {"scripted": said})

    def describe(self) -> dict[str, Any]:
        return {}


# The words of the request.


@pytest.mark.parametrize("text", ["naswot:0.5", " naswot : .5 ", "naswot:5e-1"])
def test_a_prefilter_is_read(text: str) -> None:
    assert parse_prefilter(text) == PrefilterRule("naswot", 0.5)
    assert str(parse_prefilter(text)) == "naswot:0.5"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("nasworth:0.5", r"--prefilter must name a zero-cost score, got 'nasworth'; .*naswot"),
        (":0.5", "must name a zero-cost score"),
        *(
            (f"naswot{share}", "share of networks above 0 and below 1")
            for share in (":0", ":1", ":50%", ":", "", ":-.5")
        ),
        ("naswot:nan", "share of networks"),
        ("naswot:0.5:0.5", "share of networks"),
    ],
)
def test_nonsense_is_refused(text: str, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        Settings(budget=1, prefilter=text)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"prefilter": "naswot:0.5", "evaluator": "table:x.json"}, "naswot needs images, and this evaluator has none"),
        ({"prefilter": "naswot:0.5", "evaluator": "zero-cost:macs"}, "needs images"),
        ({"prefilter": "macs:0.5", "evaluator": "zero-cost:macs"}, "another score than the one that is searched by"),
        ({"prefilter": "macs:0.5", "searcher": "netadapt"}, "would stop the cutting down of netadapt"),
        ({"predictor_features": "macs", "searcher": "tpe"}, "--predictor-features are for the predictor, got 'tpe'"),
        ({"predictor_features": "macs,macs"}, "must differ"),
        ({"predictor_features": "macs,"}, "must name a zero-cost score, got ''"),
        ({"predictor_features": "snip", "evaluator": "noisy-table:x.json"}, "needs images"),
        ({"predictor_features": 3}, "must be text"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        Settings(budget=1, **settings)


def test_a_request_is_kept_as_it_was_understood() -> None:
    asked = Settings(budget=1, prefilter="macs: 0.50", predictor_features="macs, synflow")
    assert (asked.prefilter, asked.predictor_features) == ("macs:0.5", "macs,synflow")
    assert Settings.from_dict({**asked.to_dict(), "workers": 1}) == Settings.from_dict(
        {**asked.to_dict(), "workers": 1}
    )
    assert parse_features("params") == ("params",)


# The threshold.


def scored(sample: list[float], share: float = 0.5) -> Prefilter:
    return Prefilter(PrefilterRule("naswot", share), np.array(sample), size)


@pytest.mark.parametrize(("share", "threshold"), [(0.5, 3.0), (0.25, 4.0), (0.01, 4.0), (0.51, 2.0), (0.99, 1.0)])
def test_the_threshold_lets_the_share_pass(share: float, threshold: float) -> None:
    assert scored([3.0, 1.0, 4.0, 2.0], share).threshold == threshold


def test_networks_without_a_score_count_as_the_worst() -> None:
    assert scored([3.0, math.nan, 4.0, 2.0]).threshold == 3.0
    assert scored([3.0, math.nan, 4.0, 2.0], 0.9).threshold == 2.0


def test_a_score_that_most_networks_lack_is_refused() -> None:
    with pytest.raises(WorkFailed, match="naswot is of no use as a prefilter: only 1 of 3 random networks"):
        scored([math.nan, math.nan, 1.0])


def test_with_nothing_to_compare_all_pass() -> None:
    assert scored([]).passes(space().decode(space().sample(np.random.default_rng(0))))


def test_no_score_does_not_pass_and_what_may_pass_is_no_verdict() -> None:
    found = [space().decode(space().sample(np.random.default_rng(seed))) for seed in range(4)]
    says: dict[str, Exception | float] = {
        found[0].arch_id: EvaluationFailed("broken"),
        found[1].arch_id: NoVerdict("full"),
        found[2].arch_id: RuntimeError("CUDA error\nat some place"),
    }
    scores = CheapScores({"scripted": Scripted(says)}, 0)
    prefilter = Prefilter(PrefilterRule("scripted", 0.5), np.zeros(4), lambda one: scores.score("scripted", one))
    with pytest.warns(UserWarning, match="scripted of .* could not be computed, .*: RuntimeError: CUDA error"):
        assert [prefilter.passes(one) for one in found] == [False, True, True, True]


# Scores are remembered.


def test_scores_are_computed_once_in_all_sessions(tmp_path: Path) -> None:
    found = [space().decode(space().sample(np.random.default_rng(seed))) for seed in range(4)]
    says = {found[0].arch_id: EvaluationFailed("broken"), found[1].arch_id: -2.5}
    file = tmp_path / "zero-cost.jsonl"
    first, second = Scripted(says), Scripted({})
    scores = CheapScores({"scripted": first}, 0, file)
    values = [scores.score("scripted", one) for one in [*found, *found]]
    assert first.asked == [one.arch_id for one in found]
    with open(file, "a") as torn:
        torn.write('{"score": "scripted", "arch')
    again = CheapScores({"scripted": second}, 0, file)
    assert [again.score("scripted", one) for one in [*found, *found]] == pytest.approx(values, nan_ok=True)
    assert not second.asked
    assert json.loads(file.read_text().splitlines()[0])["reason"] == "broken"


@pytest.mark.parametrize("text", ["[]\n", "{}\n", "x\n", '{"score": "a", "arch_id": "b", "value": "c"}\n'])
def test_a_file_that_somebody_has_edited(text: str, tmp_path: Path) -> None:
    file = tmp_path / "zero-cost.jsonl"
    file.write_text(text)
    with pytest.raises(InputError, match=r"the zero-cost scores cannot be read.*remove the file"):
        CheapScores({}, 0, file)


def test_the_sample_keeps_the_limits_and_is_the_seed_s() -> None:
    posed = problem(constraints=["params<=37K"])
    found = sample_networks(posed, 1, 50)
    assert len({posed.space.decode(one).arch_id for one in found}) == 50
    assert all(size(posed.space.decode(one)) <= 37_000 for one in found)
    assert found == sample_networks(posed, 1, 50) != sample_networks(posed, 2, 50)
    assert len(sample_networks(problem(space(TINY_SPACE)), 0, 50)) == 4
    assert sample_networks(problem(constraints=["params<=1"]), 0, 50) == []


def test_what_is_asked_for_is_all_that_is_computed() -> None:
    posed, steps = problem(), list[tuple[int, int]]()
    settings = Settings(budget=1, prefilter="macs:0.25", predictor_features="params,macs")
    hinted, passes = with_cheap_scores(posed, settings, FakeEvaluator(), None, lambda *step: steps.append(step))
    assert steps[0] == (0, SAMPLE)
    assert steps[-1] == (SAMPLE, SAMPLE)
    assert hinted.sample is not None
    assert hinted.sample.names == ("params", "macs")
    networks = [posed.space.decode(one) for one in hinted.sample.genotypes]
    assert hinted.sample.scores[:, 0].tolist() == [size(one) for one in networks]
    assert hinted.sample.scores[:, 1].tolist() == [count_cost(one).macs for one in networks]
    assert sum(map(passes, networks)) == pytest.approx(SAMPLE / 4, abs=2)
    assert with_cheap_scores(posed, Settings(budget=1), FakeEvaluator(), None, lambda *step: None)[0] is posed


# The search.


@pytest.mark.parametrize("searcher", EVERY)
def test_only_what_passes_is_evaluated(searcher: str, tmp_path: Path) -> None:
    loop = search_loop(tmp_path, searcher=searcher, budget=25, passes=large)
    assert loop.run() == "budget"
    assert loop.state.counts["complete"] == 25
    assert all(large(one.architecture) for one in loop.scored())
    rows = [row["user_attrs"] for row in trials(tmp_path)]
    assert 0 < loop.state.counts["filtered"] < 300
    assert sum(row["rejected"].get("filtered", 0) for row in rows) == loop.state.counts["filtered"]
    assert sum(len(row.get("filtered", ())) for row in rows) == loop.state.counts["filtered"]


@pytest.mark.parametrize("searcher", ["evolution", "local", "reinforce", "predictor"])
def test_ours_propose_no_network_again_that_was_filtered(searcher: str, tmp_path: Path) -> None:
    search_loop(tmp_path, searcher=searcher, budget=40, passes=large).run()
    filtered = [one for row in trials(tmp_path) for one in row["user_attrs"].get("filtered", ())]
    assert len(filtered) == len(set(filtered)) > 5


@pytest.mark.parametrize(("searcher", "window"), [*((name, 1) for name in EVERY), ("predictor", 4), ("tpe", 4)])
def test_an_interrupted_search_goes_on_as_the_unbroken_one(searcher: str, window: int, tmp_path: Path) -> None:
    def search(folder: Path, budget: int = 24) -> Any:
        loop = search_loop(folder, searcher=searcher, budget=budget, window=window, passes=large)
        loop.run()
        return loop

    whole = search(tmp_path / "whole")
    journal = (tmp_path / "whole" / "journal.log").read_text().splitlines(keepends=True)
    for kept in (3, 19):
        folder = tmp_path / f"broken-{kept}"
        folder.mkdir()
        starts = [place for place, line in enumerate(journal) if '"params"' in line]
        (folder / "journal.log").write_text("".join(journal[: starts[kept]]))
        broken = search(folder)
        assert trials(folder) == trials(tmp_path / "whole")
        assert broken.state.counts == whole.state.counts


def test_networks_to_begin_with_are_evaluated_whatever_their_score(tmp_path: Path) -> None:
    posed = problem()
    drawn = (posed.space.decode(posed.space.sample(np.random.default_rng(seed))) for seed in range(100))
    small = next(one for one in drawn if not large(one))
    loop = search_loop(tmp_path, budget=5, start=[small], passes=large)
    loop.run()
    assert loop.scored()[0].architecture.arch_id == small.arch_id


@pytest.mark.parametrize("searcher", EVERY)
def test_where_all_that_passes_is_known_the_search_ends(searcher: str, tmp_path: Path) -> None:
    tiny = space(TINY_SPACE)
    sizes = sorted(size(tiny.decode(genotype)) for genotype in sample_networks(problem(tiny), 0, 4))
    evaluator = FakeEvaluator(noisy=False)
    loop = search_loop(
        tmp_path, searched=tiny, searcher=searcher, evaluator=evaluator, passes=lambda one: size(one) >= sizes[2]
    )
    assert loop.run() == "exhausted"
    assert len(loop.scored()) == 2


def test_several_objectives_and_limits_with_a_prefilter(tmp_path: Path) -> None:
    for searcher in ("predictor", "nsga2"):
        loop = search_loop(
            tmp_path / searcher,
            searcher=searcher,
            budget=20,
            objective="accuracy,macs",
            constraints=["params<=60K", "loss<=0.9"],
            passes=large,
        )
        loop.run()
        assert loop.state.done == 20
        assert all(large(one.architecture) for one in loop.scored())


# The command line.


def test_a_search_with_a_prefilter_and_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL_SPACE)
    (tmp_path / "recipe.yaml").write_text("{resolution_px: 8, epochs: 1, max_train_images: 64, max_val_images: 64}")
    words = "search --space small.yaml --proxy recipe.yaml --budget 6 --workers 1 --seed 3 --out run --json"
    words += " --prefilter naswot:0.5 --predictor-features macs,naswot"
    assert run(words.split()) == 0
    printed = capsys.readouterr()
    first = json.loads(printed.out)
    assert first["counts"]["filtered"] > 0
    assert f"zero-cost scores: {SAMPLE}/{SAMPLE}" in printed.err
    scores = [json.loads(line) for line in (tmp_path / "run/zero-cost.jsonl").read_text().splitlines()]
    values = {(one["score"], one["arch_id"]): one["value"] for one in scores}
    threshold = sorted(values["naswot", one["arch_id"]] for one in scores[: 2 * SAMPLE : 2])[SAMPLE // 2]
    rows = [row["user_attrs"] for row in trials(tmp_path / "run")]
    assert all(values["naswot", row["arch_id"]] >= threshold for row in rows)
    assert all(values["naswot", one] < threshold for row in rows for one in row.get("filtered", ()))

    # Killed after the second trial, and resumed without, then with the scores that had been computed.
    whole, kept = trials(tmp_path / "run"), (tmp_path / "run/zero-cost.jsonl").read_text()
    journal = (tmp_path / "run/journal.log").read_text().splitlines(keepends=True)
    starts = [place for place, line in enumerate(journal) if '"params"' in line]
    for left in ("", kept[: len(kept) // 2]):
        folder = tmp_path / "broken"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "run", folder)
        (folder / "journal.log").write_text("".join(journal[: starts[2]]))
        (folder / "zero-cost.jsonl").write_text(left)
        assert run(["resume", "broken", "--json"]) == 0
        assert trials(folder) == whole
        assert json.loads(capsys.readouterr().out)["counts"] == first["counts"]


@pytest.mark.parametrize("words", ["--prefilter naswot:2", "--predictor-features size", "--prefilter macs"])
def test_what_is_refused_leaves_no_folder(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["search", "--space", "mobilenetv3", "--budget", "2", "--out", "run", *words.split()]) == 2
    assert one_line_error(capsys).startswith("error: --p")
    assert not (tmp_path / "run").exists()
