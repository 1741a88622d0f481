"""What must hold of near-collapse whatever the data: identities, invariances, limits."""

import tracemalloc

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import nn

import lodim.representation.near_collapse as system
from lodim.nets import mlp
from lodim.randomness import build_seeded
from lodim.representation import (
    NearCollapseModel,
    central_path,
    collapsed_minimizer,
    collapsed_spectrum,
    depth_profile,
    estimate_beta,
    greedy_train,
    split_weight_decay,
    to_ufm_lambdas,
)
from lodim.representation.collapse import nc1
from lodim.validation import ConvergenceWarning

K, N_EACH, D = 3, 8, 5
LAM_W, LAM_H, BETA = 0.2, 0.1, 20.0


def features(seed=0, n=N_EACH, d=D, classes=K, apart=1.0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(classes), n))
    return rng.normal(size=(classes * n, d)) + apart * rng.normal(size=(classes, d))[y], y


def fit(H0, y, beta=BETA, **options):
    return NearCollapseModel(LAM_W, LAM_H, beta, **options).fit(H0, y)


def paper_objective(W, H, H0, y, lam_w, lam_h, beta):
    """The paper's, features being columns, in torch."""
    k, n = len(W), H.shape[1] / len(W)
    Y = torch.eye(k, dtype=torch.float64)[:, torch.as_tensor(y)]
    return (
        (W @ H - Y).square().sum() / (2 * k * n) + lam_w / (2 * k) * W.square().sum()
        + lam_h / (2 * k * n) * H.square().sum() + beta / (2 * k * n) * (H - H0).square().sum()
    )  # fmt: skip


def off(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def test_the_module_names_its_source():
    assert "2210.16658" in system.__doc__


# ---- the solver


@pytest.mark.parametrize("solver", ["alternating", "anderson"])
@pytest.mark.parametrize("d", [D, 40])  # fewer features than rows, and more
def test_the_gradient_of_the_papers_objective_is_zero_and_its_value_the_one_told(solver, d):
    H0, y = features(d=d)
    model = fit(H0, y, 2.0, solver=solver)
    W, H = (torch.tensor(a, requires_grad=True) for a in (model.classifier_, model.features_.T.copy()))
    value = paper_objective(W, H, torch.tensor(H0.T), y, LAM_W, LAM_H, 2.0)
    value.backward()
    assert max(W.grad.abs().max(), H.grad.abs().max()) < 1e-12
    assert value.item() == pytest.approx(model.objective_[-1], rel=1e-12)
    assert model.converged_


@pytest.mark.parametrize("solver", ["alternating", "anderson"])
def test_the_objective_never_rises(solver):
    H0, y = features(1)
    model = fit(H0, y, 0.3, solver=solver)
    assert np.diff(model.objective_).max() <= 1e-15
    assert model.objective_[0] - model.objective_[-1] > 0.01


def test_extrapolation_finds_the_same_minimum_in_fewer_rounds():
    H0, y = features(2)
    slow, fast = (fit(H0, y, 0.2, solver=solver) for solver in ("alternating", "anderson"))
    assert off(fast.features_, slow.features_) < 1e-9
    assert fast.n_iter_ < slow.n_iter_ / 2


def test_a_strong_link_is_one_step_of_gradient_descent():
    """H = H0 - N grad L(H0) / beta + O(1 / beta^2)."""
    H0, y = features(3)
    H, Y = torch.tensor(H0.T, requires_grad=True), torch.eye(K, dtype=torch.float64)[:, torch.tensor(y)]
    W = Y @ H.T @ torch.linalg.inv(H @ H.T + N_EACH * LAM_W * torch.eye(D))
    (len(y) * paper_objective(W, H, H.detach(), y, LAM_W, LAM_H, 0.0)).backward()
    step = H.grad.numpy().T
    errors = [np.linalg.norm(fit(H0, y, beta).features_ - H0 + step / beta) for beta in (1e3, 1e4)]
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.02)


