"""Supports, modes and copies: figures counted by hand, limits, and points that stand twice."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from lodim.metrics import (
    MemorisationGap,
    ModeCoverage,
    PrecisionRecall,
    density_coverage,
    memorisation_gap,
    mode_coverage,
    precision_recall,
)


def draw(n, d=4, shift=0.0, seed=0):
    return np.random.default_rng(seed).normal(shift, 1, (n, d))


def inside(points, centres, k):
    radii = np.sort(cdist(centres, centres), axis=1)[:, k]
    return cdist(points, centres) <= radii


@pytest.mark.parametrize("d", [1, 5, 40])
def test_figures_are_their_definitions(d):
    x, y = draw(50, d, 0.4), draw(70, d, seed=1)
    of_y, of_x = inside(x, y, 3), inside(y, x, 3)
    found = precision_recall(x, y)
    assert (found.precision, found.recall) == (of_y.any(1).mean(), of_x.any(1).mean())
    found = density_coverage(x, y, k=3)
    assert found.density == pytest.approx(of_y.sum() / (3 * 50))
    assert found.coverage == of_y.any(0).mean()


def test_limits():
    x = draw(60)
    same = precision_recall(x, x)
    assert (same.precision, same.recall) == (1, 1)
    away = precision_recall(x + 100, x)
    assert (away.precision, away.recall) == (0, 0)
    assert density_coverage(x, x).coverage == 1
    assert density_coverage(x + 100, x).density == 0


def test_a_generator_of_one_mode_is_precise_and_misses_the_rest():
    two = np.concatenate([draw(100), draw(100, shift=20, seed=1)])
    found = precision_recall(draw(100, seed=2), two)
    assert found.precision > 0.8
    assert found.recall < 0.6
    assert density_coverage(draw(100, seed=2), two).coverage < 0.6


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_points_that_stand_twice_are_in_each_others_balls(offset):
    y = np.repeat(draw(8), 5, axis=0) + offset  # every ball has radius zero
    found = precision_recall(y[:10], y)
    assert found.precision == 1
    assert found.recall == pytest.approx(2 / 8)
    assert precision_recall(y[:10] + 0.01, y).precision == 0


def test_kinds_of_input_and_errors():
    x, y = draw(30).astype(np.float32), draw(40, seed=1).astype(np.float32)
    y.flags.writeable = False
    expected = precision_recall(x, y)
    assert precision_recall(torch.from_numpy(x), torch.tensor(y)) == expected
    assert PrecisionRecall.from_json(expected.to_json()) == expected
    for figure in (precision_recall, density_coverage):
        with pytest.raises(ValueError, match=r"samples has 3 sample\(s\).*minimum of 6"):
            figure(x[:3], y, 5)
        with pytest.raises(ValueError, match="must match"):
            figure(x[:, :2], y)
        assert "halves of the reference" in str(figure(x, y))


def test_modes_are_counted_at_the_nearest():
    modes = [[0.0, 0], [4, 0], [0, 4], [9, 9]]
    x = [[0.1, 0], [0, 0.2], [3.9, 0], [0, 4.1], [2, 2]]
    found = mode_coverage(x, modes, 0.5)
    assert found.counts == (2, 1, 1, 0)
    assert found.inside == 0.8
    p = np.array([0.5, 0.25, 0.25])
    assert found.kl == pytest.approx((p * np.log(4 * p)).sum())
    assert ModeCoverage.from_json(found.to_json()) == found
    assert str(found).startswith("3 of 4 modes, 80.0% of 5")
    assert mode_coverage(modes, modes, 0.0).kl == pytest.approx(0)
    assert mode_coverage([[0.0, 0]], modes, 1).kl == pytest.approx(math.log(4))
    assert math.isnan(mode_coverage([[50.0, 50]], modes, 1).kl)


def test_copies_are_told_from_new_samples():
    train, test = draw(300), draw(100, seed=1)
    copied = memorisation_gap(train[:50] + 1e-3, train[:100], test)
    assert copied.share > 0.9
    assert copied.value > 0.5
    assert copied.to_train == pytest.approx(2e-3, rel=1e-6)
    new = [memorisation_gap(draw(50, seed=9 + s), train, test, random_state=s) for s in range(10)]
    assert {gap.n_each for gap in new} == {100}
    assert abs(np.mean([gap.share for gap in new]) - 0.5) < 0.06  # unequal sizes alone would give 0.75
    assert memorisation_gap(train, test, test).share == 0.5
    assert MemorisationGap.from_json(copied.to_json()) == copied
    assert "nearer to training points" in str(copied)


@pytest.mark.parametrize("unit", [2.0**-600, 2.0**600])
def test_units_do_not_matter(unit):
    x, y = draw(30), draw(40, shift=0.3, seed=1)
    for figure in (precision_recall, density_coverage):
        assert figure(unit * x, unit * y) == figure(x, y)
    assert mode_coverage(unit * x, unit * y[:4], 1.5 * unit) == mode_coverage(x, y[:4], 1.5)
    gap, found = memorisation_gap(x, y[:20], y), memorisation_gap(unit * x, unit * y[:20], unit * y)
    assert (found.value, found.to_train, found.share) == (unit * gap.value, unit * gap.to_train, gap.share)


def test_an_outlier_moves_no_ball():
    """In the unit of the outlier all other distances are far below the rounding of a product."""
    x, y = draw(30), draw(40, seed=1)
    near, far = (precision_recall(x, np.vstack([y, np.full(4, size)])) for size in (1e3, 1e12))
    assert (far.precision, far.recall) == (near.precision, near.recall)


def exactly(x, y):
    x, y = x.astype(np.longdouble), y.astype(np.longdouble)
    return np.sqrt(((x[:, None] - y) ** 2).sum(2))


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("jitter", [1e-3, 1e-9])
def test_tight_clusters_far_from_the_origin_are_told_by_differences(jitter, offset):
    """Products in double precision know distances to 1e-7 at best here."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 50)) + offset
    x, y, held = (np.repeat(centres, 12, 0) + jitter * rng.normal(size=(48, 50)) for _ in range(3))
    within = []
    for points, balls in ((x, y), (y, x)):
        own = exactly(balls, balls)
        within.append(exactly(points, balls) <= np.sort(own, axis=1)[:, 3] * (1 + np.longdouble(1e-14)))
    found = precision_recall(x, y)
    assert (found.precision, found.recall) == tuple(w.any(1).mean() for w in within)
    found = density_coverage(x, y, k=3)
    assert found.density == pytest.approx(within[0].sum() / (3 * 48))
    assert found.coverage == within[0].any(0).mean()
    gap = memorisation_gap(x, y, held)
    nearest = [exactly(x, other).min(1) for other in (y, held)]
    assert (gap.to_train, gap.to_test) == pytest.approx([float(d.mean()) for d in nearest], rel=1e-11)
    assert gap.share == (nearest[0] < nearest[1]).mean()
