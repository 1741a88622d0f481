"""Toy sets: counts, moments and dimensions that follow from their definitions; the same seed, the same set."""

import numpy as np
import pytest
from scipy.ndimage import label
from scipy.special import i0, i1
from scipy.stats import binomtest, chisquare, kstest

from lodim.datasets import toy

MODES = {
    "ring": lambda **o: toy.gaussian_ring(4000, **o),
    "grid": lambda **o: toy.gaussian_grid(5000, **o),
    "rotated": lambda **o: toy.gaussian_grid(5000, rotated=True, **o),
    "line": lambda **o: toy.gaussian_line(6000, [1, 2, 4, 5], **o),
}


@pytest.mark.parametrize("name", MODES)
def test_modes_are_gaussians_of_equal_counts(name):
    X, mode, centers, std = MODES[name](random_state=0)
    assert set(np.bincount(mode)) == {len(X) // len(centers)}
    z = (X - centers[mode]) / std
    assert kstest(z.ravel(), "norm").pvalue > 1e-3
    np.testing.assert_allclose(np.cov(z.T), np.eye(z.shape[1]).squeeze(), atol=0.1)
    assert (np.linalg.norm(X[:, None] - centers, axis=2).argmin(1) == mode).all()
    assert abs(np.corrcoef(mode, np.arange(len(X)))[0, 1]) < 0.05  # no order in the rows


@pytest.mark.parametrize("rotated", [False, True])
def test_the_grid_has_total_deviation_one(rotated):
    X, _, centers, std = toy.gaussian_grid(100_000, rotated=rotated, random_state=1)
    assert std == pytest.approx(0.05 / np.sqrt(0.05**2 + 8), rel=1e-12)
    np.testing.assert_allclose(np.sqrt(centers.var(0) + std**2), 1.0, rtol=1e-12)
    np.testing.assert_allclose(X.std(0), 1.0, atol=0.01)
    gaps = np.linalg.norm(centers[:, None] - centers, axis=2)
    nearest = np.isclose(gaps, np.sort(gaps[0])[1])
    np.testing.assert_allclose(gaps[nearest], 2 / np.sqrt(0.05**2 + 8))
    assert nearest.sum() == 80  # 40 neighbouring pairs
    along = [bool(np.isclose(np.abs(centers[i] - centers[j]).min(), 0)) for i, j in np.argwhere(nearest)]
    assert set(along) == {not rotated}


def test_the_ring_and_the_line_are_where_they_should_be():
    ring = toy.gaussian_ring(9, 4, 2.0, 0.0, random_state=0)
    np.testing.assert_allclose(ring.centers, [[2, 0], [0, 2], [-2, 0], [0, -2]], atol=1e-15)
    np.testing.assert_array_equal(ring.X, ring.centers[ring.mode])
    assert sorted(np.bincount(ring.mode)) == [2, 2, 2, 3]
    assert toy.gaussian_line(5, random_state=0).centers[:, 0].tolist() == [1, 2, 3]


def test_the_subspace_has_its_dimension_and_law():
    X, basis = toy.gaussian_subspace(3000, 20, 3, random_state=0)
    np.testing.assert_allclose(basis.T @ basis, np.eye(3), atol=1e-12)
    assert np.linalg.matrix_rank(X) == 3
    np.testing.assert_allclose(X @ basis @ basis.T, X, atol=1e-12)
    assert kstest((X @ basis).ravel(), "norm").pvalue > 1e-3
    first = [toy.gaussian_subspace(1, 2, 1, random_state=seed).basis[0, 0] for seed in range(400)]
    angle = np.arccos(first) / np.pi  # of a uniform direction of the plane: uniform
    assert kstest(angle, "uniform").pvalue > 1e-3


def test_shapes_have_their_pixels_and_stay_in_their_columns():
    images, present = toy.simple_shapes(3000, random_state=0)
    assert set(np.unique(images)) == {0.0, 1.0}
    for kind, pixels in enumerate((65, 64, 70)):
        column = images[:, :, 21 * kind : 21 * (kind + 1)].sum((1, 2))
        np.testing.assert_array_equal(column, pixels * present[:, kind])
    assert not images[:, :, 63:].any()
    assert [label(image)[1] for image in images[:60]] == present[:60].sum(1).tolist()


def test_shapes_are_counted_without_a_mistake_where_they_were_drawn():
    images, present = toy.simple_shapes(1000, random_state=2)
    found = toy.count_shapes(images)
    np.testing.assert_array_equal(found.counts[:, range(3), range(3)], present)
    assert found.counts.sum() == present.sum()
    assert not found.hallucinated.any()
    noisy = images[:200, None] + np.random.default_rng(0).normal(0, 0.1, (200, 1, 64, 64))
    np.testing.assert_array_equal(toy.count_shapes(noisy).counts, found.counts[:200])


def test_wrong_shapes_are_seen():
    images, present = toy.simple_shapes(300, random_state=3)
    square = images[present[:, 1]][0][:, 21:42]
    wrong = np.zeros((5, 64, 64))
    wrong[0, :, :21] = square  # in the triangles' column
    wrong[1, :, 21:42] = np.maximum(square, np.roll(square, 20, 0))  # two of them
    wrong[2, 10:30, 25:28] = 1  # a bar
    wrong[3, 10, 10:13] = 1  # a speck, which is nothing
    found = toy.count_shapes(wrong)
    assert found.hallucinated.tolist() == [True, True, True, False, False]
    assert found.counts.sum((1, 2)).tolist() == [1, 2, 1, 0, 0]
    assert found.counts[0, 0, 1] == found.counts[2, 1, 3] == 1
    assert toy.count_shapes(wrong[:0]).counts.shape == (0, 3, 4)
    with pytest.raises(ValueError, match="64, 64"):
        toy.count_shapes(wrong[:, :32])


def test_shapes_are_there_as_often_and_where_chance_has_them():
    images, present = toy.simple_shapes(7000, random_state=1)
    assert chisquare(np.bincount(present @ [1, 2, 4], minlength=8)[1:]).pvalue > 1e-3
    squares = images[present[:, 1]][:, :, 21:42]
    top, left = squares.any(2).argmax(1), squares.any(1).argmax(1)
    assert chisquare(np.bincount(top, minlength=57)).pvalue > 1e-3
    assert chisquare(np.bincount(left, minlength=14)).pvalue > 1e-3
    outline = squares[0][top[0] : top[0] + 8, left[0] : left[0] + 8]
    assert outline.all()


@pytest.mark.parametrize("scenario", toy.SCENARIOS)
def test_outcomes_have_their_probabilities(scenario):
    z = np.linspace(0, 1, 20_001)
    p, y = toy.simulate_outcomes(z, scenario, random_state=0)
    at = {
        "uniform": (0.0, 0.5, 1.0),
        "sigmoid": (7.1e-4, 0.9948, 1.0),
        "skewed": (0.0, 0.2, 0.4),
        "centered": (0.35, 0.35 + 1 / 6, 0.35 + 1 / 3),
        "discrete": (0.1, 0.5, 0.9),
    }[scenario]
    np.testing.assert_allclose(p[[0, 10_000, 20_000]], at, atol=1e-4)
    for part in np.array_split(np.arange(len(z)), 5):
        assert binomtest(int(y[part].sum()), len(part), float(p[part].mean())).pvalue > 1e-3
    assert len(np.unique(p)) == (5 if scenario == "discrete" else len(z))


def test_a_seed_fixes_everything():
    draws = [
        *(MODES.values()),
        lambda **o: toy.gaussian_subspace(5, 4, 2, **o),
        lambda **o: toy.simple_shapes(5, **o),
        lambda **o: toy.simulate_outcomes(np.linspace(0.2, 0.8, 50), **o),
    ]
    for draw in draws:
        first, again, other = (draw(random_state=seed) for seed in (3, 3, 4))
        assert all(np.array_equal(a, b) for a, b in zip(first, again))
        assert not all(np.array_equal(a, b) for a, b in zip(first, other))


def test_what_does_not_fit_is_said():
    for call, message in [
        (lambda: toy.gaussian_ring(0), "n must be at least 1"),
        (lambda: toy.gaussian_ring(5, 0), "modes"),
        (lambda: toy.gaussian_ring(5, std=-1), "std"),
        (lambda: toy.gaussian_grid(5, 1, std=0), "nothing to divide by"),
        (lambda: toy.gaussian_line(5, [[1.0]]), "means"),
        (lambda: toy.gaussian_subspace(5, 2, 3), "D must be at least 3"),
        (lambda: toy.simple_shapes(0), "n must be"),
        (lambda: toy.simulate_outcomes([0.5, 1.5]), "between 0 and 1"),
        (lambda: toy.simulate_outcomes([0.5], "linear"), "scenario"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    for draw, name in [
        (toy.gaussian_ring, "radius"),
        (toy.gaussian_ring, "std"),
        (toy.gaussian_line, "std"),
        (toy.gaussian_grid, "std"),
        (toy.gaussian_grid, "spacing"),
    ]:
        with pytest.raises(ValueError, match=f"{name} must be"):
            draw(5, **{name: bad})
    with pytest.raises(ValueError, match=r"got -0\.5"):  # what was given, not what it was divided by
        toy.gaussian_grid(5, std=-0.5)


def test_probabilities_are_not_the_callers_array():
    z = np.linspace(0, 1, 5)
    assert not np.shares_memory(toy.simulate_outcomes(z).p, z)


LAWS = {"circle": toy.uneven_circle, "patch": toy.sphere_patch, "product": toy.product_law}


@pytest.mark.parametrize("name", LAWS)
def test_singular_laws_lie_on_their_sets_and_project_to_the_nearest_point(name):
    law = LAWS[name](400, random_state=0)
    np.testing.assert_allclose(law.distance(law.X), 0, atol=1e-12)
    rows = law.X[:100] + 0.3 * np.random.default_rng(1).normal(size=law.X[:100].shape)
    near = law.project(rows)
    np.testing.assert_allclose(law.project(near), near, atol=1e-12)
    many = LAWS[name](20_000, random_state=2).X  # no point of the set is nearer
    assert (
        np.linalg.norm(rows[:, None] - many[None, :2000], axis=2).min(1) >= law.distance(rows) - 1e-12
    ).all()


def test_singular_laws_have_the_law_they_say():
    angle = toy.uneven_circle(4000, random_state=0).latent[:, 0]
    ratio = i1(4.0) / i0(4.0)  # a von Mises law's mean direction is that long
    mean = 0.7 * ratio + 0.3 * ratio * np.exp(2j * np.pi / 3)
    assert abs(np.exp(1j * angle).mean() - mean) < 4 / np.sqrt(4000)
    patch = toy.sphere_patch(4000, 1.0, random_state=0)
    assert kstest((1 - patch.X[:, 2]) / (1 - np.cos(1.0)), "uniform").pvalue > 1e-3  # Archimedes
    assert kstest(np.sqrt(toy.product_law(4000, 4, 1, random_state=0).X[:, 0]), "uniform").pvalue > 1e-3
    assert toy.uneven_circle(5, 7, random_state=0).X.shape == (5, 7)


def test_rows_of_another_law_have_no_distance():
    with pytest.raises(ValueError, match="5 columns"):
        toy.uneven_circle(3, 5).distance(np.ones((2, 2)))
