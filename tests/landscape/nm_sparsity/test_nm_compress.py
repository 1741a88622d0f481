"""Storage is exact and as small as it says."""

import pytest
import torch
from torch import nn

from lodim.landscape import apply_nm_mask
from lodim.landscape.nm_sparsity import compress, decompress, to_semi_structured


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (1, 8), (3, 8), (1, 16), (2, 32), (3, 6), (5, 128)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_round_trip(n, m, dtype):
    W = apply_nm_mask(torch.randn(5, 3 * m, dtype=dtype), n, m)
    packed = compress(W, n, m)
    assert torch.equal(decompress(packed), W)
    width = (m - 1).bit_length()
    assert packed.index_bits == width
    assert packed.bits == W.numel() * n / m * (W.element_size() * 8 + width)
    assert packed.places.numel() == -(-packed.values.numel() * width // 8)
    assert packed.ratio == pytest.approx(W.numel() * W.element_size() * 8 / packed.bits)


@pytest.mark.parametrize("shape", [(16, 8), (16, 8, 3), (16, 8, 3, 2)])
@pytest.mark.parametrize("dim", ["in", "out"])
def test_round_trip_of_convolutions_and_columns(shape, dim):
    W = apply_nm_mask(torch.randn(shape), 2, 8, dim)
    packed = compress(W, 2, 8, dim)
    assert torch.equal(decompress(packed), W)
    assert packed.shape == shape
    assert "2:8" in str(packed)


def test_groups_with_fewer_non_zeros():
    W = torch.zeros(2, 8)
    W[0, 5], W[1, 0], W[1, 7] = 1.0, -2.0, 3.0
    assert torch.equal(decompress(compress(W, 2, 8)), W)


def test_a_weight_out_of_the_pattern_is_refused():
    with pytest.raises(ValueError, match="a group has 4 non-zeros, 2:4 allows 2"):
        compress(torch.ones(2, 8), 2, 4)


def test_semi_structured_says_what_it_needs():
    net = nn.Sequential(nn.Linear(8, 8), nn.Conv1d(8, 8, 1))
    with pytest.raises(
        ValueError, match=r"torch.float32 on cpu; semi-structured kernels need half precision"
    ):
        to_semi_structured(net, ["0"])
    with pytest.raises(ValueError, match="'1' is a Conv1d"):
        to_semi_structured(net, ["1"])


@pytest.mark.gpu
def test_semi_structured_multiplies_alike():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    net = nn.Sequential(nn.Linear(128, 128)).cuda().half()
    with pytest.raises(ValueError, match="not 2:4"):
        to_semi_structured(net, ["0"])
    with torch.no_grad():
        net[0].weight.copy_(apply_nm_mask(net[0].weight, 2, 4))
        x = torch.randn(128, 128, device="cuda", dtype=torch.float16)
        before = net(x)
        assert to_semi_structured(net, ["0"]) == ("0",)
        torch.testing.assert_close(net(x), before, rtol=1e-2, atol=1e-2)


def test_a_row_alone_is_stored_and_nothing_is_refused():
    row = torch.tensor([0.0, 0, -2, 0, 5, 0, 0, 0])
    assert torch.equal(decompress(compress(row, 1, 4, dim=0)), row)
    with pytest.raises(ValueError, match="holds no weight"):
        compress(torch.empty(0, 4), 1, 4)
