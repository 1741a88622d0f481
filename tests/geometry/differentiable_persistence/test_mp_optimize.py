"""Descent on points."""

import numpy as np
import pytest
import torch

from lodim.geometry.differentiable_persistence import (
    SignedMeasureLayer,
    TopologicalLoss,
    hilbert_volume,
    optimize_points,
)

pytestmark = pytest.mark.trains


def test_components_are_drawn_together():
    """Fewer components over distance and density: two clusters merge."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(16, 2)) * 0.2 + np.repeat([[0, 0], [2, 0]], 8, 0))
    loss = TopologicalLoss(SignedMeasureLayer("hilbert", 0), hilbert_volume(([0, 0], [3, 6])))
    before = x.clone()
    seen = []
    run = optimize_points(x, loss, steps=20, lr=0.1, on_step=lambda *record: seen.append(record[0]))
    assert torch.equal(x, before)
    assert run.losses[-1] < 0.9 * run.losses[0]

    def gap(p):
        return np.linalg.norm(p[:8].mean(0) - p[8:].mean(0))

    assert gap(run.points) < gap(run.start)
    assert seen == list(range(20))
    assert len(run.losses) == 21
    np.testing.assert_allclose(run.moved, np.linalg.norm(run.points - run.start, axis=1))
    assert "16 points" in str(run)


def test_noise_is_seeded_and_clipping_bounds_nothing_else():
    x = np.random.default_rng(0).normal(size=(6, 2))

    def square(p):
        return p.square().sum()

    runs = [
        optimize_points(x, square, 5, noise=1.0, clip=0.1, random_state=s, decay="1/k") for s in (0, 0, 1)
    ]
    np.testing.assert_array_equal(runs[0].points, runs[1].points)
    assert (runs[0].points != runs[2].points).any()


def test_on_step_is_given_copies():
    """So that a path can be collected, and nothing that is written into them moves the points."""
    path = []

    def keep(step, points, loss):
        path.append(points)
        if step:
            path[step - 1].zero_()

    run = optimize_points(np.ones((2, 1)), lambda p: p.square().sum(), steps=4, on_step=keep)
    plain = optimize_points(np.ones((2, 1)), lambda p: p.square().sum(), steps=4)
    np.testing.assert_array_equal(run.points, plain.points)
    assert float(path[-1].square().sum()) == run.losses[-2]
    assert run.plot() is not None  # of one coordinate


def test_refusals():
    with pytest.raises(ValueError, match="loss is nan at x itself"):
        optimize_points(np.zeros((2, 2)), lambda p: p.sum() * float("nan"))
    for loss in (lambda p: None, lambda p: 1.0, lambda p: p.sum(1), lambda p: p.sum() * 1j):
        with pytest.raises(ValueError, match="loss must return a scalar tensor"):
            optimize_points(np.zeros((2, 2)), loss)
    with pytest.raises(ValueError, match="row 0"):
        optimize_points([[np.nan]], lambda p: p.sum())
    with pytest.raises(ValueError, match="n_points, n_features"):
        optimize_points(np.zeros(2), lambda p: p.sum())
    with pytest.raises(ValueError, match="must hold points"):
        optimize_points(np.zeros((0, 2)), lambda p: p.sum())
    with pytest.raises(ValueError, match="noise must be at least 0"):
        optimize_points(np.zeros((2, 2)), lambda p: p.sum(), noise=-1)
    with pytest.raises(ValueError, match="decay"):
        optimize_points(np.zeros((2, 2)), lambda p: p.sum(), decay="fast")
    with pytest.raises(ValueError, match="clip must be positive"):
        optimize_points(np.zeros((2, 2)), lambda p: p.sum(), clip=0)
    assert len(optimize_points(np.zeros((2, 2)), lambda p: p.sum(), 0).losses) == 1


def test_plain_steps_follow_the_size_of_the_gradient_and_adams_do_not():
    weights = torch.tensor([[1.0], [0.01]])
    moved = {
        name: optimize_points(np.ones((2, 1)), lambda p: (weights * p).sum(), 4, 0.1, optimizer=name).moved
        for name in ("sgd", "adam")
    }
    assert moved["sgd"][1] == pytest.approx(0.01 * moved["sgd"][0])
    assert moved["adam"][1] == pytest.approx(moved["adam"][0], rel=1e-3)
    assert moved["sgd"][0] == pytest.approx(0.1 * sum((k + 1) ** -0.5 for k in range(4)), rel=1e-6)


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.bool])
def test_whole_numbers_are_points_too(kind):
    cloud = torch.tensor([[0, 1], [1, 0], [1, 1]], dtype=kind)
    found = optimize_points(cloud, lambda x: x.square().sum(), steps=3)
    same = optimize_points(cloud.double(), lambda x: x.square().sum(), steps=3)
    np.testing.assert_array_equal(found.points, same.points)
