"""Layers: against the ordinary ones, complex numbers and quaternions; counts, initial values, both ways to multiply."""

import copy
import io
import math
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap

from lodim.landscape.hypercomplex import (
    PHConv1d,
    PHConv2d,
    PHConv3d,
    PHConvTranspose2d,
    PHEmbedding,
    PHMAttention,
    PHMLinear,
    algebra_matrices,
)
from lodim.nets import flat_spec, mlp
from lodim.randomness import build_seeded
from lodim.training import Recipe, Replica, Task, fit, fit_replicas

CONVOLUTIONS = {
    "1d": (PHConv1d, nn.Conv1d, (9,)),
    "2d": (PHConv2d, nn.Conv2d, (9, 8)),
    "3d": (PHConv3d, nn.Conv3d, (5, 6, 5)),
}


def give(ordinary, layer):
    """The ordinary layer gets the hypercomplex one's numbers."""
    with torch.no_grad():
        ordinary.weight.copy_(layer.weight)
        if layer.bias is not None:
            ordinary.bias.copy_(layer.bias.normal_())
    return ordinary


@pytest.mark.parametrize("n", [1, 2, 4])
def test_linear_equals_the_ordinary_layer_of_that_weight(n):
    layer = PHMLinear(12, 8, n)
    ordinary, x = give(nn.Linear(12, 8), layer), torch.randn(2, 30, 12)
    torch.testing.assert_close(layer(x), ordinary(x), rtol=1e-6, atol=1e-6)
    assert layer.weight.shape == ordinary.weight.shape


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("which", CONVOLUTIONS)
@pytest.mark.parametrize("padding", [1, "same", "valid"])
def test_convolutions_equal_the_ordinary_ones_of_that_weight(n, mode, which, padding):
    ours, theirs, size = CONVOLUTIONS[which]
    options = {"padding": padding, "padding_mode": mode, "dilation": 2}
    layer = ours(4, 6, 3, n, **options)
    ordinary, x = give(theirs(4, 6, 3, **options), layer), torch.randn(2, 4, *size)
    torch.testing.assert_close(layer(x), ordinary(x), rtol=1e-5, atol=1e-6)


def test_uneven_kernels_strides_and_no_bias():
    options = {"stride": (2, 1), "padding": (0, 2), "bias": False}
    layer = PHConv2d(4, 6, (3, 5), 2, **options)
    ordinary, x = give(nn.Conv2d(4, 6, (3, 5), **options), layer), torch.randn(4, 9, 8)
    torch.testing.assert_close(layer(x), ordinary(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2])
def test_the_transposed_convolution_equals_the_ordinary_one(n):
    options = {"stride": 2, "padding": 1, "output_padding": (1, 0), "dilation": (1, 2)}
    layer = PHConvTranspose2d(4, 6, 3, n, **options)
    ordinary, x = give(nn.ConvTranspose2d(4, 6, 3, **options), layer), torch.randn(2, 4, 5, 6)
    torch.testing.assert_close(layer(x), ordinary(x), rtol=1e-5, atol=1e-6)


def test_the_quaternion_layer_multiplies_quaternions():
    layer = PHMLinear(8, 12, 4, bias=False, algebra="quaternion", dtype=torch.float64)
    x = torch.randn(5, 4, 2).double()

    def product(p, q):
        (a, b, c, d), (e, f, g, h) = p, q
        return torch.stack(
            [
                a * e - b * f - c * g - d * h,
                a * f + b * e + c * h - d * g,
                a * g - b * h + c * e + d * f,
                a * h + b * g - c * f + d * e,
            ]
        )

    for sample in x:
        expected = sum(product(layer.F[:, :, v], sample[:, v, None]) for v in range(2))
        torch.testing.assert_close(layer(sample.reshape(1, -1)).reshape(4, 3), expected)


