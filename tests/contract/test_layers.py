"""Layers and what changes a model's layers: states, copies, undoing, precision, compilation, sharing, calls, sizes."""

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from .examples import LAYERS, Tied
from .finder import parametrize, refused

layers = parametrize("layer", LAYERS)
CONVERTERS = {thing: tuple(e for e in several if e.base) for thing, several in LAYERS.items()}
converters = parametrize("layer", CONVERTERS)


def applies(layer, part):
    """Skip what does not apply; the reason stands with the example."""
    if part in layer.without:
        pytest.skip(layer.without[part])


def moved(model, seed=1):
    """The model away from its first values, as training leaves it."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn(p.shape, generator=noise, dtype=p.dtype))
    return model


@layers
def test_its_state_loads_into_a_fresh_one(layer):
    model, x = moved(layer.build()).eval(), layer.inputs()
    fresh = layer.build(seed=int(layer.reseeded)).eval()
    if any(p.requires_grad for p in model.parameters()):
        assert not torch.equal(fresh(x), model(x))
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x), model(x))


def pickled(model):
    return pickle.loads(pickle.dumps(model))


@layers
@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_copies_are_equal_and_independent(layer, copied):
    if copied is pickled:
        applies(layer, "pickle")
    model, x = moved(layer.build()).eval(), layer.inputs()
    expected = model(x)
    twin = copied(model)
    assert torch.equal(twin(x), expected)
    moved(twin, seed=2)
    assert torch.equal(model(x), expected)
    if any(p.requires_grad for p in twin.parameters()):
        assert not torch.equal(twin(x), expected)


@layers
def test_gradients_reach_what_is_trained(layer):
    model = moved(layer.build()).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    x = layer.inputs()
    x = x.requires_grad_() if x.is_floating_point() else x
    model(x).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)
    assert not trained or any(p.grad.abs().sum() > 0 for p in trained)
    assert not x.is_floating_point() or bool(x.grad.isfinite().all())


@layers
def test_autocast_computes_in_half_and_keeps_the_numbers(layer):
    applies(layer, "autocast")
    model, x = moved(layer.build()).eval(), layer.inputs()
    expected = model(x).detach()
    dtypes = [p.dtype for p in model.parameters()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.1 * float(expected.std()))
    if found.requires_grad:
        found.float().square().sum().backward()
    assert [p.dtype for p in model.parameters()] == dtypes
    assert all(p.grad.dtype == p.dtype for p in model.parameters() if p.grad is not None)


def test_every_layer_compiles_without_graph_breaks():
    """In one process of its own, whose start costs more than all compilations."""
    done = subprocess.run(
        [sys.executable, "-m", "contract.compiled"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == sum(
        "compile" not in layer.without for several in LAYERS.values() for layer in several
    )
    assert not {name: said for name, said in found.items() if said}


@layers
def test_the_first_argument_can_be_named_as_torch_names_it(layer):
    model, x = moved(layer.build()).eval(), layer.inputs()
    assert torch.equal(model(**{layer.keyword: x}), model(x))


@converters
def test_replaced_layers_can_be_called_by_keyword(layer):
    model, plain = moved(layer.build()).eval(), dict(layer.base().named_modules())
    called = 0
    for name, part in model.named_modules():
        before = plain.get(name.removeprefix("module."))
        if isinstance(before, nn.Linear):
            x, called = torch.randn(3, before.in_features), called + 1
            assert torch.equal(part(input=x), part(x)), name
    assert called == 3


@layers
def test_empty_batches(layer):
    applies(layer, "empty")
    model, x = moved(layer.build()).eval(), layer.inputs()
    assert model(x[:0]).shape == (0, *model(x).shape[1:])


@converters
def test_it_starts_as_the_model_it_was_made_of(layer):
    if layer.starts_as_base is None:
        return
    base = layer.base().eval()
    x = layer.inputs()
    expected = base(x).detach()
    found = layer.build(base=base).eval()(x).detach()
    if layer.starts_as_base == 0:
        assert torch.equal(found, expected)
    assert float((found - expected).norm()) <= layer.starts_as_base * float(expected.norm())


@converters
def test_undoing_leaves_no_trace(layer):
    if layer.there_and_back is None:
        return
    base = layer.base().eval()
    before, x = {name: value.clone() for name, value in base.state_dict().items()}, layer.inputs()
    expected, kinds = base(x), [type(part) for part in base.modules()]
    again = layer.there_and_back(base)
    assert again is base
    assert [type(part) for part in again.modules()] == kinds
    assert all(p.requires_grad for p in again.parameters())
    assert again.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in again.state_dict().items())
    assert torch.equal(again(x), expected)


@converters
@pytest.mark.filterwarnings("ignore")
def test_tied_weights_and_shared_layers_are_refused_in_words_or_served(layer):
    """Served: the changed model starts as the tied one where it starts as any other, and its state and copies work."""
    tied, x = Tied().eval(), layer.inputs()
    expected = tied(x).detach()
    built = []
    if refused(lambda: built.append(layer.build(base=tied)), "is also", "share"):
        return
    model = built[0].eval()
    if layer.starts_as_base is not None:
        limit = layer.starts_as_base * float(expected.norm())
        assert float((model(x) - expected).detach().norm()) <= limit
    twin = copy.deepcopy(moved(model))
    assert torch.equal(twin(x), model(x))
    assert len(list(twin.parameters())) == len(list(model.parameters()))
    fresh = copy.deepcopy(model)
    moved(fresh, seed=3)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x), model(x))
