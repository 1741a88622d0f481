"""Blocks and reducers against plain loops over all pairs."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from lodim.neighbors import CountBelow, LogSumExp, MinByLabelPair, TopK, stream_pairs

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def points(n=157, d=7, seed=0, offset=50.0):
    """Far from the origin, where an uncentred single-precision product would lose every digit."""
    return np.random.default_rng(seed).normal(size=(n, d)) + offset


def all_squares(X, Y=None):
    squares = cdist(X, X if Y is None else Y, "sqeuclidean")
    if Y is None:
        np.fill_diagonal(squares, np.inf)
    return squares


@DTYPES
@pytest.mark.parametrize("block", [16, 60, 512])
def test_one_pass_feeds_several_reducers(dtype, block):
    X = points()
    squares = all_squares(X)
    radii = np.array([2.0, 1.0, 3.5])
    bandwidths = np.array([0.7, 2.0])
    (d2, idx), counts, sums = stream_pairs(
        X,
        reducers=[TopK(9), CountBelow(radii), LogSumExp(bandwidths)],
        block_q=block,
        block_r=block,
        dtype=dtype,
    )
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    np.testing.assert_allclose(d2, np.sort(squares, 1)[:, :9], rtol=tolerance)
    np.testing.assert_allclose(np.take_along_axis(squares, idx.numpy(), 1), d2, rtol=tolerance)
    np.testing.assert_array_equal(counts, [(squares < r**2).sum() for r in radii])
    expected = [logsumexp(-squares / (2 * h**2), axis=1) for h in bandwidths]
    np.testing.assert_allclose(sums.numpy().T, expected, atol=10 * tolerance)


@pytest.mark.parametrize("block", [13, 400])
def test_query_subset_and_other_references(block):
    X, Y = points(), points(90, seed=1)
    rows = np.array([3, 150, 20, 0])
    squares = all_squares(X)[rows]
    (d2, idx), counts = stream_pairs(
        X, reducers=[TopK(5), CountBelow([2.0])], query_idx=rows, block_q=block, block_r=block
    )
    np.testing.assert_allclose(d2, np.sort(squares, 1)[:, :5], rtol=1e-11)
    assert not (idx.numpy() == rows[:, None]).any()
    assert counts[0] == (squares < 4).sum()
    ((d2, _),) = stream_pairs(X, Y, reducers=[TopK(90)], block_q=block, block_r=block)
    np.testing.assert_allclose(d2, np.sort(all_squares(X, Y), 1), rtol=1e-11)


def test_a_point_is_no_neighbour_of_itself_but_its_copy_is():
    X = np.vstack([points(40), points(40)])
    ((d2, idx),) = stream_pairs(X, reducers=[TopK(1)], block_q=16)
    np.testing.assert_array_equal(idx.numpy()[:, 0], np.r_[40:80, 0:40])
    np.testing.assert_allclose(d2, 0, atol=1e-10)


@pytest.mark.parametrize("m", [1, 4])
@pytest.mark.parametrize("block", [11, 64, 500])
def test_nearest_pairs_of_every_two_labels(m, block):
    X = points(120)
    labels = np.sort(np.random.default_rng(3).integers(0, 4, size=120))
    squares = all_squares(X)
    ((d2, pairs),) = stream_pairs(X, reducers=[MinByLabelPair(labels, m)], block_q=block)
    for a in range(4):
        for b in range(4):
            if a < b:
                expected = np.sort(squares[np.ix_(labels == a, labels == b)], axis=None)[:m]
                np.testing.assert_allclose(d2[a, b], expected, rtol=1e-11)
                np.testing.assert_allclose(squares[tuple(pairs[a, b].T)], expected, rtol=1e-11)
                assert (labels[pairs[a, b]] == [a, b]).all()
            else:
                assert (pairs[a, b] == -1).all()


def test_twins_are_no_pair():
    X = np.array([[0.0], [5.0], [5.0], [9.0]])
    labels, twin = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 3])
    ((d2, pairs),) = stream_pairs(X, reducers=[MinByLabelPair(labels, 1, twin)])
    assert d2[0, 1, 0] == pytest.approx(16)
    assert pairs[0, 1, 0].tolist() == [1, 3]


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extreme_units_survive_single_precision(scale):
    X = points(64, offset=3.0)
    ((d2, _), counts) = stream_pairs(
        X * scale, reducers=[TopK(3), CountBelow([2.0 * scale])], dtype=torch.float32
    )
    np.testing.assert_allclose(d2.double() / scale**2, np.sort(all_squares(X), 1)[:, :3], rtol=1e-4)
    assert counts[0] == (all_squares(X) < 4).sum()


def test_refusals():
    X = points(20)
    with pytest.raises(ValueError, match="not both"):
        stream_pairs(X, X, reducers=[TopK(1)], query_idx=np.array([0]))
    with pytest.raises(ValueError, match="columns"):
        stream_pairs(X, X[:, :3], reducers=[TopK(1)])
    with pytest.raises(ValueError, match="only 20 points"):
        stream_pairs(X, reducers=[TopK(21)])
    with pytest.raises(ValueError, match="ascending"):
        MinByLabelPair(np.array([1, 0]))
    with pytest.raises(ValueError, match="positive"):
        LogSumExp([0.0])
    with pytest.raises(ValueError, match="weights must be"):
        LogSumExp([1.0], weights=[np.nan])
    for wrong in ({}, "points", (X,), (X, X, X)):
        with pytest.raises(TypeError, match="points must be a tuple of 2"):
            CountBelow([1.0], wrong)


@pytest.mark.parametrize("kind", ["uint8", "uint64", "bool", "float16", ">f8", ">f4", "longdouble"])
def test_numbers_of_any_type_are_taken(kind):
    X = np.unique(np.random.default_rng(0).integers(0, 2, size=(30, 9)), axis=0).astype(kind)
    for Z in (X, X[::-1]):
        ((squares, _),) = stream_pairs(Z, reducers=[TopK(3)])
        expected = np.sort(all_squares(Z.astype(np.float64)), 1)[:, :3]
        np.testing.assert_allclose(squares, expected, atol=1e-12)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_processor():
    X = points(500)
    (near, counts), (near_gpu, counts_gpu) = (
        stream_pairs(X, reducers=[TopK(9), CountBelow([2.0])], block_q=128, device=device)
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(near[0], near_gpu[0].cpu(), rtol=1e-10)
    np.testing.assert_array_equal(counts, counts_gpu)