def test_a_link_to_zero_is_weight_decay_of_the_plain_model():
    """The smallest H0 that is none: collapse, with lam_h + beta in place of lam_h."""
    H0, y = features(4)
    beta = 0.5
    model = fit(1e-7 * H0, y, beta, solver="anderson")
    c = np.sqrt(LAM_W * (LAM_H + beta))
    rho = (1 - c) * np.sqrt(LAM_W / (LAM_H + beta))
    means = np.stack([model.features_[y == k].mean(0) for k in range(K)])
    np.testing.assert_allclose(means @ means.T, rho * np.eye(K), atol=1e-6)
    assert model.nc1_after_ < 1e-10


def test_turning_features_turns_the_answer():
    H0, y = features(5)
    model = fit(H0, y)
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(D, D)))[0]
    assert off(fit(H0 @ Q, y).features_, model.features_ @ Q) < 1e-12
    order = np.random.default_rng(1).permutation(len(y))
    assert off(fit(H0[order], y[order]).features_, model.features_[order]) < 1e-12
    padded = fit(np.pad(H0, ((0, 0), (0, 30))), y)  # more columns than rows: the other form of the classifier
    assert off(padded.features_, np.pad(model.features_, ((0, 0), (0, 30)))) < 1e-12
    named = fit(H0, np.array(["c", "a", "b"])[y])
    assert off(named.features_, model.features_) < 1e-12
    assert named.classes_.tolist() == ["a", "b", "c"]


# ---- the plain model


@pytest.mark.parametrize("beta", [0.1, 100.0])
def test_collapsed_features_are_a_fixed_point(beta):
    """Corollary 2.2."""
    plain = collapsed_minimizer(4, 6, 7, 0.5, 0.3, random_state=0)
    model = NearCollapseModel(0.5, 0.3, beta).fit(plain.features, plain.labels)
    assert off(model.features_, plain.features) < 1e-12
    assert off(model.classifier_, plain.classifier) < 1e-12
    assert model.objective_[0] == pytest.approx(plain.loss, rel=1e-12)


def test_the_plain_minimiser_is_that_of_deep_linear_models_with_one_layer():
    """arXiv 2301.00437: x minimises n / (1 + x) + N (N lam_H lam_1) x, and gives the lengths and the loss below."""
    k, n, lam_w, lam_h = 4, 6, 0.5, 0.3
    lam_1, lam_H = to_ufm_lambdas(lam_w, lam_h, k, n)
    N = k * n
    x = brentq(lambda x: N * (N * lam_H * lam_1) - n / (1 + x) ** 2, 0, 1e6, xtol=1e-14)
    plain = collapsed_minimizer(k, n, 5, lam_w, lam_h, random_state=0)
    np.testing.assert_allclose(np.square(plain.classifier).sum(1), N * lam_H * x, rtol=1e-10)
    np.testing.assert_allclose(np.square(plain.features).sum(1), x / (N * lam_H * (1 + x) ** 2), rtol=1e-10)
    value = k * (n / (1 + x) + N * (N * lam_H * lam_1) * x) / (2 * N)
    assert plain.loss == pytest.approx(value, rel=1e-10)


# ---- the response


def paper_response(model, y, lam_w, lam_h, beta):
    """beta / (K n) times the inverse of f_HH - f_HW f_WW^-1 f_WH (theorem 4.1), by autograd."""
    shapes = [model.classifier_.shape, model.features_.T.shape]
    split = shapes[0][0] * shapes[0][1]

    def f(v):
        H = v[split:].reshape(shapes[1][::-1]).T
        return paper_objective(v[:split].reshape(shapes[0]), H, H.detach() * 0, y, lam_w, lam_h, beta)

    at = torch.tensor(np.concatenate([model.classifier_.ravel(), model.features_.ravel()]))
    hessian = torch.autograd.functional.hessian(f, at).numpy()
    WW, WH, HH = hessian[:split, :split], hessian[:split, split:], hessian[split:, split:]
    return beta / len(y) * np.linalg.inv(HH - WH.T @ np.linalg.solve(WW, WH))


def test_the_response_is_that_of_the_theorem():
    H0, y = features(6, n=4)
    model = fit(H0, y, 1.5)
    F = paper_response(model, y, LAM_W, LAM_H, 1.5)
    np.testing.assert_allclose(model.response_matrix(), F, atol=1e-11)
    dH0 = np.random.default_rng(0).normal(size=H0.shape)
    np.testing.assert_allclose(model.linear_response(dH0).ravel(), F @ dH0.ravel(), atol=1e-8)


