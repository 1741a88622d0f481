r"""How low-rank an update is: its best Tucker form at given ranks, and the energy that form keeps.

A Tucker form with orthonormal factors keeps the energy :math:`\|\mathcal{G}\|^2` of :math:`\|\Delta\|^2`. It is found
by higher-order orthogonal iteration (tensorly's partial Tucker, started from the higher-order SVD). Beside it stands
what a matrix of equal size keeps: LoRA's product of rank r on the weight flattened to (first mode, all others) holds
the r largest singular values.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor

from lodim.landscape.flora.tucker import RankLike, capped_ranks, resolve_ranks, tucker_numbers, tucker_product
from lodim.linalg.precision import power_of_two
from lodim.plots import COLORS, new_axes
from lodim.results import Result
from lodim.validation import check_tensor, checked, require

__all__ = ["TuckerEnergy", "TuckerForm", "from_delta", "tucker_energy"]


@dataclass(frozen=True, eq=False)
class TuckerForm:
    """A tensor as a core and one factor a mode.

    Attributes
    ----------
    core : Tensor, shape (J_1, ..., J_N)
    factors : tuple of Tensor, shapes (I_n, J_n)
        With orthonormal columns, where :func:`from_delta` made them.
    kept : float
        Share of the tensor's squared norm.
    """

    core: Tensor
    factors: tuple[Tensor, ...]
    kept: float

    @property
    def ranks(self) -> tuple[int, ...]:
        """One a mode."""
        return tuple(self.core.shape)

    @property
    def n_numbers(self) -> int:
        """Numbers in core and factors."""
        return self.core.numel() + sum(U.numel() for U in self.factors)

    def to_tensor(self) -> Float[Tensor, "*modes"]:
        """Multiply out."""
        return tucker_product(self.core, self.factors)

    @torch.no_grad()
    def write_to(self, layer: Any, adapter_name: str = "default") -> None:
        """Make this the update of a FLoRALayer's adapter of the same ranks and a scale that is not zero.

        Core and factors are copied, the core divided by the scale.
        """
        core, factors = layer.flora_core[adapter_name], layer.flora_factors[adapter_name]
        if tuple(core.shape) != self.ranks or not layer.scale[adapter_name]:
            raise ValueError(
                f"the adapter has ranks {tuple(core.shape)} and scale {layer.scale[adapter_name]}, the form ranks "
                f"{self.ranks}; both ranks must agree and the scale not be zero"
            )
        core.copy_(self.core / layer.scale[adapter_name])
        for mine, theirs in zip(factors, self.factors):
            mine.copy_(theirs)


def from_delta(delta: Float[Tensor, "*modes"], r: RankLike, *, max_iter: int = 100) -> TuckerForm:
    """Return the Tucker form of a given update that keeps the most of it (extra ``tensor``).

    Parameters
    ----------
    delta : Tensor
        E.g. the weight after full fine-tuning minus the weight before.
    r : int or sequence of int
        See :func:`~lodim.landscape.flora.resolve_ranks`.
    max_iter : int
        Of the orthogonal iteration.

    Raises
    ------
    ValueError
        Ranks that do not fit, or entries that are not finite.
    ImportError
        tensorly is not installed.
    """
    check_tensor(delta, "delta")
    ranks = resolve_ranks(delta.shape, r, name="delta")
    tensorly, decomposition = require("tensorly", "tensor"), require("tensorly.decomposition", "tensor")
    array = delta.detach().double().cpu().numpy()
    if not np.isfinite(array).all():
        raise ValueError("delta has entries that are not finite")
    if not array.any():
        zero = delta.new_zeros
        return TuckerForm(zero(ranks), tuple(zero(i, j) for i, j in zip(delta.shape, ranks)), 1.0)
    unit = power_of_two(float(np.abs(array).max()), 1e-100, 1e100)
    array = array / unit
    with tensorly.backend_context("numpy"), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Trying to compute SVD with n_eigenvecs"
        )  # a mode longer than all others
        (core, factors), _ = decomposition.partial_tucker(
            array,
            list(ranks),
            modes=list(range(array.ndim)),
            init="svd",
            tol=1e-8,
            n_iter_max=max_iter,
            random_state=0,
        )
        lost = array - tensorly.tucker_to_tensor((core, factors))
    tensors = [torch.tensor(part).to(delta.device, delta.dtype) for part in (unit * core, *factors)]
    return TuckerForm(tensors[0], tuple(tensors[1:]), 1 - float((lost**2).sum() / (array**2).sum()))


@dataclass(frozen=True)
class TuckerEnergy(Result):
    """What Tucker forms of growing size keep of an update.

    Attributes
    ----------
    ranks : tuple of tuple of int
        Those tried.
    numbers : tuple of int
        In core and factors, each.
    kept : tuple of float
        Share of the squared norm, each; 1 of an update of zeros.
    matrix_rank : tuple of int
        Largest rank of the flattened weight's product of two thin matrices with at most as many numbers; 0 where not
        even rank 1 has room.
    matrix_kept : tuple of float
        What that product keeps.
    singular_values : tuple of tuple of float
        Of every mode's unfolding.
    """

    shape: tuple[int, ...]
    ranks: tuple[tuple[int, ...], ...]
    numbers: tuple[int, ...]
    kept: tuple[float, ...]
    matrix_rank: tuple[int, ...]
    matrix_kept: tuple[float, ...]
    singular_values: tuple[tuple[float, ...], ...]

    def to_frame(self) -> Any:
        """Return a data frame, one row a form."""
        import pandas as pd

        fields = ("ranks", "numbers", "kept", "matrix_rank", "matrix_kept")
        return pd.DataFrame({field: list(getattr(self, field)) for field in fields})

    def __str__(self) -> str:
        head = f"update of shape {self.shape}, {math.prod(self.shape):,} numbers"
        lines = [head, f"{'ranks':>20}  {'numbers':>9}  {'kept':>7}  {'flattened, rank':>15}  {'kept':>7}"]
        for ranks, n, kept, rank, flat in zip(
            self.ranks, self.numbers, self.kept, self.matrix_rank, self.matrix_kept
        ):
            lines.append(f"{ranks!s:>20}  {n:>9,}  {kept:>7.2%}  {rank:>15}  {flat:>7.2%}")
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """Draw the share kept against the numbers, Tucker forms and flattened products, and return the axes."""
        ax = new_axes(ax)
        ax.plot(self.numbers, self.kept, "o-", color=COLORS[0], label="Tucker form")
        ax.plot(self.numbers, self.matrix_kept, "s--", color=COLORS[1], label="flattened, at most as many")
        ax.axvline(math.prod(self.shape), color=COLORS[6], linewidth=1.2, label="the update itself")
        ax.set(xscale="log", xlabel="numbers", ylabel="share of the update kept", ylim=(0, 1.02))
        ax.legend(fontsize="small")
        return ax


@checked
def tucker_energy(delta: Real[Tensor, "*modes"], ranks: Sequence[RankLike] | None = None) -> TuckerEnergy:
    """Measure how much of an update Tucker forms keep, and flattened products with as many numbers (extra ``tensor``).

    Parameters
    ----------
    delta : Tensor
        At least two modes.
    ranks : sequence of ranks, optional
        By default powers of two in every mode, capped at the modes' sizes, up to the largest.

    Raises
    ------
    ValueError
        Ranks that do not fit.
    ImportError
        tensorly is not installed.

    Examples
    --------
    >>> import torch
    >>> low = torch.outer(torch.arange(6.0), torch.ones(4))
    >>> tucker_energy(low).kept[0]  # doctest: +SKIP
    1.0
    """
    shape = tuple(delta.shape)
    if ranks is None:
        steps = range(max(shape).bit_length() + 1)
        tried = list(dict.fromkeys(capped_ranks(shape, 2**step) for step in steps))
    else:
        tried = [resolve_ranks(shape, r, name="delta") for r in ranks]
    kept = tuple(from_delta(delta, r).kept for r in tried)
    numbers = tuple(tucker_numbers(shape, r) for r in tried)
    array = delta.detach().double().cpu()
    spectra = [torch.linalg.svdvals(array.movedim(n, 0).flatten(1)) for n in range(len(shape))]
    unit = power_of_two(float(array.abs().max()), 1e-100, 1e100)
    energy = float((array / unit).square().sum())
    flat, per_rank = (spectra[0] / unit).square().cumsum(0) / (energy or 1.0), shape[0] + math.prod(shape[1:])
    matrix_rank = tuple(min(n // per_rank, len(flat)) for n in numbers)
    return TuckerEnergy(
        shape,
        tuple(tried),
        numbers,
        kept,
        matrix_rank,
        tuple(float(flat[r - 1]) if r else 0.0 for r in matrix_rank) if energy else (1.0,) * len(tried),
        tuple(tuple(spectrum.tolist()) for spectrum in spectra),
    )
