"""Float32 products stay float32 inside the context, and the session's settings come back; units change no digit."""

import numpy as np
import pytest
import torch

from lodim.linalg import full_precision
from lodim.linalg.precision import as_tensor, power_of_two


@pytest.fixture
def rounded_session():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


def relative_error(a, b):
    exact = a.double() @ b.double()
    return float((a @ b - exact).norm() / exact.norm())


def test_autocast_is_off_inside_only():
    a = torch.randn(64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
        with full_precision("cpu"):
            assert (a @ a).dtype == torch.float32
        assert (a @ a).dtype == torch.bfloat16


@pytest.mark.usefixtures("rounded_session")
def test_products_are_exact_inside_and_the_setting_returns():
    a, b = torch.randn(2, 256, 256, generator=torch.Generator().manual_seed(0))
    with full_precision("cpu"):
        assert relative_error(a, b) < 1e-6
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.usefixtures("rounded_session")
def test_the_setting_returns_after_an_error():
    with pytest.raises(KeyError), full_precision("cpu"):
        raise KeyError
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.usefixtures("rounded_session")
def test_the_gpu_setting_is_switched_too():
    """The flags exist without a device."""
    matmul = torch.backends.cuda.matmul
    assert matmul.allow_tf32
    with full_precision("cuda"):
        allowed = matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32
        assert not allowed
    assert matmul.allow_tf32


@pytest.mark.parametrize("value", [5e-324, 1e-310, 0.3, 1.0, 3.0, np.nextafter(4.0, 0.0), 1.7e308])
def test_a_division_by_a_power_of_two_is_exact(value):
    unit = power_of_two(value)
    assert unit <= value < 2 * unit
    assert value / unit * unit == value


def test_numbers_that_need_no_unit_have_none():
    assert power_of_two(0.0) == 1.0
    assert [power_of_two(v, 0.1, 10.0) for v in (0.05, 0.5, 5.0, 50.0)] == [0.03125, 1.0, 1.0, 32.0]


def test_tensors_stay_as_they_are_and_arrays_are_copied():
    x = torch.ones(2, requires_grad=True)
    assert as_tensor(x, "x") is x
    rows = np.arange(4, dtype=np.float32)[::-1]
    made = as_tensor(rows, "rows")
    assert made.dtype == torch.float64
    assert made.tolist() == rows.tolist()
    with pytest.raises(ValueError, match="x must hold real numbers"):
        as_tensor(x.to(torch.complex64), "x")
