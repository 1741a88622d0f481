"""The order of channels: never worse, a local optimum, and a network that stays the same function."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from lodim.landscape import apply_nm_mask
from lodim.landscape.nm_sparsity import channel_permutation, permute_channels


def kept_share(W, order, n, m):
    return float(apply_nm_mask(W[:, order], n, m).abs().sum() / W.abs().sum())


@pytest.mark.parametrize(
    ("n", "m", "shape"), [(2, 4, (6, 16)), (1, 4, (5, 12)), (3, 8, (4, 24)), (1, 2, (3, 8))]
)
def test_no_swap_improves_the_answer(n, m, shape):
    W = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = channel_permutation(W, n, m)
    assert sorted(found.order) == list(range(shape[1]))
    assert found.before == pytest.approx(kept_share(W, np.arange(shape[1]), n, m))
    assert found.after == pytest.approx(kept_share(W, found.order, n, m))
    assert found.after > found.before
    for i, j in itertools.combinations(range(shape[1]), 2):
        order = found.order.copy()
        order[[i, j]] = order[[j, i]]
        assert kept_share(W, order, n, m) <= found.after + 1e-9


def test_channels_in_each_others_way_are_separated():
    W = torch.zeros(1, 8)
    W[0, :4] = torch.tensor([5.0, 6.0, 7.0, 8.0])
    found = channel_permutation(W, 2, 4)
    assert found.before == pytest.approx(15 / 26)
    assert found.after == 1
    assert found.swaps == 2
    assert "2 swaps" in str(found)


def test_the_number_of_swaps_can_be_limited():
    W = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    one, all_ = channel_permutation(W, max_swaps=1), channel_permutation(W)
    assert one.swaps == 1
    assert one.before < one.after < all_.after
    assert channel_permutation(W, max_swaps=0).order.tolist() == list(range(32))


def test_a_network_with_permuted_channels_computes_the_same():
    net = nn.Sequential(nn.Linear(5, 16), nn.GELU(), nn.Linear(16, 3)).double()
    x = torch.randn(7, 5, dtype=torch.float64)
    before, kept = net(x), kept_share(net[2].weight.detach(), np.arange(16), 2, 4)
    found = channel_permutation(net[2].weight)
    permute_channels(net[0], net[2], found.order)
    torch.testing.assert_close(net(x), before)
    assert kept_share(net[2].weight.detach(), np.arange(16), 2, 4) == pytest.approx(found.after)
    assert found.before == pytest.approx(kept)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="groups of 4 do not divide 6"):
        channel_permutation(torch.randn(2, 6))
    with pytest.raises(ValueError, match="4 outputs do not meet 5 inputs"):
        permute_channels(nn.Linear(3, 4), nn.Linear(5, 2), np.arange(5))
    with pytest.raises(ValueError, match="each of the 4 channels once"):
        permute_channels(nn.Linear(3, 4), nn.Linear(4, 2), np.array([0, 1, 2, 2]))


@pytest.mark.parametrize("W", [torch.full((3, 8), torch.nan), torch.empty(0, 8)])
def test_weights_that_have_no_order_are_refused(W):
    with pytest.raises(ValueError, match="all finite"):
        channel_permutation(W)
