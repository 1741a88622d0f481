"""Guidance on mixtures and normal data whose conditional denoisers are known."""

import math

import pytest
import torch
from torch import nn

from lodim.generative import (
    EDM,
    Classifier,
    ClassifierFree,
    Denoiser,
    GaussianDenoiser,
    LookAheadLoss,
    RewardGuide,
    euler,
    guided,
    heun,
)  # fmt: skip
from lodim.generative.guidance import unconditional
from lodim.nets import TimeMLP
from lodim.randomness import torch_generator

MEANS, SD = torch.tensor([[-1.0, 0.0], [1.0, 0.5]]).double(), 0.6


def log_class(x, sigma):
    """log p(y | x) for both classes, of noisy data."""
    s2 = SD**2 + torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1) ** 2
    return (-(x[:, None] - MEANS).square().sum(2) / (2 * s2)).log_softmax(1)


def mixture(x, sigma, cond=None):
    """Exact for two equal classes N(m_y, SD^2 I); a label of -1 is the mixture."""
    levels = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1)
    gain = (SD**2 / (SD**2 + levels**2))[..., None]
    each = MEANS + gain * (x[:, None].double() - MEANS)
    weights = log_class(x, sigma).exp()
    if cond:
        known = nn.functional.one_hot(cond["label"].clamp_min(0), 2).double()
        weights = torch.where(cond["label"][:, None] >= 0, known, weights)
    return (weights[..., None] * each).sum(1)


def points(n=6, seed=0):
    return torch.randn(n, 2, generator=torch_generator(seed), dtype=torch.float64)


def labels(n=6, y=1):
    return {"label": torch.full((n,), y)}


def test_a_scale_of_one_is_conditional_and_of_zero_unconditional():
    x = points()
    assert torch.equal(ClassifierFree(1)(mixture, x, 0.5, labels()), mixture(x, 0.5, labels()))
    assert torch.equal(ClassifierFree(0)(mixture, x, 0.5, labels()), mixture(x, 0.5))
    w = 1.5  # the survey's convention
    expected = (1 + w) * mixture(x, 0.5, labels()) - w * mixture(x, 0.5)
    torch.testing.assert_close(ClassifierFree(1 + w)(mixture, x, 0.5, labels()), expected)
    levels = torch.linspace(0.1, 2, 6)
    expected = 3 * mixture(x, levels, labels()) - 2 * mixture(x, levels)
    torch.testing.assert_close(ClassifierFree(3)(mixture, x, levels, labels()), expected)


def test_what_says_nothing_may_be_said():
    x, cond = points(), labels()
    other = ClassifierFree(3, without=lambda cond: {"label": torch.zeros_like(cond["label"])})
    none, some = (mixture(x, 0.7, labels(y=y)) for y in (0, 1))
    torch.testing.assert_close(guided(mixture, other)(x, 0.7, cond), none + 3 * (some - none))
    for scale in (0, 3):  # None says nothing, too
        nothing = ClassifierFree(scale, without=lambda cond: None)(mixture, points(), 0.5, labels())
        torch.testing.assert_close(nothing, ClassifierFree(scale)(mixture, points(), 0.5, labels()))
    zero = ClassifierFree(0, without=other.without)
    torch.testing.assert_close(guided(mixture, zero)(x, 0.7, cond), none)


def test_scale_buys_confidence_with_diversity():
    x, cond = 80 * points(1000), labels(1000)
    confidence, variance = [], []
    for scale in (1, 2, 4):
        out = heun(mixture, x, EDM().sigmas(40), cond=cond, guidance=ClassifierFree(scale))
        confidence.append(float(log_class(out, 1e-3)[:, 1].exp().mean()))
        variance.append(float(out.var(0).sum()))
    assert confidence[0] < confidence[1] < confidence[2]
    assert variance[0] > variance[1] > variance[2]
    assert variance[0] == pytest.approx(2 * SD**2, rel=5 * math.sqrt(1 / 1000) + 0.05)
    assert confidence[0] == pytest.approx(0.95, abs=0.03)  # of the class itself


def test_an_interval_leaves_other_levels_alone():
    x, guide = points(), ClassifierFree(3, interval=(0.3, 1.0))
    for sigma, inside in ((0.2, False), (0.3, True), (1.0, True), (1.1, False)):
        plain = torch.equal(guide(mixture, x, sigma, labels()), mixture(x, sigma, labels()))
        assert plain != inside


