"""Zero-cost scores, against what their papers say, worked out by hand or another way."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import SMALL_SPACE, nas, of_all_types
from torch import Tensor, nn

from evaluators import EvaluationFailed, ProxyTraining, Recipe, ZeroCost, load_images
from evaluators.zero_cost import SCORES
from evaluators.zero_cost.scores import Batch
from search_space import InputError, load_architecture


def small(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), activation(), nn.Flatten(), nn.Linear(16, 5, bias=False)
    )


def images(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(6, 3, 4, 4, generator=generator), torch.randint(5, (6,), generator=generator)


def weights(model: nn.Sequential) -> list[Tensor]:
    return [model[0].weight, model[4].weight]


def test_synflow_is_the_sum_over_paths() -> None:
    """With one convolution and one linear layer, each layer's share is the sum of all paths' products."""
    model = small()
    first, last = (weight.detach().abs().double() for weight in weights(model))
    paths = sum(float(first[c].sum() * last[:, 4 * c : 4 * (c + 1)].sum()) for c in range(4))
    assert SCORES["synflow"](model, [images()]) == pytest.approx(math.log(2 * paths))


def test_synflow_does_not_overflow_in_deep_networks() -> None:
    model = nn.Sequential(*[nn.Conv2d(512, 512, 3, padding=1) for _ in range(30)], nn.Flatten(), nn.Linear(512, 2))
    batch = torch.zeros(2, 512, 1, 1), torch.zeros(2, dtype=torch.int64)
    assert 30 < SCORES["synflow"](model, [batch]) < 500


@pytest.mark.parametrize("name", ["snip", "grad_norm"])
def test_gradients_by_differences(name: str) -> None:
    model, (shown, labels) = small(nn.SiLU).double(), images()
    shown = shown.double()
    gradients = []
    for weight in weights(model):
        gradient = torch.zeros_like(weight)
        for index in range(weight.numel()):
            losses = []
            for step in (1e-6, -2e-6):
                weight.data.view(-1)[index] += step
                losses.append(F.cross_entropy(model(shown), labels).item())
            weight.data.view(-1)[index] += 1e-6
            gradient.view(-1)[index] = (losses[0] - losses[1]) / 2e-6
        gradients.append(gradient)
    expected = {
        "snip": sum((g * w).abs().sum().item() for g, w in zip(gradients, weights(model), strict=True)),
        "grad_norm": sum(g.norm().item() for g in gradients),
    }
    assert SCORES[name](model, [(shown, labels)]) == pytest.approx(expected[name], rel=1e-4)


def test_naswot_counts_units_that_agree() -> None:
    model, batch = small(), images()
    on = (model[1](model[0](batch[0])).flatten(1) > 0).numpy()
    agree = np.array([[float((a == b).sum()) for b in on] for a in on])
    assert SCORES["naswot"](model, [batch]) == pytest.approx(np.linalg.slogdet(agree)[1], rel=1e-6)


def test_naswot_of_equal_images_is_no_number() -> None:
    same = images()[0][:1].expand(6, -1, -1, -1)
    assert SCORES["naswot"](small(), [(same, images()[1])]) == -math.inf


def test_zico_is_higher_where_gradients_agree_between_batches() -> None:
    model = small()
    batches = [images(0), images(1)]
    alike = [images(0), (images(0)[0] + 0.01 * images(1)[0], images(0)[1])]
    assert SCORES["zico"](model, alike) > SCORES["zico"](model, batches) + 1
    gradients = [torch.autograd.grad(F.cross_entropy(model(x), y), weights(model)) for x, y in batches]
    expected = 0.0
    for first, second in zip(*gradients, strict=True):
        mean, spread = (first.abs() + second.abs()) / 2, (first - second).abs() / 2
        expected += math.log((mean[spread > 0] / spread[spread > 0]).sum().item())
    assert SCORES["zico"](model, batches) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", sorted(SCORES))
def test_the_model_is_left_as_it_was(name: str) -> None:
    model = small()
    before = [p.clone() for p in model.parameters()]
    SCORES[name](model, [images(0), images(1)])
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", sorted(SCORES))
@pytest.mark.parametrize("reference", ["mobilenetv3-small", "mnasnet-a1"])
def test_published_networks_have_a_score(name: str, reference: str) -> None:
    evaluator = ZeroCost(name, load_images("digits"), device="cpu")
    (report,) = evaluator.evaluate(load_architecture(reference), seed=0)
    assert math.isfinite(report.metrics[name])


@pytest.mark.parametrize("name", sorted(SCORES))
def test_networks_with_all_types_of_blocks_have_a_score(name: str) -> None:
    """Layer norms, attention, layer scale and smooth activations included."""
    (report,) = ZeroCost(name, load_images("digits"), device="cpu").evaluate(of_all_types(), seed=0)
    assert math.isfinite(report.metrics[name])


def test_what_is_no_number_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORES, "snip", lambda model, batches: math.nan)
    evaluator = ZeroCost("snip", load_images("digits"), device="cpu")
    with pytest.raises(EvaluationFailed, match="snip is nan"):
        list(evaluator.evaluate(load_architecture("mobilenetv3-small"), seed=0))


def test_it_sees_what_the_proxy_sees() -> None:
    data, recipe = load_images("digits"), Recipe(resolution_px=16, epochs=1, max_train_images=64, max_val_images=64)
    evaluator, proxy = (
        make(data) for make in (lambda d: ZeroCost("snip", d, recipe), lambda d: ProxyTraining(d, recipe))
    )
    assert torch.equal(evaluator.split("train", 3).images, proxy.split("train", 3).images)


def test_an_unknown_name() -> None:
    with pytest.raises(InputError, match="must be a known name"):
        ZeroCost("sinflow", load_images("digits"))


@pytest.mark.parametrize("name", ["naswot", "macs"])
def test_a_search_by_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL_SPACE)
    words = f"search --space small.yaml --evaluator zero-cost:{name} --budget 6 --workers 1 --out run --json"
    done = nas(*words.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert name in printed["best"]["metrics"]
    again = nas("resume", "run", "--json", cwd=tmp_path)
    assert json.loads(again.stdout)["best"]["arch_id"] == printed["best"]["arch_id"]


def test_a_misspelt_score_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL_SPACE)
    done = nas("search", "--space", "small.yaml", "--evaluator", "zero-cost:snap", "--budget", "2", cwd=tmp_path)
    assert done.returncode == 2
    assert "zero-cost:snip" in done.stderr
