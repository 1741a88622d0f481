r"""A denoiser that finds the subspace its data lie in, and works there: :class:`SubspaceDenoiser`.

If :math:`x_0 = c + A z` with orthonormal columns in A (D x d), noise splits into a part in the subspace, which is z's
own noise, and a part across it, which says nothing of z. Hence, exactly (2404.07771, section 5, there in the
coordinates of the process, here in canonical ones),

.. math:: \nabla \log p_\sigma(x) = A\, s_{low}(A^T (x - c), \sigma) - \frac{1}{\sigma^2} (I - A A^T)(x - c),

.. math:: D(x, \sigma) = c + A\, D_{low}(A^T (x - c), \sigma),

and a frame V in A's place with a network of d numbers in that of :math:`D_{low}` can represent it, whatever D. For
the process with :math:`\alpha = e^{-t/2}, h = 1 - e^{-t}` divide x by :math:`\alpha` and take :math:`\sigma^2 = h /
\alpha^2`; the survey's :math:`f(z, t)` is :math:`\alpha D_{low}`.

With R = D(x) - x0, the loss is :math:`|(I - V V^T)(x_0 - c)|^2 + |V^T R|^2`: the residual of a principal component
analysis, and the low model's own loss. So on data that fill a subspace V is exact as soon as d samples span it. With
noise of variance :math:`\tau^2` across it, principal components are off by about

.. math:: \mathbb{E} |V V^T - A A^T|_F^2
          \approx 2 (D - d)\, \frac{\tau^2}{n} \sum_j \frac{\lambda_j + \tau^2}{\lambda_j^2}

for n samples of variances :math:`\lambda_j` in the subspace: it falls like 1/n, and grows with D. The noise of a
short descent leaves V farther off than that (``guided-diffusion/subspace`` among the claims).

==========================  ==========================================
symbol in the paper         name here
==========================  ==========================================
:math:`A`                   ``A`` of :func:`subspace_error` (known)
:math:`V`                   ``SubspaceDenoiser.V``, ``subspace_``
:math:`f(V^T x, t)`         ``SubspaceDenoiser.low``
:math:`D, d`                ``D``, ``d``
==========================  ==========================================

Departures. V comes from a QR decomposition of free numbers, with signs that make it continuous: that needs no D x D
matrix, and its average over the steps is orthonormal again. The number of directions, where not given, is the count
of eigenvalues above even noise's: the participation ratio, where the search for it is said to begin, is only a lower
bound, and what V leaves out is lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from lodim.dimension.spectrum import covariance_spectrum, linear_dimension
from lodim.generative.denoiser import Condition, Denoiser
from lodim.generative.diffusion import Diffusion
from lodim.generative.schedules import Schedule
from lodim.linalg import full_precision
from lodim.nets import TimeMLP
from lodim.randomness import RandomState, build_seeded, root_seed
from lodim.validation import check_in_range, check_matrix, check_numbers, checked

__all__ = ["SubspaceDenoiser", "SubspaceDiffusion", "off_subspace_energy", "subspace_error"]

_BEGIN = 'with d="auto" the model begins with fit; call it first, or give d'
_FRAME = (
    0.1  # length of the first frame's columns: V turns by a step over it, and by less as steps lengthen them
)


@checked
class SubspaceDenoiser(Denoiser):
    """A denoiser of R^d, lifted to R^D by an orthonormal frame that is learnt with it.

    Parameters
    ----------
    D, d : int
        Numbers of a sample, and of the subspace.
    low : nn.Module, optional
        ``low(z, sigma, cond)``, any denoiser of vectors of d numbers; default: a :class:`~lodim.generative.Denoiser`
        around a :class:`~lodim.nets.TimeMLP`.
    center : Tensor or float
        A point of the (affine) subspace, shape (D,).

    Raises
    ------
    ValueError
        d above D, or either below 1.
    """

    def __init__(
        self, D: int, d: int, low: nn.Module | None = None, *, center: Tensor | float | int = 0.0
    ) -> None:
        nn.Module.__init__(self)  # the network and what belongs to it is the low denoiser's
        check_in_range(D, "D", low=1, integer=True)
        check_in_range(d, "d", low=1, high=int(D), integer=True)
        self.low: Any = Denoiser(TimeMLP(d)) if low is None else low
        self.frame = nn.Parameter(nn.init.orthogonal_(torch.empty(D, d), gain=_FRAME))
        self.register_buffer("center", torch.as_tensor(center, dtype=torch.float32).expand(D).clone())

    @property
    def V(self) -> Float[Tensor, "D d"]:
        """The frame: orthonormal columns that span what ``frame`` spans."""
        with full_precision(self.frame.device.type):
            wide = torch.promote_types(self.frame.dtype, torch.float32)  # QR has no half precision
            Q, R = torch.linalg.qr(self.frame.to(wide))
            return Q * R.diagonal().sign()  # without the signs, columns would flip during the training

    def forward(
        self,
        x: Float[Tensor, "batch D"],
        sigma: float | int | Shaped[Tensor, " ..."],
        cond: Condition | None = None,
    ) -> Float[Tensor, "batch D"]:
        """Return the posterior means: points of the subspace, whatever x is."""
        if x.shape[1:] != self.center.shape:
            raise ValueError(f"x must have shape (batch, {len(self.center)}), got {tuple(x.shape)}")
        wide = torch.promote_types(x.dtype, torch.float32)
        V = self.V.to(wide)
        with full_precision(x.device.type):
            z = (x.to(wide) - self.center) @ V
        z0 = self.low(z, sigma, cond)
        with full_precision(x.device.type):
            return self.center + z0.to(wide) @ V.mT

    @property
    def scale(self) -> Tensor:  # type: ignore[override]
        """Of the data in the subspace, as of the low denoiser; so are ``sigma_data`` and ``schedule``."""
        return self.low.scale

    @property
    def sigma_data(self) -> Tensor:  # type: ignore[override]
        """Of the low denoiser."""
        return self.low.sigma_data

    @property
    def schedule(self) -> Schedule:  # type: ignore[override]
        """Of the low denoiser."""
        return self.low.schedule


class _Undecided(nn.Module):
    """In the network's place while the number of directions is not known."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(0))  # whose device and dtype the model asks for

    def forward(self, *_: Any) -> Tensor:
        """Say what is missing."""
        raise ValueError(_BEGIN)


