"""The denoisers' claims: their checks follow from the figures, and both scales' first steps run."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lodim.claims.generative.harmonic_denoisers import geometry, jacobian, memorization
from lodim.claims.result import Progress, verdict_of
from lodim.generative import MemorizationCurve, PairComparison


def pair(n, gap, variance, alike, nearest):
    sigmas = np.array(memorization.SIGMAS)
    test = np.array([20.0, 17.0, 14.0])
    ones = np.ones(4)
    return PairComparison(
        n, sigmas, test + gap, test, variance * np.ones(3), alike * ones, nearest * ones, np.zeros((3, 4, 1, 2, 2))
    )  # fmt: skip


def curve(few=(10, 2.7, 0.35, 0.8, 0.7), many=(10_000, 0.1, 0.2, 0.95, 0.77)):
    return MemorizationCurve((pair(*few), pair(*many)), 32_000)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "holds"),
        ({"few": (10, 1.5, 0.35, 0.8, 0.7)}, "fails"),
        ({"many": (10_000, -0.5, 0.2, 0.95, 0.77)}, "fails"),
        ({"many": (10_000, 0.1, 0.3, 0.95, 0.77)}, "fails"),
        ({"many": (10_000, 0.1, 0.2, 0.90, 0.6)}, "fails"),
        ({"many": (10_000, 0.1, 0.2, 0.95, 0.85)}, "fails"),
    ],
)
def test_the_worst_seed_decides(change, verdict):
    assert verdict_of(memorization.checks([curve(), curve(**change)])) == verdict


def test_the_full_scale_asks_for_memorisation_too():
    assert verdict_of(memorization.checks([curve()], memorises=True)) == "fails"
    copies = curve(few=(1, 10.0, 0.9, 0.4, 0.99))
    assert verdict_of(memorization.checks([copies], memorises=True)) == "holds"


def blobs(n, pooled):
    side = 14 if pooled else 32
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.trains
@pytest.mark.parametrize("scale", ["laptop", "full"])
def test_memorisation_takes_its_first_steps(monkeypatch, scale):
    monkeypatch.setattr(memorization, "digits", blobs)
    monkeypatch.setattr(memorization, "N_TEST", 4)
    claim = memorization.CLAIM.laptop if scale == "laptop" else memorization.FULL
    found = claim(
        0, Progress(), sizes=(2, 4), n_pool=16, n_seeds=1, width=2, steps=2, batch_size=2, n_samples=1, device="cpu",
    )  # fmt: skip
    assert set(found.figures) == {"sigmas", "N = 2", "N = 4"}


@pytest.mark.trains
@pytest.mark.parametrize("claim", [jacobian.CLAIM.laptop, jacobian.CLAIM.full])
def test_the_jacobians_identities_hold_before_any_training(monkeypatch, claim):
    monkeypatch.setattr(jacobian, "digits", lambda n, pooled: blobs(8, pooled)[..., 2:10, 2:10])
    found = claim(0, Progress(), n=4, width=2, steps=2, batch_size=2, device="cpu")
    assert all(check.passed for check in found.checks if check.essential)


@pytest.mark.trains
@pytest.mark.parametrize("claim", [geometry.CLAIM.laptop, geometry.CLAIM.full])
def test_families_take_their_first_steps(monkeypatch, claim):
    monkeypatch.setattr(geometry, "N_NEW", 2)
    small = {
        name: replace(setting, size=8, n=8, width=2, steps=2, batch_size=2, device="cpu")
        for name, setting in geometry.LAPTOP.items()
    }
    found = claim(0, Progress(), settings=small)
    assert {"ray", "sines", "discs", "C^1", "C^2"} <= set(found.figures)
