"""Zero-cost scores, against what their papers say, worked out by hand or another way."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
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
    model = nn.Sequential(*[nn.Conv2d(128, 128, 3, padding=1) for _ in range(50)], nn.Flatten(), nn.Linear(128, 2))
    batch = torch.zeros(2, 128, 1, 1), torch.zeros(2, dtype=torch.int64)
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


def test_naswot_is_of_hamming_distances() -> None:
    """Mellor et al. 2021, eq. 2: K_ij = N_A − d_H(c_i, c_j), c the code of an image, over the units of all layers."""
    torch.manual_seed(1)
    first, second = nn.Linear(5, 7), nn.Linear(7, 3)
    model, x = nn.Sequential(first, nn.ReLU(), second, nn.ReLU6()), torch.randn(4, 5)
    hidden = first(x)
    codes = torch.cat([hidden > 0, second(hidden.relu()) > 0], dim=1).numpy()
    kernel = np.array([[10 - np.count_nonzero(a != b) for b in codes] for a in codes])
    labels = torch.zeros(4, dtype=torch.int64)
    assert SCORES["naswot"](model, [(x, labels)]) == pytest.approx(np.linalg.slogdet(kernel)[1])


@pytest.mark.parametrize("activation", [nn.ReLU6, nn.Hardswish, nn.SiLU, nn.GELU])
def test_naswot_takes_every_activation_for_a_switch(activation: type[nn.Module]) -> None:
    assert SCORES["naswot"](small(activation), [images()]) == SCORES["naswot"](small(), [images()])


def test_synflow_is_of_the_linear_network_whatever_the_activations() -> None:
    """The product of the layers' matrices of magnitudes, each path as often as it has weights."""
    torch.manual_seed(0)
    layers = [nn.Linear(4, 40, bias=False), nn.Linear(40, 30, bias=False), nn.Linear(30, 3, bias=False)]
    product = np.linalg.multi_dot([layer.weight.detach().abs().double().numpy() for layer in reversed(layers)])
    expected = math.log(3 * product.sum())
    shown = torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)
    for activation in (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.GELU, nn.Identity):
        scaled = [nn.Linear(4, 40, bias=False), *layers[1:]]
        scaled[0].weight.data = 100 * layers[0].weight.data
        model = nn.Sequential(scaled[0], activation(), scaled[1], activation(), scaled[2])
        assert SCORES["synflow"](model, [shown]) == pytest.approx(expected + math.log(100))


@pytest.mark.parametrize(
    "norm", [lambda: nn.BatchNorm2d(4), lambda: nn.GroupNorm(2, 4), lambda: nn.LayerNorm([4, 2, 2])]
)
def test_synflow_leaves_norms_out(norm: Callable[[], nn.Module]) -> None:
    model = small()
    plain = nn.Sequential(model[0], nn.Identity(), *model[2:])
    with_norm = nn.Sequential(model[0], norm(), *model[2:])
    assert SCORES["synflow"](with_norm, [images()]) == SCORES["synflow"](plain, [images()])


def test_zico_by_the_formula() -> None:
    """Li et al. 2023, eq. 15, weight after weight."""
    model, batches = small(), [images(0), images(1), images(2)]
    gradients = []
    for shown, labels in batches:
        model.zero_grad()
        F.cross_entropy(model(shown), labels).backward()
        gradients.append([weight.grad.double().flatten().tolist() for weight in weights(model)])
    model.zero_grad(set_to_none=True)
    expected = 0.0
    for layer in range(2):
        total = 0.0
        for of_weight in zip(*(batch[layer] for batch in gradients), strict=True):
            sizes = [abs(gradient) for gradient in of_weight]
            mean = sum(sizes) / 3
            variance = sum((one - mean) ** 2 for one in sizes) / 3
            total += mean / math.sqrt(variance) if variance > 0 else 0.0
        expected += math.log(total)
    assert SCORES["zico"](model, batches) == pytest.approx(expected, rel=1e-6)


def test_zico_is_higher_where_gradients_agree_between_batches() -> None:
    batches = [images(0), images(1)]
    alike = [images(0), (images(0)[0] + 0.01 * images(1)[0], images(0)[1])]
    assert SCORES["zico"](small(), alike) > SCORES["zico"](small(), batches) + 1


def test_zico_of_batches_that_are_the_same_is_no_number() -> None:
    assert SCORES["zico"](small(), [images(0), images(0)]) == -math.inf


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
    assert torch.equal(evaluator.split("train", 3, 16).images, proxy.split("train", 3, 16).images)


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
