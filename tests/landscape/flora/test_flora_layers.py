"""Adapted layers of every kind: equal to the layer with the moved weight, in both forms."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from lodim.landscape.flora import (
    FLoRAConv1d,
    FLoRAConv2d,
    FLoRAConv3d,
    FLoRAConvTranspose1d,
    FLoRAConvTranspose2d,
    FLoRAConvTranspose3d,
    FLoRAEmbedding,
    FLoRALayer,
    FLoRALinear,
    FLoRAWeight,
    tucker_numbers,
    tucker_product,
)

torch.manual_seed(0)
CASES = {
    "linear": (FLoRALinear, nn.Linear(6, 8), 3, (4, 6)),
    "linear, no bias, 3-D input": (FLoRALinear, nn.Linear(6, 8, bias=False), (2, 3), (4, 5, 6)),
    "conv1d": (FLoRAConv1d, nn.Conv1d(4, 6, 5, padding=2, dilation=2), 3, (2, 4, 17)),
    "conv2d": (FLoRAConv2d, nn.Conv2d(4, 6, 3, stride=2, padding=1), 3, (2, 4, 9, 8)),
    "conv2d, groups": (FLoRAConv2d, nn.Conv2d(8, 12, 3, padding=1, groups=4), 2, (2, 8, 6, 5)),
    "conv2d, depthwise": (FLoRAConv2d, nn.Conv2d(8, 8, (3, 2), groups=8), (4, 1, 2, 2), (2, 8, 6, 5)),
    "conv2d, reflect": (FLoRAConv2d, nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), 3, (2, 4, 7, 7)),
    "conv2d, circular, even": (
        FLoRAConv2d, nn.Conv2d(4, 6, (2, 4), padding="same", padding_mode="circular"), 3, (2, 4, 7, 7),
    ),
    "conv2d, same, dilated": (FLoRAConv2d, nn.Conv2d(4, 6, 3, padding="same", dilation=2), (5, 2), (2, 4, 7, 7)),
    "conv2d, one image": (FLoRAConv2d, nn.Conv2d(4, 6, 3), 2, (4, 7, 7)),
    "conv3d": (FLoRAConv3d, nn.Conv3d(4, 6, (1, 3, 2), stride=(1, 2, 1)), 2, (2, 4, 3, 7, 5)),
    "transposed 1d": (FLoRAConvTranspose1d, nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1), 3, (2, 4, 7)),
    "transposed 2d, groups": (
        FLoRAConvTranspose2d, nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, groups=2), (4, 2, 2), (2, 8, 5, 4),
    ),
    "transposed 3d": (FLoRAConvTranspose3d, nn.ConvTranspose3d(4, 3, 2, dilation=2), 2, (2, 4, 3, 3, 2)),
}  # fmt: skip


def inputs(shape, seed=1):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def adapted(case, **options):
    cls, base, r, shape = CASES[case]
    layer = cls(copy.deepcopy(base).double(), r, random_state=0, **options)
    return layer, inputs(shape)


def moved(layer, seed=2):
    """With a core that is not zero any more."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for core in layer.flora_core.values():
            core.copy_(torch.randn(core.shape, dtype=torch.float64, generator=g))
    return layer


def reference(layer, x, *args):
    """The plain layer with its weight replaced by W0 + Delta."""
    plain = copy.deepcopy(layer.base_layer)
    G, U = layer.flora_core["default"], list(layer.flora_factors["default"])
    plain.weight = nn.Parameter((plain.weight + layer.scale["default"] * tucker_product(G, U)).detach())
    return plain(x, *args)


@pytest.mark.parametrize("form", ["auto", "materialize", "chain"])
@pytest.mark.parametrize("case", CASES)
def test_at_first_it_is_the_base_layer_bit_for_bit(case, form):
    layer, x = adapted(case, form=form)
    assert torch.equal(layer(x), layer.base_layer(x))


@pytest.mark.parametrize("form", ["materialize", "chain"])
@pytest.mark.parametrize("case", CASES)
def test_it_is_the_layer_with_the_moved_weight(case, form):
    layer, x = adapted(case, form=form, scale=0.7)
    moved(layer)
    assert layer.uses(x) == form
    assert not torch.allclose(layer(x), layer.base_layer(x))
    torch.testing.assert_close(layer(x), reference(layer, x))
    torch.testing.assert_close(layer.weight - layer.base_layer.weight, layer.delta())


