"""Product quantisation: exact where it can be, errors that never rise, gradients averaged, sizes as stored."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from lodim.landscape.quantization import (
    ProductQuantizer,
    ProductSpec,
    codeword_parameters,
    input_gram,
    output_error,
    product_bits,
    refine_for_outputs,
)
from lodim.landscape.quantization.codebooks.product import fit_codewords
from lodim.randomness import torch_generator


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed))


def correlated_inputs(n, i, seed=1):
    return normal(n, i, seed=seed) @ normal(i, i, seed=seed + 1)


@pytest.mark.parametrize("backend", ["faiss", "sklearn"])
def test_as_many_codewords_as_distinct_vectors_is_exact(backend):
    if backend == "faiss":
        pytest.importorskip("faiss")
    words = normal(7, 4)
    weight = words[torch.randint(7, (30,), generator=torch_generator(1))].reshape(10, 12)
    spec = ProductSpec(4, 7, codeword_bits=32, backend=backend)
    assert torch.equal(spec.quantizer(weight)(weight), weight)
    few = ProductSpec(4, 6, codeword_bits=32, backend=backend).quantizer(weight)
    assert (few(weight) - weight).abs().max() > 0.01


@pytest.mark.parametrize("backend", ["faiss", "sklearn"])
def test_kmeans_is_a_fixed_point(backend):
    if backend == "faiss":
        pytest.importorskip("faiss")
    clumps = normal(5, 3)[:, None] * 20 + 0.1 * normal(5, 40, 3, seed=1)
    vectors = clumps.flatten(0, 1)
    codewords, indices = fit_codewords(vectors, 25, backend=backend)
    assert torch.equal(torch.cdist(vectors, codewords).argmin(1), indices)
    again, same = fit_codewords(vectors, 25, backend=backend)
    assert torch.equal(again, codewords)
    assert torch.equal(same, indices)
    assert (codewords[indices] - vectors).square().mean() < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_refinement_never_raises_the_output_error(seed):
    weight = normal(20, 24, seed=seed)
    gram = input_gram(correlated_inputs(200, 24), nn.Linear(24, 20))
    codewords, flat = fit_codewords(weight.reshape(-1, 4), 16, backend="sklearn")
    book, indices, errors = refine_for_outputs(weight, gram, codewords, flat.reshape(20, -1), 4)
    for before, after in pairwise(errors):
        assert after <= before * (1 + 1e-9)
    assert errors[-1] < 0.8 * errors[0]
    reached = output_error(book[indices].flatten(1) - weight, gram)
    assert reached == pytest.approx(errors[-1], rel=1e-4)


def test_refined_codewords_solve_the_normal_equations():
    weight = normal(15, 12).double()
    gram = input_gram(correlated_inputs(100, 12), nn.Linear(12, 15))
    codewords, flat = fit_codewords(weight.reshape(-1, 3), 5, backend="sklearn")
    book, indices, _ = refine_for_outputs(weight, gram, codewords, flat.reshape(15, -1), 1)
    book = book.requires_grad_()
    e = book[indices].flatten(1) - weight
    (slope,) = torch.autograd.grad(((e @ gram) * e).sum(), book)
    assert slope.abs().max() < 1e-5 * output_error(weight, gram)


def test_with_white_inputs_refinement_is_kmeans():
    weight = normal(12, 8).double()
    codewords, flat = fit_codewords(weight.reshape(-1, 2), 6, backend="sklearn")
    book, indices, _ = refine_for_outputs(weight, torch.eye(8).double(), codewords, flat.reshape(12, -1), 30)
    vectors, flat = weight.reshape(-1, 2), indices.flatten()
    assert torch.equal(torch.cdist(vectors, book).argmin(1), flat)
    means = torch.stack([vectors[flat == k].mean(0) for k in range(6)])
    torch.testing.assert_close(book, means)


def test_outputs_matter_more_than_weights():
    weight = normal(24, 32)
    inputs = correlated_inputs(300, 32)
    gram = input_gram(inputs, nn.Linear(32, 24))
    plain = ProductSpec(4, 32).quantizer(weight)(weight)
    tuned = ProductSpec(4, 32, weighting="outputs").quantizer(weight, gram)(weight)
    assert output_error(tuned - weight, gram) < 0.8 * output_error(plain - weight, gram)
    assert (plain - weight).square().sum() < (tuned - weight).square().sum()
    with pytest.raises(ValueError, match="calibration"):
        ProductSpec(weighting="outputs").quantizer(weight)


def test_more_books_fit_better():
    weight = normal(20, 24)
    errors = [
        (ProductSpec(4, 8, n_books=m).quantizer(weight)(weight) - weight).square().mean().item()
        for m in (1, 2, 3)
    ]
    assert errors[0] > 1.3 * errors[1] > 1.3 * 1.3 * errors[2]


def test_gradient_of_a_codeword_is_its_members_mean():
    book = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    quantizer = ProductQuantizer(book, torch.tensor([[[0, 1], [0, 0]]]), torch.Size([2, 4]))
    weight = quantizer(torch.zeros(2, 4))
    assert weight.tolist() == [[1, 2, 3, 4], [1, 2, 1, 2]]
    weight.backward(torch.arange(8.0).reshape(2, 4))
    torch.testing.assert_close(
        quantizer.codebooks.grad, torch.tensor([[[10 / 3, 13 / 3], [2.0, 3.0], [0.0, 0.0]]])
    )


@pytest.mark.parametrize("shape", [(6, 10), (4, 3, 3, 3)])
def test_rows_that_do_not_divide_are_filled_up(shape):
    weight = normal(*shape)
    quantizer = ProductSpec(4, 8, n_books=2).quantizer(weight)
    codes = quantizer.codes(weight)
    assert codes.shape == (2, shape[0], math.ceil(math.prod(shape[1:]) / 4))
    assert quantizer(weight).shape == weight.shape
    assert torch.equal(quantizer.decode(codes), quantizer(weight))
    gram = torch.eye(math.prod(shape[1:])).double()
    assert ProductSpec(4, 8, weighting="outputs").quantizer(weight, gram)(weight).shape == weight.shape


def test_bits():
    weight = normal(32, 64)
    quantizer = ProductSpec(8, 16, n_books=2).quantizer(weight)
    codes = quantizer.codes(weight)
    low, high = quantizer.code_range
    stored = codes.numel() * (high - low).bit_length() + sum(quantizer.overhead_bits().values())
    assert stored == product_bits(weight.numel(), 8, 16, 2) == 2 * (256 * 4 + 16 * 128)
    words = quantizer.codebooks
    assert torch.equal(words.half().float(), words)


def test_codeword_parameters_are_all_that_is_listed():
    quantizer = ProductSpec(2, 4).quantizer(normal(4, 4))
    model = nn.Sequential(nn.Linear(2, 2), nn.ModuleDict({"q": quantizer}))
    assert [p.shape for p in codeword_parameters(model)] == [(1, 4, 2)]


@pytest.mark.parametrize(
    "options",
    [{"group_size": 0}, {"n_codewords": 0}, {"weighting": "input"}, {"codeword_bits": 8}, {"n_books": 0}],
)
def test_bad_specs(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ProductSpec(**options)
