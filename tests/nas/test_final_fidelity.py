"""How many finalists there are to be, and how they are to be trained."""

from __future__ import annotations

from typing import Any

import pytest

from evaluators import ProxyTraining, load_images, named_recipe
from evaluators.recipe import AUTO
from nas import api
from nas.finalists import final_fidelity
from nas.finalists.fidelity import SAME
from nas.settings import Settings
from search_space import InputError


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"finalists": 2, "final_proxy": "none"}, "--final-proxy standard"),
        ({"finalists": 2, "evaluator": "zero-cost:naswot"}, "--final-proxy standard"),
        ({"finalists": 2, "evaluator": "table:t.json"}, "--latency FILE"),
        ({"finalists": 0, "final_proxy": "standard"}, "leave out --finalists 0"),
        ({"final_proxy": "standard", "evaluator": "noisy-table:t.json"}, "have been trained"),
        ({"final_seeds": 0}, "--final-seeds must be 1 to"),
        ({"final_seeds": 2.5}, "--final-seeds must be a whole number"),
        ({"finalists": -1}, "--finalists must be 0 to"),
        ({"final_proxy": None}, "final_proxy must be text"),
        ({"budget": "3"}, "--budget must be a whole number"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Settings(**{"budget": 5, **wrong})


@pytest.mark.parametrize(
    ("idle", "words"),
    [
        ({"final_seeds": 5, "finalists": 0}, "--final-seeds needs finalists that are trained again, got 5"),
        ({"final_seeds": 5, "evaluator": "zero-cost:zico"}, "--final-seeds needs finalists"),
        ({"target_weight": -0.5}, "--target-weight needs a target"),
    ],
)
def test_what_would_do_nothing_is_refused(idle: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        api.search("mobilenetv3", 5, **idle)
    Settings(budget=5, **idle)  # as an older version may have recorded it
    Settings(budget=5, final_seeds=5).refuse_idle()


@pytest.mark.parametrize(
    ("asked", "finalists"),
    [
        ({"budget": 1}, 1),
        ({"budget": 16}, 2),
        ({"budget": 300}, 3),
        ({"budget": 300, "finalists": 0}, 0),
        ({"budget": 300, "final_proxy": "none"}, 0),
        ({"budget": 300, "evaluator": "zero-cost:zico"}, 0),
        ({"budget": 300, "evaluator": "zero-cost:zico", "final_proxy": "standard"}, 3),
        ({"budget": 300, "evaluator": "table:t.json"}, 0),
    ],
)
def test_how_many_finalists(asked: dict[str, Any], finalists: int) -> None:
    settings = Settings(**asked, workers=2)
    assert settings.finalists == finalists
    assert Settings.from_dict(settings.to_dict()) == settings


def test_runs_from_before_have_no_final_training() -> None:
    plain = Settings(budget=300, workers=2).to_dict()
    for name in ("final_proxy", "final_seeds", "finalists"):
        del plain[name]
    assert Settings.from_dict(plain).finalists == 0


@pytest.mark.parametrize(
    ("searched", "asked", "final"),
    [
        ("quick", AUTO, "standard"),
        ("standard", AUTO, "thorough"),
        ("thorough", AUTO, SAME),
        ("quick", "thorough", "thorough"),
        ("thorough", "quick", "quick"),
    ],
)
def test_the_fidelity_above(searched: str, asked: str, final: str) -> None:
    data = load_images("digits")
    evaluator = ProxyTraining(data, named_recipe(searched, data), device="cpu")
    made = final_fidelity(Settings(budget=20, final_proxy=asked), evaluator)
    assert made is not None
    assert made.name == final
    assert made.evaluator.recipe == named_recipe(searched if final == SAME else final, data)
    assert made.costs >= 1
    assert final_fidelity(Settings(budget=20, final_proxy="none"), evaluator) is None
    with pytest.raises(InputError, match="--final-proxy must be a fidelity"):
        final_fidelity(Settings(budget=20, final_proxy="thoruogh"), evaluator)
