"""The front door: one call, its report, and a file that gives the same outputs."""

import copy
import os
import sys

import numpy as np
import pytest
import torch
from torch import nn

from lodim.landscape.quantization import (
    PRESETS,
    ActivationQuantizer,
    AffineWeight,
    CodebookSpec,
    PackedWeight,
    QuantizedModel,
    QuantRecipe,
    QuantSpec,
    quantize,
)
from lodim.nets import fc
from lodim.randomness import build_seeded, torch_generator
from lodim.training import Task


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed))


def make():
    return fc(24, 5, width=16, depth=1)


def model():
    return build_seeded(make, 0).eval()


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_runs_and_more_bits_are_closer(preset):
    x = normal(40, 24)
    quantised = quantize(nn.Sequential(build_seeded(lambda: nn.Linear(24, 5), 0)), preset, x)
    report = quantised.report(example=x[:1])
    assert quantised(x).shape == (40, 5)
    assert report.size.total_bytes < report.size.float_bytes
    assert report.output_sqnr > 30 * (PRESETS[preset].weights.bits == 8)
    assert all(r.weight_sqnr > 0 for r in report.layers)


def test_a_bit_is_worth_six_decibels():
    ratios = [
        quantize(model(), QuantSpec(bits)).report(normal(500, 24)).output_sqnr for bits in (6, 8, 10, 12)
    ]
    steps = np.diff(ratios) / 2
    assert np.all((steps > 5) & (steps < 7))


def test_outputs_of_the_float_model_are_kept_beside():
    original, x = model(), normal(100, 24)
    quantised = quantize(original, "w8a8", x)
    assert torch.equal(quantised.float_model(x), original(x))
    assert "float" not in "".join(quantised.state_dict())
    assert not any(key.startswith("reference") for key in quantised.state_dict())


@pytest.mark.trains
@pytest.mark.parametrize(
    "recipe",
    [
        "w8a8",
        QuantSpec(4, granularity="group", group_size=5),
        "w8a8-dynamic",
        QuantRecipe(QuantSpec(3, symmetric=False, rounding="stochastic"), overrides={"3": None}),
        QuantRecipe(QuantSpec(3), bias_correction=True, adaround={"steps": 20}),
    ],
    ids=["static", "groups", "dynamic", "override", "learnt rounding"],
)
def test_files_give_the_same_outputs(recipe, tmp_path):
    x = normal(200, 24)
    _check_file(quantize(model(), recipe, x), x, tmp_path, make())


def test_a_folded_and_corrected_convolution_is_saved_too(tmp_path):
    net, x = build_seeded(convolutional, 0), normal(50, 1, 8, 8)
    net(x)  # statistics
    quantised = quantize(net.eval(), QuantRecipe(QuantSpec(4), bias_correction=True, equalise=True), x)
    _check_file(quantised, x, tmp_path, build_seeded(convolutional, 1))


def _check_file(quantised, x, tmp_path, fresh):
    packed = quantised.to_packed()
    assert torch.equal(packed(x), quantised(x))
    assert packed.size.total_bytes == quantised.size.total_bytes
    path = tmp_path / "model.pt"
    quantised.save(path)
    again = QuantizedModel.load(path, fresh)
    assert torch.equal(again(x), quantised(x))
    assert again.recipe == quantised.recipe
    assert again.size.total_bytes == quantised.size.total_bytes
    with pytest.raises(RuntimeError, match="float model"):
        again.report()
    with pytest.raises(ValueError, match="architecture"):
        QuantizedModel.load(path, fc(9, 2, width=7))


def test_a_file_is_not_much_larger_than_the_model(tmp_path):
    net = build_seeded(lambda: fc(784, 10, width=60, depth=1), 0)
    quantised = quantize(net, QuantSpec(3))
    quantised.save(tmp_path / "m.pt")
    assert os.path.getsize(tmp_path / "m.pt") < quantised.size.total_bytes + 16_384


