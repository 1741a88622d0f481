"""Finding layers by name and exchanging them."""

import pytest
import torch
from torch import nn

from lodim.nets import find_layers, replace_layers


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.conv = nn.Linear(4, 8), nn.Linear(8, 4), nn.Conv1d(2, 2, 1)

    def forward(self, x):
        return self.fc2(self.fc1(x))


def network():
    return nn.ModuleDict({"a": Block(), "b": Block(), "head": nn.Linear(4, 2)})


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        ("all", ["a.fc1", "a.fc2", "b.fc1", "b.fc2", "head"]),
        (["fc1"], ["a.fc1", "b.fc1"]),
        (["a.fc2", "head"], ["a.fc2", "head"]),
        (r"b\..*", ["b.fc1", "b.fc2"]),
        (lambda name, layer: layer.out_features == 4, ["a.fc2", "b.fc2"]),
    ],
)
def test_targets(targets, names):
    assert list(find_layers(network(), targets)) == names


def test_kinds_and_exclusion():
    net = network()
    assert list(find_layers(net, kinds=nn.Conv1d)) == ["a.conv", "b.conv"]
    assert list(find_layers(net, exclude=["head", "fc1"])) == ["a.fc2", "b.fc2"]
    assert list(find_layers(net, "all-linear", kinds=(nn.Linear, nn.Conv1d), exclude=r"b.*")) == [
        "a.fc1",
        "a.fc2",
        "head",
    ]


def test_a_suffix_ends_at_a_dot():
    with pytest.raises(ValueError, match="'c1' matches no Linear"):
        find_layers(network(), ["c1"])


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (["a.fc*"], ["a.fc1", "a.fc2"]),
        (["*.fc1"], ["a.fc1", "b.fc1"]),
        (["f?2"], ["a.fc2", "b.fc2"]),
        (["fc?"], ["a.fc1", "a.fc2", "b.fc1", "b.fc2"]),
        (["[bh]*"], ["b.fc1", "b.fc2", "head"]),
        (["a.fc1", "h*"], ["a.fc1", "head"]),
        (["A.fc*"], []),  # as it is written, on all systems
    ],
)
def test_wildcards_in_names(targets, names):
    if names:
        assert list(find_layers(network(), targets)) == names
    else:
        with pytest.raises(ValueError, match="matches no Linear"):
            find_layers(network(), targets)


def test_wildcards_name_what_is_left_out_and_each_must_find_something():
    assert list(find_layers(network(), exclude=["*.fc?"])) == ["head"]
    assert list(find_layers(network(), ["*"], kinds=nn.Conv1d)) == ["a.conv", "b.conv"]
    with pytest.raises(ValueError, match=r"the target 'c.fc\*' matches no Linear"):
        find_layers(network(), ["a.fc*", "c.fc*"])
    with pytest.warns(UserWarning, match=r"exclude: 'c.\*' is the name of no module"):
        find_layers(network(), exclude=["c.*"])


def test_all_linear_leaves_out_the_output_layer_of_a_language_model():
    net = network()
    net.get_output_embeddings = lambda: net["head"]
    assert "head" not in find_layers(net, "all-linear")
    assert "head" in find_layers(net, "all")


def test_nothing_found_lists_what_there_is():
    with pytest.raises(ValueError, match=r"(?s)matches no Linear.*'a.fc1'"):
        find_layers(network(), "nothing")
    with pytest.raises(ValueError, match="has no Conv2d layer"):
        find_layers(network(), kinds=nn.Conv2d)
    with pytest.raises(ValueError, match="the target 'fc9'"):
        find_layers(network(), ["fc1", "fc9"])


def test_replace_and_undo():
    net = nn.Sequential(Block(), nn.Linear(4, 2))
    x, before = torch.randn(3, 4), dict(net.named_modules())
    y = net(x)
    done = replace_layers(net, lambda name, old: nn.Identity() if old.in_features == 8 else None)
    assert isinstance(net[0].fc2, nn.Identity)
    assert list(done.after) == ["0.fc2"]
    done.undo()
    assert dict(net.named_modules()) == before
    assert torch.equal(net(x), y)


def test_a_layer_in_two_places_is_replaced_once_for_both():
    shared = nn.Linear(4, 4)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    calls = []
    replace_layers(net, lambda name, old: calls.append(name) or nn.Linear(4, 4))
    assert calls == ["0"]
    assert net[0] is net[2] is not shared


def test_a_bare_layer_cannot_be_replaced():
    with pytest.raises(ValueError, match="wrap it"):
        replace_layers(nn.Linear(2, 2), lambda name, old: nn.Identity())


@pytest.mark.parametrize("exclude", ["fc9", ["fc9"], ["fc1", "fc9"]])
def test_excluding_what_is_not_there_is_said(exclude):
    with pytest.warns(UserWarning, match="exclude: 'fc9' is the name of no module here"):
        find_layers(network(), exclude=exclude)
