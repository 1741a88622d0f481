"""Attacks: closed forms on linear models, that nothing leaves ball or bounds, and an oracle where it is installed."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lodim.nets import mlp
from lodim.randomness import build_seeded
from lodim.trust import (
    bpda,
    cw_l2,
    deepfool,
    fgsm,
    pgd,
    random_noise,
    random_search,
    straight_through,
    transfer,
)

ATTACKS = {
    "fgsm": lambda f, x, y, **k: fgsm(f, x, y, 0.2, **k),
    "pgd": lambda f, x, y, **k: pgd(f, x, y, 0.2, **k),
    "bpda": lambda f, x, y, **k: bpda(f, x, y, 0.2, random_state=0, **k),
    "transfer": lambda f, x, y, **k: transfer(f, x, y, 0.2, random_state=0, **k),
    "cw_l2": lambda f, x, y, **k: cw_l2(f, x, y, steps=4, binary_steps=2, lr=0.5, c=10, **k),
    "deepfool": lambda f, x, y, **k: deepfool(f, x, y, norm="inf", **k),
    "noise": lambda f, x, y, **k: random_noise(x, 0.2, random_state=0, **k),
    "search": lambda f, x, y, **k: random_search(
        probabilities(f), x, y, 0.2, n_queries=20, random_state=0, **k
    ),
}


def probabilities(model):
    return lambda x: torch.softmax(model(x), 1).detach().numpy()


def net(seed=0, sizes=(6, 16, 3)):
    return build_seeded(lambda: mlp(list(sizes)), seed).double()


def points(n=20, d=6):
    rng = np.random.default_rng(0)
    return torch.from_numpy(0.2 + 0.6 * rng.random((n, d)))


def right(model, x):
    return model(x).argmax(1)


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_stays_where_it_may(name):
    model, x = net(), points()
    moved = ATTACKS[name](model, x, right(model, x), bounds=(0.1, 0.9))
    assert moved.shape == x.shape
    assert moved.dtype == x.dtype
    assert float(moved.min()) >= 0.1
    assert float(moved.max()) <= 0.9
    if name not in ("cw_l2", "deepfool"):  # which have no ball
        assert float((moved - x).abs().max()) <= 0.2 * (1 + 1e-9)
    assert not torch.equal(moved, x)


def test_deepfool_crosses_a_linear_models_boundary_at_its_distance():
    model, x = build_seeded(lambda: nn.Linear(6, 3), 0).double(), points()
    y = right(model, x)
    w, z = model.weight.detach(), model(x).detach()
    for norm, dual in ((2, 2), ("inf", 1)):
        gaps = (z[torch.arange(20), y][:, None] - z) / (w[y][:, None] - w).norm(dual, dim=2)
        nearest = gaps.masked_fill(gaps.isnan(), math.inf).amin(1)
        moved = deepfool(model, x, y, norm=norm, overshoot=0.02)
        assert (right(model, moved) != y).all()
        found = (moved - x).norm(2 if norm == 2 else math.inf, dim=1)
        torch.testing.assert_close(found, 1.02 * nearest, rtol=1e-3, atol=2e-6)


@pytest.mark.trains
def test_carlini_and_wagner_find_nearly_the_nearest_error():
    model, x = build_seeded(lambda: nn.Linear(6, 3), 0).double(), points(8)
    y = right(model, x)
    w, z = model.weight.detach(), model(x).detach()
    gaps = (z[torch.arange(8), y][:, None] - z) / (w[y][:, None] - w).norm(dim=2)
    nearest = gaps.masked_fill(gaps.isnan(), math.inf).amin(1)
    near = nearest < 0.3  # of the others the nearest error may be out of bounds
    assert near.sum() >= 3
    moved = cw_l2(model, x, y, steps=60, binary_steps=6, lr=0.05)
    found = (moved - x).norm(dim=1)[near]
    assert (right(model, moved) != y)[near].all()
    assert (found >= nearest[near] * (1 - 1e-9)).all()
    assert (found <= 1.05 * nearest[near]).all()


@pytest.mark.trains
def test_least_changes_are_smaller_than_what_projected_steps_need():
    model, x = net(), points()
    y = right(model, x)
    small = cw_l2(model, x, y, steps=30, binary_steps=5)
    errs = right(model, small) != y
    assert errs.sum() > 10
    steps = pgd(model, x, y, 0.6, norm=2, bounds=(0, 1), loss="margin")
    both = errs & (right(model, steps) != y)
    assert both.sum() > 5
    assert ((small - x).norm(dim=1) < (steps - x).norm(dim=1))[both].all()


def test_those_already_wrong_are_left_alone():
    model, x = net(), points()
    y = (right(model, x) + 1) % 3
    assert torch.equal(deepfool(model, x, y), x)
    assert torch.equal(cw_l2(model, x, y, steps=3, binary_steps=1), x)
    assert torch.equal(random_search(probabilities(model), x, y, 0.1), x)


@pytest.mark.parametrize("norm", ["inf", 2])
def test_noise_has_the_size_it_should_and_its_seed(norm):
    x = points()
    one, again, other = (random_noise(x, 0.1, norm=norm, random_state=s) for s in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    sizes = (one - x).norm(2 if norm == 2 else math.inf, dim=1)
    torch.testing.assert_close(sizes, torch.full((20,), 0.1, dtype=torch.float64))
    if norm == "inf":
        torch.testing.assert_close((one - x).abs(), torch.full_like(x, 0.1))


@pytest.mark.parametrize("norm", ["inf", 2])
@pytest.mark.parametrize("shape", [(30, 6), (30, 1, 5, 7)])
def test_the_search_only_lowers_the_margin_and_asks_no_more_than_allowed(norm, shape):
    model = net(sizes=(math.prod(shape[1:]), 16, 3))
    x = points(30, math.prod(shape[1:])).view(shape)
    asked = torch.zeros(())

    def answer(rows):
        asked.add_(len(rows))
        return torch.softmax(model(rows.flatten(1)), 1).detach().numpy()

    y = torch.from_numpy(answer(x).argmax(1))
    asked.zero_()
    moved = random_search(answer, x, y, 0.15, norm=norm, n_queries=30, bounds=(0, 1), random_state=0)
    assert asked <= 30 * 30
    own = np.eye(3, dtype=bool)[y]
    before, after = (p[own] / np.where(own, 0, p).max(1) for p in (answer(x), answer(moved)))
    assert (after <= before).all()
    assert (after < before).sum() > 20
    arrays = random_search(
        lambda rows: answer(torch.from_numpy(rows)), x.numpy(), y.numpy(), 0.15, norm=norm, n_queries=30,
        bounds=(0, 1), random_state=0,
    )  # fmt: skip
    assert np.array_equal(arrays, moved.numpy())


def test_the_search_goes_on_from_a_tie_which_is_no_error():
    """Near zero the first class is likely, farther off it ties and wins; only one corner is wrong."""

    def answer(x):
        first = np.where(x.min(1) > 0.5, 0.2, np.where(np.abs(x).max(1) < 0.5, 0.9, 0.5))
        return np.c_[first, 1 - first]

    moved = random_search(answer, np.zeros((30, 2)), np.zeros(30), 1.0, n_queries=60, random_state=0)
    assert (moved == 1).all()


class Rounded(nn.Module):
    """Rounds its inputs, with a gradient where it is asked for one."""

    straight_through = False

    def forward(self, x):
        return x.round() + (x - x.detach() if self.straight_through else 0)


def test_the_gradient_is_let_through_and_the_switch_put_back():
    part = Rounded()
    model = nn.Sequential(part, net())
    x = points()
    y = right(model, x)
    with straight_through(model) as found:
        assert found
        assert part.straight_through
    assert not part.straight_through
    with pytest.raises(RuntimeError), straight_through(model):
        raise RuntimeError
    assert not part.straight_through
    through = bpda(model, x, y, 0.4, bounds=(0, 1), random_state=0)
    assert not part.straight_through
    assert (right(model, through) != y).sum() > (
        right(model, pgd(model, x, y, 0.4, bounds=(0, 1))) != y
    ).sum()
    with straight_through(net()) as found:
        assert not found


@pytest.mark.trains
@pytest.mark.filterwarnings("ignore")
def test_agrees_with_torchattacks():
    oracle = pytest.importorskip("torchattacks")
    model = build_seeded(lambda: nn.Sequential(nn.Flatten(), mlp([36, 16, 3])), 0)
    x = points(40, 36).float().view(40, 1, 6, 6)
    y = right(model, x)
    theirs = oracle.FGSM(model, eps=0.1)(x, y)
    torch.testing.assert_close(fgsm(model, x, y, 0.1, bounds=(0, 1)), theirs)
    theirs = oracle.PGD(model, eps=0.1, alpha=0.02, steps=10, random_start=False)(x, y)
    ours = pgd(model, x, y, 0.1, steps=10, step_size=0.02, bounds=(0, 1))
    assert (right(model, ours) != y).sum() >= (right(model, theirs) != y).sum()
    theirs = oracle.DeepFool(model, steps=50)(x, y)
    ours = deepfool(model, x, y, bounds=(0, 1))
    sizes = [(moved - x).flatten(1).norm(dim=1) for moved in (ours, theirs)]
    torch.testing.assert_close(*sizes, rtol=0.02, atol=1e-3)
    theirs = oracle.CW(model, c=10, steps=200, lr=0.02)(x, y)
    ours = cw_l2(model, x, y, steps=100)
    broken = (right(model, theirs) != y) & (right(model, ours) != y)
    assert (right(model, ours) != y).sum() >= (right(model, theirs) != y).sum()
    sizes = [(moved - x).flatten(1).norm(dim=1)[broken] for moved in (ours, theirs)]
    assert sizes[0].mean() <= 1.02 * sizes[1].mean()


@pytest.mark.parametrize("name", ["cw_l2", "deepfool", "noise", "search"])
def test_nothing_reaches_the_gradient_of_the_inputs(name):
    model, x = net(), points()
    y, leaf = right(model, x), x.clone().requires_grad_()
    assert not ATTACKS[name](model, leaf, y, bounds=(0, 1)).requires_grad
    assert leaf.grad is None
