"""Gradient checkpointing: the gradient under produced weights is the one without checkpointing."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lodim.landscape import SubspaceModule
from lodim.nets import mlp
from lodim.randomness import build_seeded


class Blocks(nn.Module):
    """Blocks recomputed in the backward pass; the last one's weight is that of the first."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(3))
        self.blocks[2][0].weight = self.blocks[0][0].weight
        self.context_fn, self.runs = None, 0

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs):
        assert gradient_checkpointing_kwargs["use_reentrant"] is False
        self.context_fn = gradient_checkpointing_kwargs["context_fn"]

    def _block(self, block, x):
        self.runs += 1
        return block(x)

    def forward(self, x):
        for block in self.blocks:
            if self.context_fn is None:
                x = self._block(block, x)
            else:
                x = checkpoint(self._block, block, x, use_reentrant=False, context_fn=self.context_fn)
        return x


def made(**options):
    subspace = SubspaceModule(build_seeded(Blocks, 0), 12, seed=1, **options)
    with torch.no_grad():
        subspace.theta_d.copy_(torch.linspace(-3, 3, 12))
    return subspace


@pytest.mark.parametrize("said", [None, "tensor"])
def test_the_gradient_is_that_without_checkpointing(said):
    plain, saving, x = made(said=said), made(said=said), torch.randn(4, 6)
    saving.gradient_checkpointing_enable()
    first, second = plain(x), saving(x)
    assert torch.equal(first, second)
    first.square().sum().backward()
    second.square().sum().backward()
    assert saving.module.runs == 6  # each block was computed again
    assert torch.equal(plain.theta_d.grad, saving.theta_d.grad)
    own = [p.data_ptr() for p in saving.module.parameters()]
    assert own == [p.data_ptr() for p in saving.module.parameters()]
    assert saving.module.blocks[2][0].weight is saving.module.blocks[0][0].weight


def test_two_forwards_before_one_backward_keep_their_own_weights():
    plain, saving, x = made(), made(), torch.randn(4, 6)
    saving.gradient_checkpointing_enable()
    for subspace in (plain, saving):
        first = subspace(x).square().sum()
        with torch.no_grad():
            subspace.theta_d.data = (
                subspace.theta_d.data + 0.1
            )  # new storage: the first graph keeps the old numbers
        (first + subspace(x).square().sum()).backward()
    torch.testing.assert_close(saving.theta_d.grad, plain.theta_d.grad)


def test_without_gradient_nothing_is_held():
    saving = made()
    saving.gradient_checkpointing_enable()
    with torch.no_grad():
        saving(torch.randn(2, 6))
    assert saving.recompute.weights is None
    assert saving.module.runs == 3


def test_what_cannot_work_is_refused():
    with pytest.raises(TypeError, match=r"context_fn=subspace\.recompute"):
        SubspaceModule(mlp([6, 10, 4]), 5).gradient_checkpointing_enable()
    with pytest.raises(ValueError, match="use_reentrant=False"):
        made().gradient_checkpointing_enable({"use_reentrant": True})
