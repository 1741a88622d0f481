r"""A codebook for vectors, learnt with the network around it: :class:`VectorQuantizer`.

Each vector z becomes its nearest code :math:`z_q = e_j,\ j = \arg\min_j |z - e_j|`. The gradient passes the step
unchanged (:math:`z + \mathrm{sg}(z_q - z)`, sg stopping gradients), and two terms bring codes and vectors together:

.. math:: \mathrm{mean}\,(z_q - \mathrm{sg}\,z)^2 \ \text{(codebook)}, \qquad
          \mathrm{mean}\,(z - \mathrm{sg}\,z_q)^2 \ \text{(commitment)}.

:math:`\beta` weighs the second in A. van den Oord and others, arXiv 1711.00937, equation 3, and the first in the code
of Argus-3D (arXiv 2402.12225): ``beta_on`` says which. With ``ema=True`` codes are moving averages instead
(arXiv 1711.00937, appendix A.1), :math:`e_j = m_j / N_j` with

.. math:: N_j \leftarrow \gamma N_j + (1 - \gamma)\, n_j, \qquad
          m_j \leftarrow \gamma m_j + (1 - \gamma) \sum_{z \to e_j} z.

Departure: no Laplace smoothing, which draws unused codes to the origin; a code that is hardly used keeps its place.

State under an average of weights: it has no integers and no flags, and codes are worked out from the sums. So a convex
combination of two states, as ``torch.optim.swa_utils.AveragedModel(..., use_buffers=True)`` makes, is a state too: its
codes lie between theirs, weighted by use. An average of parameters alone leaves the newest ``ema`` codebook in place.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from sklearn.cluster import KMeans
from torch import Tensor, nn

from lodim.randomness import RandomState, root_seed
from lodim.validation import check_choice, check_in_range, checked

__all__ = ["Quantized", "VectorQuantizer"]

_CHUNK_ENTRIES = 1 << 24
_RARE = 1e-3  # vectors a batch: a code used less is not decayed further, so that m / N stays well-defined


class Quantized(NamedTuple):
    """What a quantiser makes of a batch of vectors.

    Attributes
    ----------
    vectors : Tensor, shape (..., dim)
        The codes, with the gradient of the vectors that came in.
    codes : int64 Tensor, shape (...)
    loss : Tensor, shape ()
        Codebook and commitment terms, to be added to the network's own loss.
    perplexity : Tensor, shape ()
        Exponential of the entropy of the codes' frequencies in this batch: how many are in even use.
    used : Tensor, shape ()
        Share of the codes that occur in this batch.
    """

    vectors: Tensor
    codes: Tensor
    loss: Tensor
    perplexity: Tensor
    used: Tensor


def _are_finite(rows: Tensor) -> Tensor:
    """Which rows have a length, and so a nearest code."""
    return rows.to(torch.promote_types(rows.dtype, torch.float32)).square().sum(1).isfinite()


@checked
class VectorQuantizer(nn.Module):
    """Replace vectors by the nearest of some learnt ones.

    In half precision moving averages stand still: keep the module in single precision and train under autocast.
    Codes start uniform in (-1/n_codes, 1/n_codes), from torch's global generator; :meth:`fit_codes` starts them from
    data.

    Parameters
    ----------
    beta : float
        Weight of one of the two terms; with ``ema`` of the commitment term, the only one there is.
    beta_on : {"codebook", "commitment"}
        Which term.
    ema : bool
        Codes follow moving averages, in training mode, instead of a gradient.
    decay : float
        Share of the past in a moving average, per batch; of the usage counts in either case.

    Attributes
    ----------
    usage : Tensor, shape (n_codes,)
        Vectors a batch that each code stood for, a moving average that starts at 1.

    Raises
    ------
    ValueError
        Numbers out of range.

    Examples
    --------
    >>> VectorQuantizer(512, 4)(torch.zeros(2, 64, 4)).codes.shape
    torch.Size([2, 64])
    """

    usage: Tensor
    sums: Tensor

    def __init__(
        self,
        n_codes: int,
        dim: int,
        *,
        beta: float | int = 0.4,
        beta_on: str = "codebook",
        ema: bool = False,
        decay: float | int = 0.99,
    ) -> None:
        super().__init__()
        self.n_codes = int(check_in_range(n_codes, "n_codes", low=1, integer=True))
        self.dim = int(check_in_range(dim, "dim", low=1, integer=True))
        self.beta = float(check_in_range(beta, "beta", low=0))
        beta_on = check_choice(beta_on, ("codebook", "commitment"), "beta_on")
        self.beta_on = "commitment" if ema else beta_on
        self.ema, self.decay = ema, float(check_in_range(decay, "decay", low=0, high=1))
        start = torch.empty(self.n_codes, self.dim).uniform_(-1 / self.n_codes, 1 / self.n_codes)
        self.register_buffer("usage", torch.ones(self.n_codes))
        if ema:
            self.register_buffer("sums", start)
        else:
            self.weight = nn.Parameter(start)

    def _rows(self, z: Tensor) -> Tensor:
        if z.shape[-1:] != (self.dim,):
            raise ValueError(f"vectors must have {self.dim} numbers, got shape {tuple(z.shape)}")
        return z.detach().reshape(-1, self.dim)

    @property
    def codebook(self) -> Float[Tensor, "n_codes dim"]:
        """The codes."""
        return self.sums / self.usage[:, None] if self.ema else self.weight

    @torch.no_grad()
    def encode(self, z: Float[Tensor, "*batch dim"]) -> Int64[Tensor, "*batch"]:
        """Return the number of the nearest code of each vector; of equally near ones the first.

        Vectors of another length are a ValueError, here and in the other methods.
        """
        codebook = self.codebook.to(torch.promote_types(self.codebook.dtype, torch.float32))
        rows = self._rows(z).to(codebook.dtype)
        offset = codebook.square().sum(1) / 2
        step = max(1, _CHUNK_ENTRIES // self.n_codes)
        with torch.autocast(z.device.type, enabled=False):  # half precision would confuse near codes
            # |z - e|^2 / 2 without |z|^2 / 2, which is the same for all codes
            nearest = [torch.addmm(offset, part, codebook.T, alpha=-1).argmin(1) for part in rows.split(step)]
        return torch.cat(nearest).view(z.shape[:-1])

    def decode(self, codes: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """Return the vectors that codes stand for."""
        return nn.functional.embedding(codes, self.codebook)

    def forward(self, z: Float[Tensor, "*batch dim"]) -> Quantized:
        """Quantise vectors; in training mode count their codes too and, with ``ema``, move these."""
        codes = self.encode(z)
        precise = torch.promote_types(z.dtype, torch.float32)  # sums of squares overflow in half precision
        nearest, near = self.decode(codes).to(precise), z.to(precise)
        size = max(1, z.numel())  # an empty batch costs nothing
        codebook = (nearest - near.detach()).square().sum() / size
        commitment = (near - nearest.detach()).square().sum() / size
        if self.ema:
            loss = self.beta * commitment
        elif self.beta_on == "codebook":
            loss = commitment + self.beta * codebook
        else:
            loss = codebook + self.beta * commitment
        rows = self._rows(z).to(self.usage.dtype)
        finite = _are_finite(rows)  # one infinite vector would spoil a moving average for good
        counts = torch.zeros_like(self.usage).index_add_(0, codes.flatten(), finite.to(self.usage.dtype))
        if self.training:
            self._follow(torch.where(finite[:, None], rows, 0), codes.flatten(), counts)
        shares = counts / counts.sum().clamp(min=1)
        perplexity = torch.exp(-torch.xlogy(shares, shares).sum())
        return Quantized(
            z + (nearest.to(z.dtype) - z).detach(),
            codes,
            loss,
            perplexity,
            (counts > 0).to(shares.dtype).mean(),
        )

    @torch.no_grad()
    def _follow(self, z: Tensor, codes: Tensor, counts: Tensor) -> None:
        """Bring the moving averages up to date."""
        unused = torch.where(self.usage < _RARE, 1.0, (_RARE / 2 / self.usage).clamp(min=self.decay))
        kept = torch.where(counts == 0, unused, self.decay)
        self.usage.mul_(kept).add_(counts, alpha=1 - self.decay)
        if self.ema:
            sums = torch.zeros_like(self.sums).index_add_(0, codes, z)
            self.sums.mul_(kept[:, None]).add_(sums, alpha=1 - self.decay)

    def _finite(self, z: Tensor) -> Tensor:
        rows = self._rows(z)
        return rows[_are_finite(rows.to(self.usage.dtype))]

    @torch.no_grad()
    def fit_codes(self, z: Float[Tensor, "*batch dim"], random_state: RandomState = None) -> None:
        """Put the codes on the k-means centres of some vectors, shape (..., dim).

        Fewer than ``n_codes`` finite vectors (others are left out) are a ValueError; fewer distinct ones leave codes in
        the same place, with a warning.
        """
        rows = self._finite(z)
        if len(rows) < self.n_codes:
            raise ValueError(
                f"{self.n_codes} codes need at least as many vectors to start from, got {len(rows)} finite ones"
            )
        kmeans: Any = KMeans(self.n_codes, n_init=1, random_state=root_seed(random_state))
        centres = kmeans.fit(rows.double().cpu().numpy()).cluster_centers_
        self._place(torch.arange(self.n_codes, device=z.device), torch.from_numpy(centres))

    @torch.no_grad()
    def restart_dead(
        self,
        z: Float[Tensor, "*batch dim"],
        *,
        below: float | int | np.floating = 0.01,
        generator: torch.Generator | None = None,
    ) -> int:
        """Put codes that are hardly used on vectors drawn from some that are there, and return how many.

        An optimiser's memory of a moved code (Adam's moments) stays; it fades within a few steps.

        Parameters
        ----------
        z : Tensor, shape (..., dim)
            The finite ones, of which there must be some, are drawn from, with repetition.
        below : float
            Vectors a batch (``usage``) under which a code counts as dead.
        generator : torch.Generator, optional
            On the CPU.
        """
        dead = (self.usage < float(check_in_range(below, "below", low=0))).nonzero()[:, 0]
        rows = self._finite(z)
        if len(dead) and not len(rows):
            raise ValueError(
                "there are no vectors to restart dead codes from that are finite; give a batch with some"
            )
        if len(dead):
            self._place(dead, rows[torch.randint(len(rows), dead.shape, generator=generator).to(z.device)])
        return len(dead)

    @torch.no_grad()
    def _place(self, which: Tensor, where: Tensor) -> None:
        self.usage[which] = 1.0
        (self.sums if self.ema else self.weight)[which] = where.to(self.usage)

    def extra_repr(self) -> str:
        """Show sizes and options in the module's printed form."""
        return f"n_codes={self.n_codes}, dim={self.dim}, beta={self.beta:g} on {self.beta_on}, ema={self.ema}"
