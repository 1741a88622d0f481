"""Codebooks: nearest levels, the known distortions of Lloyd-Max, exact cases, gradients through the rounding."""

import pytest
import torch

from lodim.landscape.quantization import CodebookSpec, LevelQuantizer
from lodim.landscape.quantization.codebooks.levels import as_rows, codebook_levels, nearest_level
from lodim.randomness import torch_generator


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed))


def test_nearest_level_in_any_order_with_ties_downwards():
    rows, levels = normal(3, 50), normal(3, 9, seed=1)
    brute = (rows[:, :, None] - levels[:, None]).abs().argmin(2)
    assert torch.equal(nearest_level(rows, levels), brute)
    assert nearest_level(torch.tensor([[0.5, 1.5]]), torch.tensor([[2.0, 0.0, 1.0]])).tolist() == [[1, 2]]


def test_gradients_reach_weights_in_range_and_levels():
    weight = torch.tensor([[-2.0, -0.9, 0.1, 0.2, 1.1, 3.0]], requires_grad=True)
    quantizer = LevelQuantizer(torch.tensor([[-1.0, 0.0, 1.0]]))
    out = quantizer(weight)
    torch.testing.assert_close(out, torch.tensor([[-1.0, -1, 0, 0, 1, 1]]))
    g = torch.arange(1.0, 7.0)[None]
    out.backward(g)
    torch.testing.assert_close(weight.grad, torch.tensor([[0.0, 2, 3, 4, 0, 0]]))
    torch.testing.assert_close(quantizer.levels.grad, torch.tensor([[3.0, 7.0, 11.0]]))


def test_rows_that_share_levels():
    weight = normal(4, 6)
    assert as_rows(weight, "tensor").shape == (1, 24)
    assert as_rows(weight, "channel").shape == (4, 6)
    assert as_rows(weight, "group", 3).shape == (8, 3)
    with pytest.raises(ValueError, match="divide a channel's 6"):
        as_rows(weight, "group", 4)
    with pytest.raises(ValueError, match="channel"):
        as_rows(weight, "chanel")


@pytest.mark.parametrize(("bits", "distortion"), [(1, 0.3634), (2, 0.1175), (3, 0.03454), (4, 0.009497)])
def test_lloyd_max_reaches_the_known_distortion_of_a_gaussian(bits, distortion):
    x = torch.linspace(-7, 7, 4001, dtype=torch.float64)[None]
    density = torch.exp(-x.square() / 2)
    density = density / density.sum()
    levels = codebook_levels(x, 2**bits, density)
    error = (x - levels.gather(1, nearest_level(x, levels))).square()
    assert (error * density).sum().item() == pytest.approx(distortion, rel=1e-3)
    torch.testing.assert_close(levels, -levels.flip(1), atol=0.01, rtol=0)


def test_a_row_of_zeros_stays_zero():
    rows = torch.cat([torch.zeros(1, 12), normal(1, 12)])
    assert CodebookSpec(2, "channel").quantizer(rows)(rows)[0].abs().max() == 0


@pytest.mark.parametrize(
    "spec", [CodebookSpec(3), CodebookSpec(2, "channel"), CodebookSpec(2, "group", 6)], ids=str
)
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

    def error(*options):
        return (CodebookSpec(*options).quantizer(weight)(weight) - weight).square().mean().item()

    errors = [error(bits) for bits in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True)
    assert error(2, "channel") < error(2, "tensor")


def test_overhead_counts_what_is_stored():
    weight = normal(10, 24)
    assert CodebookSpec(3).quantizer(weight).overhead_bits() == {"codebooks": 16 * 8}
    assert CodebookSpec(2, "channel").quantizer(weight).overhead_bits() == {"codebooks": 16 * 4 * 10}


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


@pytest.mark.parametrize("options", [{"bits": 0}, {"bits": 9}, {"weighting": "hessian"}])
def test_bad_specs(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        CodebookSpec(**options)
