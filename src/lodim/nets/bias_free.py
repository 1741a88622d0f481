r"""Denoisers without any additive constant: :class:`BiasFreeUNet`, and :class:`BFCNN` of one resolution.

With no bias anywhere, ReLU, and normalisation that only divides, :math:`f(a y) = a f(y)` for a > 0 in evaluation mode,
so that :math:`f(y) = J(y)\, y` with J the Jacobian: the net adapts a linear map to its input, and one net serves all
noise levels without being told which.

Both return the noise they find in y; ``denoise`` takes it off.

Sources: S. Mohan and others, arXiv 1906.05478 (bias-free denoisers); Z. Kadkhodaie and others, arXiv 2310.02557, and
their code (the U-Net, the normalisation and its start).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from lodim.validation import check_in_range, checked

__all__ = ["BFCNN", "BiasFreeNorm2d", "BiasFreeUNet"]

_EPSILON = 1e-5


@checked
class BiasFreeNorm2d(nn.Module):
    """Divide each channel by its standard deviation over batch and places, and scale it; no mean is subtracted.

    Scales start normal with deviation 2 / 576, within 0.025 of zero. ``momentum`` is a batch's weight in the running
    deviation, by which evaluation mode divides.
    """

    running_sd: Tensor

    def __init__(self, channels: int, momentum: float = 0.1) -> None:
        super().__init__()
        check_in_range(channels, "channels", low=1, integer=True)
        self.momentum = float(check_in_range(momentum, "momentum", low=0, high=1))
        self.weight = nn.Parameter((torch.randn(channels) * (2 / 576)).clamp(-0.025, 0.025))
        self.register_buffer("running_sd", torch.ones(channels))

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Apply the normalisation; in training mode by the batch's own deviation, which joins the running one."""
        sd = self.running_sd
        if self.training and len(x):
            precise = torch.promote_types(x.dtype, torch.float32)  # squares overflow in half precision
            sd = (x.to(precise).var((0, 2, 3), correction=0) + _EPSILON).sqrt()
            with torch.no_grad():  # one infinite batch would spoil the running deviation for good
                new = torch.where(sd.isfinite(), sd.to(self.running_sd), self.running_sd)
                self.running_sd.lerp_(new, self.momentum)
        return x * (self.weight / sd).to(x.dtype)[:, None, None]


def _two_convolutions(n_in: int, n_out: int, *, first_norm: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, n in enumerate((n_in, n_out)):
        layers.append(nn.Conv2d(n, n_out, 3, padding=1, bias=False))
        if i or first_norm:
            layers.append(BiasFreeNorm2d(n_out))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def _start(net: nn.Module) -> None:
    """Draw the convolutions' weights after K. He and others."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


@checked
class BiasFreeUNet(nn.Module):
    """Encoder of two convolutions a level, average pooling, decoder with skips; returns the noise it finds.

    Parameters
    ----------
    width : int
        Channels of the finest level; each level below has twice as many.
    depth : int
        Times the image is halved: its height and width must be multiples of ``2 ** depth``.

    Raises
    ------
    ValueError
        Numbers out of range.

    Examples
    --------
    >>> sum(p.numel() for p in BiasFreeUNet(1, 64, 3).parameters())
    7696192
    """

    def __init__(self, channels: int = 1, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        for value, name, low in ((channels, "channels", 1), (width, "width", 1), (depth, "depth", 0)):
            check_in_range(value, name, low=low, integer=True)
        self.depth = depth
        widths = [width * 2**i for i in range(depth + 1)]
        self.down = nn.ModuleList(
            _two_convolutions(a, b, first_norm=i > 0)
            for i, (a, b) in enumerate(zip([channels, *widths], widths))
        )
        self.widen = nn.ModuleList(
            nn.ConvTranspose2d(2 * n, n, 2, stride=2, bias=False) for n in reversed(widths[:-1])
        )
        self.up = nn.ModuleList(_two_convolutions(2 * n, n) for n in reversed(widths[:-1]))
        self.last = nn.Conv2d(width, channels, 3, padding=1, bias=False)
        _start(self)

    def forward(
        self, y: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the noise in images; a height or width that is no multiple of ``2 ** depth`` is a ValueError."""
        if any(size % 2**self.depth for size in y.shape[2:]):
            raise ValueError(
                f"images' height and width must be multiples of {2**self.depth}, got {tuple(y.shape[2:])}; pad "
                "or lower depth"
            )
        h, kept = y, []
        for i, block in enumerate(self.down):
            h = block(avg_pool2d(h, 2) if i else h)
            kept.append(h)
        kept.pop()
        for widen, block in zip(self.widen, self.up):
            h = block(torch.cat([kept.pop(), widen(h)], 1))
        return self.last(h)

    def denoise(
        self, y: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return noisy images without the noise found in them."""
        return y - self(y)


@checked
class BFCNN(nn.Module):
    """Convolutions of 3 x 3 at one resolution, for images of any size; returns the noise it finds.

    Parameters
    ----------
    width : int
        Channels inside.
    depth : int
        Convolutions, at least 2. Each of those in the middle is normalised.

    Raises
    ------
    ValueError
        Numbers out of range.

    Examples
    --------
    >>> sum(p.numel() for p in BFCNN().parameters())
    702784
    """

    def __init__(self, channels: int = 1, width: int = 64, depth: int = 21) -> None:
        super().__init__()
        for value, name, low in ((channels, "channels", 1), (width, "width", 1), (depth, "depth", 2)):
            check_in_range(value, name, low=low, integer=True)
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), BiasFreeNorm2d(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1, bias=False))
        _start(self)

    def forward(
        self, y: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the noise in images."""
        return self.layers(y)

    def denoise(
        self, y: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return noisy images without the noise found in them."""
        return y - self(y)
