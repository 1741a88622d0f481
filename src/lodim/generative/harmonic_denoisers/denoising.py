r"""One denoiser: its training, how its error falls with the noise, its risk without clean images, and the best basis.

.. math::
    \mathrm{PSNR} = -10 \log_{10} \mathrm{MSE}, \qquad
    E\,|x - f|^2 = E\,[\,2 \sigma^2 \operatorname{tr} \nabla f(y) + |y - f|^2 - \sigma^2 D\,]

In a fixed orthonormal basis e no shrinkage does better than the oracle's,

.. math:: \lambda_k = \frac{\langle x, e_k \rangle^2}{\langle x, e_k \rangle^2 + \sigma^2}, \qquad
          \mathrm{MSE} = \sum_k \frac{\sigma^2 \langle x, e_k \rangle^2}{\langle x, e_k \rangle^2 + \sigma^2} ,

whose error falls as :math:`\sigma^{2\alpha/(\alpha+1)}` for squared coefficients :math:`k^{-(\alpha+1)}`. Source: the
paper's equations 5 to 8.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.fft import dctn
from scipy.linalg import subspace_angles
from torch import Tensor, nn

from lodim.generative.denoiser import of_shape
from lodim.generative.jacobian import jacobian_trace, module_of
from lodim.linalg.precision import computable
from lodim.metrics import psnr
from lodim.nets.activations import evaluation_mode
from lodim.randomness import RandomState, derive_seed, root_seed, torch_generator
from lodim.results import Result
from lodim.training import DescentRecipe, DescentResult, descend
from lodim.training.descent import Progress
from lodim.validation import check_choice, check_in_range, check_numbers, checked

__all__ = [
    "OracleShrinkage",
    "PSNRCurve",
    "oracle_shrinkage",
    "psnr_curve",
    "subspace_overlap",
    "sure",
    "train_denoiser",
]

_TOLERANCE = 1e-3  # by which an intensity may leave [0, 1]
_AT_ONCE = 256  # images
_ORTHONORMAL = 1e-3  # by which inner products of a basis in single precision may be off
_FULL_BATCHES = 64  # in a pass, where the images are few


def as_images(images: Any, name: str, like: Any = None) -> Float[Tensor, "n channels h w"]:
    """Return intensities in [0, 1] as a tensor of the net's precision and on its device, or say what is wrong.

    Integers count as numbers: bytes are to be divided by 255 first.
    """
    x = computable(images, name)
    if x.ndim != 4 or not x.numel():
        raise ValueError(f"{name} must be images of shape (n, channels, height, width), got {tuple(x.shape)}")
    wrong = torch.nonzero(~x.flatten(1).isfinite().all(1)).flatten().tolist()
    if wrong:
        raise ValueError(
            f"{name} must be finite: {len(wrong)} of {len(x)} hold NaN or infinity, the first is {wrong[0]}"
        )
    low, high = float(x.min()), float(x.max())
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise ValueError(f"{name} must be within [0, 1], got {low:.4g} to {high:.4g}; divide bytes by 255")
    parameter = parameter_of(like)
    x = x.detach().contiguous()  # randn_like fills in the order of memory: another layout, another noise
    return x if parameter is None else x.to(parameter)


def parameter_of(net: Any) -> Tensor | None:
    """Return a parameter of a net, or of that whose method it is: its precision and device are those to use."""
    module = module_of(net)
    return None if module is None else next(module.parameters(), None)


def _applied(net: Any, y: Tensor) -> Tensor:
    """Return f(y), and leave y to the caller whatever f does in place."""
    return of_shape(getattr(net, "denoise", net)(y.clone()), y)


@torch.no_grad()
def denoised(net: Callable[[Tensor], Tensor], y: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    """Return f(y), some images at a time, in evaluation mode."""
    module = module_of(net)
    with nullcontext() if module is None else evaluation_mode(module):
        return torch.cat([_applied(net, some) for some in y.split(_AT_ONCE)])


@checked
def train_denoiser(
    net: nn.Module,
    images: Any,
    *,
    sigma_range: tuple[float | int, float | int] = (0.0, 1.0),
    steps: int = 2000,
    batch_size: int = 64,
    lr: float | int = 1e-3,
    schedule: Any = "cosine",
    random_state: RandomState = 0,
    checkpoint: Any = None,
    progress: Progress | None = None,
) -> DescentResult:
    """Train a denoiser that is not told the noise level, by the sum of its squared errors, with Adam.

    Parameters
    ----------
    net : nn.Module
        As :class:`lodim.nets.BiasFreeUNet`: ``denoise(y)`` (or the module itself) returns images. It is left in
        evaluation mode.
    images : array or Tensor, shape (n, channels, height, width)
        Intensities in [0, 1].
    sigma_range : tuple of float
        Noise levels are uniform between these.
    steps, batch_size, lr, schedule, checkpoint, progress
        As in :func:`lodim.training.descend`. Every batch is full: few images are repeated.

    Raises
    ------
    ValueError
        Intensities outside [0, 1] or not finite, sizes that the net does not take, or numbers out of range.
    """
    x = as_images(images, "images", net)
    low, high = (float(check_in_range(s, "sigma_range", low=0)) for s in sigma_range)
    if not low <= high or not 0 < high < np.inf:
        raise ValueError(
            f"sigma_range must be (low, high) with 0 <= low <= high, 0 < high and finite; got {sigma_range}"
        )
    recipe = DescentRecipe(steps=steps, lr=lr, batch_size=batch_size, schedule=schedule)

    def loss(clean: Tensor) -> Tensor:
        sigma = low + (high - low) * torch.rand(len(clean), 1, 1, 1, dtype=clean.dtype, device=clean.device)
        return (_applied(net, clean + sigma * torch.randn_like(clean)) - clean).square().sum() / len(clean)

    rows = batch_size * max(_FULL_BATCHES, -(-len(x) // batch_size))
    net.train()
    result = descend(
        loss, net, recipe, x[torch.arange(rows, device=x.device) % len(x)],
        random_state=derive_seed(root_seed(random_state), "train"), checkpoint=checkpoint, progress=progress,
        identity={"sigma_range": [low, high]},
    )  # fmt: skip
    net.eval()
    return result


@dataclass(frozen=True)
class PSNRCurve(Result):
    """What comes out of a denoiser for what goes in, in decibel.

    Attributes
    ----------
    sigmas : ndarray, shape (n_sigmas,)
    noisy, denoised : ndarray, shape (n_sigmas,)
        Peak signal-to-noise ratio of the mean squared error, before and after.
    """

    sigmas: Float[np.ndarray, " n_sigmas"]
    noisy: Float[np.ndarray, " n_sigmas"]
    denoised: Float[np.ndarray, " n_sigmas"]

    def slope(self, sigma_max: float | int | None = None) -> float:
        """Return decibels gained for a decibel less noise, by least squares over the levels up to ``sigma_max``."""
        kept = self.sigmas <= (np.inf if sigma_max is None else sigma_max)
        if kept.sum() < 2:
            raise ValueError(f"a slope needs two noise levels, got {int(kept.sum())} up to {sigma_max}")
        if not np.isfinite(self.denoised[kept]).all():
            raise ValueError("a denoiser without any error has no slope: its PSNR is infinite")
        return float(np.polyfit(self.noisy[kept], self.denoised[kept], 1)[0])

    def to_frame(self) -> Any:
        """Return one row a noise level."""
        import pandas as pd

        return pd.DataFrame({"sigma": self.sigmas, "noisy": self.noisy, "denoised": self.denoised})

    def plot(self, ax: Any = None, label: str | None = None) -> Any:
        """Draw output over input, and return the axes."""
        from lodim.plots import new_axes

        ax = new_axes(ax)
        ax.plot(self.noisy, self.denoised, marker="o", label=label)
        ax.set(xlabel="PSNR of what goes in (dB)", ylabel="PSNR of what comes out (dB)")
        if label:
            ax.legend()
        return ax

    def __str__(self) -> str:
        shown = ", ".join(f"{s:.3g}: {out:.1f}" for s, out in zip(self.sigmas, self.denoised))
        return f"PSNR of the denoised at noise {shown} dB"


def noisy(x: Tensor, sigma: float, *key: Any) -> Tensor:
    """Return images with noise that depends on the key alone, on every device."""
    z = torch.randn(x.shape, generator=torch_generator(derive_seed(*key)), dtype=torch.float32)
    return x + sigma * z.to(x)


@checked
def psnr_curve(
    net: Callable[..., Any],
    images: Any,
    sigmas: Any = (0.03, 0.1, 0.3, 1.0),
    *,
    random_state: RandomState = 0,
) -> PSNRCurve:
    """Measure a denoiser on clean images with noise added.

    Parameters
    ----------
    net : callable
        An object with ``denoise``, or the denoising function itself.
    images : array or Tensor, shape (n, channels, height, width)
        Intensities in [0, 1].
    sigmas : sequence of float
        Positive.

    Raises
    ------
    ValueError
        Intensities outside [0, 1] or not finite, or a noise level that is not positive.
    """
    x = as_images(images, "images", net)
    levels, seed = _levels(sigmas), root_seed(random_state)
    found = []
    for i, sigma in enumerate(levels.tolist()):
        y = noisy(x, sigma, seed, "noise", i)
        found.append([float(psnr(z.flatten(0, 1), x.flatten(0, 1))) for z in (y, denoised(net, y))])
    before, after = np.array(found).T
    return PSNRCurve(levels, before, after)


def _levels(sigmas: Any) -> Float[np.ndarray, " n_sigmas"]:
    levels = np.atleast_1d(np.asarray(sigmas, dtype=float))
    if levels.ndim != 1 or not len(levels) or not ((levels > 0) & np.isfinite(levels)).all():
        raise ValueError(f"sigmas must be positive and finite, one number or a row of them, got {sigmas!r}")
    return levels


@checked
def sure(
    net: Callable[..., Any],
    y: Float[Tensor, "batch ..."],
    sigma: float | int,
    n_probes: int | None = None,
    *,
    random_state: RandomState = 0,
) -> Float[Tensor, " batch"]:
    """Estimate each image's squared error (a sum over pixels) without its clean version.

    Unbiased over the noise; single images scatter about their error, and may come out negative.

    Parameters
    ----------
    net, y, n_probes, random_state
        As in :func:`lodim.generative.jacobian_trace`.
    sigma : float
        Standard deviation of the noise in y.
    """
    sigma = float(check_in_range(sigma, "sigma", low=0))
    if np.isinf(sigma):
        raise ValueError("sigma must be finite")
    found = jacobian_trace(net, y, n_probes, random_state=random_state).trace
    trace = torch.tensor(found, dtype=torch.float64, device=y.device)
    residual = (y - denoised(net, y)).double().flatten(1).square().sum(1)
    return 2 * sigma**2 * trace + residual - sigma**2 * y[0].numel()


@dataclass(frozen=True)
class OracleShrinkage(Result):
    """The least mean squared error (of a pixel) that shrinking coefficients in one fixed basis can have.

    Attributes
    ----------
    sigmas, mse : ndarray, shape (n_sigmas,)
    """

    sigmas: Float[np.ndarray, " n_sigmas"]
    mse: Float[np.ndarray, " n_sigmas"]

    def curve(self) -> PSNRCurve:
        """Return it in decibel, to be laid beside a denoiser's."""
        return PSNRCurve(self.sigmas, -20 * np.log10(self.sigmas), -10 * np.log10(self.mse))

    def __str__(self) -> str:
        return "oracle shrinkage: " + ", ".join(
            f"mse {m:.3g} at {s:.3g}" for s, m in zip(self.sigmas, self.mse)
        )


