"""Models handed to torchao compute what ours do, with the same codes."""

import itertools
import warnings

import pytest
import torch
from torch import nn

from lodim.landscape.quantization import CodebookSpec, QuantRecipe, QuantSpec, quantize, to_torchao
from lodim.randomness import build_seeded, torch_generator

torchao = pytest.importorskip("torchao")
TOKENS = QuantSpec(8, granularity="token", range="full")
GRIDS = [
    QuantSpec(8),
    QuantSpec(8, granularity="tensor", range="full"),
    QuantSpec(8, symmetric=False),
    QuantSpec(4, granularity="group", group_size=16),
    QuantSpec(4, symmetric=False, granularity="group", group_size=16, observer="mse"),
    QuantSpec(3, observer="mse"),
    QuantSpec(2, symmetric=False),
    QuantSpec(1, symmetric=False, granularity="tensor"),
]


def plain():
    first, second = nn.Linear(48, 32), nn.Linear(32, 16, bias=False)
    return nn.Sequential(first, nn.ReLU(), second)


def model():
    return build_seeded(plain, 0)


@pytest.mark.parametrize(("grid", "mode"), [*zip(GRIDS, itertools.cycle(["fake", "packed"]))], ids=str)
def test_the_same_weights_and_outputs(grid, mode):
    x = torch.randn(20, 48, generator=torch_generator(1))
    ours = quantize(model(), grid, mode=mode)
    theirs = to_torchao(ours)
    for index in (0, 2):
        weight = ours.module[index].quantized_weight()
        torch.testing.assert_close(theirs[index].weight.dequantize(), weight, atol=1e-7, rtol=1e-6)
        assert theirs[index].weight.qdata.dtype == torch.int8
    torch.testing.assert_close(theirs(x), ours(x), atol=1e-5, rtol=1e-4)


def products(a, b):
    return a.int() @ b.int()


def saturated(a, b):
    """As without VNNI: products are added in pairs to 16 bits."""
    pairs = (a.int()[:, :, None] * b.int()).unflatten(1, (-1, 2)).sum(2)
    return pairs.clamp(-(2**15), 2**15 - 1).sum(1)


@pytest.fixture
def exact_products(monkeypatch):
    """What is handed over is tested, not this processor."""
    monkeypatch.setattr(torch, "_int_mm", products)


@pytest.mark.parametrize(("how", "warns"), [(products, False), (saturated, True)])
def test_a_processor_whose_products_saturate_is_said(monkeypatch, how, warns):
    monkeypatch.setattr(torch, "_int_mm", how)
    ours = quantize(model(), QuantRecipe(QuantSpec(8), TOKENS, dynamic=True))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        to_torchao(ours)
        to_torchao(quantize(model(), GRIDS[0]))  # rounds no activations
    assert [str(w.message).partition(",")[0] for w in said if "saturate" in str(w.message)] == [
        "on this processor torch's products of 8-bit integers saturate"
    ] * warns


def test_tokens_are_rounded_in_the_same_way(exact_products):
    x = torch.randn(50, 48, generator=torch_generator(2))
    recipe = QuantRecipe(QuantSpec(8), TOKENS, dynamic=True)
    ours = quantize(model(), recipe)
    theirs = to_torchao(ours)
    float_error = (ours(x) - model()(x)).abs().max()
    gap = (theirs(x) - ours(x)).abs()
    assert gap.max() < 0.5 * float_error
    assert gap.median() < 0.05 * float_error


def test_the_preset_for_tokens_goes_over(exact_products):
    x = torch.randn(50, 48, generator=torch_generator(2))
    deeper = build_seeded(lambda: nn.Sequential(*plain(), nn.Tanh(), nn.Linear(16, 4)), 0)
    ours = quantize(deeper, "w8a8-dynamic")
    exact = deeper(x)
    for quantised in (ours, to_torchao(ours)):
        assert (quantised(x) - exact).square().mean() < 1e-4 * exact.square().mean()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (QuantRecipe(QuantSpec(8), QuantSpec(8, granularity="tensor")), "activations other"),
        (QuantRecipe(QuantSpec(4), TOKENS, dynamic=True), "activations other"),
        (QuantRecipe(QuantSpec(12)), "12 bits"),
        (QuantRecipe(QuantSpec(4, granularity="group", group_size=20)), "groups of 20 do not divide 48"),
        (QuantRecipe(codebook=CodebookSpec(4)), "affine grid"),
    ],
)
def test_what_torchao_lacks_is_named(recipe, message):
    x = torch.randn(50, 48, generator=torch_generator(2))
    with pytest.raises(NotImplementedError, match=f"'0'.*{message}.*it has linear layers with"):
        to_torchao(quantize(model(), recipe, calibration=x))


def test_convolutions_and_float_models_are_refused():
    conv = nn.Sequential(nn.Conv2d(1, 2, 3))
    with pytest.raises(NotImplementedError, match="Conv2d"):
        to_torchao(quantize(conv, "w8"))
    with pytest.raises(NotImplementedError, match="without quantised layers"):
        to_torchao(model())
