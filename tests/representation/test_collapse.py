"""The metrics of collapse: their zeros, invariances, and the numbers of sums written out."""

import numpy as np
import pytest

from lodim.representation import (
    cdnv,
    equiangularity,
    equinorm,
    frame_distance,
    nc1,
    nc1_trace,
    nc2,
    nc3,
    nc3_angle,
    nc4,
)
from lodim.representation.collapse import Gathering, class_geometry, gather, report


def simplex(K, d, seed=0):
    """Rows that are an equiangular tight frame, in a random place of R^d."""
    frame = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, K)))[0]
    return (np.eye(K) - 1 / K) @ frame.T


def clouds(K=4, d=7, n=30, spread=0.5, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(K), n + 10 * np.arange(K)))
    return 3 * rng.normal(size=(K, d))[y] + spread * rng.normal(size=(len(y), d)) + 5, y


def test_metrics_of_a_simplex_are_zero():
    y = np.repeat(np.arange(5), 6)
    W = simplex(5, 8)
    X = 3 * W[y] + 2
    assert nc1(X, y) < 1e-25
    assert nc1_trace(X, y) < 1e-25
    assert cdnv(X, y) < 1e-25
    for value in (nc2(X, y), nc3(X, y, W), nc3_angle(X, y, W), equinorm(W), equiangularity(W)):
        assert abs(value) < 1e-12
    assert nc4(X, y, W, -W @ np.full(8, 2.0)) == 0


def test_orthogonal_frames_of_given_lengths():
    lengths = np.array([1.0, 2.0, 3.0])
    V = lengths[:, None] * np.linalg.qr(np.random.default_rng(0).normal(size=(6, 3)))[0].T
    assert frame_distance(V, lengths) < 1e-12
    assert frame_distance(V / lengths[:, None], "orthogonal") < 1e-12
    assert frame_distance(V, "orthogonal") > 0.1
    y = np.repeat(np.arange(3), 4)
    assert nc2(V[y], y, lengths) < 1e-12
    assert nc3(V[y], y, V, lengths) < 1e-12


def test_nc1_is_the_trace_with_both_matrices_written_out():
    X, y = clouds()
    K, center = 4, X.mean(0)
    means = np.stack([X[y == k].mean(0) for k in range(K)])
    within = sum((X[y == k] - means[k]).T @ (X[y == k] - means[k]) for k in range(K)) / len(X)
    between = (means - center).T @ (means - center) / K
    expected = np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / K
    assert nc1(X, y) == pytest.approx(expected, rel=1e-9)
    assert nc1_trace(X, y) == pytest.approx(np.trace(within) / np.trace(between), rel=1e-9)
    found = class_geometry(X, y)
    assert found.counts.tolist() == np.bincount(y).tolist()
    pairs = [
        (X[y == a].var(0).sum() + X[y == b].var(0).sum()) / 2 / np.square(means[a] - means[b]).sum()
        for a in range(K)
        for b in range(a)
    ]
    assert cdnv(X, y) == pytest.approx(np.mean(pairs), rel=1e-9)


def test_rotation_scale_shift_and_names_change_nothing():
    X, y = clouds()
    W, b = np.random.default_rng(1).normal(size=(4, 7)), np.arange(4.0)
    Q = np.linalg.qr(np.random.default_rng(2).normal(size=(7, 7)))[0]
    one = report(X, y, W, b).named()
    other = report(3 * X @ Q, np.array(["a", "b", "c", "d"])[y], W @ Q / 3, b).named()
    assert other == pytest.approx(one, rel=1e-9)
    moved = report(X + 7, y, W, b - W.sum(1) * 7).named()
    assert moved == pytest.approx(one, rel=1e-9)


def test_any_cut_into_batches_gives_the_whole():
    X, y = clouds()
    whole = class_geometry(X, y)
    order = np.random.default_rng(0).permutation(len(y))

    def batches(size=13):
        for start in range(0, len(y), size):
            part = order[start : start + size]
            yield X[part], y[part]

    parts = gather(Gathering(4), list(batches())).geometry(np.arange(4))
    for name in ("means", "center", "scatter", "strengths", "within"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-10)


def test_a_generator_that_ends_is_found_out():
    X, y = clouds()
    once = iter([(X, y)])
    with pytest.raises(ValueError, match="through twice"):
        gather(Gathering(4), once).geometry(np.arange(4))


def test_single_precision_in_2048_dimensions_far_from_zero():
    rng = np.random.default_rng(0)
    y = np.arange(100) % 10
    X = (rng.normal(size=(10, 2048))[y] + 1e-3 * rng.normal(size=(100, 2048)) + 100).astype(np.float32)
    exact = nc1(X.astype(np.float64), y)
    assert 0 < nc1(X, y) == pytest.approx(exact, rel=1e-12)
    same = np.full((100, 2048), 0.1, dtype=np.float32)
    assert nc1(same, y) == np.inf
    assert np.isnan(report(same, y).nc2)


def test_features_without_classes_are_far_from_collapse():
    X = np.random.default_rng(0).normal(size=(5000, 10))
    assert nc1(X, np.arange(5000) % 5) > 30


def test_one_row_a_class_scatters_by_nothing_and_fewer_rows_than_classes_is_the_same():
    X = np.random.default_rng(0).normal(size=(4, 10))
    assert nc1(X, [3, 1, 7, 5]) == 0


def test_unequal_classes_weigh_alike_in_their_own_mean():
    X, y = clouds()
    found = class_geometry(X, y, global_mean="classes")
    np.testing.assert_allclose(found.centered.sum(0), 0, atol=1e-12)
    assert nc1(X, y, global_mean="classes") != nc1(X, y)


def test_nc4_counts_disagreements():
    X, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), [0, 0, 1, 1]
    W = np.array([[-1.0], [1.0]])
    assert nc4(X, y, W) == 0
    assert nc4(X, y, W, [0.0, -3.0]) == 0.25  # 2 x - 3 > 0 only for the last
    assert nc4(X, y, -W) == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda X, y: nc1(X, np.zeros(len(X))), "one class"),
        (lambda X, y: nc1(X, y[:-1]), "labels"),
        (lambda X, y: nc1(np.where(X > 7, np.nan, X), y), "NaN"),
        (lambda X, y: nc2(X, y, "efr"), "etf"),
        (lambda X, y: nc2(X, y, [1.0, 2.0]), "4 vectors"),
        (lambda X, y: nc3(X, y, np.ones((3, 7))), "W must have a row"),
        (lambda X, y: nc4(X, y, np.ones((4, 7)), [1.0]), "b must have"),
        (lambda X, y: report(X, y, None, np.ones(4)), "without W"),
        (lambda X, y: equiangularity(np.eye(3) * [1, 1, 0]), "no direction"),
        (lambda X, y: frame_distance(np.zeros((3, 2))), "all zero"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call(*clouds())


def test_nc4_without_a_classifier():
    with pytest.raises(ValueError, match="W must be"):
        nc4(np.eye(4), [0, 0, 1, 1], None)


def test_class_distances_are_those_of_all_pairs_written_out():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 5
    X = rng.normal(size=(40, 3))
    groups = [X[y == k] for k in range(5)]
    pairs = [
        (a.var(0).sum() + b.var(0).sum()) / 2 / np.square(a.mean(0) - b.mean(0)).sum()
        for i, a in enumerate(groups)
        for b in groups[i + 1 :]
    ]
    assert cdnv(X, y) == pytest.approx(np.mean(pairs))