def test_the_response_is_the_derivative_of_the_answer():
    H0, y = features(7)
    dH0 = np.random.default_rng(0).normal(size=H0.shape)
    model, eps = fit(H0, y, 3.0), 1e-5
    ends = [fit(H0 + sign * eps * dH0, y, 3.0).features_ for sign in (1, -1)]
    assert off(model.linear_response(dH0), (ends[0] - ends[1]) / (2 * eps)) < 1e-8


def test_the_form_for_a_strong_link_is_off_by_the_square_of_its_inverse():
    H0, y = features(8)
    dH0 = np.random.default_rng(0).normal(size=H0.shape)
    errors = []
    for beta in (1e3, 1e4):
        model = fit(H0, y, beta)
        errors.append(off(model.linear_response(dH0, exact=False), model.linear_response(dH0, tol=1e-13)))
        linear = model.response_matrix(exact=False) @ dH0.ravel()
        assert off(model.linear_response(dH0, exact=False).ravel(), linear) < 1e-12
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize(("k", "n", "d"), [(4, 3, 6), (2, 5, 2), (3, 1, 5)])
def test_block_spectra_of_collapsed_features(k, n, d):
    """Theorem 4.2 and the table of the module, on the matrix itself."""
    plain = collapsed_minimizer(k, n, d, 0.5, 0.3, random_state=1)
    found = NearCollapseModel(0.5, 0.3, 50.0).fit(plain.features, plain.labels).block_spectrum()
    told = collapsed_spectrum(k, n, d, 0.5, 0.3, 50.0)
    np.testing.assert_allclose(found.intra, told.intra, atol=1e-13)
    np.testing.assert_allclose(found.inter, told.inter, atol=1e-13)


def test_the_response_needs_no_matrix():
    H0, y = features(9, n=50, d=40)
    model = fit(H0, y)
    tracemalloc.start()
    model.linear_response(H0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * H0.size**2 / 100
    with pytest.raises(ValueError, match="linear_response needs none"):
        model.response_matrix()


# ---- paths


def test_theorem_on_the_central_path():
    """Section 3, on twenty random features."""
    for seed in range(20):
        H0, y = features(seed, apart=0.5)
        path = central_path(H0, y, LAM_W, (0.0, 0.1)[seed % 2], np.linspace(0, 1, 4))
        assert (np.diff(path.nc1_trace) < 0).all()
        assert (np.diff(path.scaled_within) < 1e-7 * path.scaled_within[0]).all()
        assert (np.diff(path.scaled_between) > 0).all()
        assert (np.diff(path.loss) < 0).all()
        np.testing.assert_allclose(path.nc1_trace, path.trace_within / path.trace_between, rtol=1e-12)


def test_deviations_that_the_classifier_does_not_see_only_decay():
    """What is orthogonal to all class means stays so, and shrinks by exp(-lam_h t)."""
    H0, y = features(10)
    H0 = np.c_[H0, np.zeros(len(y))]
    for k in range(K):
        H0[np.flatnonzero(y == k)[:2], -1] = (1.0, -1.0)
    dev = H0[:, :-1] - np.stack([H0[y == k, :-1].mean(0) for k in range(K)])[y]
    H0[:, -1] -= dev @ np.linalg.lstsq(dev, H0[:, -1], rcond=None)[0]  # uncorrelated with all else
    end = central_path(H0, y, LAM_W, 0.1, [2.0]).features
    np.testing.assert_allclose(end[:, -1], np.exp(-0.2) * H0[:, -1], atol=1e-7)


def test_time_on_the_path_is_the_inverse_of_the_link():
    H0, y = features(11)
    errors = [
        off(central_path(H0, y, LAM_W, LAM_H, [1 / beta]).features, fit(H0, y, beta).features_)
        for beta in (1e2, 1e3)
    ]
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.05)


