r"""Convolutional networks for small images: residual (ResNet-18 and its relatives) and plain (VGG).

Both take stages of channels with batch normalisation; images are halved between stages, averaged at the end, and
classified by one linear layer. As is usual for images of about 32 x 32, the residual network starts with a 3 x 3
convolution instead of a 7 x 7 one with pooling, and its shortcuts that change the size are 1 x 1 convolutions.

Sources: K. He, X. Zhang, S. Ren, J. Sun, arXiv 1512.03385; K. Simonyan, A. Zisserman, arXiv 1409.1556.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from lodim.nets.dense import he_normal
from lodim.validation import check_counts, check_in_range, checked

__all__ = ["ResidualBlock", "resnet", "vgg"]


@checked
class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation, added to the input.

    ``stride`` is that of the first convolution and of the shortcut.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        check_counts(in_channels=in_channels, out_channels=out_channels, stride=stride)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            reshape = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(reshape, nn.BatchNorm2d(out_channels))

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o h2 w2"]:
        """Apply the block."""
        inner = nn.functional.relu(self.norm1(self.conv1(x)))
        return nn.functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


@checked
def resnet(
    n_classes: int = 10,
    widths: Sequence[int] = (64, 128, 256, 512),
    depths: Sequence[int] = (2, 2, 2, 2),
    in_channels: int = 3,
) -> nn.Sequential:
    """Residual network for small images; the default is ResNet-18.

    ``widths`` are the channels, ``depths`` the residual blocks of each stage. Sequences that differ in length, or hold
    a number below 1, are a ValueError.

    Examples
    --------
    >>> sum(p.numel() for p in resnet().parameters())
    11173962
    """
    _check_stages(n_classes, widths, depths, in_channels)
    first = widths[0]
    stem = [nn.Conv2d(in_channels, first, 3, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU()]
    stages, channels = [], first
    for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        blocks = []
        for block in range(depth):
            stride = 2 if index and not block else 1
            blocks.append(ResidualBlock(channels, width, stride))
            channels = width
        stages.append(nn.Sequential(*blocks))
    net = nn.Sequential(*stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, n_classes))
    he_normal(net)
    return net


@checked
def vgg(
    n_classes: int = 10,
    widths: Sequence[int] = (64, 128, 256, 512, 512),
    depths: Sequence[int] = (2, 2, 3, 3, 3),
    in_channels: int = 3,
) -> nn.Sequential:
    """Plain convolutional network with batch normalisation for small images; the default has VGG-16's convolutions.

    ``widths`` are the channels, ``depths`` the 3x3 convolutions of each stage; 2x2 max-pooling stands between stages.
    Sequences that differ in length, or hold a number below 1, are a ValueError.
    """
    _check_stages(n_classes, widths, depths, in_channels)
    layers: list[nn.Module] = []
    channels = in_channels
    for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        if index:
            layers.append(nn.MaxPool2d(2))
        for _ in range(depth):
            conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, n_classes))
    he_normal(net)
    return net


def _check_stages(n_classes: int, widths: Sequence[int], depths: Sequence[int], in_channels: int) -> None:
    if not len(widths) or len(widths) != len(depths):
        raise ValueError(
            f"widths and depths need one number a stage, got {len(widths)} widths and {len(depths)} depths"
        )
    for name, numbers in (
        ("widths", widths),
        ("depths", depths),
        ("n_classes and in_channels", (n_classes, in_channels)),
    ):
        for number in numbers:
            check_in_range(number, name, low=1, integer=True)
