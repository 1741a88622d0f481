"""The score of data in a subspace, exactly; frames that stay orthonormal; the number of directions."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lodim.datasets.toy import gaussian_subspace
from lodim.dimension.spectrum import covariance_spectrum, linear_dimension
from lodim.generative import (
    GaussianDenoiser,
    SubspaceDenoiser,
    SubspaceDiffusion,
    off_subspace_energy,
    subspace_error,
)
from lodim.generative.samplers import SAMPLERS
from lodim.randomness import build_seeded, torch_generator


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed), dtype=torch.float64)


def in_a_subspace(D=9, d=3):
    """A frame, the exact denoiser of correlated normal z, and that of A z."""
    A, B = torch.linalg.qr(normal(D, d))[0], normal(d, d, seed=1)
    C, m = B @ B.mT, normal(d, seed=2)
    return A, GaussianDenoiser(m, C), GaussianDenoiser(A @ m, A @ C @ A.mT)


def with_frame(A, low, center=0.0):
    made = SubspaceDenoiser(*A.shape, low, center=center).double()
    with torch.no_grad():
        made.frame.copy_(A)
    return made


@pytest.mark.parametrize("t", [0.01, 0.5, 4.0])
def test_the_score_splits_as_the_paper_says(t):
    """In the coordinates of dX = -X/2 dt + dW: a score of z, and -(I - A A') x / h."""
    A, low, full = in_a_subspace()
    alpha, h = math.exp(-t / 2), -math.expm1(-t)
    x, s = normal(20, 9, seed=3), math.sqrt(h) / alpha
    exact = full.score(x / alpha, s) / alpha
    z = x @ A
    split = (low.score(z / alpha, s) / alpha) @ A.mT - (x - z @ A.mT) / h
    torch.testing.assert_close(split, exact, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(with_frame(A, low).score(x / alpha, s) / alpha, exact, rtol=1e-5, atol=1e-5)


def test_it_moves_and_grows_with_the_data():
    A, low, _ = in_a_subspace()
    x, c, k = normal(8, 9, seed=4), normal(9, seed=5), 3.0
    grown = GaussianDenoiser(k * low.mean, k**2 * (low.basis * low.values) @ low.basis.mT)
    moved = with_frame(A, grown, center=c)(k * x + c, 0.7 * k)
    torch.testing.assert_close(moved, k * with_frame(A, low)(x, 0.7) + c, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sampler", ["heun", "euler", "ancestral", "dpmpp_2m", "pc"])
def test_samples_lie_in_the_subspace(sampler):
    A, low, _ = in_a_subspace()
    levels = torch.tensor([20.0, 5, 1, 0.2, 0])
    x = SAMPLERS[sampler](with_frame(A, low), 20 * normal(50, 9), levels, generator=torch_generator(0))
    assert off_subspace_energy(x, A) < 1e-12


def test_the_frame_follows_its_numbers_without_flips():
    made = build_seeded(lambda: SubspaceDenoiser(6, 2), 0)
    torch.testing.assert_close(made.V.mT @ made.V, torch.eye(2))
    torch.testing.assert_close(made.V, made.frame.detach() / 0.1)  # it begins as it is, times its length
    ways = torch.linspace(0, 1, 400, dtype=torch.float64)[:, None, None]
    path = normal(6, 2) * (1 - ways) + normal(6, 2, seed=1) * ways
    frames = []
    for W in path:
        made.double().frame.data = W
        frames.append(made.V.detach())
    steps = torch.stack(frames).diff(dim=0).flatten(1).norm(dim=1)
    assert steps.max() < 0.1  # a flipped column would be a step of 2


@pytest.mark.trains
@pytest.mark.parametrize("auto", [False, True])
def test_it_learns_the_subspace_whatever_place_and_unit(auto):
    X, A = gaussian_subspace(300, 12, 2, random_state=0)
    model = SubspaceDiffusion(12, "auto" if auto else 2, random_state=0)
    model.fit(100 * X + 7, steps=120, lr=5e-3, batch_size=64)
    V = model.subspace_
    assert model.intrinsic_dim_ == 2
    torch.testing.assert_close(V.mT @ V, torch.eye(2), atol=1e-5, rtol=0)
    assert subspace_error(V, A) < 0.05  # a random plane's is 2 d (1 - d / D) = 3.3
    assert float(model.denoiser.scale) == pytest.approx(200, rel=0.15)
    drawn = model.sample(100, generator=0)
    assert off_subspace_energy(drawn, V, center=100 * X.mean(0) + 7) < 1e-6
    again = SubspaceDiffusion(12, 2)
    again.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(again.sample(5, generator=1), model.sample(5, generator=1))


def test_the_count_of_directions_is_not_the_participation_ratio():
    """Unequal variances: participation is a lower bound, which would cut directions off."""
    X, _ = gaussian_subspace(400, 30, 5, random_state=1)
    rng = np.random.default_rng(0)
    scaled = rng.normal(size=(400, 5)) * [5, 3, 1, 1, 1]
    X = scaled @ np.linalg.qr(rng.normal(size=(30, 5)))[0].T + 0.1 * rng.normal(size=(400, 30))
    spectrum = covariance_spectrum(X)
    assert linear_dimension(spectrum, "participation") < 3
    made = SubspaceDiffusion(30, random_state=0).fit(X, steps=1)
    assert made.intrinsic_dim_ == 5
    few = SubspaceDiffusion(30, random_state=0).fit(X[:25], steps=1)  # fewer samples than numbers
    assert few.intrinsic_dim_ == 5


def test_the_distance_of_subspaces():
    E = torch.eye(6)
    turn = torch.linalg.qr(normal(2, 2))[0].float()
    assert subspace_error(E[:, :2], E[:, 2:4]) == pytest.approx(4)
    assert subspace_error(E[:, :2], 3 * E[:, :2] @ turn) < 1e-10
    angle = 1e-6  # it does not cancel
    near = torch.tensor([[math.cos(angle)], [math.sin(angle)]], dtype=torch.float64)
    assert subspace_error(near, [[1.0], [0.0]]) == pytest.approx(2 * angle**2, rel=1e-4)
    for dim in (1, 2, 4):
        A, B = normal(6, dim), normal(6, dim, seed=1)
        P, Q = (M @ torch.linalg.pinv(M) for M in (A, B))
        assert subspace_error(A, B) == pytest.approx(float((P - Q).square().sum()))
        assert 0 <= subspace_error(A, B) <= 2 * dim
    x = torch.tensor([[3.0, 4.0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0]])
    assert off_subspace_energy(x, E[:, :1]) == pytest.approx((16 / 25 + 1) / 2)
    assert off_subspace_energy(x + 5, E[:, :1], center=5.0) == pytest.approx((16 / 25 + 1) / 2)


@pytest.mark.parametrize(
    ("use", "said"),
    [
        (lambda: SubspaceDenoiser(3, 4), "d must be at least 1 and at most 3"),
        (lambda: SubspaceDenoiser(3, 2)(torch.zeros(2, 4), 1.0), r"shape \(batch, 3\)"),
        (lambda: SubspaceDiffusion(3, 4), "at most 3"),
        (lambda: SubspaceDiffusion(3, "all"), "d"),
        (lambda: SubspaceDiffusion(3, net=nn.Identity()), "give d with a net"),
        (lambda: SubspaceDiffusion(3).sample(2), "call it first"),
        (lambda: SubspaceDiffusion(3).loss(torch.zeros(4, 3)), "call it first"),
        (lambda: SubspaceDiffusion(3).subspace_, "call it first"),
        (lambda: SubspaceDiffusion(3).fit(np.ones((30, 3))), "give d"),
        (lambda: SubspaceDiffusion(3).fit(np.eye(30, 4)), "must have shape"),
        (lambda: subspace_error(np.eye(3)[:, :1], np.eye(3)[:, :2]), "one shape"),
        (lambda: subspace_error(np.ones((3, 2)), np.eye(3)[:, :2]), "depend"),
        (lambda: subspace_error(np.eye(3)[:2], np.eye(3)[:2]), "no more columns"),
        (lambda: off_subspace_energy(np.ones((2, 4)), np.eye(3)), "as many numbers"),
        (lambda: off_subspace_energy(np.zeros((2, 3)), np.eye(3)), "centre"),
    ],
)
def test_what_does_not_fit_is_said(use, said):
    with pytest.raises((ValueError, TypeError), match=said):
        use()


def test_a_model_that_finds_its_directions_keeps_its_precision_and_can_be_loaded():
    X, _ = gaussian_subspace(60, 6, 2, random_state=0)
    model = SubspaceDiffusion(6, random_state=0).double().fit(X, steps=2)
    assert model.subspace_.dtype == torch.float64
    again = SubspaceDiffusion(6)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.subspace_, model.subspace_)
    half = model.to(torch.bfloat16)
    assert np.isfinite(half.sample(3, steps=2)).all()
    torch.testing.assert_close(half.subspace_.mT @ half.subspace_, torch.eye(2))
