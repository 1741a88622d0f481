"""Folding and equalisation leave the function as it was, and do to the weights what they promise."""

import importlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lodim.landscape.quantization import QuantizedModel, equalise, find_links, fold_batch_norm, quantize
from lodim.nets import mlp
from lodim.randomness import build_seeded


def live_norms(model):
    """Give every normalisation statistics and factors far from the neutral ones, some of them negative."""
    generator = torch.Generator().manual_seed(3)

    def draw(like, low, high):
        return low + (high - low) * torch.rand(like.shape, generator=generator)

    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            norm.running_mean.copy_(draw(norm.running_mean, -1, 1))
            norm.running_var.copy_(draw(norm.running_var, 0.2, 3))
            norm.weight.data.copy_(draw(norm.weight, -1, 2))
            norm.bias.data.copy_(draw(norm.bias, -1, 1))
    return model.eval()


def stretched(model):
    """Spread the channels' ranges over three orders of magnitude, the function's scale kept."""
    generator = torch.Generator().manual_seed(4)
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            spread = torch.exp(3 * torch.randn(len(layer.weight), generator=generator))
            layer.weight.data.mul_(spread.view(-1, *[1] * (layer.weight.ndim - 1)))
            if layer.bias is not None:
                nn.init.normal_(layer.bias, generator=generator)
    return model


