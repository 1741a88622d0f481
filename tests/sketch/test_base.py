"""The common parts: dtypes, devices, autocast, errors, memory."""

import copy
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

from lodim.sketch import make_projection

KINDS = ("cyclic", "countsketch", "sparse_embedding", "fastfood", "kron", "dense", "dense_lazy", "ams")


class Holder(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.projection = make_projection(kind, 64, 8, seed=3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_module_changes_dtype_but_its_projection_does_not(kind, dtype):
    holder = Holder(kind)
    before = holder.projection.matrix()
    holder.to(dtype)
    assert holder.layer.weight.dtype == dtype
    torch.testing.assert_close(holder.projection.matrix(), before, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_goes_into_the_state_dict(kind):
    assert set(Holder(kind).state_dict()) == {"layer.weight", "layer.bias"}


@pytest.mark.parametrize("kind", KINDS)
def test_moves_with_its_module(kind):
    holder = Holder(kind).to("meta")
    assert {b.device.type for b in holder.buffers()} == {"meta"}
    assert holder.projection(torch.ones(2, 8, device="meta")).shape == (2, 64)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_vectors_are_projected_in_single(kind, dtype):
    projection = make_projection(kind, 64, 8, seed=3)
    v = torch.randn(8).to(dtype)
    result = projection(v)
    assert result.dtype == dtype
    torch.testing.assert_close(result, projection(v.float()).to(dtype), rtol=0, atol=0)
    g = torch.randn(64).to(dtype)
    torch.testing.assert_close(projection.adjoint(g), projection.adjoint(g.float()).to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["kron", "dense", "fastfood", "ams"])
def test_autocast_does_not_change_the_map(kind):
    projection = make_projection(kind, 64, 8, seed=3)
    v = torch.randn(8, requires_grad=True)
    expected = projection(v)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = projection(v)
    torch.testing.assert_close(result, expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_pickles(kind):
    projection = make_projection(kind, 64, 8, seed=3)
    for other in (copy.deepcopy(projection), pickle.loads(pickle.dumps(projection))):
        torch.testing.assert_close(other.matrix(), projection.matrix(), rtol=0, atol=0)


def test_numpy_integers_are_integers():
    projection = make_projection("cyclic", np.int64(20), np.int32(3), seed=np.int64(1))
    assert projection.matrix().shape == (20, 3)


def test_says_what_it_is():
    assert repr(make_projection("srht", 20, 3, seed=4)) == "SRHT(D=20, d=3, seed=4, scale='column')"


def test_wrong_shapes_and_numbers():
    projection = make_projection("cyclic", 20, 3)
    with pytest.raises(ValueError, match=r"\(\.\.\., d=3\), got \(20,\)"):
        projection(torch.zeros(20))
    with pytest.raises(ValueError, match=r"\(\.\.\., D=20\), got \(2, 3\)"):
        projection.adjoint(torch.zeros(2, 3))


def test_wrong_options():
    with pytest.raises(ValueError, match="scale must be one of 'column', 'row', 'isotropic'"):
        make_projection("cyclic", 20, 3, scale="rows")
    with pytest.raises(ValueError, match=r"float32 or torch\.float64"):
        make_projection("cyclic", 20, 3, dtype=torch.bfloat16)
    with pytest.raises(TypeError):
        make_projection("cyclic", 20, 3).reseed(1.5)
    with pytest.raises(ValueError, match="at least 0"):
        make_projection("cyclic", 20, 3).reseed(-1)


def test_reseeding_between_forward_and_backward_is_caught():
    projection = make_projection("cyclic", 20, 3)
    loss = projection(torch.ones(3, requires_grad=True)).sum()
    projection.reseed(1)
    with pytest.raises(RuntimeError, match="reseeded between forward and backward"):
        loss.backward()


def test_a_large_matrix_is_refused():
    with pytest.raises(ValueError, match=r"D=100001 by d=500 has 5e\+07 entries"):
        make_projection("cyclic", 100_001, 500).matrix()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak memory from /proc")
def test_a_step_takes_memory_of_order_D():
    """Peak growth of one step at D = 2e6 below 12 D floats, P never formed."""
    script = textwrap.dedent(
        """
        import ctypes, gc, torch
        from lodim.sketch import RandomProjection, make_projection

        def kilobytes(field):
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) for line in status if line.startswith(field))

        def forbidden(self):
            raise AssertionError("the matrix was formed")

        RandomProjection.matrix = forbidden
        D, d = 2_000_000, 1000
        projection = make_projection("countsketch", D, d)
        theta0, v = torch.ones(D), torch.zeros(d, requires_grad=True)
        small = make_projection("countsketch", 1000, 10)
        small(torch.zeros(10, requires_grad=True)).sum().backward()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as control:
            control.write("5")  # forget the peak so far
        before = kilobytes("VmRSS")
        (theta0 + projection(v)).square().sum().backward()
        assert v.grad.abs().sum() > 0
        print((kilobytes("VmHWM") - before) * 1024 / (4 * D))
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    if "PermissionError" in done.stderr:
        pytest.skip("this system does not let a process reset its peak memory")
    assert done.returncode == 0, done.stderr
    growth = float(done.stdout)
    assert 2 < growth < 12  # the produced weights and their gradient are in it, so the measurement works
