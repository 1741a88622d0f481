"""The pattern: which weights are kept, against NumPy; the check that counts them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lodim.landscape import apply_nm_mask, check_nm, nm_mask
from lodim.landscape.nm_sparsity import architecture_divergence
from lodim.nets import vit

PATTERNS = [
    (1, 2),
    (1, 4),
    (2, 4),
    (3, 4),
    (1, 8),
    (3, 8),
    (7, 8),
    (1, 16),
    (5, 16),
    (8, 16),
    (2, 32),
    (17, 32),
    (24, 64),
]


def kept_by_numpy(rows, n, m):
    """Ones at the n largest magnitudes of every m; a partition finds the least that stays."""
    groups = np.abs(rows).reshape(-1, m)
    least = np.partition(groups, m - n, axis=1)[:, m - n]
    return (groups >= least[:, None]).astype(rows.dtype).reshape(rows.shape)


@pytest.mark.parametrize(("n", "m"), PATTERNS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_largest_are_kept(n, m, dtype):
    W = torch.randn(6, 2 * m, dtype=dtype)
    mask = nm_mask(W, n, m)
    assert mask.dtype == dtype
    np.testing.assert_array_equal(mask.numpy(), kept_by_numpy(W.numpy(), n, m))
    assert bool((mask.view(-1, m).sum(1) == n).all())


@settings(max_examples=60, deadline=None)
@given(
    m=st.sampled_from([2, 3, 4, 6, 8, 16]),
    share=st.floats(0, 1),
    values=st.integers(1, 3),
    seed=st.integers(0, 2**20),
)
def test_of_equal_magnitudes_the_first_are_kept(m, share, values, seed):
    n = 1 + int(share * (m - 1))
    W = torch.randint(-values, values + 1, (4, 2 * m), generator=torch.Generator().manual_seed(seed)).float()
    order = np.argsort(-np.abs(W.numpy().reshape(-1, m)), axis=1, kind="stable")
    expected = np.zeros((len(order), m), dtype=np.float32)
    np.put_along_axis(expected, order[:, :n], 1, axis=1)
    np.testing.assert_array_equal(nm_mask(W, n, m).numpy().reshape(-1, m), expected)


@pytest.mark.parametrize("shape", [(8, 16), (8, 16, 3), (8, 16, 3, 2)])
@pytest.mark.parametrize("dim", ["in", "out"])
def test_groups_run_along_the_channels_asked_for(shape, dim):
    W, axis = torch.randn(shape), int(dim == "in")
    rows = W.movedim(axis, -1)
    expected = torch.from_numpy(kept_by_numpy(rows.contiguous().numpy(), 1, 8)).movedim(-1, axis)
    assert torch.equal(nm_mask(W, 1, 8, dim), expected)
    assert torch.equal(nm_mask(W, 1, 8, axis), expected)


def test_columns_are_the_rows_of_the_transpose():
    W = torch.randn(16, 24)
    assert torch.equal(nm_mask(W, 3, 8, "out"), nm_mask(W.T.contiguous(), 3, 8, "in").T)


def test_half_precision_has_ties_and_still_exactly_n():
    W = torch.randn(64, 64).bfloat16()
    for n, m in ((1, 16), (2, 4), (3, 8)):
        assert bool((nm_mask(W, n, m).float().view(-1, m).sum(1) == n).all())


def test_all_zero_weights_keep_the_first():
    assert nm_mask(torch.zeros(2, 4), 2, 4).tolist() == [[1, 1, 0, 0]] * 2


def test_weights_that_are_not_numbers_are_refused():
    W = torch.randn(2, 8)
    W[0, 3] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        nm_mask(W, 2, 4)


@pytest.mark.parametrize(
    ("n", "m", "message"),
    [
        (0, 4, "n must be at least 1"),
        (5, 4, "at most m, got 5:4"),
        (2, 5, "groups of 5 do not divide the 8 weights"),
    ],
)
def test_bad_patterns_are_refused(n, m, message):
    with pytest.raises(ValueError, match=message):
        nm_mask(torch.randn(4, 8), n, m)


def test_bad_dims_are_refused():
    with pytest.raises(ValueError, match="'in', 'out'"):
        nm_mask(torch.randn(4, 8), 1, 4, "rows")
    with pytest.raises(ValueError, match="no axis 2"):
        nm_mask(torch.randn(4, 8), 1, 4, 2)


def test_masking_is_idempotent_keeps_values_and_gradients_of_the_kept():
    W = torch.randn(4, 16, requires_grad=True)
    masked = apply_nm_mask(W, 2, 8)
    assert torch.equal(apply_nm_mask(masked, 2, 8), masked)
    masked.sum().backward()
    assert torch.equal(W.grad, nm_mask(W.detach(), 2, 8))
    assert torch.equal(masked, W * W.grad)


def test_n_of_n_is_everything():
    W = torch.randn(3, 8)
    assert torch.equal(apply_nm_mask(W, 4, 4), W)


def test_the_check_counts_groups():
    net = vit(width=32, depth=2, heads=2)
    assert not check_nm(net, 2, 4).valid
    with torch.no_grad():
        for block in net.encoder.blocks:
            for layer in (block.mlp.fc1, block.mlp.fc2):
                layer.weight.copy_(apply_nm_mask(layer.weight, 2, 4))
    found = check_nm(net, 2, 4)
    assert found.exact
    assert found.layers == tuple(
        f"encoder.blocks.{i}.mlp.{layer}" for i in (0, 1) for layer in ("fc1", "fc2")
    )
    assert found.density == (0.5,) * 4
    assert str(found) == "4 layers exactly 2:4"
    with torch.no_grad():
        net.encoder.blocks[1].mlp.fc2.weight[0, :4] = 0
    found = check_nm(net, 2, 4)
    assert (found.valid, found.exact, found.least) == (True, False, (2, 2, 2, 0))
    assert "at most" in str(found)
    assert list(found.to_frame()["least"]) == [2, 2, 2, 0]
    wide = check_nm(net, 1, 4)
    assert "not 1:4; 2 in the fullest group of 'encoder.blocks.0.mlp.fc1'" in str(wide)
    assert len(found.plot().patches) == 4


def test_the_check_says_which_layer_does_not_divide():
    with pytest.raises(ValueError, match=r"groups of 4 do not divide the 6 weights of '1' along axis 1"):
        check_nm(nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 8)), 2, 4, "all")


def test_divergence_counts_changed_bits():
    one = {"a": torch.tensor([1.0, 0, 1, 0]), "b": torch.ones(4)}
    other = {"a": torch.tensor([True, True, False, False]), "b": torch.ones(4)}
    assert architecture_divergence(one, other) == 2 / 8
    assert architecture_divergence(one, one) == 0
    with pytest.raises(ValueError, match="cannot be compared"):
        architecture_divergence(one, {"a": one["a"]})
    with pytest.raises(ValueError, match=r"shapes \(4,\) and \(2,\)"):
        architecture_divergence(one, {"a": torch.ones(2), "b": torch.ones(4)})


@pytest.mark.parametrize(
    ("row", "n", "kept"),
    [([0, 1, 2, 3], 3, [0, 1, 1, 1]), ([255, 0, 1, 0], 2, [1, 0, 1, 0])],
)
def test_whole_numbers_without_a_sign_have_masks(row, n, kept):
    assert nm_mask(torch.tensor([row], dtype=torch.uint8), n, 4).tolist() == [kept]


def test_the_least_whole_number_is_the_largest():
    assert nm_mask(torch.tensor([[3, -128, 2, 1]], dtype=torch.int8), 1, 4).tolist() == [[0, 1, 0, 0]]


@pytest.mark.parametrize("row", [[1.0, -3.0, 2.0, 0.5], [1.0, 1.0, 1.0, 0.0]])
def test_a_row_alone_has_a_mask(row):
    row = torch.tensor(row)
    assert torch.equal(nm_mask(row, 2, 4, dim=0), nm_mask(row[None], 2, 4)[0])


def test_layers_of_other_names_than_a_transformers_are_named():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    with pytest.raises(ValueError, match="which are the default; give targets, 'all' or some of '0', '2'"):
        check_nm(model, 2, 4)
    with pytest.raises(ValueError, match="there are no masks"):
        architecture_divergence({}, {})
