"""Float32 products stay float32 inside the context, and the session's settings come back."""

import pytest
import torch

from lodim.linalg import full_precision


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
