"""LeNet-5 and its relatives without sharing or locality."""

import pytest
import torch
from torch import nn

from lodim.nets import LocallyConnected2d, flat_spec, lenet


@pytest.mark.parametrize(
    ("shape", "layers", "D"),
    [
        ((1, 28, 28), "conv", 44_426),
        ((1, 28, 28), "untied", 286_334),
        ((1, 28, 28), "fc_tied", 193_370),
        ((1, 28, 28), "fc", 3_640_574),
        ((3, 32, 32), "conv", 62_006),
        ((3, 32, 32), "untied", 658_238),
        ((3, 32, 32), "fc_tied", 297_734),
        ((3, 32, 32), "fc", 16_397_726),
    ],
)
def test_the_published_sizes_are_exact(shape, layers, D):
    with torch.device("meta"):
        net = lenet(shape, layers=layers)
    assert flat_spec(net).numel == D


@pytest.mark.parametrize("layers", ["conv", "untied", "fc_tied", "fc"])
def test_forward_gives_a_row_of_logits_an_image(layers):
    assert lenet((2, 16, 20), 7, layers=layers)(torch.randn(3, 2, 16, 20)).shape == (3, 7)


def test_a_locally_connected_layer_with_equal_kernels_is_a_convolution():
    conv = nn.Conv2d(3, 5, 4)
    local = LocallyConnected2d(3, 5, 4, (9, 8))
    with torch.no_grad():
        local.weight.copy_(conv.weight.reshape(5, -1).expand(6 * 5, -1, -1))
        local.bias.copy_(conv.bias.unsqueeze(1).expand(-1, 6 * 5))
    x = torch.randn(2, 3, 9, 8)
    torch.testing.assert_close(local(x), conv(x), rtol=1e-5, atol=1e-5)


def test_a_locally_connected_layer_is_local():
    layer = LocallyConnected2d(1, 1, 3, (6, 6))
    x = torch.zeros(1, 1, 6, 6, requires_grad=True)
    layer(x)[0, 0, 2, 1].backward()
    touched = x.grad[0, 0].nonzero()
    assert touched.min(0).values.tolist() == [2, 1]
    assert touched.max(0).values.tolist() == [4, 3]


def test_the_global_kernel_reaches_every_pixel_from_every_place():
    first = lenet((1, 16, 16), layers="fc_tied")[0]
    x = torch.zeros(1, 1, 16, 16, requires_grad=True)
    for place in ((0, 0), (15, 15), (0, 15)):
        (grad,) = torch.autograd.grad(first(x)[0, 0, place[0], place[1]], x)
        assert int((grad != 0).sum()) == 256


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match="at least 16x16"):
        lenet((1, 12, 28))
    with pytest.raises(ValueError, match="layers must be one of"):
        lenet(layers="dense")
    with pytest.raises(ValueError, match="does not fit"):
        LocallyConnected2d(1, 1, 5, (4, 9))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lenet(n_classes=-1), "n_classes must be at least 1"),
        (lambda: lenet((0, 28, 28)), "image_shape must be"),
        (lambda: LocallyConnected2d(-1, 2, 3, (6, 6)), "in_channels must be at least 1"),
        (lambda: LocallyConnected2d(1, -1, 3, (6, 6)), "out_channels must be at least 1"),
        (lambda: LocallyConnected2d(1, 2, 0, (6, 6)), "kernel_size must be at least 1"),
        (lambda: LocallyConnected2d(1, 2, 3, (6,)), "size must be"),
    ],
)
def test_sizes_without_a_meaning_are_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
