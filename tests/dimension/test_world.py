"""The simulated world: every family has the dimension it is said to have, and its neighbours are the nearest."""

import dataclasses

import numpy as np
import pytest

from lodim.dimension import make_calibration, world
from lodim.dimension.calibrated import ARRAYS
from lodim.dimension.simulation import nearest_distances, read_shard, simulate, write_shard
from lodim.dimension.world import FAMILIES, LARGEST_DIMENSION, Shape, draw_dimension, draw_sample
from lodim.neighbors import NeighborGraph


def dimensions(family):
    """Small dimensions that the family has."""
    draw, low, high = FAMILIES[family]
    for d in range(low, min(high, 5) + 1):
        try:
            draw(np.random.default_rng(d), 12, d)
        except ValueError:
            continue
        yield d


@pytest.mark.parametrize("family", FAMILIES)
def test_a_map_has_the_rank_of_its_dimension(family):
    """Where there is a map from a shape's own coordinates, its derivative has full rank at almost every point."""
    for d in dimensions(family):
        shape = FAMILIES[family][0](np.random.default_rng(d), 20, d)
        assert np.isfinite(shape.points).all()
        if shape.embed is None:
            assert np.linalg.matrix_rank(shape.points[:1] - shape.points[1:]) >= min(d, 19)
            continue
        assert shape.latent.shape == (20, d)
        np.testing.assert_allclose(shape.embed(shape.latent), shape.points)
        step = 1e-5 * np.eye(d)
        for u in shape.latent[:4]:
            slopes = (shape.embed(u + step) - shape.embed(u - step)) / 2e-5
            sizes = np.linalg.svd(slopes, compute_uv=False)
            assert (sizes > 1e-6 * sizes[0]).sum() == d


@pytest.mark.parametrize("family", FAMILIES)
def test_dense_points_show_the_dimension(family):
    """Local dimension of the smallest shape by the spectrum of a neighbourhood much smaller than the shape."""
    d = next(iter(dimensions(family)))
    rng = np.random.default_rng(0)
    points = FAMILIES[family][0](rng, 20_000, d).points
    squares = np.square(points - points[0]).sum(1)
    near = points[np.argsort(squares)[1:16]] - points[0]
    spectrum = np.linalg.svd(near, compute_uv=False) ** 2
    assert spectrum[:d].sum() > 0.95 * spectrum.sum()


def test_bending_of_a_circle():
    """Between points an angle a apart the middle of the chord is off by tan(a/4)/2 of the chord."""
    n = 40
    u = np.arange(n)[:, None] / n
    circle = lambda u: np.column_stack([np.cos(2 * np.pi * u), np.sin(2 * np.pi * u)])  # noqa: E731
    shape = Shape(circle(u), u, circle)
    probes = np.arange(10, 30)
    order = np.stack([probes + 3] * 4, 1)
    assert world._bending(shape, probes, order) == pytest.approx(np.tan(2 * np.pi * 3 / n / 4) / 2)
    assert world._bending(dataclasses.replace(shape, embed=None), probes, order) == 0


def test_draws():
    rng = np.random.default_rng(0)
    found = np.array([draw_dimension(rng, 1, LARGEST_DIMENSION) for _ in range(4000)])
    assert found.min() == 1
    assert found.max() <= LARGEST_DIMENSION
    small = 0.6 * np.log(10.5 / 0.75) / np.log(100.49 / 0.75) + 0.4 * 10 / 40  # share of 1 ... 10
    assert (found <= 10).mean() == pytest.approx(small, abs=4 * 0.5 / np.sqrt(4000))
    noisy = [draw_sample(rng, 60, "ball", 3).noise > 0 for _ in range(400)]
    assert np.mean(noisy) == pytest.approx(0.15, abs=4 * np.sqrt(0.15 * 0.85 / 400))
    with pytest.raises(ValueError, match="high"):
        draw_sample(rng, 60, "low_rank", 1)


@pytest.mark.parametrize(("d", "m"), [(1, 1), (2, 3), (20, 25)])
def test_nearest_distances(d, m):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, d)) @ rng.normal(size=(d, m))
    ratio = nearest_distances(X, np.arange(0, 500, 7), 15) / NeighborGraph.from_data(X, 15).dist[::7]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)


def test_a_shard_keeps_what_was_simulated(tmp_path):
    write_shard(tmp_path / "0000.npz", 20, 25)  # small ones
    for i, kept in enumerate(read_shard(tmp_path / "0000.npz"), start=20):
        made = simulate(i)
        assert (kept.n, kept.family, kept.dimension) == (made.n, made.family, made.dimension)
        np.testing.assert_allclose(np.log(kept.dist), np.log(made.dist), atol=2e-3)


@pytest.mark.slow
def test_the_script_makes_such_arrays(tmp_path, monkeypatch):
    monkeypatch.setattr(make_calibration, "OF_SHARD", 130)
    monkeypatch.setattr(make_calibration, "_RESIDUAL_STEPS", 3)
    make_calibration.make_observations(tmp_path, 130)
    make_calibration.learn(tmp_path, tmp_path / "arrays.npz", steps=3, members=6)
    with np.load(ARRAYS) as shipped, np.load(tmp_path / "arrays.npz") as made:
        assert set(made.files) == set(shipped.files)
        for name in set(made.files) - {f"{order}_world" for order in make_calibration.ORDERS}:
            assert made[name].shape == shipped[name].shape, name
            assert made[name].dtype == shipped[name].dtype, name
