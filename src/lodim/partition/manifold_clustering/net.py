r"""The network with its two heads, the two losses, the matrix of memberships, and views of images and table rows.

Features z = f(x) and codes c = g(x) are unit vectors of d numbers: two linear heads on one backbone. Two rows belong
together as far as their codes are parallel, brought to a doubly stochastic matrix by Sinkhorn's scaling:

.. math:: \Gamma = P_\eta(|C C^\top|), \qquad \Gamma_{ij} = e^{u_i + |c_i^\top c_j| / \eta + u_j}.

First the features are learned without any grouping, so that two views x, x' of a row agree and all rows spread out,

.. math:: L_{TCR} = -R\big((Z + Z') / 2\big) - \frac{\lambda}{n} \sum_i z_i^\top z'_i,

then the cluster head is made a copy of the feature head and both are trained together, with Z and Gamma the means over
the views (Z brought back to unit rows; a mean of doubly stochastic matrices is one),

.. math:: L_{MLC} = -\big(R(Z) - R_c(Z, \Gamma)\big) + \frac{\gamma}{2} ||\Gamma||_F^2.

Rates as in :mod:`lodim.metrics`. ``R - Rc`` is convex in Gamma, so that its maximum is a permutation, every row a group
of its own. The entropy eta stands against that; with batches of hundreds it does not suffice, and the absolute value in
the kernel and the last term, both from the authors' later code, are needed.

===================================  ===================================================
symbol in the paper                  name here
===================================  ===================================================
Z, C                                 the two outputs of :class:`MLCNet`, rows as samples
:math:`\Gamma = P_\eta(C^\top C)`    :func:`pairwise_membership`
:math:`\epsilon^2`, :math:`\eta`     ``eps2``, ``eta``
:math:`R`, :math:`R_c`               ``lodim.metrics.coding_rate``
:math:`\gamma` (code only)           ``gamma``
:math:`\lambda`                      ``alignment``
===================================  ===================================================

Source: T. Ding, S. Tong, K. H. R. Chan, X. Dai, Y. Ma, B. D. Haeffele, arXiv 2301.01805.
Departures: the absolute kernel and the Frobenius term, as said; Sinkhorn's iteration goes on until row sums are right
to 2e-6 on average (public code takes a fixed few steps). The paper's exact constants for each data set stand in an
appendix that could not be read.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from lodim.linalg import full_precision, sinkhorn
from lodim.linalg.precision import computable
from lodim.metrics import coding_rate, rate_reduction
from lodim.nets import mlp
from lodim.validation import check_counts, check_in_range, checked

__all__ = ["MLCNet", "gaussian_jitter", "mlc_loss", "pairwise_membership", "random_affine", "tcr_loss"]

_WIDTH = 256
_MOST_WEIGHT = 1e6
_ROW_ERROR, _MOST_ITERATIONS = 2e-6, 100


@checked
class MLCNet(nn.Module):
    """A backbone with a feature head and a cluster head, both linear, of one shape, and followed by unit length.

    Parameters
    ----------
    backbone : nn.Module
        From a batch to n_hidden numbers a row; more axes are flattened.
    n_hidden : int
    feature_dim : int
        d, the length of features and codes: clusters of rank r need about r d's each in it.

    References
    ----------
    Ding and others 2023, arXiv 2301.01805.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> Z, C = MLCNet(nn.Identity(), 5, feature_dim=3)(torch.ones(4, 5))
    >>> Z.shape, bool((Z == C).all())
    (torch.Size([4, 3]), False)
    """

    def __init__(self, backbone: nn.Module, n_hidden: int, feature_dim: int = 32) -> None:
        super().__init__()
        check_counts(n_hidden=n_hidden, feature_dim=feature_dim)
        self.backbone = backbone
        self.feature_head = nn.Linear(int(n_hidden), int(feature_dim))
        self.cluster_head = nn.Linear(int(n_hidden), int(feature_dim))

    def forward(self, input: Tensor) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """Features Z and codes C."""
        hidden = self.backbone(input).flatten(1)
        return F.normalize(self.feature_head(hidden)), F.normalize(self.cluster_head(hidden))

    def features(self, input: Tensor) -> Float[Tensor, "n d"]:
        """Z alone."""
        return F.normalize(self.feature_head(self.backbone(input).flatten(1)))

    def copy_head(self) -> None:
        """Make the cluster head the feature head: C is Z from here on, until training parts them."""
        self.cluster_head.load_state_dict(self.feature_head.state_dict())


@checked
def pairwise_membership(codes: Any, eta: float | int = 0.05) -> Any:
    """Doubly stochastic memberships of pairs of rows, from the directions of their codes.

    Parameters
    ----------
    codes : array or Tensor, shape (..., n, d)
        Unit rows; a sign does not count.
    eta : float
        Entropy's weight, against cosines: the smaller, the fewer rows each row is held with. **The decisive number**;
        0.05 for batches of some hundred rows of 32 dimensions, 0.175 for 128 dimensions.

    Returns
    -------
    ndarray or Tensor, shape (..., n, n)
        Symmetric; differentiable for tensors.

    Raises
    ------
    ValueError
        eta not positive, wrong shapes, numbers that are not finite.

    Warns
    -----
    ConvergenceWarning
        Row sums are off by more than 2e-6 on average; eta is too small.

    Examples
    --------
    >>> pairwise_membership([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], 0.1).round(2)
    array([[0.5, 0.5, 0. ],
           [0.5, 0.5, 0. ],
           [0. , 0. , 1. ]])
    """
    rows = computable(codes, "codes")
    if rows.ndim < 2 or not rows.numel():
        raise ValueError(f"codes must be rows, shape (..., n, d), got shape {tuple(rows.shape)}")
    with full_precision(rows.device.type):
        scores = (rows @ rows.mT).abs()
    if not bool(scores.detach().sum().isfinite()):
        raise ValueError("codes must be finite rows of about unit length")
    tol = _ROW_ERROR * rows.shape[-2]
    plan: Any = sinkhorn(scores, eta, max_iter=_MOST_ITERATIONS, tol=tol, symmetric=True).plan
    return plan if isinstance(codes, Tensor) else plan.numpy()


@checked
def tcr_loss(
    first: Float[Tensor, "n d"],
    second: Float[Tensor, "n d"],
    *,
    eps2: float | int = 0.2,
    alignment: float | int = 20.0,
) -> Float[Tensor, ""]:
    """Self-supervised start: minus the rate of the mean of two views, minus ``alignment`` times their mean cosine.

    Parameters
    ----------
    first, second : Tensor, shape (n, d)
        Features of two views of the same rows, unit length.
    eps2 : float
        Squared distortion of the rate.

    Raises
    ------
    ValueError
        Different shapes, or eps2 not positive.
    """
    if first.shape != second.shape:
        raise ValueError(
            f"two views must have one shape, got first {tuple(first.shape)} and second {tuple(second.shape)}"
        )
    first, second = computable(first, "first"), computable(second, "second")
    check_in_range(alignment, "alignment", low=0.0, high=_MOST_WEIGHT)
    return -coding_rate((first + second) / 2, eps2) - alignment * (first * second).sum(-1).mean()


@checked
def mlc_loss(
    Z: Float[Tensor, "*views n d"],
    C: Float[Tensor, "*views n d"],
    *,
    eps2: float | int = 0.2,
    eta: float | int = 0.05,
    gamma: float | int = 0.1,
) -> Float[Tensor, ""]:
    """Minus the rate reduction by the pairwise memberships, plus ``gamma / 2`` times their squared Frobenius norm.

    Parameters
    ----------
    Z, C : Tensor, shape (n, d) or (views, n, d)
        Features and codes, unit rows. Of several views features and memberships are averaged.
    eps2, eta : float
        See :func:`~lodim.metrics.coding_rate` and :func:`pairwise_membership`.
    gamma : float
        What keeps rows from being groups of their own. The squared norm is of the order of n (n for the identity): the
        default belongs to batches of 300.

    Raises
    ------
    ValueError
        Different shapes, or eps2 or eta not positive.
    """
    if Z.shape != C.shape or not 2 <= Z.ndim <= 3:
        raise ValueError(
            f"Z and C must have one shape, (n, d) or (views, n, d), got {tuple(Z.shape)} and {tuple(C.shape)}"
        )
    check_in_range(gamma, "gamma", low=0.0, high=_MOST_WEIGHT)
    Z, membership = computable(Z, "Z"), pairwise_membership(computable(C, "C"), eta)
    if Z.ndim == 3:
        Z, membership = F.normalize(Z.mean(0), dim=-1), membership.mean(0)
    return gamma / 2 * membership.square().sum() - rate_reduction(Z, membership, eps2)


@checked
def gaussian_jitter(
    x: Float[Tensor, "n ..."], strength: float | int = 0.1, generator: torch.Generator | None = None
) -> Tensor:
    """A view of a batch of table rows: noise of ``strength`` times each column's deviation in the batch.

    Parameters
    ----------
    x : Tensor, shape (n, ...)
    strength : float
        The size of changes that do not change what a row is.
    generator : torch.Generator, optional
        Of the CPU; default: torch's own, which a descent seeds.
    """
    check_in_range(strength, "strength", low=0.0, high=_MOST_WEIGHT)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    return x + strength * x.std(0, correction=0) * noise


@checked
def random_affine(
    x: Float[Tensor, "n c h w"],
    *,
    rotation: float | int = 0.3,
    scale: float | int = 0.2,
    shear: float | int = 0.25,
    shift: float | int = 0.15,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "n c h w"]:
    """A view of a batch of images: each turned, sized, sheared and moved at random; what comes in repeats the border.

    Parameters
    ----------
    x : Tensor, shape (n, c, h, w)
    rotation : float
        Largest angle, in radians.
    scale, shear : float
        Largest change of size and largest shear, as shares.
    shift : float
        Largest shift either way, as a share of half the image.
    generator : torch.Generator, optional
        Of the CPU; default: torch's own, which a descent seeds.
    """
    for name, value in {"rotation": rotation, "scale": scale, "shear": shear, "shift": shift}.items():
        check_in_range(value, name, low=0.0, high=math.pi if name == "rotation" else 0.9)
    if not x.numel():
        raise ValueError(f"x must hold images, shape (n, c, h, w), got shape {tuple(x.shape)}")
    draws = 2 * torch.rand(5, len(x), generator=generator) - 1
    limits = torch.tensor([rotation, scale, shear, shift, shift], dtype=draws.dtype)
    angle, zoom, lean, right, down = draws * limits[:, None]
    size, cos, sin = 1 + zoom, angle.cos(), angle.sin()
    ratio = x.shape[2] / x.shape[3]  # the grid's unit is half a side: a turn must not squeeze oblong images
    rows = [[size * cos, size * (lean * cos - sin) * ratio, right],
            [size * sin / ratio, size * (lean * sin + cos), down]]  # fmt: skip
    maps = torch.stack([torch.stack(row, -1) for row in rows], 1).to(x)
    grid = F.affine_grid(maps, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


class Bent(nn.Module):
    """``x + net(x)`` with a last layer of zeros: given features, which training may bend."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.net = mlp([n_features, _WIDTH, n_features])
        nn.init.zeros_(self.net[-1].weight)  # type: ignore[arg-type]

    def forward(self, input: Tensor) -> Tensor:
        """Apply it."""
        return input + self.net(input)


def default_backbone(shape: tuple[int, ...], given: bool) -> nn.Module:
    """Two convolutions and a layer for images (c, h, w), two layers for rows, the identity at first for features."""
    if len(shape) == 1:
        return Bent(shape[0]) if given else nn.Sequential(mlp([shape[0], _WIDTH, _WIDTH]), nn.ReLU())
    n_in, height, width = shape
    if min(height, width) < 4:
        raise ValueError(f"images must be at least 4 by 4 for the default backbone, got {height} by {width}")
    return nn.Sequential(
        nn.Conv2d(n_in, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * (height // 4) * (width // 4), _WIDTH), nn.ReLU(),
    )  # fmt: skip