def test_rescaling_returns_to_the_conditional_spread():
    x, plain = points(), mixture(points(), 0.5, labels())
    out = ClassifierFree(5, rescale=1.0)(mixture, x, 0.5, labels())
    torch.testing.assert_close(out.std(1), plain.std(1))
    free = ClassifierFree(5)(mixture, x, 0.5, labels())
    torch.testing.assert_close(out.mean(1), free.mean(1))
    half = ClassifierFree(5, rescale=0.5)(mixture, x, 0.5, labels())
    torch.testing.assert_close(half, (out + free) / 2)
    narrow = lambda x, sigma, cond: 0.1 * x * cond["label"][:, None]  # noqa: E731
    one = ClassifierFree(2, rescale=0.7)(narrow, x[:, :1], 0.5, labels())  # a single coordinate has no spread
    torch.testing.assert_close(one, 0.3 * x[:, :1])


def test_what_is_left_out():
    cond = {"label": torch.tensor([1, 2]), "vector": torch.ones(2, 3), "context": torch.ones(2, 4, 5)}
    without = unconditional(cond)
    assert set(without) == {"label", "vector"}
    assert without["label"].tolist() == [-1, -1]
    assert bool(without["vector"].isnan().all())
    asked = []

    def net(x, sigma, cond):
        asked.append((len(x), cond and sorted(cond)))
        return x

    ClassifierFree(2)(net, points(2), 1.0, cond)
    ClassifierFree(2)(net, points(2), 1.0, {"context": cond["context"]})
    ClassifierFree(2)(net, points(2), 1.0, {"label": cond["label"]})
    parts = [
        (2, ["label", "vector"]),
        (2, ["context", "label", "vector"]),
        (2, None),
        (2, ["context"]),
        (4, ["label"]),
    ]
    assert asked == parts


def test_an_exact_classifier_gives_the_conditional_denoiser():
    x, levels = points(), torch.linspace(0.1, 3, 6).double()
    guide = Classifier(lambda x, sigma: log_class(x, sigma)[:, 1])
    torch.testing.assert_close(guide(mixture, x, levels, None), mixture(x, levels, labels()))
    start = 80 * points(50, 1)
    got = heun(mixture, start, EDM().sigmas(18), guidance=guide)
    torch.testing.assert_close(got, heun(mixture, start, EDM().sigmas(18), cond=labels(50)))


def look_ahead(C, A, y, s):
    """A measurement of normal data, its guide, and the answer in closed form."""
    denoiser = GaussianDenoiser(torch.zeros(len(C)), C)
    guide = LookAheadLoss(lambda x0: (x0 @ A.mT - y).square().sum(1) / (2 * 0.3**2), scale=1.7)
    M = C @ torch.linalg.inv(C + s**2 * torch.eye(len(C)))
    return denoiser, guide, lambda x: x @ M - 1.7 * s**2 * (x @ M @ A.mT - y) @ A @ M / 0.3**2


def test_looking_ahead_in_closed_form():
    B, A = (torch.randn(3, 3, generator=torch_generator(i), dtype=torch.float64) for i in (1, 2))
    x = torch.randn(4, 3, generator=torch_generator(0), dtype=torch.float64)
    denoiser, guide, expected = look_ahead(B @ B.mT, A[:2], torch.tensor([0.5, -1.0]).double(), 0.8)
    torch.testing.assert_close(guide(denoiser, x, 0.8), expected(x))


def test_looking_ahead_stays_in_the_datas_subspace():
    """Data fill the first two of three coordinates; a reward of all three moves the answer in those only."""
    C, reward = torch.diag(torch.tensor([1.0, 0.5, 0.0]).double()), torch.ones(3).double()
    x, denoiser = torch.randn(4, 3, generator=torch_generator(0), dtype=torch.float64), None
    denoiser = GaussianDenoiser(torch.zeros(3), C)
    ahead = LookAheadLoss(lambda x0: -x0 @ reward)(denoiser, x, 0.8) - denoiser(x, 0.8)
    naive = Classifier(lambda x, sigma: x @ reward)(denoiser, x, 0.8) - denoiser(x, 0.8)
    assert bool((ahead[:, 2] == 0).all())
    assert bool((ahead[:, :2] > 0.1).all())
    assert bool((naive[:, 2] > 0.1).all())


