"""Straight-through rounding: values from the codebook, gradients as if there were no rounding."""

import numpy as np
import pytest
import torch

from lodim.landscape.objective_landscapes.compression import QuantizedSubspace
from lodim.landscape.objective_landscapes.module import SubspaceModule
from lodim.nets import mlp
from lodim.randomness import build_seeded


@pytest.fixture
def module():
    subspace = SubspaceModule(build_seeded(lambda: mlp([3, 8, 2]), 0), d=12, seed=1)
    with torch.no_grad():
        subspace.theta_d.copy_(torch.linspace(-1, 1, 12))
    return QuantizedSubspace(subspace, np.array([0.9, -1.0, 0.0]))


def test_values_are_the_nearest_codebook_entries(module):
    value = module.quantized().detach().numpy()
    v, book = np.linspace(-1, 1, 12), np.array([-1.0, 0.0, 0.9])
    np.testing.assert_allclose(value, book[np.abs(v[:, None] - book).argmin(1)], rtol=1e-6)


def test_gradients_pass_straight_through(module):
    slope = torch.arange(1.0, 13.0)
    (module.quantized() * slope).sum().backward()
    torch.testing.assert_close(module.subspace.theta_d.grad, slope)
    codes = np.array([1] * 3 + [2] * 5 + [0] * 4)  # nearest of (0.9, -1, 0) to twelve points of [-1, 1]
    expected = [slope.numpy()[codes == k].sum() for k in range(3)]
    np.testing.assert_allclose(module.codebook.grad, expected)


def test_the_network_runs_at_the_rounded_coordinates(module):
    x = torch.randn(5, 3)
    rounded = module.subspace.__class__(build_seeded(lambda: mlp([3, 8, 2]), 0), d=12, seed=1)
    with torch.no_grad():
        rounded.theta_d.copy_(module.quantized())
    torch.testing.assert_close(module(x), rounded(x))


@pytest.mark.trains
def test_training_lowers_the_loss_without_touching_the_original(module):
    original = module.subspace
    copy = QuantizedSubspace(original, np.linspace(-1, 1, 5))
    before = original.theta_d.detach().clone()
    x, y = torch.randn(64, 3), torch.randint(0, 2, (64,))
    optimizer = torch.optim.Adam(copy.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(copy(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-10:]) < losses[0]
    torch.testing.assert_close(original.theta_d.detach(), before)
    assert sum(p.numel() for p in copy.parameters() if p.requires_grad) == 12 + 5
    rounded = copy.rounded()
    assert rounded.codebook.dtype == np.float16
    np.testing.assert_allclose(rounded.values, copy.quantized().detach().numpy(), atol=2e-3)
