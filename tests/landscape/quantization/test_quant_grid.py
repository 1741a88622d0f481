"""Affine grids: identities, limits, and agreement with torch's and torchao's own."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.landscape.quantization import (
    QuantSpec,
    choose_qparams,
    dequantize_affine,
    fake_quantize,
    from_blocks,
    quantize_affine,
    to_blocks,
    weight_qparams,
)
from lodim.landscape.quantization.grid.affine import block_mask, n_blocks
from lodim.randomness import torch_generator

GRIDS = [{"symmetric": False}, {"range": "full"}, {"range": "restricted"}]
GRANULARITIES = [
    {"granularity": "tensor"},
    {"granularity": "channel"},
    {"granularity": "channel", "axis": 1},
    {"granularity": "channel", "axis": -1},
    {"granularity": "group", "group_size": 4},
    {"granularity": "group", "group_size": 7},  # ragged
    {"granularity": "group", "group_size": 100},  # longer than a row
    {"granularity": "token"},
]
SPECS = [QuantSpec(b, **g, **n) for b, g, n in itertools.product((2, 8), GRIDS, GRANULARITIES)]


def weight(*shape, seed=0, **options):
    return torch.randn(*shape, generator=torch_generator(seed), **options)


def away_from_ties(x, scale, spec):
    """Where dividing by the scale and multiplying with its inverse cannot round to different sides."""
    steps = from_blocks(to_blocks(x, spec) / scale[:, None], x.shape, spec)
    return (steps - steps.floor() - 0.5).abs() > 1e-4


@pytest.mark.parametrize("options", GRANULARITIES)
@pytest.mark.parametrize("shape", [(6, 10), (4, 3, 2, 5), (1, 9)])
def test_blocks_are_undone(options, shape):
    spec, x = QuantSpec(**options), weight(*shape)
    blocks = to_blocks(x, spec)
    assert len(blocks) == n_blocks(x.shape, spec)
    assert torch.equal(from_blocks(blocks, x.shape, spec), x)
    mask = block_mask(x.shape, spec)
    own = torch.ones_like(blocks, dtype=torch.bool) if mask is None else mask
    assert int(own.sum()) == x.numel()
    assert bool((blocks[~own] == 0).all())


def test_groups_are_consecutive_inputs_of_one_output():
    x = torch.arange(20.0).reshape(2, 10)
    blocks = to_blocks(x, QuantSpec(granularity="group", group_size=4))
    assert blocks.tolist()[0] == [0, 1, 2, 3]
    assert blocks.tolist()[2] == [8, 9, 0, 0]
    assert blocks.tolist()[3] == [10, 11, 12, 13]


def test_an_axis_out_of_range_is_refused():
    with pytest.raises(ValueError, match="axis 2 is out of range"):
        to_blocks(weight(3, 4), QuantSpec(axis=2))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_codes_numbers_and_the_step_in_one_agree_to_half_a_step(spec):
    x = weight(5, 21) + 0.3
    scale, zero_point = weight_qparams(x, spec)
    codes = quantize_affine(x, scale, zero_point, spec)
    assert codes.dtype == torch.int32
    assert int(codes.min()) >= spec.qmin
    assert int(codes.max()) <= spec.qmax
    rounded = fake_quantize(x, scale, zero_point, spec)
    # up to 2^bits steps, each of division, product and difference rounds by half an eps of that
    half = 0.5 + 2 * 2**spec.bits * torch.finfo(x.dtype).eps
    assert bool((to_blocks((x - rounded).abs(), spec) <= scale[:, None] * half).all())
    assert torch.equal(dequantize_affine(codes, scale, zero_point, spec), rounded)
    assert torch.equal(quantize_affine(rounded, scale, zero_point, spec), codes)  # idempotent
    assert torch.equal(fake_quantize(rounded, scale, zero_point, spec), rounded)


@settings(max_examples=60, deadline=None)
@given(
    low=st.floats(-1e3, 1e3),
    width=st.floats(1e-3, 1e3),
    bits=st.integers(2, 16),
    grid=st.sampled_from(GRIDS),
)
def test_zero_is_exact(low, width, bits, grid):
    spec = QuantSpec(bits, granularity="tensor", **grid)
    scale, zero_point = choose_qparams(torch.tensor([low]), torch.tensor([low + width]), spec)
    zero = torch.zeros(1)
    assert fake_quantize(zero, scale, zero_point, spec).item() == 0
    assert spec.qmin <= int(zero_point) <= spec.qmax
    assert float(scale) > 0


@settings(max_examples=60, deadline=None)
@given(
    low=st.floats(-100, 100), width=st.floats(1e-2, 100), bits=st.integers(2, 8), grid=st.sampled_from(GRIDS)
)
def test_half_a_step_holds_over_the_whole_range(low, width, bits, grid):
    spec = QuantSpec(bits, granularity="tensor", **grid)
    scale, zero_point = choose_qparams(torch.tensor([low]), torch.tensor([low + width]), spec)
    x = torch.linspace(low, low + width, 401)
    error = (fake_quantize(x, scale, zero_point, spec) - x).abs().max()
    assert float(error) <= float(scale) * 0.5001 + 1e-5 * (abs(low) + width)


def test_scales_by_hand():
    low, high = torch.tensor([-1.0]), torch.tensor([3.0])
    assert choose_qparams(low, high, QuantSpec(2))[0].item() == 3.0
    assert choose_qparams(low, high, QuantSpec(2, range="full"))[0].item() == 2.0
    scale, zero_point = choose_qparams(low, high, QuantSpec(2, symmetric=False))
    assert (scale.item(), zero_point.item()) == (pytest.approx(4 / 3), 1)


def test_a_constant_zero_channel_has_scale_one():
    x = weight(3, 8)
    x[1] = 0
    for grid in GRIDS:
        scale, zero_point = weight_qparams(x, QuantSpec(4, **grid))
        assert scale[1].item() == 1
        assert torch.equal(fake_quantize(x, scale, zero_point, QuantSpec(4, **grid))[1], x[1])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(bad):
    x = weight(3, 8)
    x[1, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        weight_qparams(x, QuantSpec(4))
    with pytest.raises(ValueError, match="finite"):
        choose_qparams(torch.tensor([bad]), torch.tensor([1.0]), QuantSpec(4))


@pytest.mark.parametrize("spec", [s for s in SPECS if s.granularity in ("tensor", "channel")], ids=str)
@pytest.mark.parametrize("share", [1.0, 0.5])  # at a half, part of x lies outside
def test_numbers_and_gradients_are_torchs(spec, share):
    x = weight(6, 40).requires_grad_()
    scale, zero_point = weight_qparams(x.detach() * share, spec)
    ours = fake_quantize(x, scale, zero_point, spec)
    (ours * 2).sum().backward()
    gradient, x.grad = x.grad, None
    if spec.granularity == "tensor":
        theirs = torch.fake_quantize_per_tensor_affine(x, float(scale), int(zero_point), spec.qmin, spec.qmax)
    else:
        axis = spec.axis % x.ndim
        theirs = torch.fake_quantize_per_channel_affine(x, scale, zero_point, axis, spec.qmin, spec.qmax)
    (theirs * 2).sum().backward()
    sure = away_from_ties(x.detach(), scale, spec)
    assert sure.double().mean() > 0.8  # on a full range the largest number of each block is a tie
    torch.testing.assert_close(ours[sure], theirs[sure])
    assert torch.equal(gradient[sure], x.grad[sure])
    assert (0 < float((gradient == 0).double().mean()) < 1) or share == 1


def test_a_trained_scale_gets_the_learnt_steps_gradient():
    spec, x = QuantSpec(3, granularity="tensor"), weight(50)
    scale = torch.tensor([0.3], requires_grad=True)
    fake_quantize(x, scale, torch.zeros(1, dtype=torch.int32), spec).sum().backward()
    steps = x / 0.3
    inside = steps.round().abs() <= spec.qmax
    expected = torch.where(inside, steps.round() - steps, spec.qmax * steps.sign())
    assert scale.grad.item() == pytest.approx(expected.sum().item(), rel=1e-5)


@pytest.mark.parametrize(
    "spec", [s for s in SPECS if s.granularity in ("tensor", "group", "channel") and s.axis == 0], ids=str
)
def test_as_torchao_does_it(spec):
    primitives = pytest.importorskip("torchao.quantization.quant_primitives")
    x = weight(6, 28)
    if spec.group_size == 100:
        pytest.skip("torchao has no ragged groups")
    block = {"tensor": (6, 28), "channel": (1, 28), "group": (1, spec.group_size)}[spec.granularity]
    kind = primitives.MappingType.SYMMETRIC if spec.symmetric else primitives.MappingType.ASYMMETRIC
    options = {"target_dtype": torch.int32, "quant_min": spec.qmin, "quant_max": spec.qmax, "eps": 1e-12}
    scale, zero_point = primitives.choose_qparams_affine(x, kind, block, **options)
    codes = primitives.quantize_affine(x, block, scale, zero_point, torch.int32, spec.qmin, spec.qmax)
    back = primitives.dequantize_affine(codes, block, scale, zero_point, torch.int32, spec.qmin, spec.qmax)
    our_scale, our_zero_point = weight_qparams(x, spec)
    torch.testing.assert_close(our_scale, scale.flatten(), rtol=1e-6, atol=0)
    ours = quantize_affine(x, our_scale, our_zero_point, spec)
    sure = away_from_ties(x, our_scale, spec)
    assert torch.equal(ours[sure], codes[sure])
    rounded = dequantize_affine(ours, our_scale, our_zero_point, spec)
    torch.testing.assert_close(rounded[sure], back[sure])


def test_stochastic_rounding_is_right_on_average_and_repeatable():
    spec = QuantSpec(4, granularity="tensor", rounding="stochastic")
    x, scale, zero_point = torch.full((200_000,), 0.3), torch.ones(1), torch.zeros(1, dtype=torch.int32)
    draw = lambda seed: quantize_affine(x, scale, zero_point, spec, generator=torch_generator(seed))  # noqa: E731
    codes = draw(0)
    assert set(codes.unique().tolist()) == {0, 1}
    assert codes.double().mean().item() == pytest.approx(0.3, abs=5 * (0.21 / 200_000) ** 0.5)
    assert torch.equal(codes, draw(0))
    assert not torch.equal(codes, draw(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_computes_codes_in_single(dtype):
    spec, x = QuantSpec(8), weight(4, 64).to(dtype)
    scale, zero_point = weight_qparams(x, spec)
    assert scale.dtype == torch.float32
    assert torch.equal(
        quantize_affine(x, scale, zero_point, spec), quantize_affine(x.float(), scale, zero_point, spec)
    )
    assert fake_quantize(x, scale, zero_point, spec).dtype == dtype


def test_double_precision_is_kept():
    spec, x = QuantSpec(16), weight(4, 64, dtype=torch.float64)
    scale, zero_point = weight_qparams(x, spec)
    assert scale.dtype == torch.float64
    assert fake_quantize(x, scale, zero_point, spec).dtype == torch.float64


def test_finer_blocks_never_cost_more_in_the_worst_case():
    x = weight(16, 64)
    steps = [
        float(weight_qparams(x, s)[0].max())
        for s in (
            QuantSpec(4, granularity="tensor"),
            QuantSpec(4),
            QuantSpec(4, granularity="group", group_size=8),
        )
    ]
    assert steps == sorted(steps, reverse=True)


def test_a_range_wider_than_single_precision_has_a_scale():
    spec = QuantSpec(8, symmetric=False, granularity="tensor")
    ends = torch.tensor([-3e38, 3e38])
    scale, zero = choose_qparams(ends[:1], ends[1:], spec)
    assert float(scale) == pytest.approx(6e38 / 255)
    assert (fake_quantize(ends, scale, zero, spec) - ends).abs().max() <= scale


def test_nan_has_no_code():
    with pytest.raises(ValueError, match="NaN"):
        quantize_affine(
            torch.tensor([0.0, torch.nan]), torch.ones(1), torch.zeros(1, dtype=torch.int32),
            QuantSpec(granularity="tensor"),
        )  # fmt: skip
