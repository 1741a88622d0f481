"""Watching layers: which are handed over, and what happens to those that do not run exactly once a batch."""

import numpy as np
import pytest
import torch
from torch import nn

from lodim.nets.activations import model_inputs, outline, watch_layers


class Reusing(nn.Module):
    """One activation in two places, one part that never runs."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 5), nn.Linear(5, 4)
        self.relu, self.aux = nn.ReLU(), nn.Linear(4, 2)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.relu(self.second(self.relu(self.first(x)))))


def look_at(model, data, **options):
    found = []
    left_out = watch_layers(
        model, data, outline(model), lambda batch, outputs: found.append(outputs), batch_size=4, **options
    )
    return found, left_out


def test_layers_that_do_not_run_once_are_left_out_on_request():
    torch.manual_seed(0)
    model, data = Reusing(), torch.rand(10, 6)
    found, left_out = look_at(model, data, only_single=True)
    assert left_out == {"relu": 2, "aux": 0}
    assert [list(outputs) for outputs in found] == [["first", "second", "out"]] * 3
    torch.testing.assert_close(torch.cat([outputs["out"] for outputs in found]), model(data))
    assert all(not part._forward_hooks for part in model.modules())


@pytest.mark.parametrize(
    ("name", "words"), [("aux", "does not run its layer 'aux'"), ("relu", "the layer 'relu' runs 2")]
)
def test_otherwise_they_are_an_error(name, words):
    model = Reusing()
    with pytest.raises(ValueError, match=words):
        watch_layers(model, torch.rand(4, 6), {name: getattr(model, name)}, lambda batch, outputs: None)


def test_a_layer_that_stops_running_is_an_error_either_way():
    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.often, self.seldom, self.calls = nn.Linear(3, 3), nn.Linear(3, 3), 0

        def forward(self, x):
            self.calls += 1
            return self.often(self.seldom(x) if self.calls == 1 else x)

    with pytest.raises(ValueError, match=r"'seldom' runs 0.5 times a batch"):
        look_at(Fickle(), torch.rand(8, 3), only_single=True)


def test_no_batch_is_an_error_though_no_layer_runs():
    with pytest.raises(ValueError, match="the data hold no batch"):
        look_at(Reusing(), torch.rand(0, 6), only_single=True)


@pytest.mark.filterwarnings("error:The given NumPy array is not writable")
def test_a_read_only_batch_is_copied():
    batch = np.ones((3, 6), dtype=np.float32)
    batch.setflags(write=False)
    always, _ = torch.is_warn_always_enabled(), torch.set_warn_always(True)
    try:
        (given,), named = model_inputs(Reusing(), batch)
    finally:
        torch.set_warn_always(always)
    given.zero_()
    assert not named
    assert batch.min() == 1


def test_a_choice_that_is_no_tensor_is_named():
    model = nn.Sequential(nn.Linear(6, 2))
    with pytest.raises(TypeError, match="what select returns of layer 'it'"):
        watch_layers(
            model, torch.rand(4, 6), {"it": model[0]}, lambda batch, outputs: None, select=lambda output: None
        )
