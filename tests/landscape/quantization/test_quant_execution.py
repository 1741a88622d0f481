"""The integer-only simulation: agreement with fake quantisation, bounds, refusals, overflow."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lodim.landscape.quantization import (
    CodebookSpec,
    IntegerAgreement,
    IntegerLayer,
    QuantRecipe,
    QuantSpec,
    calibrate,
    compare_integer,
    convert,
    finetune_quantized,
    prepare,
    quantize,
)
from lodim.nets import mlp
from lodim.randomness import build_seeded, torch_generator
from lodim.training import Recipe, Task

W8A8 = QuantRecipe(QuantSpec(8), QuantSpec(symmetric=False, granularity="tensor"))
W4A8 = QuantRecipe(
    QuantSpec(4, symmetric=False, granularity="tensor"), QuantSpec(8, granularity="tensor", range="full")
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.one = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.two = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.pool, self.average = nn.MaxPool2d(3, 2, padding=1), nn.AdaptiveAvgPool2d(2)
        self.drop, self.head = nn.Dropout(), nn.Linear(32, 5)

    def forward(self, x):
        x = F.relu(self.first(x))
        x = F.relu(x + self.two(F.relu(self.one(x))))
        return self.head(self.drop(self.average(self.pool(x)).flatten(1)))


def residual():
    return build_seeded(Residual, 0).eval()


def dense():
    model = build_seeded(lambda: nn.Sequential(nn.Flatten(), *mlp([48, 32, 16, 4])), 1)
    for index in (1, 3, 5):
        model[index].bias.data = 0.1 * normal(len(model[index].bias), seed=index)
    return model


def calibrated(model, recipe, x):
    return calibrate(prepare(model, recipe), x)


def without_biases(model):
    for module in model.modules():
        if getattr(module, "bias", None) is not None:
            module.bias.data.zero_()
    return model


@pytest.mark.parametrize("make", [dense, residual])
def test_integers_agree_with_fake_quantisation(make):
    x = normal(200, 3, 4, 4) if make is dense else normal(60, 3, 16, 16)
    found = compare_integer(calibrated(make(), W8A8, x), x)
    assert found.layers[-1] == "output"
    assert min(found.within_one) >= 0.999
    assert found.output >= 0.999
    assert found.equal[0] == 1.0  # the first layer rounds the same input in the same way
    again = IntegerAgreement.from_json(found.to_json())
    assert again == found
    assert list(found.to_frame().columns) == ["equal", "within one", "largest"]


@pytest.mark.parametrize("make", [dense, residual])
def test_what_differs_is_the_rounding_of_biases(make):
    # with 4-bit weights the sums, and with them the biases, have coarse steps; without biases the two agree all over
    x = normal(200, 3, 4, 4) if make is dense else normal(60, 3, 16, 16)
    biased = compare_integer(calibrated(make(), W4A8, x), x)
    bare = compare_integer(calibrated(without_biases(make()), W4A8, x), x)
    assert min(biased.within_one[:-1]) >= 0.999
    assert min(bare.within_one) >= 0.999
    assert min(bare.equal[:-1]) > 0.995 > min(biased.equal[:-1])


def test_one_layer_is_the_plain_sum():
    x = normal(40, 12)
    model = calibrated(nn.Sequential(nn.Linear(12, 6)), W8A8, x)
    integer = convert(model, "integer")
    layer = integer.model[0]
    codes = layer.input_codes(x)
    expected = [
        [
            sum(int(w) * (int(q) - int(layer.input_zero)) for w, q in zip(row, sample)) + int(b)
            for row, b in zip(layer.weight, layer.bias)
        ]
        for sample in codes[:5]
    ]
    sums = integer.sums(x)
    assert sums.codes[:5].tolist() == expected
    assert sums.codes.abs().max() <= sums.bound
    torch.testing.assert_close(integer(x), convert(model, "fake")(x), atol=1e-4, rtol=1e-5)


def test_sums_are_whole_numbers_that_do_not_depend_on_the_batch():
    x = normal(30, 3, 16, 16)
    integer = convert(calibrated(residual(), W8A8, x), "integer")
    whole = integer.sums(x)
    assert whole.codes.dtype == torch.int64
    parts = torch.cat([integer.sums(part).codes for part in x.split(7)])
    assert torch.equal(whole.codes, parts)
    assert whole.codes.abs().max() <= whole.bound < 2**31


def test_bounds_hold_inside():
    x = 100 * normal(20, 3, 16, 16)  # far outside what was calibrated
    integer = convert(calibrated(residual(), W8A8, normal(20, 3, 16, 16)), "integer")
    checked = []

    def check(module, inputs, output):
        checked.append(bool(output.codes.abs().max() <= output.bound))

    for layer in integer.modules():
        if isinstance(layer, IntegerLayer):
            layer.register_forward_hook(check)
    integer(x)
    assert checked == [True] * 4


def test_overflow_is_refused():
    wide = nn.Sequential(nn.Linear(300, 3))
    x = normal(20, 300)
    spec = QuantSpec(16), QuantSpec(16, granularity="tensor")
    with pytest.raises(OverflowError, match=r"'0'.*32 bits"):
        convert(calibrated(wide, QuantRecipe(*spec), x), "integer")
    small = QuantRecipe(QuantSpec(8), QuantSpec(16, granularity="tensor"))
    assert convert(calibrated(wide, small, x), "integer").sums(x).bound < 2**31
    biased = nn.Sequential(nn.Linear(4, 2))
    biased[0].bias.data[:] = 1e7
    with pytest.raises(OverflowError, match="'0'"):
        convert(calibrated(biased, W8A8, normal(9, 4)), "integer")


def test_a_channel_of_zeros_keeps_its_bias():
    layer = nn.Linear(6, 3)
    layer.weight.data[1] = 0
    x = normal(30, 6)
    integer = convert(calibrated(nn.Sequential(layer), W8A8, x), "integer")
    torch.testing.assert_close(integer(x)[:, 1], layer.bias[1].detach().expand(30), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (QuantRecipe(QuantSpec(8)), "input is not quantised"),
        (QuantRecipe(QuantSpec(8), QuantSpec(8, granularity="token"), dynamic=True), "fixed by calibration"),
        (QuantRecipe(QuantSpec(8, granularity="group", group_size=8), W8A8.activations), "group"),
        (QuantRecipe(codebook=CodebookSpec(4), activations=W8A8.activations), "affine grid"),
        (QuantRecipe(QuantSpec(8), W8A8.activations, skip=("3",)), "every layer quantised; '3'"),
    ],
)
def test_recipes_without_an_integer_form(recipe, message):
    x = normal(20, 3, 4, 4)
    with pytest.raises(ValueError, match=message):
        convert(calibrated(dense(), recipe, x), "integer")


def test_a_model_that_ends_in_floating_point_is_refused():
    class Loose(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            self.layer(x)
            return x

    x = normal(9, 4)
    with pytest.raises(ValueError, match="not the sums of a quantised layer"):
        convert(calibrated(Loose(), W8A8, x), "integer")(x)


@pytest.mark.trains
@pytest.mark.parametrize("learnt", ["steps", "rounding"])
def test_learnt_grids_run_in_integers(learnt):
    x = normal(200, 48)
    y = (x[:, 0] > x[:, 1]).long()
    prepared = calibrated(dense()[1:], W8A8, x)
    if learnt == "steps":
        task = Task.from_arrays(x.numpy(), y.numpy(), x.numpy(), y.numpy())
        finetune_quantized(prepared, task, Recipe(epochs=2), lr=1e-2)
        found = compare_integer(prepared, x)
        assert min(found.within_one) >= 0.98  # six seeds: 0.995 or more; a tie may round to either side
    else:
        recipe = replace(W8A8, adaround={"steps": 30})
        fake, integer = (quantize(dense()[1:], recipe, x, mode=mode) for mode in ("fake", "integer"))
        step = float(fake(x).max() - fake(x).min()) / 255
        assert ((integer(x) - fake(x)).abs() <= step).double().mean() >= 0.999


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_same_integers_on_every_device():
    x = normal(30, 3, 16, 16)
    integer = convert(calibrated(residual(), W8A8, x), "integer")
    here = integer.sums(x).codes
    there = integer.cuda().sums(x.cuda()).codes
    assert torch.equal(here, there.cpu())


def test_a_rounded_or_packed_model_becomes_integers_too():
    model = build_seeded(lambda: nn.Sequential(nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 4)), 0)
    x = torch.randn(64, 8, generator=torch_generator(0))
    wanted = quantize(model, "w8a8", x, mode="integer")(x)
    for mode in ("fake", "packed"):
        converted = quantize(model, "w8a8", x, mode=mode)
        assert torch.equal(convert(converted.module, "integer")(x), wanted)
        for given in (converted, converted.module):
            assert compare_integer(given, x).output >= 0.99
