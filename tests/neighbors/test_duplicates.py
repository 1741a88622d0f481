import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lodim.neighbors import constant_columns, duplicates, first_occurrences, n_distinct


def naive(X):
    return [next(j for j in range(len(X)) if (X[j] == X[i]).all()) for i in range(len(X))]


@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 30), st.integers(1, 3)),
        elements=st.sampled_from([0.0, -0.0, 0.5, 1.0, 2.0]),
    )
)
def test_first_occurrences_against_a_loop(X):
    assert first_occurrences(X).tolist() == naive(X)
    assert n_distinct(X) == len({tuple(row + 0.0) for row in X})


def test_a_collision_of_hashes_does_no_harm(monkeypatch):
    monkeypatch.setattr(duplicates, "row_hashes", lambda X, key=0: np.zeros(len(X), np.uint64))
    X = np.random.default_rng(0).integers(0, 3, size=(60, 2)).astype(float)
    assert first_occurrences(X).tolist() == naive(X)


def test_float32_rows_and_chunks(monkeypatch):
    monkeypatch.setattr(duplicates, "_CHUNK_ENTRIES", 8)
    X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    X[40] = X[3]
    expected = np.arange(50)
    expected[40] = 3
    assert first_occurrences(X).tolist() == expected.tolist()


def test_constant_columns():
    X = np.array([[1.0, 2.0, 0.0], [1.0, 3.0, 0.0]])
    assert constant_columns(X) == (0, 2)
    with pytest.raises(ValueError, match="X must have rows"):
        constant_columns(X[:0])


def test_rows_with_nan_are_each_their_own():
    assert first_occurrences(np.full((3, 2), np.nan)).tolist() == [0, 1, 2]