def test_guides_compose_from_the_inside():
    x, reward = points(), Classifier(lambda x, sigma: -x.square().sum(1), scale=0.1)
    both = guided(mixture, [ClassifierFree(2), reward])
    inner = ClassifierFree(2)(mixture, x, 0.5, labels())
    torch.testing.assert_close(both(x, 0.5, labels()), inner - 0.1 * 0.25 * 2 * x)
    assert guided(mixture) is mixture
    assert torch.equal(guided(mixture, reward)(x, 0.5, None), guided(mixture, [reward])(x, 0.5, None))


def test_guides_may_be_networks_of_single_precision():
    """A sampler's state is finer than they are; they see what the caller's x was."""
    model, critic = Denoiser(TimeMLP(2, 16, 1)), nn.Linear(2, 1)
    for guide in (Classifier(lambda x, sigma: critic(x)[:, 0]), LookAheadLoss(lambda x0: critic(x0)[:, 0])):
        out = euler(model, torch.ones(3, 2), EDM().sigmas(3), guidance=guide)
        assert out.dtype == torch.float32
        assert not out.requires_grad
    assert all(p.grad is None for p in [*critic.parameters(), *model.parameters()])


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda: ClassifierFree(2)(mixture, points(), 1.0), "needs a condition"),
        (lambda: ClassifierFree(math.nan), "scale"),
        (lambda: ClassifierFree(2, rescale=2.0), "rescale"),
        (lambda: ClassifierFree(2, interval=(1.0, 0.5)), "lower one first"),
        (lambda: Classifier(lambda x, s: x)(mixture, points(), 1.0), r"shape \(6,\), got shape \(6, 2\)"),
        (lambda: Classifier(lambda x, s: 1.0)(mixture, points(), 1.0), "got float"),
        (lambda: Classifier(lambda x, s: torch.ones(6))(mixture, points(), 1.0), "differentiated"),
        (lambda: LookAheadLoss(lambda x0: x0.sum())(mixture, points(), 1.0), "one number a sample"),
        (lambda: LookAheadLoss(lambda x0: x0.detach()[:, 0])(mixture, points(), 1.0), "differentiated"),
    ],
)
def test_what_cannot_guide_is_refused(use, said):
    with pytest.raises(ValueError, match=said):
        use()


def test_guides_differentiate_through_one_another():
    # the denoiser of N(0, C) given u x = a is normal again, so that guides may be nested, and their order is none's
    C = torch.diag(torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64))
    A = torch.tensor([[1.0, 0.0, 1.0], [0.5, 1.0, 0.0]], dtype=torch.float64)
    a, nu = torch.tensor([2.0, -1.0], dtype=torch.float64), 0.3
    K = C @ A.mT @ torch.linalg.inv(A @ C @ A.mT + nu**2 * torch.eye(2))
    known = GaussianDenoiser(K @ a, C - K @ A @ C)
    guides = [RewardGuide(lambda x, u=u: x @ u, float(t), nu) for u, t in zip(A, a, strict=True)]
    x = torch.randn(5, 3, generator=torch_generator(0), dtype=torch.float64)
    plain = GaussianDenoiser(torch.zeros(3), C)
    for s in (0.1, 1.0, 10.0):
        torch.testing.assert_close(guided(plain, guides)(x, s), known(x, s))
    with torch.inference_mode():  # in which nothing is recorded
        torch.testing.assert_close(guided(plain, guides)(x + 0, 1.0), known(x, 1.0))


def test_conditions_of_any_number_type_can_be_absent():
    cond = {"label": torch.tensor([1, 2], dtype=torch.uint8), "vector": torch.tensor([[1], [2]])}
    none = unconditional(cond)
    assert (none["label"] == -1).all()
    assert none["vector"].isnan().all()


@pytest.mark.parametrize(
    "kind", [ClassifierFree, lambda s: Classifier(torch.sum, s), lambda s: LookAheadLoss(torch.sum, s)]
)
def test_an_infinite_scale_is_refused(kind):
    with pytest.raises(ValueError, match="scale must be finite"):
        kind(math.inf)