@checked
class SubspaceDiffusion(Diffusion):
    """A :class:`~lodim.generative.Diffusion` whose denoiser is a :class:`SubspaceDenoiser`: samples fill a subspace.

    Parameters
    ----------
    D : int
        Numbers of a sample.
    d : int or "auto"
        Dimension of the subspace. "auto": as many as the data's covariance has eigenvalues above those that even noise
        would have (:mod:`lodim.dimension`, rule ``"MP"``), when they come.
    net : nn.Module, optional
        The backbone, for vectors of d numbers; default: a :class:`~lodim.nets.TimeMLP`.
    schedule, precond, sigma_data, n_classes, cond_dim, p_uncond, data_range, kernel
        As of :class:`~lodim.generative.Diffusion`; levels are in units of the data's deviation in the subspace, so that
        they do not depend on D.
    random_state : int, Generator or None
        Of the first frame, and of the default network's weights.

    Attributes
    ----------
    subspace_ : Tensor, shape (D, d)
        Orthonormal columns.
    intrinsic_dim_ : int
        d.

    Raises
    ------
    ValueError
        d above D; with ``d="auto"`` a use before :meth:`fit`, or data without variance.

    Examples
    --------
    >>> from lodim.datasets.toy import gaussian_subspace
    >>> X, A = gaussian_subspace(300, 20, 3, random_state=0)
    >>> model = SubspaceDiffusion(20, random_state=0).fit(X, steps=20)
    >>> model.intrinsic_dim_, model.subspace_.shape
    (3, torch.Size([20, 3]))
    """

    def __init__(
        self,
        D: int,
        d: int | str = "auto",
        net: nn.Module | None = None,
        *,
        random_state: RandomState = None,
        **options: Any,
    ) -> None:
        if d != "auto":
            check_in_range(d, 'd (or "auto")', low=1, high=D, integer=True)
        elif net is not None:
            raise ValueError('d="auto" takes the default net, whose size is not known yet; give d with a net')
        super().__init__(_Undecided(), D, **options)
        self._seed = root_seed(random_state)
        if d != "auto":
            self._build(int(d), net)

    def _build(self, d: int, net: nn.Module | None = None) -> None:
        """Put the denoiser there, of the settings that the parent has read."""
        D, read = self.shape[0], self.denoiser

        def make() -> SubspaceDenoiser:
            own = net or TimeMLP(d, n_classes=self.n_classes, cond_dim=self.cond_dim)
            low = Denoiser(own, read.precond, float(read.sigma_data), self.schedule)
            return SubspaceDenoiser(D, d, low)

        self.denoiser = build_seeded(make, self._seed).to(read.center.device)

    @property
    def subspace_(self) -> Float[Tensor, "D d"]:
        """The subspace as orthonormal columns."""
        return self._decided().V.detach()

    @property
    def intrinsic_dim_(self) -> int:
        """The subspace's dimension."""
        return self._decided().frame.shape[1]

    def _decided(self) -> SubspaceDenoiser:
        if not isinstance(self.denoiser, SubspaceDenoiser):
            raise ValueError(_BEGIN)
        return self.denoiser

    def fit(self, X: Any, cond: Any = None, **options: Any) -> SubspaceDiffusion:
        """Train as :meth:`lodim.generative.Diffusion.fit` does, with the same options."""
        if not isinstance(self.denoiser, SubspaceDenoiser) and np.shape(X)[1:] == self.shape:
            rows = check_matrix(X.detach().cpu() if isinstance(X, Tensor) else X, min_rows=2)
            d = int(linear_dimension(covariance_spectrum(rows), "MP", rows.shape))
            if not d:
                raise ValueError(
                    "X has no direction whose variance exceeds that of even noise, so d cannot be found; give d"
                )
            dtype = next(self.denoiser.parameters()).dtype
            self._build(d)
            self.denoiser.to(dtype)
        super().fit(X, cond, **options)
        return self

    def _load_from_state_dict(self, state: Any, prefix: str, *others: Any) -> None:
        """Take the number of directions from a saved frame where it is not known yet."""
        frame = state.get(f"{prefix}denoiser.frame")
        if frame is not None and not isinstance(self.denoiser, SubspaceDenoiser):
            self._build(frame.shape[1])
            self.denoiser.to(frame.dtype)
        super()._load_from_state_dict(state, prefix, *others)

    def _scale_to(self, rows: Tensor, each: Mapping[str, Tensor]) -> None:
        """Take the data's centre, and their size in the subspace."""
        super()._scale_to(rows, each)
        if isinstance(self.sigma_data, str):
            self.denoiser.scale.mul_(math.sqrt(self.shape[0] / self.intrinsic_dim_))


