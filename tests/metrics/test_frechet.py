"""The Fréchet distance against its closed form and SciPy's matrix root; features of a small classifier."""

import warnings

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from sklearn.datasets import load_digits

from lodim.metrics import ClassifierFeatures, FrechetDistance, frechet_distance


def draw(n, d=4, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


def test_moves_and_scalings_have_closed_forms():
    x = draw(200)
    assert frechet_distance(x, x).value == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x + [3.0, 0, 4, 0], x).value == pytest.approx(25, rel=1e-6)
    expected = (3 - 1) ** 2 * np.trace(np.cov(x.T)) + (2 * x.mean(0)) @ (2 * x.mean(0))
    assert frechet_distance(3 * x, x).value == pytest.approx(expected, rel=1e-8)


def test_it_is_symmetric_and_scipy_s():
    x, y = draw(60), draw(80, seed=1)
    a, b = np.cov(x.T), np.cov(y.T)
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(x, y).value == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(y, x).value == pytest.approx(expected, rel=1e-9)


def test_fewer_samples_than_features_give_a_number_and_a_warning():
    x, y = draw(12, 30), draw(14, 30, seed=1)
    with pytest.warns(UserWarning, match="14 reference for 30 features"):
        found = frechet_distance(x, y)
    assert np.isfinite(found.value)
    assert found.value > 0
    # a distance is no larger than those of the projections on and beside the samples' spans allow
    assert found.value <= np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(np.cov(x.T)) + np.trace(np.cov(y.T))


def test_the_floor_is_the_halves_and_worked_out_once():
    y = draw(400)
    distance = FrechetDistance(random_state=1).fit(y)
    first, second = distance(y[:200]), distance(torch.from_numpy(y[200:]))
    assert first.floor == second.floor == distance.floor_ > 0
    assert first.n_reference == 400
    assert distance(draw(300, seed=5)).value > 20 * distance.floor_
    assert frechet_distance(y[:200], y, random_state=1) == first
    with pytest.raises(ValueError, match="samples have 3 features but the reference has 4"):
        distance(y[:, :3])
    with pytest.raises(ValueError, match="reference has 3 sample"):
        frechet_distance(y, y[:3])


def test_constant_columns_and_half_precision():
    x = np.c_[draw(50), np.ones(50)]
    assert frechet_distance(x, x + [0, 0, 0, 0, 2.0]).value == pytest.approx(4, abs=1e-6)
    half = torch.from_numpy(x).bfloat16()
    assert frechet_distance(half, half + 1).value == pytest.approx(5, rel=0.05)


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 1, 8, 8), labels


def test_features_of_a_classifier(digits):
    X, y = digits
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 30 epochs are not all it could do
        features = ClassifierFeatures.fit(X[:1200], y[:1200], hidden=32, max_iter=30)
    assert features.score(X[1200:], y[1200:]) > 0.85
    found = features(X[:7])
    assert found.shape == (7, 32)
    assert found.min() >= 0
    np.testing.assert_allclose(features(torch.from_numpy(X[:7]).float()), found, rtol=1e-6)
    # the last layer on them is the classifier
    scores = found @ features.classifier.coefs_[1] + features.classifier.intercepts_[1]
    scaled = (X[:7].reshape(7, -1) - features.mean) / features.scale
    np.testing.assert_array_equal(scores.argmax(1), features.classifier.predict(scaled))
    near = frechet_distance(X[900:], X[:900], features)
    assert near.name == "fd_classifier"
    assert (
        frechet_distance(X[900:] * (y[900:, None, None, None] > 1), X[:900], features).value > 3 * near.value
    )
    with pytest.raises(ValueError, match="single class"):
        ClassifierFeatures.fit(X[:5], np.ones(5))


@pytest.mark.parametrize("unit", [2.0**-333, 2.0**333])
def test_the_square_of_the_unit_is_all_that_a_unit_changes(unit):
    x, y = draw(60), draw(80, seed=1)
    found = frechet_distance(unit * x, unit * y)
    expected = frechet_distance(x, y)
    assert (found.value / unit**2, found.floor / unit**2) == pytest.approx((expected.value, expected.floor))
    with pytest.raises(ValueError, match="squares overflow"):
        frechet_distance(2.0**700 * x, 2.0**700 * y)