class Residual(nn.Module):
    """A block whose sum must not be disturbed, with functional activations and a shared layer."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)
        self.norm, self.third = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        self.twice, self.head = nn.Conv2d(4, 4, 1), nn.Linear(64, 5)

    def forward(self, x):
        y = x + self.norm(self.second(F.relu(self.first(x))))
        y = self.third(F.leaky_relu(y, 0.1))
        y = self.twice(torch.relu(self.twice(y)))
        return self.head(F.max_pool2d(y, 2).flatten(1))


def conv_net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),  # depthwise
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 1, groups=4),
        nn.LeakyReLU(0.2),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12 * 4, 10),
        nn.BatchNorm1d(10),
        nn.Dropout(0.5),
        nn.PReLU(10),
        nn.Linear(10, 4),
    )


MODELS = {
    "mlp": (lambda: mlp([6, 20, 20, 3]), (6,)),
    "convolutions": (conv_net, (3, 8, 8)),
    "residual": (Residual, (4, 8, 8)),
}


@pytest.fixture(params=MODELS)
def case(request):
    build, shape = MODELS[request.param]
    return live_norms(build_seeded(build, 0)), torch.randn(
        32, *shape, generator=torch.Generator().manual_seed(1)
    )


def relative(a, b):
    return float((a - b).abs().max() / b.abs().max())


@torch.no_grad()
def test_folding_leaves_the_output(case):
    model, x = case
    before = model(x)
    folded = fold_batch_norm(model)
    assert relative(folded(x), before) < 1e-5
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in folded.modules())
    assert torch.equal(model(x), before)  # the model itself is left alone


@torch.no_grad()
def test_equalisation_leaves_the_output_and_moves_the_weights(case):
    model, x = case
    model = stretched(fold_batch_norm(model))
    balanced = equalise(model)
    assert relative(balanced(x), model(x)) < 1e-5
    moved = [relative(a, b) for a, b in zip(balanced.parameters(), model.parameters(), strict=True)]
    assert max(moved) > 0.5


def test_links_of_each_model():
    assert [(k.first, k.second) for k in find_links(mlp([6, 20, 20, 3]))] == [("0", "2"), ("2", "4")]
    net = fold_batch_norm(live_norms(conv_net()))
    assert [(k.first, k.second) for k in find_links(net)] == [
        ("0", "3"),
        ("3", "6"),
        ("6", "10"),
        ("10", "14"),
    ]
    # the sum is read twice, `twice` is called twice, so one pair is left
    assert [(k.first, k.second) for k in find_links(Residual())] == [("first", "second")]


def test_ranges_agree_after_equalisation():
    model = stretched(build_seeded(lambda: mlp([6, 20, 3]), 0))
    product = model[0].weight.abs().amax(1) * model[2].weight.abs().amax(0)
    balanced = equalise(model)
    torch.testing.assert_close(balanced[0].weight.abs().amax(1), product.sqrt())
    torch.testing.assert_close(balanced[2].weight.abs().amax(0), product.sqrt())


def test_a_chain_settles_at_a_fixed_point():
    model = equalise(stretched(build_seeded(lambda: mlp([6, 20, 20, 3]), 0)), max_iter=100)
    for a, b in ((0, 2), (2, 4)):
        torch.testing.assert_close(
            model[a].weight.abs().amax(1), model[b].weight.abs().amax(0), rtol=1e-3, atol=0
        )


@torch.no_grad()
def test_dead_channels_stay():
    model = build_seeded(lambda: mlp([6, 5, 3]), 0)
    model[0].weight[2], model[2].weight[:, 3] = 0.0, 0.0
    x = torch.randn(8, 6)
    balanced = equalise(model)
    torch.testing.assert_close(balanced(x), model(x))
    assert torch.equal(balanced[0].weight[[2, 3]], model[0].weight[[2, 3]])


@torch.no_grad()
def test_equalisation_helps_one_scale_for_a_tensor():
    """Rounding to 8 bits with one scale loses most channels of a stretched network, and few of a balanced one."""

    def rounded_error(model):
        hat = build_seeded(lambda: mlp([6, 40, 40, 3]), 0)
        hat.load_state_dict(model.state_dict())
        for layer in hat:
            if isinstance(layer, nn.Linear):
                step = layer.weight.abs().max() / 127
                layer.weight.copy_((layer.weight / step).round() * step)
        x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
        return float((hat(x) - model(x)).norm() / model(x).norm())

    balanced = build_seeded(lambda: mlp([6, 40, 40, 3]), 0)
    model = build_seeded(lambda: mlp([6, 40, 40, 3]), 0)
    spread = torch.exp(2 * torch.randn(40, generator=torch.Generator().manual_seed(1)))
    model[0].weight.mul_(spread[:, None])
    model[2].weight.div_(spread)
    assert rounded_error(equalise(model)) < 2 * rounded_error(balanced) < rounded_error(model) / 2


def test_folded_statistics_are_the_norms_and_follow_equalisation():
    model = live_norms(
        build_seeded(lambda: nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 2)), 0)
    )
    folded = fold_batch_norm(model)
    assert torch.equal(folded[0].folded_mean, model[1].bias)
    assert torch.equal(folded[0].folded_std, model[1].weight.abs())
    assert set(folded.state_dict()) == {"0.weight", "0.bias", "3.weight", "3.bias"}
    balanced = equalise(folded)
    factor = folded[0].weight[:, 0] / balanced[0].weight[:, 0]
    torch.testing.assert_close(balanced[0].folded_mean, folded[0].folded_mean / factor)
    torch.testing.assert_close(balanced[0].folded_std, folded[0].folded_std / factor)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.norm, self.out = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.norm(self.fc(x))) if x.sum() > 0 else self.out(self.fc(x))


def test_what_cannot_be_traced_says_so():
    with pytest.raises(ValueError, match="cannot be traced"):
        fold_batch_norm(Branching())
    with pytest.raises(ValueError, match="cannot be traced"):
        equalise(Branching())
    equalise(Branching(), [("fc", "out")])  # named pairs need no tracing


def test_smooth_activations_and_norms_separate_layers():
    net = nn.Sequential(
        nn.Linear(3, 3),
        nn.GELU(),
        nn.Linear(3, 3),
        nn.BatchNorm1d(3),
        nn.Linear(3, 3),
        nn.ReLU6(),
        nn.Linear(3, 3),
    )
    assert find_links(net) == []


def test_tied_weights_are_left_alone():
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    net[2].weight = net[0].weight
    assert find_links(net) == []


def test_errors_name_the_layer():
    model = mlp([6, 5, 3])
    with pytest.raises(ValueError, match="no layer 'fc'"):
        equalise(model, [("fc", "2")])
    with pytest.raises(ValueError, match="ReLU"):
        equalise(model, [("0", "1")])
    with pytest.raises(ValueError, match="4 outputs, but the second reads 6"):
        equalise(nn.Sequential(nn.Linear(6, 4), nn.Linear(6, 3)), [("0", "1")])
    with pytest.raises(ValueError, match="auto"):
        equalise(model, "all")


def normed(*before):
    layers = (*before, nn.Linear(4, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 4))
    return live_norms(build_seeded(lambda: nn.Sequential(*layers), 0)).eval()


@pytest.mark.parametrize("recipe", ["w8", "w8a8"])
def test_a_norm_over_positions_is_not_folded_into_features(recipe):
    model, x = normed(), torch.randn(6, 7, 4, generator=torch.Generator().manual_seed(3))
    quantised = quantize(model, recipe, x)
    assert isinstance(quantised.module[1], nn.BatchNorm1d)
    assert relative(quantised(x), model(x)) < 0.05
    assert quantised.report(x).output_sqnr > 30
    assert relative(quantize(model, "w8")(x), model(x)) < 0.05  # nothing says how many axes, so it is left


def test_a_norm_over_features_is_folded_where_that_is_known(tmp_path):
    model, x = normed(), torch.randn(60, 4, generator=torch.Generator().manual_seed(3))
    quantised = quantize(model, "w8a8", x)
    assert not any(isinstance(m, nn.BatchNorm1d) for m in quantised.modules())
    assert relative(quantised(x), model(x)) < 0.05
    quantised.save(tmp_path / "m.pt")
    loaded = QuantizedModel.load(tmp_path / "m.pt", normed())
    assert torch.equal(loaded(x), quantised(x))
    for flat in (normed(nn.Flatten()), normed(nn.Flatten(), nn.Linear(4, 4), nn.GELU())):
        assert not any(isinstance(m, nn.BatchNorm1d) for m in quantize(flat, "w8").modules())
    with pytest.warns(UserWarning, match="'1' stay in floating point.*give calibration data"):
        kept = quantize(model, "w8")
    kept.save(tmp_path / "kept.pt")
    assert torch.equal(QuantizedModel.load(tmp_path / "kept.pt", normed())(x), kept(x))


def test_a_folded_norm_refuses_inputs_of_more_axes():
    x = torch.randn(6, 7, 4)
    for folded in (fold_batch_norm(normed()), quantize(normed(), "w8a8", torch.randn(20, 4))):
        with pytest.raises(ValueError, match="fold_bn=False"):
            folded(x)
    model = normed()
    torch.testing.assert_close(fold_batch_norm(model, x)(x), model(x))


def test_a_report_compares_with_the_original(monkeypatch):
    room = importlib.import_module(
        "lodim.landscape.quantization.rounding.equalise"
    )  # the function has the module's name
    model, x = normed(nn.Flatten()), torch.randn(60, 4)
    honest = quantize(model, "w8", x).report().output_sqnr
    right = room._fold

    def wrong(layer, norm):
        right(layer, norm)
        with torch.no_grad():
            layer.bias.add_(1.0)

    monkeypatch.setattr(room, "_fold", wrong)
    assert quantize(model, "w8", x).report().output_sqnr < min(honest, 25)


def test_a_weight_made_from_others_is_neither_folded_nor_equalised():
    model = normed(nn.Flatten())
    nn.utils.parametrizations.weight_norm(model[1])
    assert isinstance(fold_batch_norm(model)[2], nn.BatchNorm1d)
    with pytest.raises(ValueError, match="computed"):
        equalise(model, [("1", "4")])


def test_what_cannot_be_traced_names_the_option():
    with pytest.raises(ValueError, match=r"QuantRecipe\(fold_bn=False\)"):
        quantize(Branching(), "w8")


class Peeking(nn.Module):
    """A forward that calls its layers and reads some of their numbers itself."""

    def __init__(self, peek):
        super().__init__()
        self.conv, self.norm, self.out, self.peek = (
            nn.Conv2d(2, 6, 3),
            nn.BatchNorm2d(6),
            nn.Conv2d(6, 3, 1),
            peek,
        )

    def forward(self, x):
        return self.out(torch.relu(self.norm(self.conv(x)))), self.peek(self, x)


@pytest.mark.parametrize(
    "peek",
    [lambda net, x: F.conv2d(x, net.conv.weight), lambda net, x: net.norm.weight.sum(),
     lambda net, x: net.conv.bias.sum()],
)  # fmt: skip
def test_what_the_forward_reads_itself_is_neither_folded_nor_equalised(peek):
    model = live_norms(build_seeded(lambda: Peeking(peek), 0)).eval()
    x = torch.randn(2, 2, 6, 6)
    for changed in (fold_batch_norm(model), equalise(fold_batch_norm(model))):
        for ours, theirs in zip(changed(x), model(x), strict=True):
            torch.testing.assert_close(ours, theirs)
