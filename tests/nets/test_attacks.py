"""Projected gradient steps in two norms, with restarts; closed forms in the largest norm are tested in geometry."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lodim.nets import mlp
from lodim.nets.attacks import confined, fgsm, into_ball, is_right, losses_of, margins, pgd
from lodim.randomness import build_seeded


def net(seed=0):
    return build_seeded(lambda: mlp([6, 16, 3]), seed).double()


def points(n=20):
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.random((n, 6))), torch.from_numpy(rng.integers(0, 3, n))


@pytest.mark.parametrize("bounds", [None, (0, 1)])
def test_one_step_of_the_radius_is_the_gradient_sign_method(bounds):
    model, (x, y) = net(), points()
    one = pgd(model, x, y, 0.1, steps=1, step_size=0.1, bounds=bounds)
    both = torch.stack([x, fgsm(model, x, y, 0.1, bounds=bounds)])  # the worse of which is the answer
    losses = torch.stack([losses_of(model(part), y) for part in both])
    torch.testing.assert_close(one, torch.where((losses[1] > losses[0])[:, None], both[1], both[0]))


@pytest.mark.parametrize("norm", ["inf", 2])
def test_no_size_no_change(norm):
    model, (x, y) = net(), points()
    assert torch.equal(pgd(model, x, y, 0.0, norm=norm, n_restarts=2, random_state=0), x)


@pytest.mark.parametrize("eps", [1e-3, 0.3])
def test_a_linear_model_in_the_euclidean_norm_in_closed_form(eps):
    line = build_seeded(lambda: nn.Linear(6, 1), 0).double()
    x, _ = points()
    y = (torch.arange(20) % 2).long()
    moved = pgd(line, x, y, eps, norm=2, steps=7)
    w = line.weight[0].detach()
    expected = x + eps * torch.where(y == 1, -1.0, 1.0)[:, None] * w / w.norm()
    torch.testing.assert_close(moved, expected)


@pytest.mark.parametrize("norm", ["inf", 2, math.inf])
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_restarts_only_add_and_stay_in_the_ball(norm, loss):
    model, (x, y) = net(), points()
    value = losses_of if loss == "cross_entropy" else margins
    one, more = (
        pgd(model, x, y, 0.2, norm=norm, bounds=(0, 1), n_restarts=r, loss=loss, random_state=0)
        for r in (1, 4)
    )
    for moved in (one, more):
        assert float(moved.min()) >= 0 <= 1 - float(moved.max())
        assert float((moved - x).norm(2 if norm == 2 else math.inf, dim=1).max()) <= 0.2 * (1 + 1e-12)
    errs = [~is_right(model(moved), y) for moved in (one, more)]
    assert (errs[1] >= errs[0]).all()
    assert (value(model(more), y) >= value(model(one), y))[errs[0] == errs[1]].all()
    assert value(model(more), y).sum() > value(model(one), y).sum()


@pytest.mark.parametrize("columns", [3, 1])
def test_the_margin_is_positive_exactly_where_the_model_errs(columns):
    outputs = torch.from_numpy(np.random.default_rng(0).normal(size=(50, columns)))
    y = torch.arange(50) % max(columns, 2)
    assert torch.equal(margins(outputs, y) > 0, ~is_right(outputs, y))


def test_an_error_that_was_met_is_kept_though_the_loss_grows_further_on():
    """At 1 the second class wins with cross-entropy .80; at 2 the model is right again, with .92."""
    at = torch.tensor([[0.6, 0.39, 0.01], [0.45, 0.54, 0.01], [0.4, 0.3, 0.3]]).double().log()

    def model(x):
        return torch.where(x < 1, at[0] + (at[1] - at[0]) * x, at[1] + (at[2] - at[1]) * (x - 1))

    x, y = torch.zeros(1, 1).double(), torch.zeros(1).long()
    assert pgd(model, x, y, 2.0, steps=2, step_size=1.0).item() == 1


def test_averaged_passes_of_a_sure_model_are_one_pass():
    model, (x, y) = net(), points()
    torch.testing.assert_close(pgd(model, x, y, 0.1, n_eot=3), pgd(model, x, y, 0.1))


def test_projection_is_the_nearest_point_of_the_ball():
    change = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    torch.testing.assert_close(into_ball(change, 1.0, 2.0), torch.tensor([[0.6, 0.8], [0.3, 0.4]]))
    assert into_ball(change, 1.0, math.inf).tolist() == [[1, 1], change[1].tolist()]


def test_what_leaves_the_ball_or_the_bounds_is_caught():
    x = torch.zeros(2, 3)
    with pytest.raises(AssertionError, match="ball"):
        confined(x + 0.11, x, 0.1)
    with pytest.raises(AssertionError, match="ball"):
        confined(x + 0.1, x, 0.1, norm=2)
    with pytest.raises(AssertionError, match="bounds"):
        confined(x - 0.01, x, 0.1, bounds=(0, 1))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"norm": 1}, "norm must be"),
        ({"loss": "hinge"}, "loss"),
        ({"bounds": (0.2, 1)}, "bounds"),
        ({"eps": -0.1}, "eps"),
        ({"step_size": -0.1}, "step_size"),
        ({"step_size": math.inf}, "step_size"),
        ({"y": torch.full((20,), -100)}, "got -100"),  # which the cross-entropy would leave out
        ({"y": torch.full((20,), 3)}, "holds class 3"),
    ],
)
def test_what_is_refused(options, said):
    x, y = points()
    with pytest.raises(ValueError, match=said):
        pgd(net(), **{"X": x, "y": y, "eps": 0.1, **options})


def test_models_that_answer_wrongly_are_told_so():
    x, y = torch.ones(3, 2), torch.tensor([0, 1, 0])
    with pytest.raises(ValueError, match=r"returned shape \(1, 2\) for 3 samples"):
        fgsm(lambda x: x[:1], x, y, 0.1)
    with pytest.raises(ValueError, match="hides the gradient"):
        fgsm(lambda x: x.detach(), x, y, 0.1)
    assert not is_right(torch.full((3, 2), torch.nan), y).any()
    assert not is_right(torch.full((3, 1), torch.nan), y).any()


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("attack", [fgsm, pgd])
def test_gradients_are_taken_whatever_the_caller_has_switched_off_and_none_are_left(attack, off):
    model, (x, y) = net(), points()
    expected = attack(model, x, y, 0.1)
    with off():
        torch.testing.assert_close(attack(model, x.clone(), y, 0.1), expected, rtol=0, atol=0)
    given = x.clone().requires_grad_()
    found = attack(model, given, y, 0.1)
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert given.grad is None
