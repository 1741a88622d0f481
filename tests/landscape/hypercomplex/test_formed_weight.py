"""The weight kept in evaluation mode: used again while nothing changed, and never after."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from lodim.landscape.hypercomplex import PHConv2d, PHMLinear, kronecker_sum
from lodim.landscape.hypercomplex import formed as formed_module


@pytest.fixture
def layer():
    return PHMLinear(8, 8, 2).eval()


@pytest.fixture
def count(monkeypatch):
    """How often a weight was formed."""
    calls = []

    def counted(A, F):
        calls.append(1)
        return kronecker_sum(A, F)

    monkeypatch.setattr(formed_module, "sum_products", counted)
    return calls


def now(layer):
    return kronecker_sum(layer.A, layer.F).detach()


def test_the_weight_is_formed_once(layer, count):
    with torch.no_grad():
        for _ in range(3):
            layer(torch.randn(200, 8))
    assert len(count) == 1


def test_with_gradients_or_in_training_it_is_formed_every_time(layer, count):
    layer(torch.randn(200, 8))
    layer(torch.randn(200, 8))
    layer.train()
    with torch.no_grad():
        layer(torch.randn(200, 8))
    assert len(count) == 3
    layer.eval()
    layer(torch.randn(200, 8)).sum().backward()
    assert layer.A.grad is not None


CHANGES = {
    "in place": lambda m: m.F.add_(1),
    "of A": lambda m: m.A.mul_(2),
    "load_state_dict": lambda m: m.load_state_dict(PHMLinear(8, 8, 2).state_dict()),
    "load_state_dict, assigned": lambda m: m.load_state_dict(PHMLinear(8, 8, 2).state_dict(), assign=True),
    "data replaced": lambda m: setattr(m.F, "data", torch.randn_like(m.F)),
    "parameter replaced": lambda m: setattr(m, "F", nn.Parameter(torch.randn_like(m.F))),
    "reset": lambda m: m.reset_parameters(),
    "data in place, then eval": lambda m: (m.F.data.mul_(2), m.eval()),
    "vector_to_parameters": lambda m: nn.utils.vector_to_parameters(torch.randn(8 + 32 + 8), m.parameters()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_the_parameters_is_seen(layer, change):
    with torch.no_grad():
        before = layer.weight
        CHANGES[change](layer)
        assert torch.equal(layer.weight, now(layer))
        assert not torch.equal(layer.weight, before)


def test_an_address_that_comes_back_is_not_taken_for_the_old_numbers(layer):
    with torch.no_grad():
        for _ in range(20):
            assert torch.equal(layer.weight, now(layer))
            for _ in range(2):
                layer.F.data = torch.randn(2, 4, 4)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, fused=True),
        lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
        lambda p: torch.optim.Adam(p, lr=0.1, foreach=True),
    ],
    ids=["sgd", "fused sgd", "fused adam", "foreach adam"],
)
def test_an_optimisers_step_is_seen_even_between_two_evaluations(layer, make):
    optimizer = make(layer.parameters())
    loss = layer(torch.randn(200, 8)).square().sum()
    with torch.no_grad():
        before = layer.weight  # kept after the forward with gradients
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        assert torch.equal(layer.weight, now(layer))
        assert not torch.equal(layer.weight, before)


def test_moves_and_conversions(layer):
    x = torch.randn(3, 8)
    with torch.no_grad():
        layer(x)
        assert layer.double()(x.double()).dtype == torch.float64
        assert torch.equal(layer.weight, now(layer))
        assert layer.half().weight.dtype == torch.float16


def test_other_parameters_are_never_served_the_kept_weight(layer):
    x = torch.randn(200, 8)
    with torch.no_grad():
        own = layer(x)
        others = {name: torch.randn_like(p) for name, p in layer.named_parameters()}
        expected = nn.functional.linear(x, kronecker_sum(others["A"], others["F"]), others["bias"])
        torch.testing.assert_close(functional_call(layer, others, (x,)), expected)
        assert torch.equal(layer(x), own)
        only_f = functional_call(layer, {"F": others["F"]}, (x,))
        torch.testing.assert_close(
            only_f, nn.functional.linear(x, kronecker_sum(layer.A, others["F"]), layer.bias)
        )


def test_transformations_leave_nothing_behind(layer):
    x = torch.randn(200, 8)
    layer.requires_grad_(False)
    with torch.inference_mode():
        torch.func.jvp(lambda v: layer(v).sum(), (x,), (x,))
        expected = layer(x)
    with torch.no_grad():
        layer.eval()
        torch.func.jvp(lambda v: layer(v).sum(), (x,), (x,))
        assert torch.equal(layer(x), expected)
        layer.eval()
        torch.func.vmap(layer)(x[:100, None])
        assert torch.equal(layer(x), expected)
        layer.eval()
        torch.func.grad(lambda v: layer(v).sum())(x)
        assert torch.equal(layer(x), expected)


def test_inference_mode_and_gradients_of_the_inputs_afterwards():
    layer, x = PHConv2d(4, 4, 3, 2).eval().requires_grad_(False), torch.randn(2, 4, 6, 6)
    with torch.inference_mode():
        first = layer(x)
        assert torch.equal(layer(x), first)
    with torch.no_grad():
        weight = layer.weight
        assert not weight.is_inference()
    y = layer(x.requires_grad_())
    y.sum().backward()
    assert x.grad is not None
    with torch.inference_mode():
        made_inside = PHMLinear(4, 4, 2).eval()
        made_inside(torch.randn(2, 4))


def test_writing_into_the_kept_weight_does_not_change_the_layer(layer):
    with torch.no_grad():
        layer.weight.zero_()
        assert torch.equal(layer.weight, now(layer))


def test_autocast_before_and_after(layer):
    x = torch.randn(200, 8)
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        assert layer(x).dtype == torch.float32


def test_a_copy_of_an_average_follows_its_model(layer):
    average = torch.optim.swa_utils.AveragedModel(layer).eval()
    x = torch.randn(200, 8)
    with torch.no_grad():
        for _ in range(3):
            layer.F.normal_()
            average.update_parameters(layer)
            torch.testing.assert_close(
                average(x), nn.functional.linear(x, now(average.module), average.module.bias)
            )
    assert copy.deepcopy(average).module._kept is None
