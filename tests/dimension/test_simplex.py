"""Expected simplex skewness: its law, a loop over triangles, known dimensions."""

import itertools
import math

import numpy as np
import pytest

from lodim.dimension.simplex import expected_skewness, simplex_skewness, skewness_dimension
from lodim.geometry import IntrinsicDimension


@pytest.mark.parametrize("d", [2, 3, 10])
def test_expected_skewness_is_the_mean_sine(d):
    rng = np.random.default_rng(d)
    a, b = rng.normal(size=(2, 200_000, d))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert expected_skewness(np.array([float(d)]))[0] == pytest.approx(
        np.sqrt(1 - cosine**2).mean(), rel=2e-3
    )


def test_expected_skewness_by_hand():
    found = expected_skewness(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(found, [0, 2 / math.pi, math.pi / 4], rtol=1e-12)
    assert (np.diff(expected_skewness(np.linspace(1, 50, 200))) > 0).all()
    assert math.isfinite(expected_skewness(np.array([1e5]))[0])


def test_against_a_loop_over_triangles():
    points = np.random.default_rng(0).normal(size=(2, 9, 4))
    for cloud, found in zip(points, simplex_skewness(points)):
        v = cloud - cloud.mean(0)
        area = weight = 0.0
        for i, j in itertools.combinations(range(9), 2):
            gram = np.array([[v[i] @ v[i], v[i] @ v[j]], [v[i] @ v[j], v[j] @ v[j]]])
            area += math.sqrt(np.linalg.det(gram))
            weight += math.sqrt(gram[0, 0] * gram[1, 1])
        assert found == pytest.approx(area / weight, rel=1e-10)


def test_whole_dimensions_are_found_and_fractions_lie_between():
    s = expected_skewness(np.array([1.0, 5.0, 6.0]))
    np.testing.assert_allclose(skewness_dimension(s), [1, 5, 6], rtol=1e-9)
    assert skewness_dimension(np.array([(s[1] + s[2]) / 2]))[0] == pytest.approx(5.5)


def test_a_point_repeated_has_no_triangles():
    assert simplex_skewness(np.ones((1, 5, 3)))[0] == 0


@pytest.mark.parametrize("d", [1, 2, 5, 20, 60])
def test_known_dimensions(d):
    rng = np.random.default_rng(d)
    turn, _ = np.linalg.qr(rng.normal(size=(70, d)))
    found = IntrinsicDimension("ess", n_queries=80, random_state=0).fit(rng.uniform(size=(800, d)) @ turn.T)
    assert found.dimension_ == pytest.approx(d, rel=0.06)
    assert found.dimension_pw_.shape == (80,)
