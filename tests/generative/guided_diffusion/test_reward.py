"""Rewards: the exact conditional law of normal data, gradients that keep the subspace, units that do not matter."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, PoissonRegressor
from sklearn.neighbors import KNeighborsRegressor
from torch import nn

from lodim.generative import (
    Classifier,
    ClassifierFree,
    Diffusion,
    EmpiricalDenoiser,
    GaussianDenoiser,
    LookAheadLoss,
    RewardCurve,
    RewardDirectedDiffusion,
    RewardGuide,
    SubspaceDenoiser,
    SubspaceDiffusion,
    guidance_sweep,
    heun,
    off_subspace_energy,
)
from lodim.generative.schedules import EDM
from lodim.randomness import build_seeded, torch_generator


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed), dtype=torch.float64)


def problem():
    """Correlated normal data, a linear reward, and its target and noise."""
    B, m, g = normal(5, 5), normal(5, seed=1), normal(5, seed=2)
    return m, B @ B.mT, g, lambda x: x @ g + 0.3, 2.5, 0.4


@pytest.mark.parametrize("sigma", [0.01, 0.5, 30.0])
def test_normal_data_and_a_linear_reward_are_conditioned_exactly(sigma):
    m, C, g, reward, a, nu = problem()
    gain = C @ g / (g @ C @ g + nu**2)
    exact = GaussianDenoiser(m + gain * (a - reward(m)), C - torch.outer(gain, C @ g))
    x = m + sigma * normal(10, 5, seed=3)
    found = RewardGuide(reward, a, nu)(GaussianDenoiser(m, C), x, sigma)
    torch.testing.assert_close(found, exact(x, sigma), rtol=1e-8, atol=1e-8)


def test_it_is_the_cores_guidance_with_a_weight_that_follows_the_level():
    m, C, g, reward, a, nu = problem()
    x, s, denoiser = normal(6, 5), 0.7, GaussianDenoiser(m, C)
    J = C @ torch.linalg.inv(C + s**2 * torch.eye(5, dtype=torch.float64))
    for v, ahead in ((s**2 * g @ J @ g + nu**2, True), (s**2 * g @ g + nu**2, False)):
        core = (
            LookAheadLoss(lambda x0, v=v: (a - reward(x0)) ** 2 / (2 * v), 1.5)
            if ahead
            else Classifier(lambda x, sigma, v=v: -((a - reward(x)) ** 2) / (2 * v), 1.5)
        )
        found = RewardGuide(reward, a, nu, 1.5, ahead=ahead)(denoiser, x, s)
        torch.testing.assert_close(found, core(denoiser, x, s))


def test_the_look_ahead_keeps_the_subspace_that_the_naive_gradient_leaves():
    made = build_seeded(lambda: SubspaceDenoiser(12, 3, GaussianDenoiser(torch.zeros(3), torch.eye(3))), 0)
    g = normal(12, seed=1)
    levels = EDM().sigmas(40)
    x = 80 * normal(64, 12, seed=2)
    looks, naive = (RewardGuide(lambda x: x @ g, 3.0, 0.1, ahead=ahead) for ahead in (True, False))
    drawn = heun(made.double(), x, levels, guidance=looks)
    assert off_subspace_energy(drawn, made.V) < 1e-12
    assert off_subspace_energy(looks(made, x / 160, 0.5), made.V) < 1e-12
    assert off_subspace_energy(naive(made, x / 160, 0.5), made.V) > 1e-2
    assert abs(float((drawn @ g).mean()) - 3) < 0.1  # of deviation about nu; 64 samples
    u = made.V.mT @ g  # what the subspace sees of the reward: across it the samples are standard normal
    z = drawn @ made.V
    across = z - torch.outer(z @ u, u) / (u @ u)
    assert float(across.square().sum(1).mean()) == pytest.approx(2, abs=1.0)  # 4 standard errors


def model(nu=0.1, reward="ridge", **options):
    return RewardDirectedDiffusion(Diffusion(shape=4, cond_dim=1, random_state=0), reward, nu)


def data(n=120):
    X = normal(n, 4).numpy()
    return X, X @ np.array([1.0, -2, 0, 0.5]) + 3


def test_the_ridge_is_the_papers():
    X, y = data()
    made = model().fit(X, X[:40], y[:40] + normal(40, seed=5).numpy(), steps=1)
    Xc, yc = X[:40] - X[:40].mean(0), y[:40] + normal(40, seed=5).numpy()
    closed = np.linalg.solve(Xc.T @ Xc + made.reward_.alpha_ * np.eye(4), Xc.T @ (yc - yc.mean()))
    np.testing.assert_allclose(made.reward_.coef_, closed, rtol=1e-6)
    assert made.data_range_ == (made.predict(X).min(), made.predict(X).max())


def test_the_unit_of_the_reward_does_not_matter():
    X, y = data()
    one = model().fit(X, X[:40], y[:40], steps=3)
    other = model().fit(X, X[:40], 1000 * y[:40] - 7, steps=3)
    for mode in ("conditional", "lookahead", "naive"):
        drawn = [
            m.sample(8, target, mode=mode, scale=2.0, random_state=0)
            for m, target in ((one, 5.0), (other, 4993.0))
        ]
        np.testing.assert_allclose(*drawn, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("reward", "ways"), [(KNeighborsRegressor(3), 1), (None, 3)])
def test_any_regression_serves(reward, ways):
    X, y = data()
    net = build_seeded(lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), 0)
    made = model(reward=reward or net).fit(X, X[:40], y[:40], steps=2)
    for mode in ("conditional", "lookahead", "naive")[:ways]:
        assert made.sample(3, 1.0, mode=mode, random_state=0).shape == (3, 4)
    if reward is not None:
        with pytest.raises(ValueError, match="no gradient"):
            made.sample(3, 1.0, mode="lookahead")


def test_the_report_says_where_the_true_reward_stops():
    X, y = data()
    base = SubspaceDiffusion(4, 2, cond_dim=1, random_state=0)
    made = RewardDirectedDiffusion(base).fit(X, X[:40], y[:40], steps=2)
    found = made.report((1.0, 3.0), 10, true_reward=lambda x: x[:, 0])
    assert found.to_frame().shape == (2, 5)
    assert "true reward" in str(found)
    assert "not known" in str(made.report([1.0], 5, mode="naive"))
    known = {
        "off_subspace": (0.0,) * 3,
        "distance": (1.0,) * 3,
        "data_off_subspace": 0.0,
        "data_distance": 1.0,
    }
    curve = RewardCurve(
        (1.0, 2.0, 3.0), (1.0, 2.0, 3.0), (1.0, 1.5, 1.2), **known, data_range=(0.0, 2.0), mode="naive", n=9
    )
    assert "rises up to 1.5 at target 2, no further" in str(curve)


def test_guidance_makes_a_mixture_surer_and_less_diverse():
    """Two normals in the line, the exact conditional denoisers: scales 1, 2, 4."""
    centers, std = torch.tensor([[-1.0], [1.0]]).double(), 0.6

    def exact(x, sigma, cond=None):
        level = (std**2 + torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1) ** 2).expand(len(x), 1)
        none = EmpiricalDenoiser(centers)(x, level.sqrt())
        label = torch.full((len(x),), -1) if cond is None else cond["label"]
        m = torch.where(label[:, None] < 0, none, centers[label.clamp_min(0)])
        return m + std**2 / level * (x - m)

    cond = {"label": torch.ones(4000, dtype=torch.long)}
    sure, spread = [], []
    for scale in (1, 2, 4):
        x = heun(exact, 80 * normal(4000, 1), EDM().sigmas(40), cond=cond, guidance=ClassifierFree(scale))
        sure.append(float((2 * x / std**2).sigmoid().mean()))
        spread.append(float(x.var()))
    assert sure == sorted(sure)
    assert sure[2] - sure[0] > 0.01
    assert spread == sorted(spread, reverse=True)
    assert spread[0] == pytest.approx(std**2, rel=3 * (2 / 4000) ** 0.5)


def test_a_sweep_has_a_row_a_scale_and_the_data():
    X, y = data()
    made = Diffusion(shape=4, n_classes=2, random_state=0).fit(X, (y > 3).astype(int), steps=2)
    found = guidance_sweep(
        made, lambda x: np.full((len(x), 2), 0.5), (0, 1, 3), 10, X=X, y=(y > 3).astype(int)
    )
    assert found.confidence == (0.5,) * 3
    assert found.data[2] == pytest.approx(np.mean([X[(y > 3) == k].var(0).sum() for k in (0, 1)]))
    assert found.to_frame().shape == (4, 5)
    assert np.isnan(guidance_sweep(made, lambda x: np.full((len(x), 2), 0.5), n=5).coverage).all()


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda: RewardDirectedDiffusion(Diffusion(shape=2)), "cond_dim=1"),
        (lambda: RewardDirectedDiffusion(Diffusion(shape=2, cond_dim=1, p_uncond=0.0)), "p_uncond above 0"),
        (lambda: model(reward="lasso"), "ridge"),
        (lambda: model(reward=3), "an estimator or a torch module"),
        (lambda: model().sample(2, 1.0), "call fit first"),
        (lambda: model().fit(data()[0], data()[0][:9], np.ones(8)), "9 finite numbers"),
        (lambda: model().fit(data()[0], data()[0][:9, :3], np.ones(9)), "X_lab must have 4"),
        (lambda: model().fit(data()[0], data()[0][:9], np.ones(9)), "nothing to aim at"),
        (lambda: RewardGuide(lambda x: x, 1.0, 0.1)(lambda x, s, c: x, torch.ones(3, 2), 1.0), "one number"),
        (lambda: guidance_sweep(Diffusion(shape=2), lambda x: x), "n_classes"),
    ],
)
def test_what_does_not_fit_is_said(use, said):
    with pytest.raises((ValueError, TypeError), match=said):
        use()


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.drop = nn.Linear(4, 1), nn.Dropout(0.5)

    def forward(self, x):
        return self.one(self.drop(x))[:, 0]


def test_a_gradient_is_of_what_the_regression_predicts():
    X, y = data()
    linked = model(reward=PoissonRegressor()).fit(X, X[:40], y[:40] - y.min(), steps=2)
    with pytest.raises(ValueError, match="other than its coef_"):
        linked.sample(2, 1.0, mode="lookahead", steps=2)
    own = model(reward=Linear().double()).fit(X, X[:40], y[:40], steps=2)
    np.testing.assert_array_equal(own.predict(X), own.predict(X))
    assert own.sample(2, 1.0, mode="lookahead", steps=2).shape == (2, 4)
    with pytest.raises(ValueError, match="one number a sample"):
        model(reward=nn.Linear(4, 1)).fit(X, X[:40], y[:40], steps=2)


def test_a_sweep_wants_classes_that_the_model_has():
    made, X = Diffusion(shape=2, n_classes=2), np.random.default_rng(0).normal(size=(10, 2))
    for options, said in (({"X": X, "y": np.arange(10) % 2 - 1}, "from 0 to 1"), ({"X": X}, "together")):
        with pytest.raises(ValueError, match=said):
            guidance_sweep(made, lambda x: np.full((len(x), 2), 0.5), n=5, **options)
    with pytest.raises(ValueError, match="scales"):
        guidance_sweep(made, lambda x: np.full((len(x), 2), 0.5), (), n=5)


def test_what_is_asked_for_is_finite_and_one_number_a_sample():
    X, y = data()
    made = model().fit(X, X[:40], y[:40], steps=2)
    for mode in ("conditional", "lookahead", "naive"):
        with pytest.raises(ValueError, match="finite"):
            made.sample(2, np.inf, mode=mode)
    with pytest.raises(ValueError, match="n must be"):
        made.sample(-1, 1.0)
    with pytest.raises(ValueError, match="one number a sample"):
        made.report([1.0], n=3, true_reward=lambda x: x, steps=2)
    with pytest.raises(ValueError, match="NaN"):
        off_subspace_energy(np.full((2, 3), np.nan), np.eye(3)[:, :1])


def test_what_is_no_sample_is_named():
    X, y = data()
    made = model()
    for given, said in (((X[:0], X, y), "X_unlab has 0"), ((X, X[:0], y[:0]), "X_lab has 0")):
        with pytest.raises(ValueError, match=said):
            made.fit(*given)
    for samples, A, said in (
        (1.0, np.eye(3), "samples must be"), (np.ones(3), np.eye(3), "samples must be"),
        (np.ones((0, 3)), np.eye(3), "samples has 0"), (np.ones((1, 3)), torch.eye(3, device="meta"), "A is on the"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            off_subspace_energy(samples, A)


def test_a_sweep_is_judged_by_the_model_s_own_classes():
    X = np.random.default_rng(0).normal(size=(40, 2))
    y = (X[:, 0] > 0).astype(int)
    made = Diffusion(shape=2, n_classes=2, random_state=0)
    judge = LogisticRegression().fit(X, y)
    for labels in (y + 1, np.array(["no", "yes"])[y]):  # whose columns would be taken for others
        with pytest.raises(ValueError, match="classifier must have classes 0 to 1"):
            guidance_sweep(made, LogisticRegression().fit(X, labels), (1,), n=2, steps=2)
    for labels in (y + 0.5, np.array(["0", "1"])[y]):
        with pytest.raises(ValueError, match="y must be classes from 0 to 1"):
            guidance_sweep(made, judge, (1,), n=2, steps=2, X=X, y=labels)
    for value in (7.0, np.nan):
        with pytest.raises(ValueError, match="must give probabilities"):
            guidance_sweep(made, lambda x, value=value: np.full((len(x), 2), value), (1,), n=2, steps=2)


def test_one_labelled_sample_is_no_regression():
    X = np.random.default_rng(0).normal(size=(40, 2))
    with pytest.raises(ValueError, match="two or more"):
        RewardDirectedDiffusion(Diffusion(shape=2, cond_dim=1)).fit(X, X[:1], X[:1, 0])
