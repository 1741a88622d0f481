"""The flat vector of a module's parameters."""

import pytest
import torch
from torch import nn

from lodim.nets import flat_spec, lenet, mlp


class Tied(nn.Module):
    """A language model's shape: the head is the embedding."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.middle = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        return self.head(torch.tanh(self.middle(self.embedding(x))))


def test_flatten_and_unflatten_are_inverse():
    net = lenet((1, 16, 16), 3)
    spec = flat_spec(net)
    flat = spec.flatten(net)
    assert flat.shape == (spec.numel,) == (sum(p.numel() for p in net.parameters()),)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(spec.unflatten(flat)[name], parameter.detach(), rtol=0, atol=0)
    assert sum(spec.sizes) == spec.numel
    assert spec.offsets[3] == sum(spec.sizes[:3])


def test_the_vector_is_a_copy_and_its_parts_are_views():
    net = mlp([3, 4, 2])
    spec = flat_spec(net)
    flat = spec.flatten(net)
    before = net[0].weight.detach().clone()
    spec.unflatten(flat)["0.weight"].zero_()
    assert float(flat[:12].abs().sum()) == 0
    torch.testing.assert_close(net[0].weight.detach(), before, rtol=0, atol=0)


def test_a_batch_of_vectors_keeps_its_leading_axes():
    spec = flat_spec(mlp([3, 4, 2]))
    parts = spec.unflatten(torch.arange(2 * 5 * spec.numel).reshape(2, 5, -1).float())
    assert parts["0.weight"].shape == (2, 5, 4, 3)
    assert float(parts["0.bias"][1, 2, 0]) == 7 * spec.numel + 12


def test_call_equals_the_module_with_those_weights_and_is_differentiable():
    net, other, x = mlp([3, 4, 2]), mlp([3, 4, 2]), torch.randn(6, 3)
    spec = flat_spec(net)
    flat = spec.flatten(other).requires_grad_()
    out = spec.call(net, flat, (x,))
    torch.testing.assert_close(out, other(x), rtol=0, atol=0)
    out.square().sum().backward()
    other(x).square().sum().backward()
    torch.testing.assert_close(flat.grad, torch.cat([p.grad.reshape(-1) for p in other.parameters()]))


def test_assign_writes_the_numbers():
    net, other = mlp([3, 4, 2]), mlp([3, 4, 2])
    spec = flat_spec(net)
    spec.assign(net, spec.flatten(other))
    torch.testing.assert_close(spec.flatten(net), spec.flatten(other), rtol=0, atol=0)


def test_tied_parameters_count_once_and_move_together():
    net = Tied()
    spec = flat_spec(net)
    assert spec.tied
    assert spec.numel == 7 * 4 + 4 * 4 + 4
    other, x = Tied(), torch.tensor([0, 3, 6])
    torch.testing.assert_close(spec.call(net, spec.flatten(other), (x,)), other(x))


def test_a_layer_in_two_places_keeps_its_own_parameters():
    shared = nn.Linear(3, 3)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    before = dict(net.named_parameters())
    spec = flat_spec(net)
    spec.call(net, spec.flatten(net) + 1, (torch.ones(2, 3),))
    assert all(p is before[name] for name, p in net.named_parameters())


def test_frozen_parameters_are_left_out_and_a_filter_chooses():
    net = mlp([3, 4, 2])
    net[0].bias.requires_grad_(False)
    assert flat_spec(net).numel == 12 + 8 + 2
    assert flat_spec(net, lambda name, p: p.ndim == 2).names == ("0.weight", "2.weight")
    assert flat_spec(net, lambda name, p: name == "0.bias").numel == 4


def test_the_layout_hash_tells_architectures_apart():
    assert flat_spec(mlp([3, 4, 2])).layout_hash == flat_spec(mlp([3, 4, 2])).layout_hash
    assert flat_spec(mlp([3, 4, 2])).layout_hash != flat_spec(mlp([4, 3, 2])).layout_hash


def test_parameters_of_several_dtypes_come_back_in_their_own():
    net = mlp([3, 4, 2])
    net[2].half()
    parts = flat_spec(net).unflatten(flat_spec(net).flatten(net))
    assert parts["0.weight"].dtype == torch.float32
    assert parts["2.weight"].dtype == torch.float16
    torch.testing.assert_close(parts["2.weight"], net[2].weight.detach(), rtol=0, atol=0)


def test_what_cannot_be_laid_out_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="run one forward first"):
        flat_spec(nn.Sequential(nn.LazyLinear(3)))
    with pytest.raises(TypeError, match="complex64"):
        flat_spec(nn.Linear(2, 2, dtype=torch.complex64))
    with pytest.raises(ValueError, match="no trainable parameter"):
        flat_spec(nn.ReLU())
    with pytest.raises(ValueError, match="no trainable parameter"):
        flat_spec(mlp([3, 2]).requires_grad_(False))
    with pytest.raises(ValueError, match="8 numbers"):
        flat_spec(mlp([3, 2])).unflatten(torch.zeros(7))