def test_files_of_the_first_release_name_classes_where_they_were(tmp_path, monkeypatch):
    x = normal(9, 24)
    quantised = quantize(model(), "w8a8", x)
    former = {PackedWeight: "packing", AffineWeight: "fake", ActivationQuantizer: "fake"}
    with monkeypatch.context() as patch:
        for kind, module in former.items():
            patch.setattr(kind, "__module__", f"lodim.landscape.quantization.{module}")
            patch.delitem(sys.modules, kind.__module__, raising=False)
        with pytest.warns(DeprecationWarning, match=r"grid\.fake"):
            quantised.save(tmp_path / "old.pt")
    assert b"quantization.fake" in (tmp_path / "old.pt").read_bytes()
    assert torch.equal(QuantizedModel.load(tmp_path / "old.pt", make())(x), quantised(x))
    book = CodebookSpec(2, "channel").quantizer(normal(3, 8))
    levels = book._parameters.pop("levels")
    book.coefficients = nn.Parameter(levels)
    book.register_buffer("basis", torch.eye(4))
    assert torch.equal(copy.deepcopy(book).levels, levels)


def test_another_file_is_refused(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="not a quantised model"):
        QuantizedModel.load(tmp_path / "other.pt", make())


@pytest.mark.parametrize(
    "recipe", ["w8a8", QuantRecipe(adaround=True)], ids=["static inputs", "learnt rounding"]
)
def test_missing_calibration_data_are_asked_for(recipe):
    with pytest.raises(RuntimeError, match="calibration"):
        quantize(model(), recipe)


def test_scores_by_function_and_by_task():
    net, x = model(), normal(100, 24)
    y = net(x).argmax(1)
    task = Task(x, y, x, y, n_outputs=5)
    report = quantize(net, QuantSpec(3)).report(score=task)
    assert report.float_score == 1
    assert 0.2 < report.score < 1
    by_hand = quantize(net, QuantSpec(3)).report(score=lambda m: float((m(x).argmax(1) == y).double().mean()))
    assert by_hand.score == pytest.approx(report.score)


def test_the_same_seed_gives_the_same_model():
    spec = QuantSpec(3, rounding="stochastic")
    x = normal(9, 24)
    assert torch.equal(quantize(model(), spec, random_state=3)(x), quantize(model(), spec, random_state=3)(x))
    assert not torch.equal(
        quantize(model(), spec, random_state=3)(x), quantize(model(), spec, random_state=4)(x)
    )


def test_no_global_draw():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    quantize(model(), QuantSpec(3, rounding="stochastic"))(normal(3, 24))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_it_trains_nothing_and_stays_in_evaluation():
    quantised = quantize(model(), QuantSpec(4))
    assert not quantised.training
    assert not any(p.requires_grad for p in quantised.parameters())


def test_half_precision_weights_stay_half():
    net = model().to(torch.bfloat16)
    quantised = quantize(net, "w8")
    x = normal(6, 24).to(torch.bfloat16)
    assert quantised(x).dtype == torch.bfloat16
    assert torch.equal(quantised.to_packed()(x), quantised(x))
    assert quantised.size.float_bytes == 2 * sum(p.numel() for p in net.parameters())


def test_a_cast_model_is_still_compared_with_the_float_one():
    x = normal(40, 24)
    before, small = quantize(model(), "w4", x), quantize(model(), "w4", x).double()
    assert small.report().output_sqnr == pytest.approx(before.report().output_sqnr, rel=1e-4)
    assert small.report(x.double()).output_sqnr == small.report().output_sqnr


def test_an_integer_model_does_not_pack():
    with pytest.raises(ValueError, match="the model it was made from"):
        quantize(model(), "w8a8", normal(40, 24), mode="integer").to_packed()


def test_a_report_without_data_prints_no_empty_column():
    printed = str(quantize(model(), "w4").report())
    assert "weight_dB" in printed
    assert "NaN" not in printed
    assert "output" not in printed
