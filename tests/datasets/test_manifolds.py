"""Synthetic shapes lie where they should and have the dimension they claim."""

import numpy as np
import pytest

from lodim.datasets import MANIFOLDS, manifold


@pytest.mark.parametrize("name", MANIFOLDS)
def test_local_dimension_is_d(name):
    """The 40 nearest neighbours of a point span d directions up to curvature."""
    data = manifold(name, 6000, random_state=0)
    d = data.dimension
    centre = data.X[np.argmin(np.linalg.norm(data.X - np.median(data.X, axis=0), axis=1))]
    near = data.X[np.argsort(np.linalg.norm(data.X - centre, axis=1))[:40]]
    spectrum = np.linalg.svd(near - near.mean(0), compute_uv=False)
    assert spectrum[d - 1] > 3 * spectrum[d]


@pytest.mark.parametrize("name", MANIFOLDS)
def test_noise_free_points_span_the_shape_only(name):
    data = manifold(name, 200, random_state=0)
    m = data.X.shape[1] // 4
    assert np.linalg.matrix_rank(data.X, tol=1e-9) <= m
    assert np.linalg.matrix_rank(manifold(name, 200, noise=0.1, random_state=0).X) == data.X.shape[1]


def test_the_embedding_is_an_isometry():
    flat, high = (manifold("ball", 100, 3, D, random_state=3).X for D in (3, 50))
    distances = [np.linalg.norm(X[:, None] - X[None], axis=-1) for X in (flat, high)]
    np.testing.assert_allclose(*distances, atol=1e-12)
    assert np.linalg.norm(high, axis=1).max() <= 1


def test_sphere_and_ball_radii():
    np.testing.assert_allclose(np.linalg.norm(manifold("sphere", 100, 4, random_state=0).X, axis=1), 1)
    radii = np.linalg.norm(manifold("ball", 4000, 3, random_state=0).X, axis=1)
    assert np.mean(radii**3) == pytest.approx(0.5, abs=0.02)  # r^3 is uniform in a 3-ball


def test_noise_has_its_size():
    clean, noisy = (manifold("cube", 3000, 2, 30, noise=s, random_state=0).X for s in (0, 0.2))
    assert np.std(noisy - clean) == pytest.approx(0.2, rel=0.02)


def test_seeds():
    a, b, c = (manifold("cube", 50, random_state=s).X for s in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("swiss",), "Did you mean 'swiss_roll'"),
        (("helix", 100, 2), "helix has dimension 1, got d=2"),
        (("sphere", 100, 5, 5), "D must be at least 6"),
        (("cube", 0), "n must be at least 1"),
    ],
)
def test_bad_requests(args, message):
    with pytest.raises(ValueError, match=message):
        manifold(*args)