def test_the_complex_layers_multiply_complex_numbers():
    layer = PHMLinear(6, 4, 2, bias=False, algebra="complex", dtype=torch.float64)
    x = torch.randn(5, 3, dtype=torch.complex128)
    y = x @ torch.complex(layer.F[0], layer.F[1]).T
    torch.testing.assert_close(layer(torch.cat([x.real, x.imag], 1)), torch.cat([y.real, y.imag], 1))
    conv = PHConv2d(6, 4, 3, 2, bias=False, algebra="complex", dtype=torch.float64)
    z = torch.randn(2, 3, 7, 7, dtype=torch.complex128)
    y = nn.functional.conv2d(z, torch.complex(conv.F[0], conv.F[1]))
    torch.testing.assert_close(conv(torch.cat([z.real, z.imag], 1)), torch.cat([y.real, y.imag], 1))


@pytest.mark.parametrize(("i", "o"), [(64, 256), (256, 64)])
def test_both_ways_to_multiply_agree_and_so_do_their_gradients(i, o):
    layer, x = PHMLinear(i, o, 4, dtype=torch.float64), torch.randn(3, 2, i).double()
    assert layer._is_cheaper_apart(x)
    assert not layer._is_cheaper_apart(torch.randn(200, i))
    formed = nn.functional.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer._apart(x), formed)
    weights = torch.randn_like(formed)
    apart = torch.autograd.grad((layer._apart(x) * weights).sum(), (layer.A, layer.F))
    whole = torch.autograd.grad((formed * weights).sum(), (layer.A, layer.F))
    torch.testing.assert_close(apart, whole)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3, 4)])
def test_any_leading_axes(shape):
    for layer in (PHMLinear(4, 64, 2), PHMLinear(64, 4, 2)):
        x = torch.randn(*shape, layer.in_features)
        torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        layer(torch.zeros(3, 60))