def test_layers_are_models_in_a_chain_and_variability_falls():
    H0, y = features(12, apart=0.3)
    path = depth_profile(H0, y, LAM_W, LAM_H, BETA, 4)
    H, told = H0, [fit(H0, y).nc1_before_]
    for _ in range(4):
        model = fit(H, y)
        H = model.features_
        told.append(model.nc1_after_)
    np.testing.assert_allclose(path.nc1_trace, told, rtol=1e-10)
    assert off(path.features, H) < 1e-11
    assert (np.diff(told) < 0).all()


# ---- beta of two layers


@pytest.mark.parametrize("width", [D, D + 4])
def test_beta_is_found_whatever_turned_the_features(width):
    H0, y = features(13)
    model = fit(H0, y, 12.0)
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(width, width)))[0][:D]
    for lam_h in (LAM_H, None):
        found = estimate_beta(H0 @ Q, model.features_, y, LAM_W, lam_h)
        assert found.beta == pytest.approx(12, rel=1e-6)
        assert found.lam_h == pytest.approx(LAM_H, rel=1e-4)
        assert found.identified
        assert found.nc1_after == pytest.approx(model.nc1_after_, rel=1e-10)


def test_layers_that_know_nothing_of_each_other_do_not_tell_beta():
    H, y = features(14, n=40)
    for seed in range(15, 20):
        other = np.random.default_rng(seed).normal(size=H.shape)
        found = estimate_beta(other, H, y, LAM_W, LAM_H)
        assert not found.identified
        assert "cannot tell" in str(found)


def test_noise_makes_beta_less_certain_but_not_smaller():
    """H0 plus noise: the estimates scatter about as they say, around the truth."""
    H0, y = features(21, n=40)
    H = fit(H0, y, 12.0).features_
    rng = np.random.default_rng(0)
    found = [estimate_beta(H0 + 1e-3 * rng.normal(size=H0.shape), H, y, LAM_W, LAM_H) for _ in range(40)]
    change, error = (np.array([getattr(each, name) for each in found]) for name in ("change", "se"))
    assert 0.6 < change.std() / error.mean() < 1.5
    assert abs(change.mean() - 1 / 12) < 4 * error.mean() / np.sqrt(40)


@pytest.mark.parametrize(("spread", "lam_w", "apart"), [(0.02, 0.2, 0.3), (0.1, 0.6, 0.3), (0.05, 0.2, 0.0)])
def test_class_means_that_agree_do_not_tell_beta(spread, lam_w, apart):
    """Rows that have nothing to do with each other, about means in the same directions or about none."""
    y, rng = np.repeat(np.arange(3), 20), np.random.default_rng(0)
    H0 = apart * np.eye(3, 6)[y] + spread * rng.normal(size=(60, 6))
    H = 0.9 * np.eye(3, 6)[y] + spread * rng.normal(size=(60, 6))
    found = estimate_beta(H0, H, y, lam_w, 0.01)
    assert found.share > 0.5
    assert found.change > 2 * found.se
    assert not found.related
    assert not found.identified
    assert "differ otherwise" in str(found)


def test_more_units_than_rows_fit_any_rows_and_do_not_tell_beta():
    y, rng = np.repeat(np.arange(3), 8), np.random.default_rng(0)
    H0, H = (a * np.eye(3, 100)[y] + 0.02 * rng.normal(size=(24, 100)) for a in (0.3, 0.9))
    found = estimate_beta(H0, H, y, 0.2, 0.01)
    assert not found.related
    assert not found.identified


def test_layers_that_say_the_same_are_refused():
    H, y = features(22)
    with pytest.raises(ValueError, match="changed nothing"):
        estimate_beta(H[:, ::-1], H, y, LAM_W)
    with pytest.raises(ValueError, match="transpose"):
        estimate_beta(np.r_[H, H], H, y, LAM_W)
    plain = collapsed_minimizer(K, N_EACH, D, LAM_W, LAM_H, random_state=0)
    for seed in range(8):  # however it is turned, and so rounded
        turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(D, D)))[0]
        for lam_h in (LAM_H, None):
            with pytest.raises(ValueError, match="at rest"):
                estimate_beta(H, plain.features @ turn, plain.labels, LAM_W, lam_h)


# ---- networks