@checked
def subspace_error(V: Any, A: Any) -> float:
    """Squared distance of two subspaces' projections, ``||V V' - A A'||_F^2``: 0 (equal) to 2 d (at right angles).

    Parameters
    ----------
    V, A : array or Tensor, shape (D, d)
        Columns that span them; they are made orthonormal.

    Raises
    ------
    ValueError
        Shapes that differ, or columns that depend on one another.
    """
    one, other = _frame(V, "V"), _frame(A, "A")
    if one.shape != other.shape:
        raise ValueError(f"V and A must have one shape, got {tuple(one.shape)} and {tuple(other.shape)}")
    # |VV' - AA'|^2 = 2 |(I - AA') V|^2, which does not cancel where they are close
    return float(2 * (one - other @ (other.mT @ one)).square().sum())


@checked
def off_subspace_energy(samples: Any, A: Any, *, center: Any = 0.0) -> float:
    """Share of the samples' squared length that lies across a subspace, in [0, 1]: the mean over samples.

    Parameters
    ----------
    samples : array or Tensor, shape (n, ...)
        Of D numbers each.
    A : array or Tensor, shape (D, d)
        Columns that span the subspace.
    center : array, Tensor or float
        A point of it, for subspaces that do not pass through 0.

    Raises
    ------
    ValueError
        Sizes that do not fit, no samples, or samples that all lie at the centre.
    """
    frame = _frame(A, "A")
    rows = torch.from_numpy(flat_rows(samples, "samples"))
    middle = torch.from_numpy(check_numbers(center, "center")).double().reshape(-1)
    if rows.shape[1] != len(frame) or len(middle) not in (1, len(frame)):
        raise ValueError(
            f"samples, center and A must have as many numbers, got {rows.shape[1]}, {len(middle)} and {len(frame)}"
        )
    rows = rows - middle
    across = (rows - (rows @ frame) @ frame.mT).square().sum(1)
    length = rows.square().sum(1)
    if not bool(length.isfinite().all()):
        raise ValueError("samples and center must be finite, got NaN or infinity")
    if not bool((length > 0).any()):
        raise ValueError("samples must be one or more, not all at the centre: they have no direction")
    return float((across[length > 0] / length[length > 0]).mean())


def flat_rows(X: Any, name: str) -> Float[np.ndarray, "n D"]:
    """Samples of any shape as finite rows, one or more."""
    values = check_numbers(X, name)
    if values.ndim < 2:
        raise ValueError(f"{name} must be samples in rows, got shape {values.shape}")
    return check_matrix(values.reshape(len(values), math.prod(values.shape[1:])), name=name)


def _frame(A: Any, name: str) -> Float[Tensor, "D d"]:
    """Orthonormal columns with the span of A's."""
    columns = torch.from_numpy(check_matrix(A, name=name))
    if columns.shape[1] > len(columns):
        raise ValueError(f"{name} must have no more columns than rows, got shape {tuple(columns.shape)}")
    Q, R = torch.linalg.qr(columns)
    sizes = R.diagonal().abs()
    if not bool((sizes > 1e-10 * columns.norm(dim=0).clamp_min(1e-300)).all()):
        raise ValueError(f"the columns of {name} must not depend on one another")
    return Q
