"""The report on label sharpness: known correlations, dependence between pairs, pairs measured in closed form."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
import torch
from torch import nn

from lodim.geometry import PairRecord, SharpnessReport, sharpness_of_pairs, sharpness_report

mpl.use("Agg")


def records(error, drop=None, names=None):
    names = names or [f"set {i}" for i in range(len(error))]
    drop = [None] * len(error) if drop is None else drop
    return [PairRecord(n, 0.1 + 0.01 * i, e, d) for i, (n, e, d) in enumerate(zip(names, error, drop))]


def test_ranks_decide_not_values():
    error = np.exp(np.arange(8.0))
    report = sharpness_report(records(error.tolist(), (-error).tolist()), random_state=0)
    assert report.error.value == 1
    assert report.error.interval == pytest.approx((1, 1))
    assert report.drop.value == -1
    assert report.drop.positive == 0
    assert report.resampled == "data sets"


def test_independent_quantities_have_an_interval_around_zero():
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(20):
        report = sharpness_report(records(rng.normal(size=40).tolist()), n_bootstrap=200, random_state=seed)
        low, high = report.error.interval
        inside += low < 0 < high
    assert inside >= 16  # of 19 expected


def test_pairs_that_share_a_class_count_for_less():
    """A quantity of the classes alone: 28 pairs tell no more than 8 classes, and the interval must say so."""
    rng = np.random.default_rng(1)
    of_class = rng.normal(size=(2, 8))
    pairs = [(a, b) for b in range(8) for a in range(b)]
    made = [
        PairRecord(p, float(np.exp(of_class[0, list(p)].sum())), float(of_class[1, list(p)].sum()))
        for p in pairs
    ]
    as_classes = sharpness_report(made, random_state=0)
    as_sets = sharpness_report([PairRecord(str(r.name), r.k_f, r.error) for r in made], random_state=0)
    assert as_classes.resampled == "classes"
    assert as_classes.error.value == as_sets.error.value
    assert np.ptp(as_classes.error.interval) > 1.3 * np.ptp(as_sets.error.interval)


def nearest_mean(X, y, seed):
    """The linear model halfway between two means."""
    first, second = X[y == 0].mean(0), X[y == 1].mean(0)
    model = nn.Linear(X.shape[1], 1).double()
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(second - first)[None])
        model.bias.fill_(float((first @ first - second @ second) / 2))
    return model


@pytest.fixture(scope="module")
def line():
    """Five classes on a line whose gaps shrink: 0 | 4 | 6 | 7 | 7.5, blurred."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(5), 120)
    X = np.array([0, 4, 6, 7, 7.5])[y, None] + 0.4 * rng.normal(size=(600, 2))
    return X, y


def test_pairs_in_closed_form(line):
    X, y = line
    heard = []
    found = sharpness_of_pairs(
        (X, y),
        (X, y),
        nearest_mean,
        eps=0.2,
        n_train=None,
        random_state=0,
        progress=lambda *a: heard.append(a),
    )
    assert len(found) == 10
    assert heard[-1][0] == 1
    by_name = {one.name: one for one in found}
    assert by_name[3, 4].k_f == max(one.k_f for one in found)
    assert by_name[3, 4].error > by_name[0, 1].error == 0
    model = nearest_mean(X[y >= 3], y[y >= 3] - 3, 0)
    w, b = model.weight.detach().numpy()[0], float(model.bias.detach())
    margin = (2 * (y[y >= 3] - 3) - 1) * (X[y >= 3] @ w + b)
    assert by_name[3, 4].error == pytest.approx(np.mean(margin <= 0))
    assert by_name[3, 4].drop == pytest.approx(np.mean((margin > 0) & (margin <= 0.2 * np.abs(w).sum())))
    report = sharpness_report(found, random_state=0)
    assert report.error.value > 0.8
    assert report.drop.value > 0.8
    frame = report.to_frame()
    assert frame.name[0] == (3, 4)
    assert SharpnessReport.from_json(report.to_json()).drop == report.drop
    assert "adversarial drop" in str(report)
    assert len(report.plot().collections) == 2


def test_the_seed_decides_and_pairs_can_be_chosen(line):
    X, y = line
    options = {"pairs": [(4, 2), (0, 1)], "n_train": 40, "eps": 0.1, "random_state": 5}
    first, again = (sharpness_of_pairs((X, y), (X, y), nearest_mean, **options) for _ in range(2))
    assert first == again
    assert [one.name for one in first] == [(4, 2), (0, 1)]


def test_pairs_are_named_by_labels_of_any_number(line):
    X, y = line
    options = {"n_train": 40, "eps": 0.1, "random_state": 5}
    plain, numpy = (
        sharpness_of_pairs((X, y), (X, y), nearest_mean, pairs=[pair], **options)
        for pair in ((0, 1), tuple(y[[0, 120]]))
    )
    assert plain == numpy
    for pair, message in (((0, 9), "pairs holds 9"), ((1, 1), "two classes")):
        with pytest.raises(ValueError, match=message):
            sharpness_of_pairs((X, y), (X, y), nearest_mean, pairs=[pair], **options)
    with pytest.raises(ValueError, match="test has no samples of 1"):
        sharpness_of_pairs((X, y), (X[:120], y[:120]), nearest_mean, pairs=[(0, 1)], **options)
    with pytest.raises(ValueError, match="n_train must be at least 2"):
        sharpness_of_pairs((X, y), (X, y), nearest_mean, n_train=1)


def test_resamples_without_a_correlation_are_counted():
    """Of eight classes a draw seldom holds both of two pairs that share none."""
    apart = records([1.0, 3.0, 2.0, 4.0], names=[(0, 1), (2, 3), (4, 5), (6, 7)])
    with pytest.warns(UserWarning, match="resamples hold no two different records"):
        sharpness_report(apart, random_state=0)
    with pytest.warns(UserWarning, match="1 of 1 resamples"):
        found = sharpness_report(apart, n_bootstrap=1, random_state=4).error
    assert np.isnan([*found.interval, found.positive]).all()


def test_a_pair_travels_as_a_pair():
    one = PairRecord((0, 1), 0.5)
    assert PairRecord.from_json(one.to_json()) == one


def test_wrong_records(line):
    with pytest.raises(ValueError, match="n_bootstrap must be at least 1"):
        sharpness_report(records([1.0, 2.0, 3.0, 4.0]), n_bootstrap=0)
    with pytest.raises(ValueError, match="at least 4"):
        sharpness_report(records([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="some records have no error"):
        sharpness_report(records([1.0, 2.0, None, 4.0]))
    with pytest.raises(ValueError, match="the same in all"):
        sharpness_report(records([1.0] * 5))
    with pytest.raises(ValueError, match="neither error nor drop"):
        sharpness_report(records([None] * 5))
    with pytest.raises(ValueError, match="lower n_train"):
        sharpness_of_pairs(line, line, nearest_mean, n_train=1000)