@checked
def oracle_shrinkage(
    images: Any, sigmas: Any, basis: str | np.ndarray | Callable[..., Any] = "dct"
) -> OracleShrinkage:
    """Return the error of the best shrinkage that knows every clean image's coefficients.

    Parameters
    ----------
    images : array or Tensor, shape (n, ..., height, width)
    sigmas : sequence of float
        Positive.
    basis : {"dct", "haar", "pixel"}, ndarray of shape (k, ...), or callable
        Orthonormal: a name (``"haar"`` needs sides that are powers of two), vectors in the shape of an image, such as
        :attr:`JacobianBasis.vectors <lodim.generative.JacobianBasis>` (what they leave out counts as lost), or a
        function from images to coefficients, (n, ...).

    Raises
    ------
    ValueError
        Unknown basis, vectors of another shape or not orthonormal, images that are not finite, or sides that are no
        powers of two.
    """
    x, levels = computable(images, "images").detach().cpu().double().numpy(), _levels(sigmas)
    if not x.size or not np.isfinite(x).all():
        raise ValueError(f"images must be finite numbers, one image or more, got shape {x.shape}")
    if x.ndim < 3:
        raise ValueError(f"images must have shape (n, ..., height, width), got {x.shape}")
    size = x[0].size
    if callable(basis):
        c = check_numbers(basis(x), "what basis returns").astype(float)
        if c.shape[:1] != (len(x),):
            raise ValueError(
                f"basis must return coefficients for each of {len(x)} images, got shape {c.shape}"
            )
        c = c.reshape(len(x), -1)
        ratio = (c**2).sum() / max((x**2).sum(), 1e-300)  # 1; less where coefficients are left out
        least = 1 - _ORTHONORMAL if c.shape[1] == size and x.any() else 0.0
        if c.shape[1] > size or not least <= ratio <= 1 + _ORTHONORMAL:
            raise ValueError(
                f"a basis needs orthonormal vectors, {size} at most: the {c.shape[1]} coefficients of an image have "
                f"{ratio:.4g} of its sum of squares"
            )
    elif isinstance(basis, np.ndarray):
        if basis.shape[1:] != x.shape[1:]:
            raise ValueError(f"a basis needs vectors of shape {x.shape[1:]}, got {basis.shape[1:]}")
        vectors = basis.reshape(len(basis), size)
        if not np.allclose(vectors @ vectors.T, np.eye(len(vectors)), atol=_ORTHONORMAL):
            raise ValueError("a basis needs orthonormal vectors; take the Q of np.linalg.qr of yours")
        c = x.reshape(len(x), size) @ vectors.T
    else:
        check_choice(basis, ("dct", "haar", "pixel"), "basis")
        c = dctn(x, axes=(-2, -1), norm="ortho") if basis == "dct" else _haar(x) if basis == "haar" else x
        c = c.reshape(len(x), size)
    power = (c**2)[None]
    noise = (levels**2)[:, None, None]
    lost = ((x**2).sum() - power.sum()) / len(x) if c.shape[1] < size else 0.0
    return OracleShrinkage(levels, ((power * noise / (power + noise)).sum(2).mean(1) + lost) / size)