def test_weight_decay_acts_on_its_part_only():
    net = build_seeded(lambda: mlp([4, 6, 6, 3]), 0)
    before = [p.detach().clone() for p in net.parameters()]
    groups = split_weight_decay(net, "4", 0.5, 0.25)
    optimizer = torch.optim.SGD(groups, lr=1.0)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for i, (new, old) in enumerate(zip(net.parameters(), before, strict=True)):
        torch.testing.assert_close(new.detach(), old * (0.5 if i < 4 else 0.75))


def test_what_cannot_be_split_is_refused():
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[0].weight = tied[1].weight
    with pytest.raises(ValueError, match="cannot have two"):
        split_weight_decay(tied, "1", 0.1, 0.1)
    for part in ("0", ""):
        with pytest.raises(ValueError, match="nothing to train before"):
            split_weight_decay(nn.Sequential(nn.Linear(3, 3)), part, 0.1, 0.1)
    tied[0].weight.requires_grad_(False)  # and then it has none
    assert [len(group["params"]) for group in split_weight_decay(tied, "1", 0.1, 0.2)] == [1, 1]
    with pytest.raises(ValueError, match="wd_features"):
        split_weight_decay(mlp([2, 2, 2]), "2", -1.0, 0.1)


def blobs():
    """Three classes along three of twelve columns, noise in all."""
    y = np.arange(240) % 3
    return 1.5 * np.eye(3, 12)[y] + 0.5 * np.random.default_rng(0).normal(size=(240, 12)), np.array(
        list("xyz")
    )[y]


@pytest.mark.trains
@pytest.mark.parametrize("loss", ["mse", "ce"])
def test_layers_are_trained_one_after_the_other(loss):
    X, y = blobs()
    nets = [build_seeded(lambda depth=depth: mlp([12, *[16] * depth, 3]), 0) for depth in (2, 3)]
    nets[1][0].load_state_dict(nets[0][0].state_dict())
    with torch.no_grad():
        untrained = nc1(nets[0][:2](torch.tensor(X, dtype=torch.float32)).numpy(), y)
    options = {"loss": loss, "epochs": 10, "lr": 0.01, "batch_size": 40, "random_state": 0}
    short, long = (greedy_train(net, X, y, **options) for net in nets)
    # the first layer knows nothing of how many follow, and is not touched afterwards
    assert torch.equal(nets[0][0].weight, nets[1][0].weight)
    assert short.nc1[:2] == long.nc1[:2]
    assert long.layers == ("input", "0", "2", "4 and 6")
    assert long.nc1[1] < 0.7 * untrained
    assert not torch.equal(nets[0][2].weight, nets[1][2].weight)
    shown = nets[1](torch.tensor(X, dtype=torch.float32)).argmax(1).numpy()
    assert np.mean(np.array(list("xyz"))[shown] == y) == pytest.approx(long.accuracy[-1], abs=1e-6)
    assert long.accuracy[-1] > 0.8


def test_any_sequence_can_be_trained_and_keeps_its_mode():
    rng = np.random.default_rng(0)
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)
    ).eval()
    found = greedy_train(net, rng.normal(size=(12, 1, 6, 6)), np.arange(12) % 2, epochs=1, random_state=0)
    assert found.layers == ("input", "0", "1 and 4")
    assert not any(part.training for part in net.modules())
    with pytest.raises(ValueError, match="2 outputs but y has 3 classes"):
        greedy_train(net, rng.normal(size=(12, 1, 6, 6)), np.arange(12) % 3)
    with pytest.raises(ValueError, match="does not take samples"):
        greedy_train(mlp([4, 2, 2]), np.eye(3), [0, 1, 0])
    with pytest.warns(UserWarning, match="not defined"):
        assert np.isnan(greedy_train(mlp([3, 2, 2]), np.ones((4, 3)), [0, 1, 0, 1], epochs=1).nc1).all()
    with pytest.raises(ValueError, match="at least two parts"):
        greedy_train(nn.Sequential(nn.Linear(3, 2)), np.eye(3), [0, 1, 0])