def test_evaluation_forms_small_weights_once_and_large_ones_never():
    small, large = PHMLinear(64, 256, 2).eval(), PHMLinear(1024, 2048, 2).eval()
    with torch.no_grad():
        assert not small._is_cheaper_apart(torch.zeros(1, 64))
        assert large._is_cheaper_apart(torch.zeros(1, 1024))


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_numbers_of_parameters(n):
    cube = n**3 if n > 1 else 0
    assert flat_spec(PHMLinear(12, 18, n)).numel == cube + 12 * 18 // n + 18
    assert flat_spec(PHConv2d(12, 18, (3, 2), n, bias=False)).numel == cube + 12 * 18 * 6 // n
    assert flat_spec(PHEmbedding(20, 12, n)).numel == cube + math.ceil(20 / n) * 12
    assert flat_spec(PHMAttention(12, 2, n)).numel == 4 * (cube + 144 // n + 12)


def test_fixed_algebras_are_not_trained_nor_stored():
    layer = PHMLinear(8, 8, 4, algebra="quaternion")
    assert {name for name, _ in layer.named_parameters()} == set(layer.state_dict()) == {"F", "bias"}
    assert torch.equal(layer.A.double(), algebra_matrices("quaternion"))


@pytest.mark.parametrize("algebra", ["learned", "quaternion"])
def test_initial_outputs_and_input_gradients_have_hes_variance(algebra):
    torch.manual_seed(0)
    layer = PHMLinear(256, 512, 4, algebra=algebra)
    x = torch.randn(2000, 256).requires_grad_()
    y = layer(x)
    assert float(y.detach().var()) == pytest.approx(2, rel=0.1)
    (gradient,) = torch.autograd.grad(y, x, torch.randn_like(y))
    assert float(gradient.var()) == pytest.approx(2 * 512 / 256, rel=0.1)
    conv = PHConv2d(64, 64, 3, 4, algebra=algebra)
    y = conv(torch.randn(16, 64, 10, 10))
    assert float(y.detach().var()) == pytest.approx(2, rel=0.25)
    blocks = y.detach().transpose(0, 1).flatten(1).var(1).reshape(4, -1).mean(1)
    torch.testing.assert_close(blocks, torch.full((4,), 2.0), rtol=0.25, atol=0)


def test_initial_transposed_convolutions_and_embeddings():
    torch.manual_seed(0)
    y = PHConvTranspose2d(64, 64, 4, 4, stride=2)(torch.randn(16, 64, 8, 8))[..., 2:-2, 2:-2]
    assert float(y.detach().var()) == pytest.approx(2, rel=0.25)
    assert float(PHEmbedding(1000, 64, 4).weight.detach().var()) == pytest.approx(1, rel=0.1)


def test_learned_matrices_start_orthogonal():
    A = PHMLinear(6, 6, 3, dtype=torch.float64).A
    torch.testing.assert_close(A @ A.mT, torch.eye(3).double().expand(3, 3, 3))


def test_the_papers_initial_values_are_far_too_small():
    torch.manual_seed(0)
    variances = [float(PHConv2d(256, 256, 3, 4, init="paper").weight.detach().var()) for _ in range(5)]
    expected = (
        4 * (2 / 32) * (2 / (64 * 64 * 9 + 4 * 64 * 9))
    )  # torch's fans of (4, 4, 4) and (4, 64, 64, 3, 3)
    assert sum(variances) / 5 == pytest.approx(expected, rel=0.3)
    he = float(PHConv2d(256, 256, 3, 4).weight.detach().var())
    assert he == pytest.approx(2 / (256 * 9), rel=0.1)
    assert he > 40 * expected
    bias = PHConv2d(256, 256, 3, 4, init="paper").bias
    assert 0.9 / 48 < float(bias.detach().abs().max()) <= 1 / 48


@pytest.mark.parametrize(
    "make",
    [
        lambda: PHMLinear(4, 6, 2),
        lambda: PHConv1d(4, 2, 3, 2, padding=1, padding_mode="circular"),
        lambda: PHConv2d(2, 4, 2, 2),
        lambda: PHConvTranspose2d(4, 2, 2, 2),
        lambda: PHMLinear(4, 16, 2),
    ],
)
def test_gradients_in_double_precision(make):
    layer = make().double()
    x = torch.randn((1 if isinstance(layer, PHMLinear) else 2), 4 if layer.F.shape[2] == 2 else 2).double()
    for _ in range(layer.F.ndim - 3):
        x = x.unsqueeze(-1).expand(*x.shape, 3)
    x = torch.randn_like(x).requires_grad_()
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *values):
        return functional_call(layer, dict(zip(names, values)), (x,))

    assert torch.autograd.gradcheck(run, (x, *layer.parameters()))


@pytest.mark.parametrize("padding_idx", [None, 2, -1])
def test_an_embedding_looks_up_the_rows_of_its_table(padding_idx):
    table, ids = PHEmbedding(11, 6, 3, padding_idx), torch.tensor([[0, 2, 10], [5, 4, 2]])
    torch.testing.assert_close(table(ids), table.weight[ids])
    zero = (table.weight == 0).all(1).nonzero().flatten().tolist()
    assert zero == ([] if padding_idx is None else [padding_idx % 11])
    with pytest.raises(IndexError, match="from 0 to 10, got 3 to 11"):
        table(torch.tensor([3, 11]))


def test_attention_equals_the_ordinary_one_of_its_weights():
    ours, theirs = PHMAttention(8, 2, 4), nn.MultiheadAttention(8, 2, batch_first=True)
    projections = (ours.q_proj, ours.k_proj, ours.v_proj)
    with torch.no_grad():
        for layer in (*projections, ours.out_proj):
            layer.bias.normal_()
        theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in projections]))
        theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in projections]))
    give(theirs.out_proj, ours.out_proj)
    q, kv = torch.randn(3, 5, 8), torch.randn(3, 7, 8)
    torch.testing.assert_close(ours(q, kv), theirs(q, kv, kv)[0], rtol=1e-4, atol=1e-5)
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    torch.testing.assert_close(
        ours(q, is_causal=True), theirs(q, q, q, attn_mask=causal)[0], rtol=1e-4, atol=1e-5
    )


