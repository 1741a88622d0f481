"""Streaming moments against two passes, in any split and any order, near zero and far from it."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.linalg import ClassMoments, StreamingMoments

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
