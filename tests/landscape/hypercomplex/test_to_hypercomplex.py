"""An existing model converted: which layers, what they become, what is said about it."""

import copy
import math

import pytest
import torch
from torch import nn

from lodim.landscape.hypercomplex import (
    ConversionReport,
    PHConv2d,
    PHConvTranspose2d,
    PHEmbedding,
    PHMLinear,
    to_hypercomplex,
)
from lodim.nets import lenet, mlp, resnet, vgg


def test_all_but_the_first_and_the_last_layer():
    model = mlp([20, 16, 8, 16, 3])
    done = to_hypercomplex(model, 4)
    assert list(done.after) == ["2", "4"]
    assert all(isinstance(model.get_submodule(name), PHMLinear) for name in done.after)
    assert done.report.left_alone == {"0": "the first layer", "6": "the last layer"}
    done.undo()
    assert all(isinstance(layer, nn.Linear | nn.ReLU) for layer in model)


def test_the_ends_too_where_they_fit():
    model = mlp([784, 256, 256, 8])
    report = to_hypercomplex(model, 8, skip_first=False, skip_last=False).report
    assert report.after == 3 * 8**3 + (784 * 256 + 256 * 256 + 256 * 8) // 8 + 256 + 256 + 8
    assert report.left_alone == {}


def test_widths_that_n_does_not_divide_are_left_and_listed():
    model = nn.Sequential(*mlp([8, 8, 10, 8, 8]))
    report = to_hypercomplex(model, 4, skip_first=False, skip_last=False).report
    assert [row.name for row in report.layers] == ["0", "6"]
    assert report.left_alone == {
        "2": "n=4 does not divide out_features=10 (nearest: 8 or 12)",
        "4": "n=4 does not divide in_features=10 (nearest: 8 or 12)",
    }


def test_strict_refuses_and_changes_nothing():
    model = mlp([8, 8, 10, 8, 8])
    with pytest.raises(ValueError, match=r"cannot be converted with n=4: '2': .*8 or 12.*'4':"):
        to_hypercomplex(model, 4, strict=True)
    assert not any(isinstance(layer, PHMLinear) for layer in model)


def test_nothing_to_convert_is_an_error():
    with pytest.raises(ValueError, match="no layer is left to convert: '0': the first layer; '2': the last"):
        to_hypercomplex(mlp([8, 8, 8]), 4)
    with pytest.raises(ValueError, match="kinds must be among Linear"):
        to_hypercomplex(mlp([8, 8, 8]), 4, nn.ReLU)
    with pytest.raises(ValueError, match=r"'1.weight' is lazy"):
        to_hypercomplex(nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(4)), 4)


def test_targets_exclude_and_kinds():
    model = resnet(widths=(8, 8), depths=(1, 1))
    report = to_hypercomplex(model, 4, nn.Conv2d, exclude=["conv2"]).report
    names = [row.name for row in report.layers]
    assert names
    assert not any(name.endswith("conv2") for name in names)
    report = to_hypercomplex(model, 4, targets=[name.removesuffix("1") + "2" for name in names[:1]]).report
    assert len(report.layers) == 1


@pytest.mark.parametrize("n", [1, 2])
def test_nearest_weights_of_what_is_already_such_a_sum_change_nothing(n):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1, padding_mode="reflect"),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 4, 3, stride=2, output_padding=1),
        nn.Conv2d(4, 4, 1, dilation=2, padding="same", bias=False),
        nn.Flatten(),
        nn.Linear(4 * 10 * 10, 6),
    )
    scratch = copy.deepcopy(model)
    made = to_hypercomplex(scratch, n, skip_first=False, skip_last=False).after
    with torch.no_grad():
        for name, layer in made.items():
            model.get_submodule(name).weight.copy_(layer.weight)
    x = torch.randn(2, 4, 7, 7)
    expected = model(x)
    done = to_hypercomplex(model, n, skip_first=False, skip_last=False, weights="nearest")
    assert max(row.relative_error for row in done.report.layers) < 1e-5
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    assert isinstance(model[0], PHConv2d)
    assert isinstance(model[2], PHConvTranspose2d)


def test_the_error_said_is_the_error_made():
    model = mlp([8, 16, 16, 4])
    before = model[2].weight.detach().clone()
    row = to_hypercomplex(model, 4, weights="nearest").report.layers[0]
    missed = (model[2].weight.detach() - before).norm() / before.norm()
    assert row.relative_error == pytest.approx(float(missed), rel=1e-5)
    assert torch.equal(model[2].bias, model[2].bias)
    assert math.isnan(to_hypercomplex(mlp([8, 16, 16, 4]), 4).report.layers[0].relative_error)


