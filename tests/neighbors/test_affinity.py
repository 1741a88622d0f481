"""A kNN graph as a sparse matrix: scikit-learn's where rows differ, and right where they repeat."""

import numpy as np
import pytest
from sklearn.neighbors import kneighbors_graph

from lodim.neighbors import knn_affinity

X = np.random.default_rng(0).normal(size=(60, 5))


def test_the_directed_graph_is_that_of_scikit_learn():
    assert (knn_affinity(X, 4, symmetric=False) != kneighbors_graph(X, 4)).nnz == 0


def test_symmetry_and_an_empty_diagonal():
    affinity = knn_affinity(X, 4)
    assert (affinity != affinity.T).nnz == 0
    assert not affinity.diagonal().any()
    assert affinity.sum(1).min() >= 4


@pytest.mark.parametrize("unit", [1.0, 1e-200, 1e200])
def test_gaussian_weights_do_not_depend_on_the_unit(unit):
    affinity = knn_affinity(X * unit, 4, mode="gaussian", symmetric=False).tocoo()
    squares = np.square(X[affinity.row] - X[affinity.col]).sum(1)
    np.testing.assert_allclose(affinity.data, np.exp(-squares / (2 * squares.mean())), rtol=1e-9)


def test_repeated_rows_are_neighbours():
    affinity = knn_affinity(np.repeat([[0.0], [5.0]], 3, axis=0), 2, mode="gaussian")
    np.testing.assert_array_equal(affinity.toarray(), np.kron(np.eye(2), 1 - np.eye(3)))


def test_what_is_refused():
    with pytest.raises(ValueError, match="lower k"):
        knn_affinity(X, 60)
    with pytest.raises(ValueError, match="sigma"):
        knn_affinity(X, 3, mode="gaussian", sigma=0.0)
