"""Streaming moments against two passes, in any split and any order, near zero and far from it."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.linalg import ClassMoments, CrossMoments, StreamingMoments

X = np.random.default_rng(0).normal(size=(60, 3)) @ np.random.default_rng(1).normal(size=(3, 3))


@settings(max_examples=40)
@given(st.lists(st.integers(0, 60), max_size=6), st.sampled_from([0.0, 1e4, 1e8]), st.booleans())
def test_any_split_is_two_passes(cuts, offset, tensors):
    data = X + offset
    moments = StreamingMoments()
    for part in np.split(data, sorted(cuts)):  # empty ones too
        moments.update(torch.from_numpy(part) if tensors else part)
    assert moments.count == 60
    np.testing.assert_allclose(moments.mean, data.mean(0), rtol=1e-14, atol=1e-14)
    exact = (data - offset) - (data - offset).mean(0)  # the data as they were rounded
    np.testing.assert_allclose(moments.scatter, exact.T @ exact, rtol=1e-10)
    np.testing.assert_allclose(moments.covariance(1), np.cov((data - offset).T), rtol=1e-10)


@settings(max_examples=25)
@given(st.permutations(range(5)))
def test_merging_in_any_order_agrees_to_rounding(order):
    parts = np.split(X + 100, [1, 2, 20, 55])
    whole = StreamingMoments()
    for i in order:
        whole.merge(StreamingMoments().update(parts[i]))
    again = StreamingMoments().update(X + 100)
    np.testing.assert_allclose(whole.mean, again.mean, rtol=1e-14)
    np.testing.assert_allclose(whole.scatter, again.scatter, rtol=1e-12)


def test_merging_leaves_the_other_alone():
    a, b = StreamingMoments().update(X[:9]), StreamingMoments().update(X[9:])
    before = b.count, b.mean.copy(), b.scatter.copy()
    empty = StreamingMoments().merge(b).merge(a)
    assert empty.count == 60
    assert (b.count, b.mean.tolist(), b.scatter.tolist()) == (
        before[0],
        before[1].tolist(),
        before[2].tolist(),
    )
    assert a.merge(StreamingMoments()).count == 9


def test_classes_scatter_within_and_between_to_the_whole():
    labels = np.array(list("abc"))[np.arange(60) % 3]
    whole = ClassMoments()
    for rows in np.split(np.random.default_rng(2).permutation(60), [7, 30, 31]):
        whole.merge(ClassMoments().update(X[rows], labels[rows]))
    assert set(whole.by_class) == {"a", "b", "c"}
    means = np.stack([X[labels == c].mean(0) for c in "abc"])
    np.testing.assert_allclose(whole.by_class["b"].mean, means[1])
    np.testing.assert_allclose(
        whole.within(), np.mean([np.cov(X[labels == c].T, ddof=0) for c in "abc"], axis=0)
    )
    np.testing.assert_allclose(whole.between(), np.cov(means.T, ddof=0), atol=1e-14)
    np.testing.assert_allclose(whole.within() + whole.between(), np.cov(X.T, ddof=0))
    tensors = ClassMoments().update(torch.from_numpy(X), torch.arange(60) % 3)
    assert isinstance(tensors.within(), torch.Tensor)
    np.testing.assert_allclose(tensors.within(), whole.within())


def test_precisions_and_errors():
    half = torch.from_numpy(X).bfloat16()
    assert StreamingMoments().update(half).mean.dtype == torch.float64
    mixed = StreamingMoments().update(X[:20]).update(torch.from_numpy(X[20:]))
    assert isinstance(mixed.mean, np.ndarray)
    np.testing.assert_allclose(mixed.mean, StreamingMoments().update(torch.from_numpy(X)).update(X[:0]).mean)
    one = StreamingMoments().update(X[:1])
    np.testing.assert_array_equal(one.covariance(), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="needs more rows than 1"):
        one.covariance(1)
    with pytest.raises(ValueError, match="2 columns, those before it had 3"):
        one.update(X[:, :2])
    with pytest.raises(ValueError, match="2 columns cannot join"):
        one.merge(StreamingMoments().update(X[:, :2]))
    with pytest.raises(ValueError, match="2-D"):
        one.update(X[0])
    with pytest.raises(ValueError, match="finite"):
        one.update(np.full((2, 3), np.inf))
    with pytest.raises(ValueError, match="squares overflow"):
        one.update(np.array([[1e200], [-1e200]]) * np.ones(3))
    with pytest.raises(ValueError, match="squares overflow"):
        one.merge(StreamingMoments().update(np.full((1, 3), 1e200)))
    with pytest.raises(ValueError, match="real"):
        one.update(X + 1j)
    with pytest.raises(ValueError, match="masked"):
        one.update(np.ma.masked_array(X, X > 0))
    assert one.count == 1
    np.testing.assert_array_equal(one.mean, X[0])
    with pytest.raises(ValueError, match="no rows so far"):
        ClassMoments().within()
    with pytest.raises(ValueError, match="one a row"):
        ClassMoments().update(X, [1, 2])


def test_labels_of_any_kind_in_their_order_and_none_is_lost():
    for labels in (["b", "a", "b"], pd.Series(["b", "a", "b"]), np.array(["b", "a", "b"], dtype=object)):
        assert list(ClassMoments().update(X[:3], labels).by_class) == ["b", "a"]
    whole = ClassMoments().update(X[:2], [1, 0])
    for labels in ([1.0, np.nan], ["a", None]):
        with pytest.raises(ValueError, match="missing"):
            whole.update(X[:2], labels)
    with pytest.raises(ValueError, match="finite"):
        whole.update(np.array([[1.0, 1, 1], [np.nan, 1, 1]]), [1, 0])
    assert whole.total().count == 2  # of a batch that is refused nothing is taken in


# ---- of two matrices

Y = X[:, :2] ** 2 + np.random.default_rng(3).normal(size=(60, 2))


def two_passes(x, y):
    a, b = x - x.mean(0), y - y.mean(0)
    return (x.mean(0), y.mean(0)), (np.square(a).sum(0), np.square(b).sum(0)), a.T @ b


def agree(moments, x, y, rtol=1e-10):
    means, squares, cross = two_passes(x, y)
    for got, due in zip((*moments.means, *moments.squares), (*means, *squares)):
        np.testing.assert_allclose(got, due, rtol=rtol, atol=1e-14)
    scale = np.sqrt(squares[0])[:, None] * np.sqrt(
        squares[1]
    )  # a product that nearly cancels has its terms' rounding
    assert np.abs(np.asarray(moments.cross) - cross).max() <= rtol * scale.max()
    due = np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :]
    np.testing.assert_allclose(moments.correlation(), due, rtol=0, atol=rtol)


@pytest.mark.parametrize("size", [1, 7, 60])
@pytest.mark.parametrize("tensors", [False, True])
def test_cross_moments_of_batches_are_those_of_two_passes(size, tensors):
    moments = CrossMoments()
    for start in range(0, 60, size):
        x, y = X[start : start + size], Y[start : start + size]
        moments.update(*((torch.from_numpy(x), torch.from_numpy(y)) if tensors else (x, y)))
    assert moments.count == 60
    assert isinstance(moments.cross, torch.Tensor if tensors else np.ndarray)
    agree(moments, X, Y)


@settings(max_examples=25)
@given(st.permutations(range(5)), st.integers(0, 4), st.sampled_from([0.0, 1e6]))
def test_cross_moments_of_any_tree_of_merges(order, split, offset):
    rows = np.split(np.arange(60), [1, 2, 20, 55])
    x = X + offset
    parts = [CrossMoments().update(x[rows[i]], Y[rows[i]]) for i in order]
    left, right = CrossMoments(), CrossMoments().update(x[:0], Y[:0])
    for i, part in enumerate(parts):
        (left if i < split else right).merge(part)
    before = right.count, right.cross.copy()
    agree(left.merge(right), x, Y, rtol=1e-9 if offset else 1e-10)  # 1e6 as it was rounded
    assert right.count == before[0]
    np.testing.assert_array_equal(right.cross, before[1])


def test_many_rows_are_taken_in_by_blocks():
    rng = np.random.default_rng(0)
    x, y = rng.normal(1e6, 1, (20_000, 3)), rng.normal(size=(20_000, 2))
    y[:, 0] += x[:, 0] - 1e6
    agree(CrossMoments().update(x, y), x, y)


@pytest.mark.parametrize(
    ("kind", "offset", "rtol"),
    [
        (torch.float32, 0, 1e-5),
        (torch.float32, 1e3, 1e-5),
        (torch.float16, 0, 1e-5),
        (torch.bfloat16, 0, 1e-5),
    ],
)
def test_cross_moments_of_low_precision_are_those_of_the_rounded_numbers(kind, offset, rtol):
    x, y = torch.from_numpy(X + offset).to(kind), torch.from_numpy(Y).to(kind)
    moments = CrossMoments().update(x[:9], y[:9]).update(x[9:], y[9:])
    assert moments.cross.dtype == torch.float64
    agree(moments, x.double().numpy(), y.double().numpy(), rtol)
    mixed = CrossMoments().update(x, Y)  # an array beside a tensor
    assert isinstance(mixed.cross, torch.Tensor)
    agree(mixed, x.double().numpy(), Y, rtol)


@settings(max_examples=40)
@given(
    st.floats(-1e6, 1e6, width=32), st.lists(st.integers(0, 60), max_size=4), st.sampled_from(["f4", "f8"])
)
def test_a_constant_column_has_correlation_zero_however_it_is_split(value, cuts, kind):
    x = np.c_[X[:, 0], np.full(60, value)].astype(kind)
    moments = CrossMoments()
    for rows in np.split(np.arange(60), sorted(cuts)):
        moments.update(x[rows], x[rows])
    found = moments.correlation()
    np.testing.assert_allclose(found, [[1, 0], [0, 0]], atol=1e-6)
    assert not found[1].any()
    assert not found[:, 1].any()


def test_cross_moments_refuse_what_they_cannot_take_and_stay_as_they_were():
    one = CrossMoments()
    assert one.means is None
    with pytest.raises(ValueError, match="no rows so far"):
        one.correlation()
    one.update(X[:9], Y[:9])
    with pytest.raises(
        ValueError, match=r"\(60, 3\) and \(3, 60\); rows are samples: is one of them transposed"
    ):
        one.update(X, X.T)
    with pytest.raises(ValueError, match="Y must be 2-D"):
        one.update(X, Y[:, 0])
    with pytest.raises(ValueError, match=r"\(3, 1\) columns cannot join those of \(3, 2\)"):
        one.update(X, Y[:, :1])
    for bad in (np.nan, np.inf, -1e200):
        x, y = X.copy(), Y.copy()
        x[3, 0] = y[3, 0] = bad
        for pair in ((x, Y), (X, y)):
            with pytest.raises(ValueError, match="finite"):
                one.update(*pair)
    with pytest.raises(ValueError, match="squares overflow"):  # far from the rows before it
        one.update(np.full((4, 3), 1e200), Y[:4])
    with pytest.raises(ValueError, match="squares overflow"):
        one.merge(CrossMoments().update(np.full((1, 3), 1e200), Y[:1]))
    with pytest.raises(ValueError, match="squares overflow"):  # the products of single precision
        one.update(np.float32([[1e30, 0, 0], [-1e30, 0, 0]]), Y[:2])
    with pytest.raises(ValueError, match="X must hold real"):
        one.update(X + 1j, Y)
    with pytest.raises(ValueError, match="masked"):
        one.update(X, np.ma.masked_array(Y, Y > 0))
    assert one.count == 9
    agree(one, X[:9], Y[:9])
