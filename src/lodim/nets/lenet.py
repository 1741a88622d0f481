r"""LeNet-5 and its three relatives without convolution's sharing or locality.

The objective-landscapes paper asks what weight sharing and local connections are worth. Four networks, equal but for
their first two layers (6 and 16 channels, 5x5, each followed by ReLU and 2x2 max-pooling; then 120, 84, classes):

===========  =====================================================  ===========  ============
``layers``   First two layers                                       D (28x28)    D (32x32x3)
===========  =====================================================  ===========  ============
``conv``     convolutions: local and shared                         44,426       62,006
``untied``   locally connected: local, not shared                   286,334      658,238
``fc_tied``  kernels of all offsets, 'same' size: shared, global    193,370      297,734
``fc``       dense, to as many outputs: neither                     3,640,574    16,397,726
===========  =====================================================  ===========  ============

Source: C. Li and others, arXiv 1804.08838, Section 3.2 and Table S1 (the counts are reproduced exactly).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.nets.dense import he_normal
from lodim.validation import check_choice, check_counts, check_in_range, checked

__all__ = ["LocallyConnected2d", "lenet"]

_KERNEL = 5


@checked
class LocallyConnected2d(nn.Module):
    """A convolution (stride 1, no padding) whose kernel and bias differ at every place.

    ``size`` is the height and width of the input.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, size: tuple[int, int]) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size)
        if len(size) != 2:
            raise ValueError(f"size must be (height, width), got {len(size)} numbers")
        height, width = (check_in_range(s, "size", low=1, integer=True) - kernel_size + 1 for s in size)
        if min(height, width) < 1:
            raise ValueError(f"kernel_size={kernel_size} does not fit an image of size {tuple(size)}")
        self.kernel_size, self.size = kernel_size, (height, width)
        fan_in = in_channels * kernel_size**2
        self.weight = nn.Parameter(torch.randn(height * width, out_channels, fan_in) * math.sqrt(2 / fan_in))
        self.bias = nn.Parameter(torch.zeros(out_channels, height * width))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o h2 w2"]:
        """Apply the layer."""
        patches = nn.functional.unfold(x, self.kernel_size)
        out = torch.einsum("nfl,lof->nol", patches, self.weight) + self.bias
        return out.unflatten(-1, self.size)


class _DenseMap(nn.Module):
    """A dense layer from all of one image to all of another."""

    def __init__(self, shape_in: tuple[int, int, int], shape_out: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape_out = shape_out
        self.linear = nn.Linear(math.prod(shape_in), math.prod(shape_out))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1)).unflatten(-1, self.shape_out)


@checked
def lenet(
    image_shape: tuple[int, int, int] = (1, 28, 28), n_classes: int = 10, layers: str = "conv"
) -> nn.Sequential:
    """LeNet-5 with ReLU and max-pooling, or one of its relatives; see the module's text.

    Parameters
    ----------
    image_shape : tuple of int
        Channels, height, width: at least 16 by 16.
    layers : {"conv", "untied", "fc_tied", "fc"}
        What the first two layers are.

    Raises
    ------
    ValueError
        Unknown ``layers``, or images too small for two 5x5 layers with pooling.
    """
    check_choice(layers, ("conv", "untied", "fc_tied", "fc"), "layers")
    shape = tuple(int(s) for s in image_shape)
    check_in_range(n_classes, "n_classes", low=1, integer=True)
    if len(shape) != 3 or shape[0] < 1 or min(shape[1:]) < 16:
        raise ValueError(
            f"image_shape must be (channels, height, width) of at least 16x16, got {image_shape}"
        )
    stages: list[nn.Module] = []
    for channels in (6, 16):
        layer, shape = _first_layer(layers, shape, channels)
        stages += [layer, nn.ReLU(), nn.MaxPool2d(2)]
        shape = (shape[0], shape[1] // 2, shape[2] // 2)
    head = [
        nn.Linear(math.prod(shape), 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, n_classes),
    ]
    net = nn.Sequential(*stages, nn.Flatten(), *head)
    he_normal(net)
    return net


def _first_layer(
    layers: str, shape: tuple[int, ...], channels: int
) -> tuple[nn.Module, tuple[int, int, int]]:
    """One of the first two layers and the shape of what it returns."""
    n_in, height, width = shape
    valid = (channels, height - _KERNEL + 1, width - _KERNEL + 1)
    if layers == "conv":
        return nn.Conv2d(n_in, channels, _KERNEL), valid
    if layers == "untied":
        return LocallyConnected2d(n_in, channels, _KERNEL, (height, width)), valid
    if layers == "fc":
        return _DenseMap((n_in, height, width), valid), valid
    kernel = (2 * height - 1, 2 * width - 1)  # every offset between two places of the image
    padding = (height - 1, width - 1)
    return nn.Conv2d(n_in, channels, kernel, padding=padding), (channels, height, width)
