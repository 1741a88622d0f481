r"""How near images are to others: peak signal-to-noise ratio and structural similarity.

With local means, variances and covariance under a Gaussian window of 11 x 11 pixels, :math:`\sigma = 1.5`, and
:math:`C_i = (K_i L)^2`, K = (.01, .03), L the range of the data:

.. math::
    \mathrm{PSNR} = 10 \log_{10} \frac{L^2}{\mathrm{MSE}}, \qquad
    \mathrm{SSIM} = \operatorname{mean} \frac{(2 \mu_x \mu_y + C_1)(2 \sigma_{xy} + C_2)}
                        {(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)}

The mean is over windows that lie wholly in the image, and over channels.

References
----------
Z. Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE Trans. Image Processing
13 (2004), equation 13.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

from lodim.linalg.precision import computable
from lodim.validation import checked

__all__ = ["psnr", "ssim"]

_WINDOW, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03


@checked
def psnr(images: Any, reference: Any, *, data_range: int | float | np.number = 1.0) -> Any:
    """Peak signal-to-noise ratio in decibel, infinite for equal images.

    Parameters
    ----------
    images, reference : array or Tensor, shape (h, w), (channels, h, w) or (..., channels, h, w)
    data_range : float
        Largest possible difference of two pixels: 1 for floats in [0, 1], 255 for bytes.

    Returns
    -------
    float, or array or Tensor of shape (...)
        One number an image; tensors for tensors, differentiable.

    Raises
    ------
    ValueError
        Different shapes, no images, entries that are masked, complex or not finite, integers further apart than the
        range, or a range that is not positive.
    """
    x, y = _checked(images, reference, data_range)
    difference, axes = x - y, (-3, -2, -1)
    error, largest = difference.square().mean(axes), difference.abs().amax(axes)
    scaled = (difference / largest[..., None, None, None]).square().mean(axes)  # in range for any numbers
    beyond = (largest > 0) & ~((error > 0) & error.isfinite())
    return _out(torch.where(beyond, -20 * largest.log10() - 10 * scaled.log10(), -10 * error.log10()), images)


@checked
def ssim(images: Any, reference: Any, *, data_range: int | float | np.number = 1.0) -> Any:
    """Structural similarity, 1 for equal images.

    Parameters
    ----------
    images, reference : array or Tensor, shape (h, w), (channels, h, w) or (..., channels, h, w)
        At least 11 x 11 pixels.
    data_range : float
        As in :func:`psnr`.

    Returns
    -------
    float, or array or Tensor of shape (...)
        One number an image; tensors for tensors, differentiable.

    Raises
    ------
    ValueError
        As :func:`psnr`; or fewer pixels than the window.
    """
    x, y = _checked(images, reference, data_range)
    if min(x.shape[-2:]) < _WINDOW:
        raise ValueError(
            f"ssim needs images of at least {_WINDOW} x {_WINDOW} pixels, got {tuple(x.shape[-2:])}"
        )
    place = torch.arange(_WINDOW, dtype=x.dtype, device=x.device) - _WINDOW // 2
    window = (-0.5 * (place / _SIGMA).square()).exp()
    window = window / window.sum()
    # the centre of the range taken off: squares of what is left lose fewer digits, (co)variances do not change
    centre = x.mean()
    moments = torch.stack([x - centre, y - centre])
    moments = torch.cat([moments, moments.square(), (moments[0] * moments[1])[None]])
    flat = moments.reshape(-1, 1, *x.shape[-2:])
    flat = conv2d(conv2d(flat, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
    mx, my, xx, yy, xy = flat.reshape(5, *x.shape[:-2], *flat.shape[-2:])
    vx, vy, covariance = xx - mx.square(), yy - my.square(), xy - mx * my
    mx, my = mx + centre, my + centre
    c1, c2 = _K1**2, _K2**2
    likeness = (2 * mx * my + c1) * (2 * covariance + c2)
    found = (likeness / ((mx.square() + my.square() + c1) * (vx + vy + c2))).mean((-3, -2, -1))
    if not bool(found.isfinite().all()):
        raise ValueError(
            f"data_range={data_range} is so far from the images' numbers that squares leave double precision; give "
            "their largest possible difference"
        )
    return _out(found, images)


def _checked(
    images: Any, reference: Any, data_range: int | float | np.number
) -> tuple[Float[Tensor, " ..."], Float[Tensor, " ..."]]:
    """Both as doubles of shape (..., channels, h, w), in units of the range (its square may overflow in its type)."""
    if not 0 < data_range < np.inf:
        raise ValueError(f"data_range must be positive, got {data_range}")
    given = [computable(z, name) for z, name in ((images, "images"), (reference, "reference"))]
    x, y = (z.double() / float(data_range) for z in given)
    if x.shape != y.shape or x.ndim < 2 or not x.numel():
        raise ValueError(
            f"images and reference must have one shape, (..., h, w), got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    y = y.to(x.device)
    if not bool((x.isfinite() & y.isfinite()).all()):
        raise ValueError("images must hold finite numbers, got NaN or infinity")
    if all(_whole(z) for z in (images, reference)) and bool(((x - y).abs() > 1).any()):
        raise ValueError(f"whole numbers differ by more than data_range={data_range}; bytes have 255")
    return (x[None], y[None]) if x.ndim == 2 else (x, y)


def _whole(images: Any) -> bool:
    return str(getattr(images, "dtype", "")).removeprefix("torch.").startswith(("int", "uint"))


def _out(values: Tensor, like: Any) -> Any:
    if isinstance(like, Tensor):
        return values
    values = values.detach().cpu()
    return float(values) if values.ndim == 0 else values.numpy()
