"""Intervals, the three phi and the operations: closed forms, Lipschitz bounds, and random supports by brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.geometry.multiparameter_persistence import (
    CandidateRepresentation,
    Intervals,
    combine,
    interval_images,
)
from lodim.geometry.multiparameter_persistence.candidates import OPS, PHI

AXIS = torch.linspace(-0.5, 1.5, 9, dtype=torch.float64)
AXES = (AXIS, AXIS)


def box(low, high, degree=0):
    return Intervals.from_lists([[low]], [[high]], degree)


def staircase(rng, k=3, m=1):
    births, deaths = [], []
    for _ in range(m):
        x = np.sort(rng.uniform(0, 0.5, k))
        births.append(np.c_[x, np.sort(rng.uniform(0, 0.5, k))[::-1]])
        x = np.sort(rng.uniform(0.4, 1, k))
        deaths.append(np.c_[x, np.sort(rng.uniform(0.4, 1, k))[::-1]])
    return Intervals.from_lists(births, deaths)


def contains(births, deaths, points):
    above = (births[None] <= points[:, None]).all(2).any(1)
    return above & (points[:, None] <= deaths[None]).all(2).any(1)


def test_weight_is_the_longest_diagonal():
    assert box([0, 0], [3, 2]).weights().tolist() == [2]
    two = Intervals.from_lists([[[0.0, 2.0], [1.0, 0.0]]], [[[4.0, 2.5], [2.0, 9.0]]])
    assert two.weights().tolist() == [2.5]  # from (1, 0) to (4, 2.5); (0, 2) to (2, 9) is 2
    assert box([3, 3], [1, 4]).weights().tolist() == [0]  # the birth is not below the death: no support


def test_weight_is_that_of_the_pairs_by_definition():
    many = staircase(np.random.default_rng(0), 4, 20)
    for i, w in enumerate(many.weights()):
        one = many.select(np.arange(20) == i)
        diagonal = max(float((d - b).amin()) for b in one.births for d in one.deaths)
        assert float(w) == pytest.approx(max(diagonal, 0))


@pytest.mark.parametrize(
    ("phi", "centre", "edge", "corner"),
    [
        ("local_weight", 1, 0.5, 0.5),
        ("volume", 1, 0.5, 0.25),
        ("rectangle", 1, 0.5, 0.25),
        ("landscape", 0.5, 0, 0),
    ],
)
def test_closed_forms_on_a_square(phi, centre, edge, corner):
    grid = torch.tensor([0.0, 0.5, 1.0, 9.0], dtype=torch.float64)
    image = interval_images(box([0, 0], [1, 1]), (grid, grid), phi, 0.25)[0]
    assert image[1, 1] == pytest.approx(centre)
    assert image[0, 1] == image[1, 2] == pytest.approx(edge)
    assert image[0, 0] == image[2, 2] == pytest.approx(corner)
    assert image[3].tolist() == [0] * 4


def test_distance_kernels_on_a_square():
    grid = torch.tensor([-1.0, 0.5, 3.0], dtype=torch.float64)
    values = {phi: interval_images(box([0, 0], [1, 1]), (grid, grid), phi, 2.0)[0] for phi in PHI[4:]}
    assert values["gaussian"][0, 2] == pytest.approx(
        np.exp(-((2 / 2) ** 2) / 2)
    )  # maximum norm: 2, not sqrt(5)
    assert values["exponential"][0, 1] == pytest.approx(np.exp(-0.5))
    assert values["linear"][0, 1] == pytest.approx(0.5)
    assert all(float(v[1, 1]) == 1 for v in values.values())


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_images_are_those_of_the_support_by_sampling(seed):
    rng = np.random.default_rng(seed)
    interval = staircase(rng)
    births, deaths, delta = interval.births.numpy(), interval.deaths.numpy(), 0.2
    x = torch.tensor([0.45], dtype=torch.float64)
    volume = float(interval_images(interval, (x, x), "volume", delta)[0])
    points = 0.45 - delta + 2 * delta * (np.indices((200, 200)).reshape(2, -1).T + 0.5) / 200
    assert volume == pytest.approx(contains(births, deaths, points).mean(), abs=0.012)
    depth = float(interval.depth(torch.cat([x, x])[None])[0, 0])
    ends = np.array([[0.45, 0.45]]) + np.array([[-1], [1]]) * (depth - 1e-9)
    if depth > 0:
        assert contains(births, deaths, ends).all()
        assert not contains(births, deaths, ends + np.array([[-1], [1]]) * 2e-9).all()
    else:
        grid = np.indices((101, 101)).reshape(2, -1).T / 100
        inside = grid[contains(births, deaths, grid)]
        if len(inside):
            assert -depth == pytest.approx(np.abs(inside - 0.45).max(1).min(), abs=0.011)


@pytest.mark.parametrize(
    ("phi", "constant"), [("local_weight", 1), ("volume", 2), ("rectangle", 2), ("landscape", 1)]
)
def test_lipschitz_in_the_corners(phi, constant):
    """Corners moved by at most t change phi by at most constant * t / delta (landscape: t)."""
    rng, delta = np.random.default_rng(0), 0.15
    for t in (0.001, 0.02, 0.3):
        base = staircase(rng, 3, 20)
        moved = Intervals(
            base.births + t * (2 * torch.rand(60, 2, dtype=torch.float64) - 1),
            base.deaths + t * (2 * torch.rand(60, 2, dtype=torch.float64) - 1),
            base.n_births, base.n_deaths, base.degrees,
        )  # fmt: skip
        images = [interval_images(i, AXES, phi, delta) for i in (base, moved)]
        bound = t if phi == "landscape" else min(1, constant * t / delta)
        assert 0 < float((images[0] - images[1]).abs().max()) <= bound + 1e-12


def test_operations_do_not_depend_on_the_order():
    many = staircase(np.random.default_rng(0), 3, 7)
    images, weights = interval_images(many, AXES), many.weights()
    turn = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    for op in OPS:
        torch.testing.assert_close(
            combine(images, weights, op, k=2), combine(images[turn], weights[turn], op, k=2)
        )
        assert combine(images[:0], weights[:0], op).abs().sum() == 0


def test_sum_of_a_direct_sum_and_supremum():
    rng = np.random.default_rng(0)
    a, b = staircase(rng, 3, 3), staircase(rng, 3, 4)
    both = Intervals.from_lists(
        [*a.births.split(3), *b.births.split(3)], [*a.deaths.split(3), *b.deaths.split(3)]
    )

    def value(i, *args):
        return combine(interval_images(i, AXES), i.weights(), *args)

    torch.testing.assert_close(value(both, "sum", 1.0), value(a, "sum", 1.0) + value(b, "sum", 1.0))
    supremum, mean = value(both, "wmean", np.inf), value(both, "wmean", 0.0)
    assert bool((supremum >= mean).all())
    torch.testing.assert_close(supremum, torch.maximum(value(a, "wmean", np.inf), value(b, "wmean", np.inf)))
    torch.testing.assert_close(value(both, "mean", 0.0), mean)
    torch.testing.assert_close(
        value(both, "lq", 2.0), combine(interval_images(both, AXES), both.weights(), "lq", 2.0, q=2.0)
    )
    torch.testing.assert_close(
        combine(interval_images(both, AXES), both.weights(), "lq", 1.0, q=1.0), value(both, "wmean", 1.0)
    )
    images = interval_images(both, AXES, "landscape")
    torch.testing.assert_close(
        combine(images, both.weights(), "kmax", 0.0, k=3), images.sort(0, descending=True).values[2]
    )


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0, np.inf])
def test_s_cdr_by_definition(power):
    many = staircase(np.random.default_rng(1), 3, 6)
    images, w = interval_images(many, AXES), many.weights()
    expected = (
        images.amax(0) if np.isinf(power) else (w[:, None, None] ** power * images).sum(0) / (w**power).sum()
    )
    torch.testing.assert_close(combine(images, w, "wmean", power), expected)


@pytest.mark.parametrize("phi", PHI)
def test_gradient_in_the_corners(phi):
    many = staircase(np.random.default_rng(2), 3, 4)

    def value(births):
        moved = Intervals(births, many.deaths, many.n_births, many.n_deaths, many.degrees)
        return combine(interval_images(moved, AXES, phi, 0.23), moved.weights()).square().sum()

    assert torch.autograd.gradcheck(value, many.births.clone().requires_grad_(True), eps=1e-7, atol=1e-5)


def test_representation_normalises_clips_and_separates_degrees():
    first = Intervals.from_lists([[[0.0, 10.0]], [[1.0, 10.0]]], [[[4.0, 30.0]], [[np.inf, np.inf]]], [0, 1])
    second = Intervals.from_lists([[[2.0, 20.0]]], [[[3.0, 25.0]]], 1)
    model = CandidateRepresentation(resolution=5, delta=0.2, phi="volume")
    images = model.fit_transform([first, second, Intervals.empty()])
    assert images.shape == (3, 2, 5, 5)
    assert model.boxes_[1].tolist() == [[1, 10], [3, 25]]
    assert images[0, 1].min() > 0  # the infinite interval fills its box
    assert images[2].max() == 0
    assert images[1, 0].max() == 0
    scaled = [
        Intervals(3 * i.births + 1, 3 * i.deaths + 1, i.n_births, i.n_deaths, i.degrees)
        for i in (first, second)
    ]
    np.testing.assert_allclose(model.fit_transform(scaled), images[:2])
    raw = CandidateRepresentation(resolution=5, delta=1.0, normalize=False).fit_transform([first])
    assert raw.shape == (1, 2, 5, 5)


def test_refusals():
    with pytest.raises(ValueError, match="must match"):
        Intervals.from_lists([[[0, 0]]], [])
    with pytest.raises(ValueError, match="at least one corner"):
        Intervals.from_lists([np.empty((0, 2))], [[[0, 0]]])
    with pytest.raises(ValueError, match=r"p columns, got \[2, 3\]"):
        Intervals.from_lists([[[0, 0]]], [[[0, 0, 0]]])
    with pytest.raises(ValueError, match="NaN"):
        box([0, np.nan], [1, 1])
    with pytest.raises(ValueError, match="delta must be positive"):
        CandidateRepresentation(delta=0).fit([])
    with pytest.raises(ValueError, match="delta must be positive"):
        interval_images(box([0, 0], [1, 1]), (torch.zeros(2), torch.zeros(2)), delta=0.0)
    with pytest.raises(ValueError, match="q must be positive"):
        CandidateRepresentation(op="lq", q=0).fit([])
    with pytest.raises(ValueError, match="degrees must be a tuple"):
        CandidateRepresentation(degrees=0).fit([box([0, 0], [1, 1])])
    with pytest.raises(ValueError, match="infinite weight_power"):
        combine(torch.zeros(1, 2, 2), torch.ones(1), "sum", np.inf)
    assert str(box([0, 0], [1, 1])) == "1 intervals: 1 of degree 0"
