"""The fast Walsh-Hadamard transform against the matrix, its identities and its derivatives."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.linalg import fwht


def matrix(n):
    return torch.tensor(scipy.linalg.hadamard(n), dtype=torch.float64)


@pytest.mark.parametrize("log_n", range(13))
def test_equals_the_hadamard_matrix(log_n):
    n = 1 << log_n
    x = torch.randn(2, n, dtype=torch.float64, generator=torch.Generator().manual_seed(log_n))
    torch.testing.assert_close(fwht(x), x @ matrix(n))


@pytest.mark.parametrize(
    ("shape", "dim"), [((8,), 0), ((3, 16), -1), ((16, 3), 0), ((2, 64, 5), 1), ((1, 2, 4, 3), 2)]
)
def test_any_axis_of_any_shape(shape, dim):
    x = torch.randn(shape, dtype=torch.float64)
    expected = torch.tensordot(matrix(shape[dim]), x, dims=([1], [dim])).movedim(0, dim)
    torch.testing.assert_close(fwht(x, dim), expected)
    np.testing.assert_allclose(fwht(x.numpy(), dim), expected.numpy())


def test_non_contiguous_and_empty_batches():
    x = torch.randn(6, 32).T[:, ::2]
    torch.testing.assert_close(fwht(x, 0), fwht(x.contiguous(), 0))
    assert fwht(torch.zeros(0, 64)).shape == (0, 64)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 11), st.integers(1, 5), st.integers(0, 2**31))
def test_twice_gives_n_times_the_input_and_normalised_is_an_isometry(log_n, batch, seed):
    x = torch.randn(batch, 1 << log_n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(fwht(fwht(x)) / x.shape[-1], x)
    torch.testing.assert_close(fwht(x, normalize=True).norm(dim=-1), x.norm(dim=-1))


def test_float32_is_accurate_at_a_million():
    x = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))
    exact = fwht(x.double())
    assert (fwht(x) - exact).norm() / exact.norm() < 5e-7


def test_leaves_its_input_alone():
    for n in (1, 2, 64):
        x = torch.randn(n)
        before = x.clone()
        fwht(x).add_(1)
        torch.testing.assert_close(x, before, rtol=0, atol=0)


def test_kinds_of_numbers():
    x = np.arange(8)
    expected = scipy.linalg.hadamard(8) @ x
    for dtype in (np.int64, np.uint8, np.float32, np.float64):
        result = fwht(x.astype(dtype))
        assert isinstance(result, np.ndarray)
        np.testing.assert_array_equal(result, expected)
    assert fwht(x).dtype == np.float64
    assert fwht(x.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(fwht(x * (1 + 2j)), expected * (1 + 2j))
    assert fwht(torch.ones(4, dtype=torch.bool)).tolist() == [4, 0, 0, 0]
    complex_tensor = torch.randn(3, 8, dtype=torch.complex128)
    torch.testing.assert_close(fwht(complex_tensor), complex_tensor @ matrix(8).to(torch.complex128))


def test_half_precision_is_computed_in_float32():
    x = torch.randn(4096, generator=torch.Generator().manual_seed(1))
    for dtype in (torch.bfloat16, torch.float16):
        rounded = x.to(dtype)
        torch.testing.assert_close(fwht(rounded), fwht(rounded.float()).to(dtype), rtol=0, atol=0)


def test_read_only_arrays():
    x = np.ones(4)
    x.flags.writeable = False
    np.testing.assert_array_equal(fwht(x), [4, 0, 0, 0])
    np.testing.assert_array_equal(x, 1)


def test_derivatives():
    x = torch.randn(2, 8, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: fwht(t, 1), x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda t: fwht(t, 1, normalize=True) ** 3, x)


def test_function_transforms():
    x = torch.randn(5, 4, 16, dtype=torch.float64)
    torch.testing.assert_close(torch.func.vmap(fwht, in_dims=1, out_dims=1)(x), fwht(x))
    torch.testing.assert_close(torch.func.jacrev(fwht)(x[0, 0]), matrix(16))
    torch.testing.assert_close(torch.func.jacfwd(fwht)(x[0, 0]), matrix(16))


def test_keeps_nothing_for_the_gradient():
    kept = []
    x = torch.randn(1024, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        fwht(x).sum().backward()
    assert not kept


@pytest.mark.parametrize("n", [3, 6, 12, 1000])
def test_other_lengths_are_refused_with_the_way_out(n):
    with pytest.raises(
        ValueError, match=rf"power of two along dim -1, got {n}; pad with zeros to {2 ** n.bit_length()}"
    ):
        fwht(torch.zeros(2, n))


@pytest.mark.parametrize("dtype", [">f8", np.longdouble, np.clongdouble, ">c8"])
def test_arrays_of_dtypes_that_torch_lacks(dtype):
    x = np.arange(8.0)
    assert np.array_equal(fwht(x.astype(dtype)), fwht(x))


def test_other_things_are_refused():
    with pytest.raises(TypeError):
        fwht([1.0, 2.0])
    with pytest.raises(TypeError, match="numbers"):
        fwht(np.array(["a", "b"]))
    with pytest.raises(ValueError, match="at least one axis"):
        fwht(torch.tensor(1.0))
    with pytest.raises(ValueError, match="at least one axis"):
        fwht(np.array(1.0))
    with pytest.raises(ValueError, match="got 0"):
        fwht(torch.zeros(3, 0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_agrees_even_when_tf32_is_allowed():
    x = torch.randn(3, 1 << 15, generator=torch.Generator().manual_seed(0))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        error = fwht(x.cuda()).cpu() - fwht(x)
    finally:
        torch.set_float32_matmul_precision(before)
    assert error.norm() / fwht(x).norm() < 1e-6