def test_nearest_weights_in_a_fixed_algebra():
    model = mlp([8, 16, 16, 4])
    done = to_hypercomplex(model, 4, weights="nearest", algebra="quaternion")
    learned = to_hypercomplex(mlp([8, 16, 16, 4]), 4, weights="nearest")
    assert done.after["2"].algebra == "quaternion"
    assert done.report.after == learned.report.after - 4**3
    error, weight = done.report.layers[0].relative_error, done.before["2"].weight.detach()
    assert error == pytest.approx(float((model[2].weight.detach() - weight).norm() / weight.norm()), rel=1e-5)


def test_embeddings_on_demand():
    model = nn.Sequential(nn.Embedding(11, 8, padding_idx=0), nn.Linear(8, 8), nn.Linear(8, 2))
    table = model[0].weight.detach().clone()
    assert "0" not in to_hypercomplex(copy.deepcopy(model), 2, skip_first=False).after
    done = to_hypercomplex(model, 2, nn.Embedding, skip_first=False, skip_last=False, weights="nearest")
    assert isinstance(model[0], PHEmbedding)
    near = model[0].weight.detach()
    assert near.shape == table.shape
    assert (near[0] == 0).all()
    assert float((near - table).norm() / table.norm()) == pytest.approx(
        done.report.layers[0].relative_error, rel=0.1
    )


def test_device_dtype_mode_and_frozen_weights_are_kept():
    model = mlp([8, 8, 8, 8]).double().eval()
    model[2].weight.requires_grad_(False)
    to_hypercomplex(model, 2)
    layer = model[2]
    assert (layer.F.dtype, layer.training) == (torch.float64, False)
    assert [p.requires_grad for p in (layer.A, layer.F, layer.bias)] == [False, False, True]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.a, self.b, self.c = (nn.Linear(8, 8) for _ in range(4))
        self.b.weight = self.a.weight
        self.again = self.c
        self.last = nn.Linear(8, 8)

    def forward(self, x):
        return self.last(self.again(self.c(self.b(self.a(self.first(x))))))


def test_shared_weights_are_left_and_shared_layers_stay_shared():
    model = Tied()
    report = to_hypercomplex(model, 2).report
    assert report.left_alone["a"] == report.left_alone["b"] == "it shares a parameter with another layer"
    assert isinstance(model.c, PHMLinear)
    assert model.c is model.again
    assert [row.name for row in report.layers] == ["c"]


def test_layers_that_are_more_than_they_seem_are_left():
    class Doubled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    normed, hooked = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), nn.Linear(8, 8)
    hooked.register_forward_hook(lambda *_: None)
    layers = [normed, Doubled(8, 8), hooked, nn.Linear(8, 8)]
    report = to_hypercomplex(nn.Sequential(*layers), 2, skip_first=False, skip_last=False).report
    assert [row.name for row in report.layers] == ["3"]
    reasons = "computed from other", "forward of its own", "forward hooks"
    for reason, said in zip(reasons, report.left_alone.values(), strict=True):
        assert reason in said
    grouped = nn.Sequential(nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 8, 3))
    report = to_hypercomplex(grouped, 2, skip_first=False, skip_last=False).report
    assert report.left_alone == {"0": "groups=2, only 1 is implemented"}


@pytest.mark.parametrize("n", [2, 3, 4])
def test_resnet_18_of_widths_that_2_3_and_4_divide(n):
    with torch.device("meta"):
        model = resnet(widths=(60, 120, 240, 516))
        report = to_hypercomplex(model, n).report
    assert list(report.left_alone) == ["0", "9"]
    assert len(report.layers) == 19
    kept = sum(
        p.numel() for name, p in model.named_parameters() if name.split(".")[0] in "09" or "norm" in name
    )
    assert report.after / report.before == pytest.approx(1 / n, abs=0.01)
    assert kept < 0.01 * report.before


def test_converted_networks_train():
    for model in (resnet(widths=(4, 8), depths=(1, 1)), vgg(widths=(4, 8), depths=(1, 1))):
        to_hypercomplex(model, 4)
        model(torch.randn(2, 3, 8, 8)).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_transformers_fast_path_sees_the_converted_layers():
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).eval()
    x = torch.randn(2, 5, 8)
    expected = model(x)
    report = to_hypercomplex(model, 1, skip_first=False, skip_last=False, weights="nearest").report
    assert {row.name for row in report.layers} == {"self_attn.out_proj", "linear1", "linear2"}
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


def test_a_report_can_be_read_tabulated_drawn_and_stored():
    report = to_hypercomplex(lenet(), 2, weights="nearest").report
    assert ConversionReport.from_json(report.to_json()) == report
    frame = report.to_frame()
    assert list(frame.columns) == ["name", "kind", "before", "after", "relative_error"]
    assert frame.before.sum() - frame.after.sum() == report.before - report.after
    text = str(report)
    assert f"{report.before:,} -> {report.after:,} parameters" in text
    assert "left alone: 0 (the first layer)" in text
    assert len(report.plot().patches) == 2 * len(frame)
    fresh = to_hypercomplex(lenet(), 2).report
    assert '"relative_error": null' in fresh.to_json()
    assert str(to_hypercomplex(lenet(), 2)) == str(fresh)