@pytest.mark.parametrize("case", CASES)
def test_both_forms_have_the_gradient_of_finite_differences(case):
    layer, x = adapted(case, scale=1.3)
    moved(layer)
    trained = [p for p in layer.parameters() if p.requires_grad]
    gradients = {}
    for form in ("materialize", "chain"):
        layer.form = form
        gradients[form] = torch.autograd.grad(layer(x).square().sum(), trained)
    for one, other in zip(gradients["materialize"], gradients["chain"]):
        torch.testing.assert_close(one, other)
    direction, step = [torch.randn_like(p) for p in trained], 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, v in zip(trained, direction):
                p.add_(sign * step * v)
            values.append(float(layer(x).square().sum()))
            for p, v in zip(trained, direction):
                p.sub_(sign * step * v)
    slope = sum(float((g * v).sum()) for g, v in zip(gradients["chain"], direction))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_only_core_and_factors_are_trained_and_counted(case):
    layer, x = adapted(case)
    trained = {name for name, p in layer.named_parameters() if p.requires_grad}
    n_modes = layer.base_layer.weight.ndim
    assert trained == {"flora_core.default", *(f"flora_factors.default.{n}" for n in range(n_modes))}
    numbers = sum(p.numel() for p in layer.parameters() if p.requires_grad)
    assert numbers == tucker_numbers(layer.base_layer.weight.shape, layer.ranks["default"])
    layer(x).square().sum().backward()
    assert all(p.grad is None for p in layer.base_layer.parameters())
    assert layer.flora_core["default"].grad.abs().sum() > 0
    assert all(
        float(U.grad.abs().sum()) == 0 for U in layer.flora_factors["default"]
    )  # from the second step on


@pytest.mark.parametrize("case", CASES)
def test_merging_changes_no_output_and_unmerging_restores_the_bits(case):
    layer, x = adapted(case)
    moved(layer)
    expected, original = layer(x), layer.base_layer.weight.clone()
    layer.merge()
    torch.testing.assert_close(layer(x), expected)
    assert torch.equal(layer(x), layer.base_layer(x))
    assert not torch.equal(layer.base_layer.weight, original)
    layer.unmerge()
    assert torch.equal(layer.base_layer.weight, original)
    assert torch.equal(layer(x), expected)


def test_merging_in_single_precision_errs_by_1e_6_at_most():
    layer = FLoRAConv2d(nn.Conv2d(32, 64, 3), (16, 16, 3), random_state=0)
    nn.init.normal_(layer.flora_core["default"])
    exact = layer.base_layer.weight.double() + tucker_product(
        layer.flora_core["default"].double(), [U.double() for U in layer.flora_factors["default"]]
    )
    layer.merge()
    assert float((layer.base_layer.weight - exact).detach().norm() / exact.detach().norm()) < 1e-6


def test_the_output_size_of_a_transposed_convolution_is_passed_on():
    base = nn.ConvTranspose2d(4, 6, 3, stride=2).double()
    x = inputs((1, 4, 5, 5))
    for form in ("materialize", "chain"):
        layer = moved(FLoRAConvTranspose2d(base, 2, form=form, random_state=0))
        assert layer(x, output_size=(12, 12)).shape[-2:] == (12, 12)
        torch.testing.assert_close(layer(x, [12, 12]), reference(layer, x, [12, 12]))


@pytest.mark.parametrize("form", ["auto", "materialize", "chain"])
def test_an_embedding_moves_single_rows_and_never_the_padding_one(form):
    layer = moved(
        FLoRAEmbedding(nn.Embedding(20, 6, padding_idx=3).double(), (5, 4), form=form, random_state=0)
    )
    tokens = torch.tensor([[0, 3, 7], [19, 3, 1]])
    out = layer(tokens)
    torch.testing.assert_close(out, layer.weight[tokens])
    assert not out[:, 1].any()
    change = (out - layer.base_layer(tokens)).reshape(-1, 6)
    assert len(change.round(decimals=6).unique(dim=0)) == 5  # every other token by an amount of its own
    out.sum().backward()
    assert layer.flora_factors["default"][0].grad[3].abs().sum() == 0


def test_dropout_works_in_training_only_and_on_the_updates_input():
    for form in ("materialize", "chain"):
        layer = moved(FLoRALinear(nn.Linear(50, 40).double(), 4, dropout=0.5, form=form, random_state=0))
        plain = copy.deepcopy(layer)
        plain.dropout["default"] = 0.0
        x = inputs((3, 50))
        layer.eval()
        torch.testing.assert_close(layer(x), plain(x))
        layer.train()
        torch.manual_seed(1)
        out = layer(x)
        torch.manual_seed(1)
        dropped = nn.functional.dropout(x, 0.5)
        torch.testing.assert_close(out, layer.base_layer(x) + dropped @ layer.delta().T)
        layer.dropout["default"] = 1.0
        torch.testing.assert_close(layer(x), layer.base_layer(x))


