from __future__ import annotations

import numpy as np
import pytest

from searchers.beliefs import LogGap, informative
from searchers.history import History, Observation


@pytest.mark.parametrize("scores", [np.linspace(0.1, 0.9, 30), np.array([0.9, 0.91, 0.5, -3.0]), np.zeros(5)])
def test_the_scale_keeps_the_order_and_can_be_undone(scores: np.ndarray) -> None:  # type: ignore[type-arg]
    scale = LogGap.of(scores)
    there = scale.there(np.sort(scores))
    assert (np.diff(there) >= 0).all()
    assert (np.diff(there)[np.diff(np.sort(scores)) > 0] > 0).all()
    assert scale.back(scale.there(scores)) == pytest.approx(scores)
    small = 1e-7
    slopes = (scale.there(scores) - scale.there(scores - small)) / small
    assert scale.slope(scores) == pytest.approx(slopes, rel=1e-4)


def test_the_scale_tells_good_networks_apart_better_than_bad_ones() -> None:
    scale = LogGap.of(np.array([0.0, 0.5, 0.7, 0.89, 0.9]))
    good, bad = scale.there(np.array([0.88, 0.9])), scale.there(np.array([0.0, 0.02]))
    assert good[1] - good[0] > 3 * (bad[1] - bad[0])
    # Above the best so far there is nothing to tell apart.
    assert scale.there(np.array([0.9])) == scale.there(np.array([0.95]))


def observed(scores: list[tuple[float, ...]]) -> History:
    return History(Observation(number, (number,), f"id{number}", score) for number, score in enumerate(scores))


def test_the_best_and_the_latest_are_kept() -> None:
    found = observed([(0.9,), (0.1,), (0.8,), (0.2,), (0.3,), (0.4,), (0.1,), (0.2,)]).networks
    assert [one.arch_id for one in informative(found, 4)] == ["id0", "id2", "id6", "id7"]
    assert informative(found, 8) == found
    assert informative(found, 100) == found


def test_of_several_objectives_the_front_is_kept() -> None:
    found = observed([(1, 0), (-0.2, -0.2), (0, 1), (-0.1, 0), (0, -0.1), (-0.3, 0)]).networks
    assert {one.arch_id for one in informative(found, 4)} == {"id0", "id2", "id4", "id5"}


def test_looks_are_averaged() -> None:
    history = History(
        Observation(number, (0,), "same", (score,), (excess,))
        for number, score, excess in (
            (0, 1.0, -0.5),
            (1, 3.0, 0.1),
            (2, 5.0, 0.1),
        )
    )
    (network,) = history.networks
    assert network.scores == (3.0,)
    assert network.excess == (pytest.approx(-0.1),)
    assert network.kept
    assert history.upto(2).networks[0].scores == (2.0,)
    assert len(history.upto(2)) == 2
    assert history.upto(3) is history
