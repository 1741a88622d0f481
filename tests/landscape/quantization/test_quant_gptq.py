"""Second-order rounding: nearest where inputs are white, never off the grid, a smaller output error elsewhere."""

import itertools

import pytest
import torch
from torch import nn

from lodim.landscape.quantization import (
    AffineWeight,
    QuantRecipe,
    QuantSpec,
    convert,
    gptq,
    gptq_round,
    input_gram,
    output_error,
    prepare,
)
from lodim.randomness import build_seeded, torch_generator

SPECS = [
    QuantSpec(3),
    QuantSpec(2, symmetric=False, granularity="tensor"),
    QuantSpec(4, granularity="group", group_size=5),
    QuantSpec(3, symmetric=False, observer="mse"),
]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed))


def correlated(n, i):
    return normal(n, i, seed=1) @ normal(i, i, seed=2)


def small_net():
    convolutions = nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=2)
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(96, 5))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_with_uncorrelated_inputs_it_rounds_to_nearest(spec):
    weight = normal(6, 12)
    grid = AffineWeight(weight, spec)
    power = torch.rand(12, generator=torch_generator(3)) + 0.1
    rounded = gptq_round(weight, power.diag(), grid)
    torch.testing.assert_close(rounded, grid(weight))


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("order", [True, False])
def test_results_are_on_the_grid_with_less_output_error(spec, order):
    weight = normal(16, 24)
    grid = AffineWeight(weight, spec)
    gram = input_gram(correlated(200, 24), nn.Linear(24, 16))
    rounded = gptq_round(weight, gram, grid, order=order)
    torch.testing.assert_close(grid(rounded), rounded)
    assert output_error(rounded - weight, gram) < 0.7 * output_error(grid(weight) - weight, gram)


def test_the_last_column_is_best_given_the_others():
    weight = normal(5, 4)
    spec = QuantSpec(2, granularity="tensor")
    grid = AffineWeight(weight, spec)
    gram = input_gram(correlated(60, 4), nn.Linear(4, 5))
    rounded = gptq_round(weight, gram, grid, order=False, damping=0.0)
    levels = torch.arange(spec.qmin, spec.qmax + 1) * grid.scale
    for row, start in zip(rounded, weight):
        tried = [torch.cat([row[:3], level[None]]) for level in levels]
        errors = [output_error((t - start)[None], gram) for t in tried]
        assert output_error((row - start)[None], gram) == pytest.approx(min(errors), rel=1e-5)


def test_near_the_best_of_all_roundings():
    weight = normal(1, 6)
    grid = AffineWeight(weight, QuantSpec(2))
    gram = input_gram(correlated(60, 6), nn.Linear(6, 1))
    levels = (torch.arange(-1, 2) * grid.scale).tolist()
    best = min(output_error(torch.tensor([q]) - weight, gram) for q in itertools.product(levels, repeat=6))
    found = output_error(gptq_round(weight, gram, grid) - weight, gram)
    nearest = output_error(grid(weight) - weight, gram)
    assert best * (1 - 1e-6) <= found < nearest


def test_a_prepared_model_is_rounded_layer_by_layer():
    model, x = build_seeded(small_net, 0), normal(80, 2, 6, 6) + normal(80, 2, 1, 1, seed=4)
    prepared = prepare(model, QuantRecipe(QuantSpec(3)))
    errors = gptq(prepared, x)
    assert list(errors) == ["0", "4"]
    for nearest, found in errors.values():
        assert found < nearest
    exact = model(x)
    gaps = [
        (convert(p)(x) - exact).square().mean() for p in (prepared, prepare(model, QuantRecipe(QuantSpec(3))))
    ]
    assert gaps[0] < gaps[1]


def test_bad_input():
    weight = normal(2, 3)
    grid = AffineWeight(weight, QuantSpec(3))
    with pytest.raises(ValueError, match="all zero"):
        gptq_round(weight, torch.zeros(3, 3), grid)
    with pytest.raises(ValueError, match="damping"):
        gptq_round(weight, torch.eye(3), grid, damping=-1.0)


def test_what_cannot_be_rounded_says_why():
    weight, grid = normal(3, 4), AffineWeight(normal(3, 4), QuantSpec(4))
    dead = torch.diag(torch.tensor([1.0, 0.0, 2.0, 3.0]))
    assert gptq_round(weight, dead, grid).isfinite().all()
    with pytest.raises(ValueError, match=r"singular.*damping"):
        gptq_round(weight, dead, grid, damping=0.0)
    with pytest.raises(ValueError, match="NaN or infinity"):
        gptq_round(weight, dead * torch.nan, grid)
    prepared = prepare(nn.Sequential(nn.Linear(4, 3)), QuantSpec(4))
    for model in (nn.Sequential(nn.Linear(4, 3)), convert(prepared)):
        with pytest.raises(ValueError, match="still to be rounded"):
            gptq(model, normal(8, 4))