def test_dropout_of_an_embedding_spares_whole_tokens():
    layer = moved(FLoRAEmbedding(nn.Embedding(9, 6).double(), 2, dropout=0.5, random_state=0))
    torch.manual_seed(0)
    change = layer(torch.arange(9)) - layer.base_layer(torch.arange(9))
    dropped = change.abs().sum(1) == 0
    assert 0 < dropped.sum() < 9
    torch.testing.assert_close(change[~dropped], 2 * layer.delta()[~dropped])


def test_several_adapters_add_up_and_one_alone_is_trained():
    layer, x = adapted("conv2d")
    layer.add("second", (2, 2), scale=2.0, random_state=1)
    moved(layer)
    first, second = layer.delta("default"), layer.delta("second")
    torch.testing.assert_close(layer.delta(), first)
    layer.set_adapter(["default", "second"])
    torch.testing.assert_close(layer.delta(), first + second)
    for form in ("materialize", "chain"):
        layer.form = form
        torch.testing.assert_close(
            layer(x), layer.base_layer._conv_forward(x, layer.weight, layer.base_layer.bias)
        )
    layer.set_adapter("second")
    assert {n.split(".")[1] for n, p in layer.named_parameters() if p.requires_grad} == {"second"}
    layer.delete("second")
    assert torch.equal(layer(x), layer.base_layer(x))


def test_a_merged_layer_refuses_other_adapters_until_unmerged():
    layer, _ = adapted("linear")
    layer.merge()
    with pytest.raises(RuntimeError, match="unmerge before you choose adapters"):
        layer.set_adapter("default")
    with pytest.raises(RuntimeError, match="unmerge before you delete"):
        layer.delete("default")


def test_weights_that_are_not_finite_are_not_merged():
    layer, _ = adapted("linear")
    with torch.no_grad():
        layer.flora_core["default"].fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        layer.merge()
    assert layer.merged == ()


def test_full_ranks_take_any_update():
    pytest.importorskip("tensorly")
    from lodim.landscape.flora import from_delta

    for case, (cls, base, _, _) in CASES.items():
        ranks = tuple(base.weight.shape)
        layer = cls(copy.deepcopy(base).double(), ranks, scale=0.5)
        delta = inputs(ranks, seed=3)
        from_delta(delta, ranks).write_to(layer)
        torch.testing.assert_close(layer.delta(), delta, atol=1e-10, rtol=1e-10, msg=case)


def test_by_cost_a_short_batch_is_chained_and_thick_ranks_are_materialised():
    thin = FLoRALinear(nn.Linear(512, 512), 4)
    assert thin.uses(torch.zeros(16, 512)) == "chain"
    conv = FLoRAConv2d(nn.Conv2d(32, 32, 1), 32)
    with torch.no_grad():
        assert conv.uses(torch.zeros(8, 32, 32, 32)) == "materialize"


class Standardised(nn.Conv2d):
    def forward(self, x):
        w = (self.weight - self.weight.mean()) / self.weight.std()
        return nn.functional.conv2d(x, w, self.bias)


def test_a_layer_with_a_forward_of_its_own_keeps_it():
    base = Standardised(3, 4, 3)
    x = torch.randn(2, 3, 6, 6)
    layer = FLoRAConv2d(base, 2, random_state=0)
    nn.init.normal_(layer.flora_core["default"])
    plain = copy.deepcopy(base)
    plain.weight = nn.Parameter(layer.weight.detach())
    torch.testing.assert_close(layer(x), plain(x))
    with pytest.raises(ValueError, match="form='chain' needs the update on a path of its own"):
        FLoRAConv2d(base, 2, form="chain")
    with pytest.raises(ValueError, match="dropout needs"):
        FLoRAConv2d(base, 2, dropout=0.1)


