import pytest
import torch
from torch import nn

from lodim.nets import find_layers
from lodim.nets.kinds import (
    CONVOLUTIONS,
    PLAIN,
    TRANSPOSED_CONVOLUTIONS,
    WeightOwner,
    linear_kinds,
    owner_of,
    plain_kinds,
    weight_axes,
)


@pytest.mark.parametrize("kind", [*PLAIN, *TRANSPOSED_CONVOLUTIONS])
def test_axes_count_outputs_and_inputs(kind):
    layer = kind(3, 5) if kind is nn.Linear else kind(3, 5, 2)
    out, into = weight_axes(layer)
    assert (layer.weight.shape[out], layer.weight.shape[into]) == (5, 3)


def test_the_transposed_linear_layer_is_linear():
    kind = pytest.importorskip("transformers.pytorch_utils").Conv1D
    layer = kind(5, 3)  # (outputs, inputs)
    assert layer(torch.zeros(2, 3)).shape == (2, 5)
    out, into = weight_axes(layer)
    assert (layer.weight.shape[out], layer.weight.shape[into]) == (5, 3)
    assert kind in linear_kinds()
    assert set(CONVOLUTIONS) < set(plain_kinds())
    net = nn.Sequential(layer, nn.Conv1d(5, 5, 1))
    assert list(find_layers(net, "all-linear", kinds=plain_kinds())) == ["0"]


def test_another_kind_has_no_axes():
    with pytest.raises(TypeError, match="Embedding is no linear layer"):
        weight_axes(nn.Embedding(3, 2))


def test_a_class_says_who_owns_its_weight():
    class Owned(nn.Linear):
        weight_owner = WeightOwner("test", "is owned", "let go")

    assert owner_of(Owned(2, 2)).release == "let go"
    assert owner_of(nn.Linear(2, 2)) is None
