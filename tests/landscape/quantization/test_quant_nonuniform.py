"""Grids that are not uniform: the known distortions of Lloyd-Max, exact cases, monotone fits, gradients."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.landscape.quantization.levels import nearest_level
from lodim.landscape.quantization.nonuniform import (
    BinaryCodeSpec,
    CodebookSpec,
    PowerOfTwoSpec,
    binary_code,
    codebook_levels,
    fit_scale,
    power_of_two_levels,
    sign_patterns,
)
from lodim.randomness import torch_generator

SPECS = [
    CodebookSpec(3),
    CodebookSpec(2, "channel"),
    CodebookSpec(2, "group", 6),
    PowerOfTwoSpec(4),
    PowerOfTwoSpec(5, 2, "tensor"),
    BinaryCodeSpec(3),
    BinaryCodeSpec(1, "group", 4),
]


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch_generator(seed), dtype=dtype)


def error_of(rows, levels):
    return (rows - levels.gather(1, nearest_level(rows, levels))).square()


@pytest.mark.parametrize(("bits", "distortion"), [(1, 0.3634), (2, 0.1175), (3, 0.03454), (4, 0.009497)])
def test_lloyd_max_reaches_the_known_distortion_of_a_gaussian(bits, distortion):
    x = torch.linspace(-7, 7, 4001, dtype=torch.float64)[None]
    density = torch.exp(-x.square() / 2)
    density = density / density.sum()
    levels = codebook_levels(x, 2**bits, density)
    assert (error_of(x, levels) * density).sum().item() == pytest.approx(distortion, rel=1e-3)
    torch.testing.assert_close(levels, -levels.flip(1), atol=0.01, rtol=0)


def test_power_of_two_levels():
    torch.testing.assert_close(
        power_of_two_levels(3), torch.tensor([-1, -0.5, -0.25, 0, 0.25, 0.5, 1]).double(), atol=0, rtol=0
    )
    ratios = power_of_two_levels(6)[32:] / power_of_two_levels(6)[32]
    torch.testing.assert_close(ratios.log2(), torch.arange(31.0).double())
    # 2 bits a term: {0, 1, 1/4, 1/16} + {0, 1/2, 1/8, 1/32}, scaled by the largest sum
    pairs = {a + b for a in (0, 1, 0.25, 0.0625) for b in (0, 0.5, 0.125, 0.03125)}
    torch.testing.assert_close(power_of_two_levels(5, 2)[15:], torch.tensor(sorted(pairs)).double() / 1.5)


@pytest.mark.parametrize("bits", range(2, 9))
def test_power_of_two_grids_have_every_code_but_one(bits):
    for terms in range(1, bits):
        levels = power_of_two_levels(bits, terms)
        assert len(levels) == 2**bits - 1
        assert (levels.diff() > 0).all()
        torch.testing.assert_close(levels, -levels.flip(0), atol=0, rtol=0)
        assert levels[-1] == 1


@pytest.mark.parametrize("terms", [1, 2])
def test_weights_on_a_power_of_two_grid_stay(terms):
    base = power_of_two_levels(4, terms).float()
    rows = torch.stack([0.3 * base, 7.0 * base, torch.zeros_like(base)])
    scale = fit_scale(rows, base)
    torch.testing.assert_close(scale[:, 0], torch.tensor([0.3, 7.0, 1.0]))
    torch.testing.assert_close(PowerOfTwoSpec(4, terms).quantizer(rows)(rows), rows)


def test_fitted_scales_beat_the_largest_weight():
    rows = normal(20, 300)
    base = power_of_two_levels(4).float()
    fitted = error_of(rows, fit_scale(rows, base) * base).sum(1)
    plain = error_of(rows, rows.abs().amax(1, keepdim=True) * base).sum(1)
    assert (fitted < plain).all()


def test_sign_codes_recover_sums_of_signs():
    m = torch.tensor([[1.0, 0.4, 0.15], [2.0, 0.9, 0.1]])
    rows = (m @ sign_patterns(3)).repeat(1, 5)
    found = binary_code(rows, 3)
    levels = found @ sign_patterns(3)
    assert error_of(rows, levels).max() < 1e-10
    torch.testing.assert_close(found, m, atol=1e-5, rtol=0)


def test_one_sign_is_the_mean_size():
    rows = normal(5, 40)
    torch.testing.assert_close(binary_code(rows, 1), rows.abs().mean(1, keepdim=True))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(0, 10_000))
def test_alternating_never_raises_the_error(bits, seed):
    rows = normal(3, 30, seed=seed, dtype=torch.float64)
    errors = [
        error_of(rows, binary_code(rows, bits, n) @ sign_patterns(bits).double()).sum(1)
        for n in (0, 1, 2, 20)
    ]
    for before, after in pairwise(errors):
        assert (after <= before * (1 + 1e-9) + 1e-12).all()


def test_a_row_of_zeros_stays_zero():
    rows = torch.cat([torch.zeros(1, 12), normal(1, 12)])
    for spec in (CodebookSpec(2, "channel"), PowerOfTwoSpec(4), BinaryCodeSpec(2)):
        assert spec.quantizer(rows)(rows)[0].abs().max() == 0


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("shape", [(5, 12), (4, 3, 2, 2)])
def test_codes_decode_to_what_the_layer_sees(spec, shape):
    weight = normal(*shape)
    quantizer = spec.quantizer(weight)
    codes = quantizer.codes(weight)
    low, high = quantizer.code_range
    assert codes.shape == weight.shape
    assert codes.dtype == torch.int32
    assert low <= codes.min()
    assert codes.max() <= high < 2**spec.bits
    assert torch.equal(quantizer.decode(codes), quantizer(weight))
    again = quantizer(quantizer(weight).detach())
    torch.testing.assert_close(again, quantizer(weight), atol=0, rtol=0)


def test_more_bits_and_finer_sharing_fit_better():
    weight = normal(8, 120) * torch.logspace(-2, 0, 8)[:, None]
    for make in (CodebookSpec, BinaryCodeSpec):
        errors = [(make(b).quantizer(weight)(weight) - weight).square().mean().item() for b in (1, 2, 3, 4)]
        assert errors == sorted(errors, reverse=True)
    coarse, fine = (
        (CodebookSpec(2, g).quantizer(weight)(weight) - weight).square().mean() for g in ("tensor", "channel")
    )
    assert fine < coarse


def test_a_codebook_is_no_worse_than_any_other_grid_of_its_bits():
    weight = normal(6, 200)
    best = (CodebookSpec(3, "channel").quantizer(weight)(weight) - weight).square().sum()
    for other in (PowerOfTwoSpec(3), PowerOfTwoSpec(3, 2), BinaryCodeSpec(3)):
        assert best < (other.quantizer(weight)(weight) - weight).square().sum()


def test_overhead_counts_what_is_stored():
    weight = normal(10, 24)
    assert CodebookSpec(3).quantizer(weight).overhead_bits() == {"codebooks": 16 * 8}
    assert CodebookSpec(2, "channel").quantizer(weight).overhead_bits() == {"codebooks": 16 * 4 * 10}
    assert PowerOfTwoSpec(4, group_size=8, granularity="group").quantizer(weight).overhead_bits() == {
        "codebooks": 32 * 30
    }
    assert BinaryCodeSpec(3).quantizer(weight).overhead_bits() == {"codebooks": 32 * 3 * 10}


def test_input_weighting_lowers_the_output_error():
    weight = normal(6, 30)
    inputs = normal(500, 30, seed=1) * torch.logspace(-2, 1, 30)
    gram = inputs.T @ inputs / 500
    even = CodebookSpec(2).quantizer(weight)(weight)
    weighted = CodebookSpec(2, weighting="inputs").quantizer(weight, gram)(weight)
    errors = [((w - weight).square() * gram.diagonal()).sum() for w in (weighted, even)]
    assert errors[0] < errors[1]
    with pytest.raises(ValueError, match="calibration"):
        CodebookSpec(2, weighting="inputs").quantizer(weight)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CodebookSpec(0),
        lambda: CodebookSpec(9),
        lambda: PowerOfTwoSpec(1),
        lambda: PowerOfTwoSpec(4, 4),
        lambda: BinaryCodeSpec(9),
        lambda: CodebookSpec(weighting="hessian"),
    ],
)
def test_bad_specs(make):
    with pytest.raises(ValueError, match=r"bits|terms|weighting"):
        make()