def _haar(x: np.ndarray) -> np.ndarray:
    """Orthonormal Haar coefficients of images, all levels."""
    sides = x.shape[-2:]
    if any(side & (side - 1) for side in sides):
        raise ValueError(f"the Haar basis needs sides that are powers of two, got {sides}")
    x = x.copy()
    height, width = sides
    while height > 1 or width > 1:
        for axis, side in ((-2, height), (-1, width)):
            if side > 1:
                part = np.moveaxis(x[..., :height, :width], axis, -1)  # a view: written through
                even, odd = part[..., ::2].copy(), part[..., 1::2].copy()
                part[..., : side // 2], part[..., side // 2 :] = (even + odd) / 2**0.5, (even - odd) / 2**0.5
        height, width = max(1, height // 2), max(1, width // 2)
    return x


@checked
def subspace_overlap(A: np.ndarray, B: np.ndarray) -> float:
    """Return the mean squared cosine of the principal angles between the spans of two sets of vectors, in [0, 1].

    Of a disc's leading eigenvectors and :func:`lodim.datasets.disc_tangents`, the share of the tangent space that the
    denoiser keeps.

    Parameters
    ----------
    A, B : ndarray, shape (k, ...), (m, ...)
        Vectors in rows; their span counts.
    """
    if A[:1].shape[1:] != B[:1].shape[1:] or not len(A) or not len(B):
        raise ValueError(f"A and B must hold vectors of one shape, got {A.shape} and {B.shape}")
    A, B = (check_numbers(vectors, name).reshape(len(vectors), -1) for vectors, name in ((A, "A"), (B, "B")))
    if not (A.any() and B.any()):
        raise ValueError("A and B must hold a vector that is not zero; nothing is spanned")
    angles = subspace_angles(A.T, B.T)
    return float((np.cos(angles) ** 2).mean())
