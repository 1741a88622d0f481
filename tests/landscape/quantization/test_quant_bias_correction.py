"""Bias correction: means of the outputs come back, from data exactly, from statistics nearly."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from lodim.landscape.quantization import (
    QuantRecipe,
    QuantSpec,
    correct_bias,
    fold_batch_norm,
    prepare,
    quantize,
)
from lodim.landscape.quantization.layer_data import layer_means
from lodim.landscape.quantization.rounding.bias_correction import rectified_mean
from lodim.nets import mlp
from lodim.randomness import build_seeded

COARSE = QuantRecipe(QuantSpec(3, granularity="tensor"))


def layers_of(model, kinds=(nn.Linear, nn.Conv2d)):
    return {name: m for name, m in model.named_modules() if isinstance(m, kinds)}


def conv():
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=False),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 4, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


@pytest.mark.parametrize(("build", "shape"), [(lambda: mlp([6, 30, 30, 3]), (6,)), (conv, (2, 8, 8))])
def test_means_agree_on_the_data_of_the_correction(build, shape):
    model = build_seeded(build, 0).eval()
    x = 1 + torch.randn(300, *shape, generator=torch.Generator().manual_seed(1))
    model_q = prepare(model, COARSE)
    names = layers_of(model)
    wanted = layer_means(model, names, x)

    def worst():
        got = layer_means(model_q, {name: model_q.get_submodule(name) for name in names}, x)
        return max(float((got[n] - wanted[n]).abs().max()) for n in names)

    before = worst()
    assert correct_bias(model_q, model, x) is model_q
    assert worst() < 1e-5 < before / 100


def test_a_first_layer_s_correction_is_the_formula():
    model = build_seeded(lambda: nn.Sequential(nn.Linear(5, 4)), 0)
    x = torch.randn(50, 5)
    model_q = correct_bias(prepare(model, COARSE), model, x)
    error = model[0].weight - model_q[0].quantized_weight()
    torch.testing.assert_close(model_q[0].layer.bias, model[0].bias + error @ x.mean(0))


def test_rectified_mean_is_the_integral():
    mean, std = np.array([-2.0, -0.3, 0.0, 0.7, 3.0]), np.array([0.5, 2.0, 1.0, 0.1, 1.5])
    expected = [stats.norm(m, s).expect(lambda z: z, lb=0) for m, s in zip(mean, std)]
    got = rectified_mean(torch.tensor(mean), torch.tensor(std))
    np.testing.assert_allclose(got.numpy(), expected, atol=1e-8)
    assert rectified_mean(torch.tensor([-1.0, 2.0]), torch.zeros(2)).tolist() == [0, 2]


def normalised_net(seed=0):
    """A network whose normalisations hold the statistics of the inputs it gets."""
    model = build_seeded(
        lambda: nn.Sequential(
            nn.Linear(20, 40),
            nn.BatchNorm1d(40),
            nn.ReLU(),
            nn.Linear(40, 40),
            nn.BatchNorm1d(40),
            nn.ReLU(),
            nn.Linear(40, 4),
        ),
        seed,
    )
    x = torch.randn(4000, 20, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for norm in (model[1], model[4]):
            norm.momentum = None
            norm.weight.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
            norm.bias.uniform_(-1, 1, generator=torch.Generator().manual_seed(2))
        model.train()(x)
    return model.eval(), x


def test_statistics_of_the_norms_do_most_of_what_data_do():
    model, x = normalised_net()
    folded = fold_batch_norm(model)
    wanted = layer_means(folded, {"3": folded[3]}, x)["3"]

    def shift(model_q):
        # the first layer stays in floating point, so that only this layer's own rounding moves its mean
        return float((layer_means(model_q, {"3": model_q[3]}, x)["3"] - wanted).norm())

    recipe = QuantRecipe(QuantSpec(3, granularity="tensor"), skip=("^0$",))
    prepared = prepare(model, recipe, calibration=x)
    plain = shift(prepared)
    assert shift(correct_bias(prepared, folded)) < plain / 5
    with pytest.raises(ValueError, match="folded"):
        correct_bias(
            prepare(model, recipe), folded
        )  # which left the normalisations, not knowing what they act on


def test_correction_without_data_folds_what_it_corrects_from():
    linear = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)).eval()
    found = quantize(linear, QuantRecipe(QuantSpec(4), bias_correction=True))
    assert not any(type(part) is nn.BatchNorm1d for part in found.module.modules())


def test_nothing_to_correct_from_or_to_correct():
    model = mlp([6, 5, 3])
    with pytest.raises(ValueError, match="give data"):
        correct_bias(prepare(model, COARSE), model)
    with pytest.raises(ValueError, match="no quantised"):
        correct_bias(model, model, torch.zeros(2, 6))
