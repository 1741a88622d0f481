"""Unstructured pruning: the cubic schedule, which weights go, and what is left."""

import pytest
import torch

from lodim.landscape import MagnitudePruner
from lodim.nets import mlp
from lodim.randomness import build_seeded


def pruner(sparsity=0.75, **options):
    net = build_seeded(lambda: mlp([20, 30, 10]), 0)
    settings = {"targets": ["0", "2"], "total_steps": 10, "dense_frac": 0.2, "finetune_frac": 0.2} | options
    return net, MagnitudePruner(net, sparsity, **settings)


def test_the_schedule_is_cubic():
    _, p = pruner()
    seen = []
    for _ in range(12):
        seen.append(p.current_sparsity)
        p.step()
    expected = [0.75 * (1 - (1 - min(max((t - 2) / 6, 0), 1)) ** 3) for t in range(12)]
    assert seen == pytest.approx(expected)
    assert seen[:3] == [0, 0, 0]
    assert seen[8:] == [0.75] * 4


@pytest.mark.parametrize("scope", ["global", "uniform"])
def test_the_least_magnitudes_are_cut(scope):
    net, p = pruner(scope=scope)
    weights = {name: layer.parametrizations.weight.original.abs() for name, layer in p.layers.items()}
    for _ in range(10):
        p.step()
    masks = {name: mask.bool() for name, mask in p.masks.items()}
    sets = [list(masks)] if scope == "global" else [[name] for name in masks]
    for names in sets:
        kept = torch.cat([weights[n][masks[n]] for n in names])
        cut = torch.cat([weights[n][~masks[n]] for n in names])
        assert len(cut) == round(0.75 * (len(kept) + len(cut)))
        assert kept.min() >= cut.max()
    shares = p.finalize()
    assert set(shares) == {"0", "2"}
    assert sum(int((net[i].weight == 0).sum()) for i in (0, 2)) == round(0.75 * 900)
    assert set(net.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_equal_weights_are_cut_to_the_number_wanted():
    _, p = pruner()
    with torch.no_grad():
        for layer in p.layers.values():
            layer.parametrizations.weight.original.fill_(1.0)
    for _ in range(10):
        p.step()
    assert sum(float(mask.sum()) for mask in p.masks.values()) == 225
    assert torch.equal(p.masks["0"].reshape(-1)[:225], torch.ones(225))


@pytest.mark.trains
def test_training_through_it_and_updates_every_so_often():
    net, p = pruner(update_every=4)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    kept = []
    for _ in range(10):
        optimizer.zero_grad()
        net(torch.randn(8, 20)).square().sum().backward()
        optimizer.step()
        p.step()
        kept.append(int(sum(mask.sum() for mask in p.masks.values())))
    assert kept[:3] == [900] * 3
    assert kept[3] == kept[6] == 900 - round(900 * 0.75 * (1 - (1 - 2 / 6) ** 3))
    assert kept[7:] == [225] * 3


def test_zero_sparsity_cuts_nothing_and_early_finalizing_warns():
    _, p = pruner(sparsity=0.0)
    with pytest.warns(UserWarning, match="after 0 of 10 steps"):
        assert p.finalize() == {"0": 0.0, "2": 0.0}
    with pytest.raises(RuntimeError, match="finalized"):
        p.step()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, "below 1"),
        ({"sparsity": 1.2}, "at most 1"),
        ({"scope": "layer"}, "'global', 'uniform'"),
        ({"dense_frac": 0.5, "finetune_frac": 0.5}, "leave no step"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        pruner(**options)


def test_a_training_that_diverged_is_no_training():
    _, p = pruner(update_every=1)
    with torch.no_grad():
        p.layers["2"].parametrizations.weight.original[0, 0] = torch.nan
    with pytest.raises(ValueError, match="diverged"):
        p.step()
