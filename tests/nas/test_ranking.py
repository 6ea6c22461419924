"""How well scores rank, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

from nas.auditing import AuditResult, ranking
from nas.auditing.ranking import Values, rank
from nas.auditing.result import seconds_text

TRUTH = np.random.default_rng(0).normal(size=40)
NOISE = np.random.default_rng(1).normal(size=(4, 40))


def ranked(**scores: Any) -> dict[str, Any]:
    given = {name: Values("m", values, 1.0, trained=True) for name, values in scores.items()}
    ranked, baseline = rank({"macs": Values("m", TRUTH + 1.5 * NOISE[0]), **given}, TRUTH)
    assert baseline == "macs"
    return {one.name: one for one in ranked}


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


@pytest.mark.parametrize("pairs_at_once", [1, 100, 10**6])
def test_tau_of_resamples_is_that_of_scipy(pairs_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_PAIRS_AT_ONCE", pairs_at_once)
    rng = np.random.default_rng(0)
    for count, values in ((4, 2), (5, 3), (40, 1_000), (41, 7)):
        score, truth = rng.integers(values, size=(2, count)).astype(float)  # few values: many ties
        draws = rng.integers(count, size=(50, count))
        expected = [kendalltau(score[draw], truth[draw]).statistic for draw in draws]  # NaN where all are equal
        assert ranking.resampled_taus(score, truth, draws) == pytest.approx(np.nan_to_num(expected), abs=1e-12)


def test_intervals_cover_what_they_should() -> None:
    """Of samples of 40 from a large population, nearly all intervals hold its tau."""
    rng = np.random.default_rng(3)
    truth = rng.normal(size=4_000)
    score = truth + rng.normal(size=4_000)
    whole = kendalltau(score, truth).statistic
    held = 0
    for _ in range(30):
        rows = rng.integers(4_000, size=40)
        (macs,), _ = rank({"macs": Values("m", score[rows])}, truth[rows])
        low, high = macs.tau_interval
        held += low <= whole <= high
    assert held >= 25


def test_the_baseline_is_the_best_score_without_training() -> None:
    free = {"macs": NOISE[0], "naswot": [*(TRUTH + 0.5 * NOISE[1])[:39], None], "zico": [*TRUTH[:30], *[None] * 10]}
    ranked, baseline = rank(
        {**{name: Values("m", values) for name, values in free.items()}, "quick": Values("m", TRUTH, trained=True)},
        TRUTH,
    )
    found = {one.name: one for one in ranked}
    assert baseline == "naswot"  # one network without it does not matter, ten without zico do
    assert found["quick"].over_baseline == pytest.approx(1 - found["naswot"].tau)
    assert found["naswot"].over_baseline_interval == (0, 0)
    assert found["zico"].over_baseline == pytest.approx(1 - kendalltau(free["naswot"][:30], TRUTH[:30]).statistic)


def test_a_score_that_some_networks_lack_is_compared_on_the_others() -> None:
    lacking = [None if row < 10 else value for row, value in enumerate(TRUTH)]
    found = ranked(partly=lacking, hardly=[1.0, 2.0, 3.0, *[None] * 37])
    assert found["partly"].networks == 30
    assert found["partly"].tau == pytest.approx(1)
    macs = kendalltau((TRUTH + 1.5 * NOISE[0])[10:], TRUTH[10:]).statistic
    assert found["partly"].over_macs == pytest.approx(1 - macs)
    assert "hardly" not in found


def result(score: Any, networks: int = 40, costs: Mapping[str, float] | None = None) -> AuditResult:
    found = ranked(quick=score, standard=TRUTH)
    ids, scores = ("a",) * networks, tuple(found.values())
    return AuditResult(
        Path(), "s", (32,), "thorough", (), 1.0, costs or {}, ids, scores, "macs", ("quick", "standard"), {}, "time"
    )


def test_the_verdict_says_what_to_do() -> None:
    better, worse, same = (result(score).verdicts for score in (TRUTH + 0.2 * NOISE[1], -TRUTH, TRUTH + 1.6 * NOISE[3]))
    assert better[0].startswith("quick ranks better than macs, the best score without training")
    assert worse[0].startswith("quick ranks worse than macs, without training")
    assert same[0].startswith("quick ranks no better than macs, without training")
    assert "use a higher fidelity" in worse[0]
    assert len(better) == 2
    assert better[1].endswith("worth its 1 s a network")


def test_the_verdict_names_a_cheaper_proxy_that_ranks_no_worse() -> None:
    said = result(TRUTH).verdicts  # as good as standard, before it in order of cost
    assert "use quick" not in said[0]
    assert said[1].endswith(": use quick, which is cheaper and ranks no worse (tau 1.00, 1 s a network)")


@pytest.mark.parametrize(("seconds", "text"), [(0.1484, "0.148"), (34.26, "34.3"), (1101.6, "1,102")])
def test_seconds_are_written_as_people_do(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_the_verdict_says_what_an_audit_cannot_tell() -> None:
    assert result(TRUTH, networks=19).verdicts[2] == "19 networks are too few to tell scores apart: audit 40"
    [said] = result(TRUTH, costs={"quick": 9.6, "standard": 4.0}).verdicts[2:]
    assert said.startswith("thorough is but 4 times standard, and may share its preferences")
    assert result([None] * 40).verdicts[0] == "too few networks have a score by quick"
