"""What a subspace module saves, and what it refuses to load."""

import io
import pickle

import pytest
import torch
from torch import nn

from lodim.landscape import SubspaceModule
from lodim.nets import mlp
from lodim.randomness import build_seeded
from lodim.sketch import KINDS


def build(seed=0, d=8, widths=(6, 10, 4), **options):
    return SubspaceModule(build_seeded(lambda: mlp(widths), seed), d, **options)


def trained(**options):
    subspace = build(**options)
    with torch.no_grad():
        subspace.theta_d.copy_(torch.linspace(-1, 1, 8))
    return subspace


def through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_gives_the_same_bits(kind):
    subspace, x = trained(projection=kind, seed=4), torch.randn(3, 6)
    again = build(projection=kind, seed=4)
    assert again.load_state_dict(through_a_file(subspace.state_dict())).missing_keys == []
    assert torch.equal(again(x), subspace(x))


def test_the_state_is_compact():
    state = trained().state_dict()
    assert set(state) == {"theta_d", "_extra_state"}
    assert set(state["_extra_state"]) >= {"kind", "seed", "scale", "layout_hash", "D", "d"}
    assert len(pickle.dumps(state["_extra_state"])) < 400


def test_buffers_and_directly_trained_parameters_are_saved():
    base = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    subspace = SubspaceModule(base, 9, train_directly=["2"])
    subspace(torch.randn(20, 6))
    names = {"module.1.running_mean", "module.1.running_var", "module.1.num_batches_tracked"}
    assert set(subspace.state_dict()) == names | {
        "module.2.weight",
        "module.2.bias",
        "theta_d",
        "_extra_state",
    }


def test_with_its_origin_it_loads_over_another_initialisation():
    subspace, other, x = trained(save_theta0=True), build(seed=1), torch.randn(3, 6)
    other.load_state_dict(through_a_file(subspace.state_dict()))
    assert torch.equal(other(x), subspace(x))
    assert torch.equal(other.module[0].weight.reshape(-1), other.theta0[:60])
    assert "theta0" in other.state_dict()  # a seed no longer tells its origin


def test_inside_another_module():
    outer, again = nn.Sequential(trained(), nn.ReLU()), nn.Sequential(build(), nn.ReLU())
    assert set(outer.state_dict()) == {"0.theta_d", "0._extra_state"}
    again.load_state_dict(through_a_file(outer.state_dict()))
    assert torch.equal(again[0].theta_d, outer[0].theta_d)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, "another origin theta0"),
        ({"projection": "dense"}, "kind='cyclic', this one 'dense'"),
        ({"scale": "row"}, "scale='column', this one 'row'"),
        ({"d": 9}, "d=8, this one 9"),
        ({"widths": (10, 6, 4)}, "D=114, this one 94"),
    ],
)
def test_another_subspace_is_refused_before_anything_is_loaded(options, message):
    other = build(**options) if "seed" not in options else build(seed=1)
    before = other.theta_d.detach().clone()
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(trained().state_dict())
    assert torch.equal(other.theta_d, before)


def test_another_layout_or_seed_of_the_same_size_is_refused():
    class Swapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 10), nn.Linear(10, 4)

    with pytest.raises(ValueError, match="layout_hash"):
        SubspaceModule(Swapped(), 8).load_state_dict(trained().state_dict())
    with pytest.raises(ValueError, match="seed=0, this one 3"):
        SubspaceModule(build_seeded(lambda: mlp([6, 10, 4]), 0), 8, seed=3).load_state_dict(
            trained().state_dict()
        )


def test_a_seed_that_draws_other_numbers_is_noticed():
    state = trained().state_dict()
    state["_extra_state"] = {**state["_extra_state"], "fingerprint": "0" * 16}
    with pytest.raises(ValueError, match="regenerates another projection"):
        build().load_state_dict(state)