class Columns(nn.Module):
    """A linear map kept as (in, out), like GPT-2's."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 7))

    def forward(self, x):
        return x @ self.weight


def test_any_module_with_a_weight_can_be_adapted():
    layer = FLoRALayer(Columns(), 2, random_state=0)
    nn.init.normal_(layer.flora_core["default"])
    x = torch.randn(3, 5)
    torch.testing.assert_close(layer(x), x @ (layer.base_layer.weight + layer.delta()))


def test_the_layers_attributes_are_the_base_layers():
    layer, _ = adapted("conv2d")
    assert (layer.in_channels, layer.stride, layer.bias) == (4, (2, 2), layer.base_layer.bias)
    with pytest.raises(AttributeError, match="nonsense"):
        layer.nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: FLoRALinear(nn.Conv2d(2, 2, 1), 1), TypeError, "adapts a Linear, got Conv2d"),
        (lambda: FLoRALinear(nn.LazyLinear(3), 1), TypeError, "lazy"),
        (lambda: FLoRALinear(nn.Linear(3, 3), 4), ValueError, "larger than mode 1"),
        (lambda: FLoRALinear(nn.Linear(3, 3), 1, form="chian"), ValueError, "Did you mean 'chain'"),
        (lambda: FLoRALinear(nn.Linear(3, 3), 1, adapter_name="a.b"), ValueError, "has no dot"),
        (lambda: FLoRALinear(nn.Linear(3, 3), 1, dropout=1.5), ValueError, "dropout"),
        (lambda: FLoRAEmbedding(nn.Embedding(3, 3, max_norm=1.0), 1), TypeError, "max_norm"),
        (lambda: FLoRALayer(nn.ReLU(), 1), TypeError, "no floating-point weight"),
    ],
)
def test_what_cannot_be_adapted_is_said(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_seed_gives_the_same_factors_and_other_seeds_others():
    def factor(seed):
        return FLoRALinear(nn.Linear(9, 9), 3, random_state=seed).flora_factors["default"][0]

    assert torch.equal(factor(0), factor(0))
    assert not torch.equal(factor(0), factor(1))


def test_factors_start_with_the_variance_of_the_paper():
    layer = FLoRALinear(nn.Linear(3000, 4000), 8, random_state=0)
    for U in layer.flora_factors["default"]:
        assert float(U.detach().std()) == pytest.approx((2 / (4 * 8)) ** 0.5, rel=0.02)
        assert float(U.detach().mean()) == pytest.approx(0, abs=0.01)


# precision and compilation


@pytest.mark.parametrize("form", ["materialize", "chain"])
@pytest.mark.parametrize("case", ["linear", "conv2d, groups", "transposed 2d, groups"])
def test_under_autocast_the_output_and_gradient_are_close(case, form):
    layer, x = adapted(case, form=form)
    layer, x = moved(layer).float(), x.float()
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, atol=0.1 * float(expected.detach().std()), rtol=0.05)
    out.float().sum().backward()
    assert layer.flora_core["default"].grad.dtype == torch.float32


@pytest.mark.parametrize("form", ["materialize", "chain"])
def test_half_precision_layers_have_single_precision_adapters(form):
    layer = FLoRALinear(nn.Linear(8, 8).bfloat16(), 2, form=form)
    assert layer.flora_core["default"].dtype == torch.float32
    out = layer(torch.randn(3, 8, dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16
    layer.merge()
    assert layer.base_layer.weight.dtype == torch.bfloat16


# as a parametrization


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (5, 4, 3, 2), (4, 3, 3, 2, 2)])
def test_a_parametrized_weight_moves_by_the_product(shape):
    module = nn.Module()
    module.kernel = nn.Parameter(torch.randn(shape))
    before = module.kernel.detach().clone()
    update = FLoRAWeight(shape, (2, 2, *shape[2:]), scale=3.0, random_state=0)
    parametrize.register_parametrization(module, "kernel", update)
    assert torch.equal(module.kernel, before)
    nn.init.normal_(update.core)
    torch.testing.assert_close(module.kernel, before + 3 * tucker_product(update.core, list(update.factors)))
    merged = module.kernel.detach().clone()
    parametrize.remove_parametrizations(module, "kernel", leave_parametrized=True)
    assert torch.equal(module.kernel, merged)


def test_attentions_own_projection_can_be_parametrized():
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(2, 5, 8)
    before = attention(x, x, x)[0]
    update = FLoRAWeight(attention.in_proj_weight.shape, 4)
    parametrize.register_parametrization(attention, "in_proj_weight", update)
    torch.testing.assert_close(attention(x, x, x)[0], before)
    attention(x, x, x)[0].sum().backward()
    assert update.core.grad.abs().sum() > 0


class Named(nn.Linear):
    """A layer with a forward of its own, whose input has another name."""

    def forward(self, tokens, *, twice=False):
        return super().forward(tokens) * (1 + twice)


def test_arguments_are_the_base_layers_own():
    x = torch.randn(2, 4)
    layer = FLoRALayer(Named(4, 3), 2)
    torch.testing.assert_close(layer(tokens=x, twice=True), layer.base_layer(x, twice=True))
    for made in (layer, FLoRALinear(nn.Linear(4, 3), 2)):
        with pytest.raises(TypeError, match="missing 1 required"):
            made()