def test_attention_weights_start_with_unit_gain():
    torch.manual_seed(0)
    q = PHMAttention(256, 4, 4).q_proj(torch.randn(500, 256))
    assert float(q.detach().var()) == pytest.approx(1, rel=0.15)


def test_what_cannot_be_is_refused_with_a_way_out():
    with pytest.raises(
        ValueError, match="n=4 does not divide out_features=10; the nearest sizes are 8 or 12"
    ):
        PHMLinear(8, 10, 4)
    with pytest.raises(ValueError, match="n=4 does not divide in_channels=3; the nearest sizes are 4"):
        PHConv2d(3, 8, 3, 4)
    with pytest.raises(ValueError, match="algebra='quaternion' has n=4, got n=2"):
        PHMLinear(8, 8, 2, algebra="quaternion")
    with pytest.raises(ValueError, match="Did you mean 'quaternion'"):
        PHMLinear(8, 8, 4, algebra="quarternion")
    with pytest.raises(ValueError, match="init must be one of 'he', 'paper'"):
        PHMLinear(8, 8, 4, init="xavier")
    with pytest.raises(NotImplementedError, match="groups=2"):
        PHConv2d(8, 8, 3, 4, groups=2)
    with pytest.raises(NotImplementedError, match="groups=2"):
        PHConvTranspose2d(8, 8, 3, 4, groups=2)
    with pytest.raises(ValueError, match="padding='same' needs stride 1"):
        PHConv2d(8, 8, 3, 4, stride=2, padding="same")
    with pytest.raises(ValueError, match="kernel_size must be one number or 2"):
        PHConv2d(8, 8, (3, 3, 3), 4)
    with pytest.raises(ValueError, match="n must be at least 1"):
        PHMLinear(8, 8, 0)
    with pytest.raises(ValueError, match="multiple of num_heads=3"):
        PHMAttention(8, 3, 4)
    with pytest.raises(ValueError, match="entry of the table of 5"):
        PHEmbedding(5, 4, 2, padding_idx=5)


def test_state_dicts_pickles_and_copies_round_trip():
    layer = PHConv2d(4, 8, 3, 4).eval()
    x = torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        expected = layer(x)  # the weight is kept now
        fresh = PHConv2d(4, 8, 3, 4).eval()
        fresh.load_state_dict(layer.state_dict())
        file = io.BytesIO()
        torch.save(layer, file)
        file.seek(0)
        for other in (fresh, copy.deepcopy(layer), torch.load(file, weights_only=False)):
            assert torch.equal(other(x), expected)
            other.F.zero_()
            assert not torch.equal(other(x), expected)
        assert torch.equal(layer(x), expected)


def test_autocast_sums_the_products_in_full_precision():
    layer, x = PHMLinear(64, 64, 4), torch.randn(256, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
        assert layer.weight.dtype == torch.float32
        assert layer(x[:1]).dtype == torch.bfloat16  # without forming the weight
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x), rtol=0.05, atol=0.1)
    half = PHMLinear(64, 64, 4, dtype=torch.bfloat16)
    assert half(x.bfloat16()).dtype == torch.bfloat16


