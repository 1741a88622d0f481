"""Descent reaches the closed form or says where it is caught, and the monitor measures what the metrics do."""

import numpy as np
import pytest
import torch
from torch import nn

from lodim.nets import mlp
from lodim.randomness import build_seeded
from lodim.representation import CollapseMonitor, DeepLinearUFM, ufm_minimizer
from lodim.representation.collapse import report
from lodim.training import DescentRecipe, descend
from lodim.validation import ConvergenceWarning


@pytest.mark.trains
@pytest.mark.parametrize(
    "settings",
    [
        {"n_per_class": [20] * 3, "dims": [8], "lam_w": 1e-3, "lam_h": 1e-3},
        {"n_per_class": [30, 20], "dims": [8, 8], "lam_w": [1e-3, 4e-3], "lam_h": 2e-4},
        {"n_per_class": [40, 20, 5], "dims": [8], "lam_w": 1e-3, "lam_h": 1e-4, "bias": True},
        {"n_per_class": [20] * 3, "dims": [8], "lam_w": 1e-3, "lam_h": 1e-4, "loss": "ce"},
    ],
)
def test_descent_from_noise_reaches_the_closed_form(settings):
    ufm = DeepLinearUFM(**settings, random_state=0).fit()
    assert ufm.loss_ == pytest.approx(ufm.target.loss, rel=1e-9)
    np.testing.assert_allclose(np.linalg.norm(ufm.product_, axis=1), ufm.target.classifier_norms, rtol=1e-4)
    assert ufm.basin_ == ("alive",) * len(ufm.n_per_class)
    assert all(found.nc1 < 1e-9 for found in ufm.metrics())


@pytest.mark.trains
def test_the_start_decides_whether_descent_is_caught_at_zero():
    settings = {"n_per_class": (40, 3), "dims": [4] * 3, "lam_w": 5e-3, "lam_h": 1e-3, "random_state": 0}
    caught = DeepLinearUFM(**settings, scale=0.05).fit()
    assert caught.target.alive.all()
    assert "trapped" in caught.basin_
    assert caught.loss_ > caught.target.loss * 1.1
    for start in ("minimizer_perturbed", "warm"):
        found = DeepLinearUFM(**settings, init=start, scale=0.05).fit()
        assert found.basin_ == ("alive", "alive")
        assert found.loss_ == pytest.approx(found.target.loss, rel=1e-9)


@pytest.mark.trains
def test_gradient_descent_too():
    ufm = DeepLinearUFM([10, 10], [4], 0.1, 0.1, random_state=0)
    ufm.fit("sgd", max_iter=200, lr=0.5)
    assert ufm.loss_ == pytest.approx(ufm.target.loss, rel=1e-6)
    assert len(ufm.history_) == ufm.n_iter_ == 200


@pytest.mark.trains
def test_minority_collapse_is_no_trap():
    ufm = DeepLinearUFM((200, 100, 50, 1), [6, 6], 2e-3, 1e-3, random_state=0).fit()
    assert ufm.basin_ == ("alive",) * 3 + ("collapsed",)
    assert np.abs(ufm.product_[3]).max() < 1e-6


def test_the_gradient_is_of_the_objective_with_unequal_cross_entropy():
    ufm = DeepLinearUFM([5, 3, 2], [4, 4], [1e-3, 2e-3], 1e-3, "ce", random_state=0)
    assert ufm.target is None
    with pytest.warns(ConvergenceWarning, match="come to rest"):
        ufm.fit(max_iter=1)
    assert ufm.history_[-1] == pytest.approx(ufm.loss_)
    with pytest.raises(NotImplementedError):
        DeepLinearUFM([5, 3], [4], 1e-3, 1e-3, "ce", init="minimizer_perturbed")


def test_the_same_seed_is_the_same_descent():
    one, other = (
        DeepLinearUFM([6, 6], [3], 1e-2, 1e-2, random_state=1).fit(max_iter=200).features_ for _ in range(2)
    )
    assert np.array_equal(one, other)


@pytest.mark.trains
def test_the_monitor_sees_each_linear_layer_with_its_partial_product():
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    X = torch.randn(60, 4, generator=rng) + 3 * nn.functional.one_hot(y, 4)
    net = build_seeded(
        lambda: nn.Sequential(*mlp([4, 16, 8]), nn.ReLU(), nn.Linear(8, 6), nn.Linear(6, 3)), 0
    )
    monitor = CollapseMonitor(net, None, None, [(X[:35], y[:35]), (X[35:], y[35:])])
    loss = nn.CrossEntropyLoss()
    descend(lambda a, t: loss(net(a), t), net, DescentRecipe(epochs=10, lr=0.01), (X, y), on_epoch=monitor)
    assert len(monitor.history) == 10
    assert list(monitor.history[-1]) == ["4", "5"]
    with torch.no_grad():
        H = net[:4](X)
        first, last = net[4], net[5]
        W, b = last.weight @ first.weight, last.weight @ first.bias + last.bias
    features = [(H, W, b), (first(H).detach(), last.weight.detach(), last.bias.detach())]
    for found, (rows, weights, bias) in zip(monitor.history[-1].values(), features):
        wanted = report(rows.double().numpy(), y.numpy(), weights.double().numpy(), bias.double().numpy())
        assert found.named() == pytest.approx(wanted.named(), rel=1e-4, abs=1e-9)
    assert set(monitor.to_frame()["layer"]) == {"4", "5"}
    assert monitor.plot("nc2") is not None
    named = CollapseMonitor(net, ["4", "5"], "5", [(X, y)], frame="orthogonal")
    assert named()["5"].nc2 != monitor.history[-1]["5"].nc2
    with pytest.raises(ValueError, match="classifier"):
        CollapseMonitor(net, ["5", "4"], "5", [(X, y)])


def test_dims_are_asked_for():
    with pytest.raises(ValueError, match="init must be"):
        DeepLinearUFM([5, 5], [4], 1e-3, 1e-3, init="zero")
    assert ufm_minimizer([5, 5], 1e-3, 1e-3).dims == (2,)


def test_what_has_not_been_run_says_so():
    from sklearn.exceptions import NotFittedError

    ufm = DeepLinearUFM([4, 4], [3], 1e-2, 1e-2)
    assert "not fitted" in repr(ufm)
    with pytest.raises(NotFittedError, match="fit"):
        ufm.metrics()
    with pytest.raises(NotFittedError, match="fit"):
        _ = ufm.product_
    data = torch.randn(6, 4), torch.arange(6) % 2
    monitor = CollapseMonitor(mlp([4, 3, 2]), None, None, [data])
    with pytest.raises(ValueError, match="nothing has been measured"):
        monitor.plot()