def test_parts_that_cannot_be_trained_one_by_one_are_refused():
    """Before any is touched."""
    X, y = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 2
    twice = nn.Linear(4, 4)
    tied = mlp([4, 4, 4, 2])
    tied[2].weight = tied[0].weight
    frozen = mlp([4, 4, 4, 2])
    frozen[2].requires_grad_(False)
    for model, said in (
        (nn.Sequential(twice, nn.ReLU(), twice, nn.Linear(4, 2)), "'2' shares a weight with '0'"),
        (tied, "'2' shares a weight with '0'"),
        (frozen, "'2' is frozen"),
    ):
        before = [p.detach().clone() for p in model.parameters()]
        with pytest.raises(ValueError, match=said):
            greedy_train(model, X, y, epochs=1)
        assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    maps = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3))
    with pytest.raises(ValueError, match="2 x 2 x 2 outputs"):
        greedy_train(maps, np.ones((4, 1, 6, 6)), [0, 1, 0, 1])


def test_a_batch_of_one_under_a_norm_is_refused_before_training():
    X, y = np.random.default_rng(0).normal(size=(13, 4)), np.arange(13) % 2
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    for size in (1, 12):
        with pytest.raises(ValueError, match="a batch of one of 13 rows"):
            greedy_train(net, X, y, batch_size=size)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert len(greedy_train(mlp([4, 4, 2]), X, y, batch_size=12, epochs=1).nc1) == 2


def test_the_mode_comes_back_from_an_error_and_no_finite_step_is_said():
    X, y = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 2
    net = mlp([4, 4, 4, 2]).eval()
    with pytest.raises(ValueError, match="wd_features"):
        greedy_train(net, X, y, wd_features=-1.0)
    assert not any(part.training for part in net.modules())
    with pytest.warns(ConvergenceWarning, match="layer 0 diverged"):
        assert greedy_train(net, 1e30 * X, y, epochs=1).layers == ("input",)


# ---- what is said of bad input


def test_unequal_classes_are_solved_with_a_warning_and_have_no_theorem():
    H0, y = features(23)
    with pytest.warns(UserWarning, match="theorems are of equal ones"):
        model = fit(H0[1:], y[1:])
    assert model.nc1_after_ < model.nc1_before_
    with pytest.raises(ValueError, match="equal size"):
        model.block_spectrum()


@pytest.mark.parametrize(
    ("options", "said"),
    [({"beta": 0.0}, "beta must be positive"), ({"lam_w": 0.0}, "lam_w must be positive"),
     ({"lam_h": -1.0}, "lam_h"), ({"solver": "alternate"}, "Did you mean 'alternating'")],
)  # fmt: skip
def test_settings_that_are_none(options, said):
    with pytest.raises(ValueError, match=said):
        NearCollapseModel(**options).fit(*features())


def test_data_that_say_nothing():
    H0, y = features()
    with pytest.raises(ValueError, match="class means of X are one"):
        fit(np.ones_like(H0), y)
    with pytest.raises(ValueError, match="one class only"):
        fit(H0, y * 0)
    with pytest.raises(ValueError, match="scale it"):
        fit(1e9 * H0, y)
    with pytest.raises(ValueError, match="lost in rounding"):
        NearCollapseModel(1e-12).fit(1e5 * np.repeat(H0, 2, 1), y)
    with pytest.raises(ValueError, match="between 0 and 1"):
        collapsed_minimizer(3, 4, 5, 2.0, 0.5)
    with pytest.raises(ValueError, match="not large"):
        collapsed_spectrum(3, 4, 5, 0.1, 0.5, 0.5)
    for t in ([1.0, 0.5], [0.0], [], [-1.0, 1.0]):
        with pytest.raises(ValueError, match="rising times"):
            central_path(H0, y, LAM_W, LAM_H, t)
    with pytest.warns(ConvergenceWarning, match="after 2 rounds"):
        assert not fit(H0, y, 0.1, max_iter=2).converged_
    with pytest.raises(ValueError, match="features' shape"):
        fit(H0, y).linear_response(H0[1:])


@pytest.mark.filterwarnings("error")
def test_layers_are_trained_on_rows_that_may_not_be_written():
    H0, y = features()
    rows = H0.copy()
    rows.setflags(write=False)
    told = [
        greedy_train(build_seeded(lambda: mlp([D, 6, K]), 0).double(), each, y, epochs=1, random_state=0)
        for each in (H0, rows)
    ]
    assert told[0].loss[1:] == told[1].loss[1:]
    np.testing.assert_array_equal(rows, H0)
