"""ResNet-18 and VGG-16 for small images: published sizes, shapes, errors."""

import pytest
import torch

from lodim.nets import ResidualBlock, flat_spec, resnet, vgg


def test_resnet_18_has_its_published_size():
    with torch.device("meta"):
        net = resnet()
    assert flat_spec(net).numel == 11_173_962


def test_vgg_16_has_its_published_number_of_convolution_weights():
    with torch.device("meta"):
        net = vgg()
    kernels = [m.weight.numel() for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert (len(kernels), sum(kernels)) == (13, 14_710_464)


@pytest.mark.parametrize("make", [resnet, vgg])
def test_logits_an_image_and_a_gradient_everywhere(make):
    net = make(7, widths=(6, 12), depths=(1, 2), in_channels=2)
    out = net(torch.randn(3, 2, 9, 8))
    assert out.shape == (3, 7)
    out.square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_a_block_whose_convolutions_give_nothing_passes_its_input_on():
    block = ResidualBlock(4, 4)
    torch.nn.init.zeros_(block.norm2.weight)
    x = torch.rand(2, 4, 5, 5)
    assert torch.equal(block(x), x)


def test_every_stage_but_the_first_halves_the_image():
    net = resnet(widths=(4, 4, 4), depths=(1, 1, 1))
    x, sizes = torch.randn(1, 3, 32, 32), []
    for layer in net:
        x = layer(x)
        if isinstance(layer, torch.nn.Sequential):
            sizes.append(x.shape[-1])
    assert sizes == [32, 16, 8]


@pytest.mark.parametrize("make", [resnet, vgg])
def test_stages_that_do_not_match_are_refused(make):
    with pytest.raises(ValueError, match="2 widths and 1 depths"):
        make(widths=(4, 8), depths=(1,))
    with pytest.raises(ValueError, match="widths must be at least 1"):
        make(widths=(4, 0), depths=(1, 1))


@pytest.mark.parametrize("sizes", [(0, 3), (3, -1), (3, 3, 0)])
def test_blocks_of_no_channels_or_stride_are_refused(sizes):
    with pytest.raises(ValueError, match="must be at least 1"):
        ResidualBlock(*sizes)
