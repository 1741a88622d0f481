"""The benchmark manifolds: their sizes, their equations, their dimension by finite differences of the drawing."""

import numpy as np
import pytest

from lodim.datasets import BENCHMARK_MANIFOLDS, benchmark_manifold
from lodim.datasets.benchmark_manifolds import _MANIFOLDS

SMOOTH_IN_UNIFORMS = [
    n for n in BENCHMARK_MANIFOLDS if n not in ("M1_Sphere", "M12_Norm", "Mbeta") and "Cubic" not in n
]


@pytest.mark.parametrize("name", BENCHMARK_MANIFOLDS)
def test_sizes_and_seeds(name):
    data = benchmark_manifold(name, 101, random_state=3)
    d, D, _ = _MANIFOLDS[name]
    assert data.dimension == d
    assert np.isfinite(data.X).all()
    assert data.X.shape == (101, data.X.shape[1])
    assert data.X.shape[1] == D
    assert len(np.unique(data.X, axis=0)) == 101
    np.testing.assert_array_equal(benchmark_manifold(name, 101, random_state=3).X, data.X)
    assert not np.array_equal(benchmark_manifold(name, 101, random_state=4).X, data.X)


def test_there_are_twenty_four():
    assert len(BENCHMARK_MANIFOLDS) == 24


class _Shifted(np.random.Generator):
    """A generator whose uniform numbers (or exponential ones) are moved a little in one coordinate."""

    def __new__(cls, u, move):
        return super().__new__(cls, np.random.PCG64(0))

    def __init__(self, u, move):
        super().__init__(np.random.PCG64(0))
        self.u, self.move = u, move

    def random(self, size):
        return self._give(size)

    def exponential(self, size):
        return -np.log(self._give(size))

    def _give(self, size):
        size = (size,) if isinstance(size, int) else size
        if not hasattr(self, "left"):
            self.left = list(range(len(self.u)))
        count = int(np.prod(size))
        take, self.left = self.left[:count], self.left[count:]
        return (self.u + self.move)[take].reshape(size)


@pytest.mark.parametrize("name", SMOOTH_IN_UNIFORMS)
def test_the_jacobian_has_the_rank_of_the_dimension(name):
    d, D, draw = _MANIFOLDS[name]
    inputs = d + (name.startswith("Mp"))
    u = np.random.default_rng(1).uniform(0.2, 0.8, size=inputs)
    at = draw(_Shifted(u, 0), 1, d, D)[0]
    h = 1e-6
    jacobian = np.stack([(draw(_Shifted(u, h * e), 1, d, D)[0] - at) / h for e in np.eye(inputs)])
    singular = np.linalg.svd(jacobian, compute_uv=False)
    assert (singular > 1e-4 * singular[0]).sum() == d


def test_equations():
    X = benchmark_manifold("M1_Sphere", 200, random_state=0).X
    np.testing.assert_allclose((X**2).sum(1), 1)
    X = benchmark_manifold("M10a_Cubic", 220, random_state=0).X
    on_face = (X == 0) | (X == 1)
    assert (on_face.sum(1) == 1).all()
    np.testing.assert_array_equal(on_face.sum(0), 20)
    X = benchmark_manifold("M9_Affine", 5000, random_state=0).X
    assert abs(X).max() <= 2.5
    assert abs(X).max() > 2.49
    X = benchmark_manifold("M5a_Helix1d", 100, random_state=0).X
    np.testing.assert_allclose((np.hypot(X[:, 0], X[:, 1]) - 2) ** 2 + X[:, 2] ** 2, 1)
    X = benchmark_manifold("M2_Affine_3to5", 100, random_state=0).X
    assert np.linalg.matrix_rank(X - X.mean(0)) == 3
    X = benchmark_manifold("Mp1_Paraboloid", 100, random_state=0).X
    np.testing.assert_allclose(X[:, 3], (X[:, :3] ** 2).sum(1))
    np.testing.assert_allclose(X[:, 4:8], np.sin(X[:, :4]))
    np.testing.assert_allclose(X[:, 8:], X[:, :4] ** 2)


def test_noise_and_bad_names():
    plain = benchmark_manifold("M7_Roll", 50, random_state=0).X
    noisy = benchmark_manifold("M7_Roll", 50, noise=0.2, random_state=0).X
    assert 0 < np.abs(noisy - plain).max() <= 0.1
    with pytest.raises(ValueError, match="name must be one of"):
        benchmark_manifold("M99", 10)
    with pytest.raises(ValueError, match="n must be"):
        benchmark_manifold("M7_Roll", 0)
