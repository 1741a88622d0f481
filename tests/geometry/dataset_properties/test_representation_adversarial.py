"""Attacks: closed forms for linear models, order of strength, and models that are left alone."""

from __future__ import annotations

import copy

import matplotlib as mpl
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lodim.geometry import adversarial_accuracy, fgsm, pgd

mpl.use("Agg")


def linear(seed, n_features=6, n_out=1):
    torch.manual_seed(seed)
    return nn.Linear(n_features, n_out).double()


def sample(seed, n=200, n_features=6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_features)), rng.integers(2, size=n)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), eps=st.floats(1e-3, 0.5))
def test_fgsm_of_a_linear_model_in_closed_form(seed, eps):
    """The margin s (w.x + b) of a linear model falls by eps |w|_1, exactly, and no change can lower it more."""
    model, (X, y) = linear(seed), sample(seed)
    w, b = model.weight.detach().numpy()[0], float(model.bias.detach())
    sign = 2 * y - 1
    moved = fgsm(model, torch.from_numpy(X), torch.from_numpy(y), eps).numpy()
    np.testing.assert_allclose(moved, X - eps * sign[:, None] * np.sign(w), atol=1e-12)
    margin = sign * (X @ w + b)
    np.testing.assert_allclose(sign * (moved @ w + b), margin - eps * np.abs(w).sum(), atol=1e-12)
    found = adversarial_accuracy(model, X, y, [0.0, eps])
    assert found.accuracy == (np.mean(margin > 0), np.mean(margin > eps * np.abs(w).sum()))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_accuracy_of_a_linear_model_falls_with_eps_and_no_attack_is_none(seed):
    model, (X, y) = linear(seed), sample(seed)
    found = adversarial_accuracy(model, X, y, np.linspace(0, 1, 12))
    assert list(found.accuracy) == sorted(found.accuracy, reverse=True)
    assert found.accuracy[0] == found.clean
    plain = ((model(torch.from_numpy(X)).detach().numpy()[:, 0] > 0) == y).mean()
    assert found.clean == plain
    assert found.drop[0] == 0


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), eps=st.floats(0.01, 0.6))
def test_pgd_of_a_linear_model_arrives_where_fgsm_does(seed, eps):
    model, (X, y) = linear(seed), sample(seed)
    x, t = torch.from_numpy(X), torch.from_numpy(y)
    torch.testing.assert_close(pgd(model, x, t, eps), fgsm(model, x, t, eps), rtol=0, atol=1e-12)
    fast, strong = (adversarial_accuracy(model, X, y, [eps], attack) for attack in ("fgsm", "pgd"))
    assert strong.accuracy <= fast.accuracy


def test_two_logits_are_one_logit_of_their_difference():
    two, (X, y) = linear(1, n_out=2), sample(1)
    one = linear(2)
    with torch.no_grad():
        one.weight.copy_(two.weight[1:] - two.weight[:1])
        one.bias.copy_(two.bias[1:] - two.bias[:1])
    eps = [0.05, 0.1, 0.3]
    assert adversarial_accuracy(one, X, y, eps) == adversarial_accuracy(two, X, y, eps)


def bent(seed=0, n_out=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 30), nn.Tanh(), nn.Linear(30, n_out)).double()


@pytest.mark.parametrize("start", [False, True])
def test_pgd_raises_the_loss_at_least_as_one_step_and_stays_in_the_ball(start):
    model, (X, _) = bent(), sample(3)
    y = np.random.default_rng(0).integers(3, size=len(X))
    x, t = torch.from_numpy(X), torch.from_numpy(y)
    strong = pgd(model, x, t, 0.2, steps=20, random_start=start, random_state=0)
    assert float((strong - x).abs().max()) <= 0.2 + 1e-12

    @torch.no_grad()
    def loss(z):
        return nn.functional.cross_entropy(model(z), t, reduction="none")

    assert (loss(strong) >= loss(x) - 1e-12).all() or start
    assert float(loss(strong).mean()) > float(loss(fgsm(model, x, t, 0.2)).mean())
    again = pgd(model, x, t, 0.2, steps=20, random_start=start, random_state=0)
    assert torch.equal(strong, again)