TRACED = """
import torch
from torch import nn
from lodim.landscape.hypercomplex import PHConv2d, PHMLinear

def same(model, make, rows=(2, 3, 300)):
    batch = torch.export.Dim("batch", min=2, max=4096)
    exported = torch.export.export(model, (make(8),), dynamic_shapes=({0: batch},)).module()
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager", dynamic=True, fullgraph=True)
    for n in rows:
        x = make(n)
        torch.testing.assert_close(exported(x), model(x))
        torch.testing.assert_close(compiled(x), model(x))
        with torch.no_grad():
            model(x)
            torch.testing.assert_close(compiled(x), model(x))
    print("same")

dense = nn.Sequential(PHMLinear(16, 64, 4), nn.ReLU(), PHMLinear(64, 4, 2))
conv = nn.Sequential(PHConv2d(4, 8, 3, 4, padding=1, padding_mode="circular"), PHConv2d(8, 4, 3, 4))
for mode in (True, False):
    same(dense.train(mode), lambda n: torch.randn(n, 16))
    same(conv.train(mode), lambda n: torch.randn(n, 4, 6, 6), (2, 9))
"""


@pytest.mark.slow
def test_export_and_compilation_follow_any_batch():
    done = subprocess.run(
        [sys.executable, "-c", TRACED], capture_output=True, text=True
    )  # type checks do not trace
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["same"] * 4


def test_shapes_without_memory():
    with torch.device("meta"):
        layer = PHConv2d(64, 64, 3, 4)
    assert layer.weight.shape == (64, 64, 3, 3)
    layer = PHMLinear(8, 8, 4, algebra="quaternion", device="meta").to_empty(device="cpu")
    layer.reset_parameters()
    assert torch.equal(layer.A.double(), algebra_matrices("quaternion"))


def test_many_weights_at_once():
    layer, x = PHMLinear(8, 12, 4), torch.randn(3, 70, 8)
    stacked = {name: torch.randn(3, *p.shape) for name, p in layer.named_parameters()}
    together = vmap(lambda weights, inputs: functional_call(layer, weights, (inputs,)))(stacked, x)
    for row in range(3):
        one = {name: value[row] for name, value in stacked.items()}
        torch.testing.assert_close(
            together[row], functional_call(layer, one, (x[row],)), rtol=1e-4, atol=1e-5
        )
    ids = torch.randint(11, (3, 5))
    table = PHEmbedding(11, 6, 3)
    assert torch.equal(vmap(table)(ids), table(ids))


@pytest.mark.trains
def test_replicas_train_as_single_networks_do():
    rng = torch.Generator().manual_seed(0)
    X = torch.randn(160, 8, generator=rng)
    y = (X[:, 0] * X[:, 1] > 0).long()
    task = Task.from_arrays(X[:120], y[:120], X[120:], y[120:])

    def make():
        return nn.Sequential(PHMLinear(8, 16, 4), nn.ReLU(), *mlp([16, 2]))

    model = build_seeded(make, 0)
    spec, recipe = flat_spec(model), Recipe(epochs=3, batch_size=32)
    starts = [spec.flatten(build_seeded(make, seed)) for seed in range(2)]
    replicas = [
        Replica(start, None, torch.zeros(spec.numel), 0.01, seed) for seed, start in enumerate(starts)
    ]
    trained = fit_replicas(model, spec, replicas, task, recipe)
    for seed, (_, v) in enumerate(trained):
        single = build_seeded(make, seed)
        fit(single, task, recipe, lr=0.01, random_state=seed)
        torch.testing.assert_close(starts[seed] + v, spec.flatten(single), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int16, torch.float32])
def test_ids_are_of_the_kinds_that_torch_takes(dtype):
    with pytest.raises(TypeError, match="int32 or int64"):
        PHEmbedding(8, 4, 2)(torch.tensor([0, 1]).to(dtype))


@pytest.mark.parametrize("given", [{"stride": 0}, {"dilation": 0}, {"padding": -1}, {"kernel_size": 0}])
def test_a_convolution_that_cannot_run_is_not_made(given):
    with pytest.raises(ValueError, match=f"{next(iter(given))} must be at least"):
        PHConv2d(4, 4, **{"kernel_size": 3, "n": 2, **given})
    with pytest.raises(ValueError, match="dropout"):
        PHMAttention(8, 2, 2, dropout=2.0)
