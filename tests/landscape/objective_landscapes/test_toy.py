"""The toy problem's transition is where the mathematics puts it."""

import math

import numpy as np
import pytest
import torch

from lodim.landscape.objective_landscapes.toy import ToyCurve, ToySumProblem, shuffle_labels, toy_sum_problem
from lodim.sketch import make_projection


@pytest.mark.parametrize(("D", "groups"), [(1000, 10), (1000, 5), (60, 3), (84, 7)])
def test_intrinsic_dimension_is_the_number_of_groups(D, groups):
    curve = toy_sum_problem(D, groups).curve(range(1, 2 * groups), n_seeds=5)
    assert curve.d_int == groups
    assert (curve.performance[groups - 1 :] > 0.999).all()
    assert (curve.performance[: groups - 2].mean(1) < 0.5).all()


@pytest.mark.parametrize("kind", ["cyclic", "fastfood", "countsketch", "srht"])
def test_other_projections_have_the_same_transition(kind):
    assert toy_sum_problem().curve(range(6, 14), n_seeds=3, projection=kind).d_int == 10


def test_loss_and_performance():
    problem = toy_sum_problem(6, 3)
    theta = torch.tensor([0.5, 0.5, 1.0, 1.0, 0.0, 2.0], dtype=torch.float64)
    assert problem.loss(theta).item() == pytest.approx(1.0)
    assert problem.performance(theta).item() == pytest.approx(math.exp(-1))
    batch = torch.stack([theta, torch.zeros_like(theta)])
    np.testing.assert_allclose(problem.loss(batch), [1.0, 1 + 4 + 9])
    np.testing.assert_allclose(problem.rows() @ theta, theta.reshape(3, 2).sum(1))


@pytest.mark.parametrize("d", [3, 12])
def test_the_optimum_has_no_gradient_in_the_subspace(d):
    problem = toy_sum_problem(200, 10)
    P = make_projection("dense", 200, d, seed=1, dtype=torch.float64)
    theta0 = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    v = problem.optimum(P, theta0).requires_grad_()
    problem.loss(theta0 + P(v)).backward()
    assert v.grad.abs().max() < 1e-8
    away = problem.loss(theta0 + P(v.detach() + 0.01 * torch.ones(d, dtype=torch.float64)))
    assert away > problem.loss(theta0 + P(v)).item()


def test_the_curve_reports_itself():
    curve = toy_sum_problem(40, 4).curve([2, 4, 6, 4], n_seeds=2, random_state=3)
    assert curve.dims == (2, 4, 6)
    assert list(curve.to_frame().columns) == ["d", "replica", "performance"]
    assert len(curve.to_frame()) == 6
    assert "intrinsic dimension 4" in str(curve)
    back = ToyCurve.from_json(curve.to_json())
    np.testing.assert_array_equal(back.performance, curve.performance)
    assert curve.plot().get_xlabel() == "subspace dimension d"
    again = toy_sum_problem(40, 4).curve([4], n_seeds=2, random_state=3)
    np.testing.assert_array_equal(again.performance[0], curve.performance[1])


def test_not_reached_is_infinite():
    assert toy_sum_problem(40, 4).curve([1, 2], n_seeds=2).d_int == math.inf


def test_bad_input():
    with pytest.raises(ValueError, match="equal groups"):
        toy_sum_problem(1000, 7)
    with pytest.raises(ValueError, match="groups"):
        toy_sum_problem(10, 11)
    with pytest.raises(ValueError, match="d must be"):
        toy_sum_problem(10, 5).curve([11])
    for options, named in (
        ({"n_seeds": 0}, "n_seeds"),
        ({"threshold": 2.0}, "threshold"),
        ({"dims": []}, "dims"),
    ):
        with pytest.raises(ValueError, match=named):
            toy_sum_problem(10, 5).curve(**options)
    with pytest.raises(ValueError, match="equal groups"):
        ToySumProblem(10, 3)
    with pytest.raises(ValueError, match="y must be an array"):
        shuffle_labels([[1.0], [1.0, 2.0]])
    with pytest.raises(TypeError, match="y is sparse"):
        shuffle_labels(torch.zeros(9).to_sparse())
    with pytest.raises(ValueError, match="D=40"):
        toy_sum_problem(40, 4).optimum(make_projection("dense", 41, 2))
