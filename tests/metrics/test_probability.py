"""Clusters and probabilities: hand cases, identities, scikit-learn's curve, ties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from lodim.metrics import ProbabilityMetrics, clustering_accuracy, probability_metrics, reliability_curve


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=40),
    st.permutations(range(7)),
)
def test_names_of_clusters_do_not_matter(pairs, names):
    classes, clusters = map(np.array, zip(*pairs))
    found = clustering_accuracy(classes, clusters)
    assert clustering_accuracy([f"class {c}" for c in classes], np.array(names)[clusters]) == found
    assert clustering_accuracy(clusters, classes) == found
    assert clustering_accuracy(classes, classes) == 1
    assert found >= np.mean(classes == clusters)


def test_more_clusters_than_classes_and_errors():
    assert clustering_accuracy([0, 0, 0, 0], [1, 2, 3, 3]) == 0.5
    assert clustering_accuracy([0, 1, 2, 3], torch.tensor([1, 1, 1, 1])) == 0.25
    with pytest.raises(ValueError, match="empty"):
        clustering_accuracy([], [])
    with pytest.raises(ValueError, match="2 entries"):
        clustering_accuracy([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="y_true must have rows"):
        clustering_accuracy(3, [1])
    with pytest.raises(ValueError, match="missing"):
        clustering_accuracy([1.0, np.nan], [1, 2])
    with pytest.raises(ValueError, match="masked"):
        clustering_accuracy([1, 2], np.ma.masked_array([1, 2], [0, 1]))
    assert clustering_accuracy(torch.tensor([1.0, 0]).bfloat16(), ["a", "b"]) == 1


probabilities = st.lists(
    st.tuples(st.floats(0, 1) | st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(0, 1)),
    min_size=5,
    max_size=60,
)


@settings(max_examples=40)
@given(probabilities, st.integers(1, 5))
def test_the_brier_score_is_the_sum_of_its_parts(pairs, n_bins):
    p, y = map(np.array, zip(*pairs))
    m = probability_metrics(p, y, n_bins=n_bins)
    parts = m.reliability - m.resolution + m.uncertainty + m.within_bin_variance - m.within_bin_covariance
    assert parts == pytest.approx(m.brier, abs=1e-12)
    assert m.ece <= m.mce + 1e-12


@settings(max_examples=40)
@given(probabilities, st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(pairs, random):
    shuffled = random.sample(pairs, len(pairs))
    first, second = (probability_metrics(*map(np.array, zip(*some)), n_bins=4) for some in (pairs, shuffled))
    for name, value in first.to_dict().items():
        other = getattr(second, name)
        assert value == other or other == pytest.approx(value, abs=1e-9) or not math.isfinite(other)


def test_hand_cases():
    m = probability_metrics([0.2, 0.2, 0.6, 0.6], [0, 1, 1, 1], [0.2, 0.2, 0.6, 0.6], n_bins=2)
    assert m.ece == pytest.approx((0.3 + 0.4) / 2)
    assert m.mce == pytest.approx(0.4)
    assert m.ks == pytest.approx(0.35)  # |(.2 - 0) + (.2 - 1)| / 4, then |-.6 - .8| / 4
    assert m.brier == pytest.approx((0.04 + 0.64 + 0.16 + 0.16) / 4)
    assert m.log_loss == pytest.approx(-np.log([0.8, 0.2, 0.6, 0.6]).mean())
    assert (m.mse_p, m.kl_p, m.uncertainty) == (0, 0, 0.1875)
    assert (m.within_bin_variance, m.auc) == (pytest.approx(0), pytest.approx(5 / 6))
    assert ProbabilityMetrics.from_json(m.to_json()) == m
    assert "MSE_p 0" in str(m)


def test_extremes():
    certain = probability_metrics([0.0, 1, 1, 0], [0, 1, 1, 0], n_bins=2)
    assert (certain.brier, certain.log_loss, certain.ece, certain.auc) == (0, 0, 0, 1)
    wrong = probability_metrics([0.0, 1.0], [1, 1], [0.5, 0.5], n_bins=1)
    assert (wrong.log_loss, wrong.kl_p) == (np.inf, np.inf)
    assert math.isnan(wrong.auc)
    one = probability_metrics(
        [0.3] * 20, [0] * 10 + [1] * 10
    )  # one prediction: one bin, whatever was asked for
    assert (one.n_bins, one.ece, one.ks) == (1, pytest.approx(0.2), pytest.approx(0.2))
    assert probability_metrics([0.3], [1], n_bins=1).ece == pytest.approx(0.7)


def test_the_curve_is_scikit_learns_with_equal_counts():
    rng = np.random.default_rng(0)
    p = rng.beta(2, 5, 900)
    y = (rng.random(900) < p).astype(int)
    curve = reliability_curve(torch.from_numpy(p), y == 1)
    observed, predicted = calibration_curve(y, p, n_bins=15, strategy="quantile")
    np.testing.assert_allclose(curve.observed, observed)
    np.testing.assert_allclose(curve.predicted, predicted)
    assert set(curve.counts) == {60}
    assert probability_metrics(p, y).ece == pytest.approx(np.abs(observed - predicted).mean())
    assert reliability_curve(np.round(p, 1), y).counts.sum() == 900
    assert "15 bins" in str(curve)


def test_calibrated_predictions_have_small_errors_and_true_ones_none():
    rng = np.random.default_rng(1)
    p = rng.random(20000)
    m = probability_metrics(p, (rng.random(20000) < p).astype(int), p)
    assert max(m.ece, m.ks, m.reliability) < 0.02
    assert m.brier == pytest.approx((p * (1 - p)).mean(), abs=0.005)


@pytest.mark.parametrize(
    ("p", "y", "message"),
    [
        ([0.5, 1.2], [0, 1], r"p_hat must lie in \[0, 1\]"),
        ([0.5, np.nan], [0, 1], r"p_hat must lie in \[0, 1\]"),
        ([0.5, 0.5], [1, 2], "outcomes, 0 or 1"),
        ([0.5, 0.5], [1, 0, 1], "3 entries"),
        ([[0.5, 0.5]], [1], "one probability a sample"),
        (np.ma.masked_array([0.5, 0.5], [0, 1]), [1, 0], "masked"),
        ([0.5], [1], "2 bins need at least as many samples, got 1"),
    ],
)
def test_what_is_refused(p, y, message):
    with pytest.raises(ValueError, match=message):
        probability_metrics(p, y, n_bins=2)
