"""Hessian products against matrices computed in full."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from lodim.landscape.quantization import HessianTrace, hessian_trace
from lodim.landscape.quantization.model.mixed_precision import default_loss
from lodim.nets import mlp
from lodim.randomness import build_seeded
from lodim.validation import ConvergenceWarning


def problem():
    generator = torch.Generator().manual_seed(0)
    model = build_seeded(lambda: mlp([4, 6, 3], "tanh"), 0).double()
    return model, (
        torch.randn(40, 4, generator=generator, dtype=torch.float64),
        torch.randint(0, 3, (40,), generator=generator),
    )


def dense_blocks(model, data):
    """The Hessian's block of each layer's weight, entry by entry."""
    x, y = data
    blocks = {}
    for name in ("0", "2"):
        weight = dict(model.named_parameters())[f"{name}.weight"].detach()

        def loss(flat, name=name, shape=weight.shape):
            return default_loss(functional_call(model, {f"{name}.weight": flat.view(shape)}, (x,)), y)

        blocks[name] = torch.autograd.functional.hessian(loss, weight.reshape(-1))
    return blocks


def test_traces_are_the_blocks_():
    model, data = problem()
    found = hessian_trace(model, None, data, n_probes=400, rtol=0.0)
    for name, trace, error in zip(found.layers, found.trace, found.se, strict=True):
        exact = float(dense_blocks(model, data)[name].trace())
        assert abs(trace - exact) < 4 * error < 0.3 * abs(exact)
        assert found.mean[name] == trace / model.get_submodule(name).weight.numel()


def test_a_quadratic_s_trace_within_five_percent_at_100_probes():
    """A linear model's squared error: H = 2/n X'X for each output, whatever the weights."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(100, 30, generator=generator) * torch.linspace(0.3, 2, 30)
    model = nn.Sequential(nn.Linear(30, 5))

    def loss(output, target):
        return (output - target).square().sum(-1).mean()

    exact = float(5 * 2 * x.square().sum() / 100)
    for seed in range(3):
        found = hessian_trace(model, loss, (x, torch.zeros(100, 5)), 100, seed, rtol=0.0)
        assert found.trace[0] == pytest.approx(exact, rel=0.05)


def test_batches_add_up():
    model, (x, y) = problem()
    whole = hessian_trace(model, None, (x, y), n_probes=12, rtol=0.0, random_state=3)
    parts = hessian_trace(
        model, None, [(x[:7], y[:7]), (x[7:], y[7:])], n_probes=12, rtol=0.0, random_state=3
    )
    assert parts.trace == pytest.approx(whole.trace, rel=1e-9)


def test_the_model_is_left_as_it_was():
    model, data = problem()
    model = nn.Sequential(model, nn.Dropout(0.5)).train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    first = hessian_trace(model, None, data, n_probes=10, rtol=0.0)
    assert first == hessian_trace(model, None, data, n_probes=10, rtol=0.0)  # dropout is off
    assert model.training
    assert all(torch.equal(before[name], p) and p.grad is None for name, p in model.named_parameters())


def test_layers_can_be_chosen_and_frozen_ones_too():
    model, data = problem()
    model.requires_grad_(False)
    found = hessian_trace(model, None, data, n_probes=10, rtol=0.0, layers=["2"])
    assert found.layers == ("2",)
    assert HessianTrace.from_json(found.to_json()) == found
    assert "10 probes" in str(found)


def test_attention_has_a_second_derivative():
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix, self.head = nn.Linear(8, 24), nn.Linear(8, 3)

        def forward(self, x):
            q, k, v = self.mix(x).chunk(3, -1)
            return self.head(nn.functional.scaled_dot_product_attention(q, k, v).mean(1))

    model = build_seeded(Attending, 0)
    found = hessian_trace(model, None, (torch.randn(6, 5, 8), torch.arange(6) % 3), n_probes=5, rtol=0.0)
    assert all(error > 0 for error in found.se)


def test_too_few_probes_warn():
    model, data = problem()
    with pytest.warns(ConvergenceWarning):
        assert not hessian_trace(model, None, data, n_probes=3, rtol=1e-4).converged


def test_data_of_the_wrong_kind():
    model, (x, _) = problem()
    with pytest.raises(TypeError, match="inputs, targets"):
        hessian_trace(model, None, x)