def test_bounds_hold():
    model, (X, y) = linear(0), sample(0)
    x, t = torch.from_numpy(X).clamp(0, 1), torch.from_numpy(y)
    for moved in (
        fgsm(model, x, t, 0.3, bounds=(0, 1)),
        pgd(model, x, t, 0.3, bounds=(0, 1), random_start=True),
    ):
        assert float(moved.min()) >= 0
        assert float(moved.max()) <= 1
    free, kept = (adversarial_accuracy(model, x, y, 0.3, bounds=bounds) for bounds in (None, (0, 1)))
    assert kept.accuracy >= free.accuracy


def test_a_sure_model_is_attacked_all_the_same():
    """In single precision the gradient of the loss of a margin of 60 is exactly zero."""
    model = nn.Linear(1, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-30.0], [30.0]]))
        model.bias.zero_()
    assert adversarial_accuracy(model, [[1.0], [-1.0]], [1, 0], [1.5]).accuracy == (0.0,)


def test_the_model_its_modes_and_gradients_stay_as_they_were():
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2))
    model.train()
    model[1].eval()
    model[2].weight.requires_grad_(False)
    model[2].bias.grad = torch.ones(2)
    before = copy.deepcopy(model.state_dict())
    X, y = sample(0)
    first = adversarial_accuracy(model, X, y, [0.1, 0.2], "pgd")
    assert adversarial_accuracy(model, X, y, [0.1, 0.2], "pgd", batch_size=17) == first
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert not model[2].weight.requires_grad
    assert model[0].weight.grad is None
    assert torch.equal(model[2].bias.grad, torch.ones(2))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with pytest.raises(ValueError, match="does not take inputs of shape"):
        adversarial_accuracy(model, X[:, :4], y, [0.1])
    assert model[0].training


def test_the_curve_reads_tabulates_draws_and_travels():
    found = adversarial_accuracy(linear(0), *sample(0), [0.3, 0.1, 0.1])
    assert found.eps == (0.1, 0.3)
    frame = found.to_frame()
    assert list(frame.columns) == ["eps", "accuracy", "low", "high", "drop"]
    assert ((frame.low < frame.accuracy) & (frame.accuracy < frame.high)).all()
    assert "under FGSM" in str(found)
    assert found.plot().get_ylabel() == "accuracy"


def test_wrong_arguments():
    model, (X, y) = linear(0), sample(0)
    with pytest.raises(ValueError, match="Did you mean 'fgsm'"):
        adversarial_accuracy(model, X, y, [0.1], "fgms")
    with pytest.raises(ValueError, match="outside bounds"):
        adversarial_accuracy(model, X, y, [0.1], bounds=(0, 1))
    with pytest.raises(ValueError, match="encode them"):
        adversarial_accuracy(model, X, np.where(y, "dog", "cat"), [0.1])
    with pytest.raises(ValueError, match="class 4"):
        adversarial_accuracy(model, X, y + 3, [0.1])
    with pytest.raises(ValueError, match="at least 0"):
        adversarial_accuracy(model, X, y, [-0.1])
    with pytest.raises(ValueError, match="finite sizes"):
        adversarial_accuracy(model, X, y, [np.inf])
    with pytest.raises(ValueError, match=r"X must have samples, shape \(n, ...\)"):
        adversarial_accuracy(model, 3.0, y, [0.1])
    with pytest.raises(ValueError, match="X is on the meta device"):
        adversarial_accuracy(model, torch.zeros(3, 2, device="meta"), y, [0.1])
    for attack in (fgsm, pgd):
        with pytest.raises(ValueError, match="eps must be finite in the numbers of X"):
            attack(nn.Linear(2, 2), torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), 1e300)
    with pytest.raises(TypeError, match="takes no norm="):
        adversarial_accuracy(model, X, y, [0.1], "pgd", norm=2)
    broken = nn.Linear(X.shape[1], 2).double()
    nn.init.constant_(broken.weight, np.nan)
    with pytest.raises(ValueError, match="model returns NaN"):  # whose largest entry would be class 0
        adversarial_accuracy(broken, X, y, [0.1])
    with pytest.raises(TypeError, match="takes no steps"):
        adversarial_accuracy(model, X, y, [0.1], steps=3)
    with pytest.raises(ValueError, match="NaN"):
        adversarial_accuracy(model, np.full_like(X, np.nan), y, [0.1])
