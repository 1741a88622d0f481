"""How far a weighted sample of rows is from the matrix: the largest relative error of ``||A x||_p`` that probes find.

The supremum over all x is what an embedding promises, and is not computable; a maximum over probes is a *lower*
estimate of it. Probes: Gaussian directions of the column space (in an orthonormal basis), the singular directions of A,
and the directions in which single rows weigh most in the sample: for the rows with the largest Lewis-weight bounds, the
maximisers of ``|<a_i, x>|^p / ||S A x||_p^p``. The last find rows that the sample lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lodim.geometry.sensitivity_sampling.basis import as_matrix, norms, orthonormal_basis, row_numbers
from lodim.geometry.sensitivity_sampling.lewis import check_p, fixed_point
from lodim.geometry.sensitivity_sampling.newton import minimize
from lodim.linalg.precision import power_of_two
from lodim.randomness import as_generator
from lodim.results import Result
from lodim.validation import check_in_range, check_numbers, checked


@dataclass(frozen=True)
class Distortion(Result):
    """Largest ``| ||S A x||_p / ||A x||_p - 1 |`` over probes: a lower estimate of the embedding's eps.

    Attributes
    ----------
    gaussian, singular, extreme : float
        The same for each kind of probe; NaN where none was made.
    n_rows : int
        Rows of the sample.
    rank_kept : bool
        Whether the sample has the matrix's rank; without it some ``x`` have ``||S A x|| = 0`` and ``value`` is 1 at
        least.
    """

    value: float
    gaussian: float
    singular: float
    extreme: float
    n_probes: int
    n_rows: int
    rank_kept: bool
    p: float

    def __str__(self) -> str:
        lost = "" if self.rank_kept else "; the sample has lost dimensions"
        found = f"error of ||Ax||_{self.p:g} at least {self.value:.3g} ({self.n_probes} probes{lost})"
        return f"{self.n_rows:,} rows: {found}"


def _extreme_directions(Q: Tensor, C: Tensor, p: float, n: int) -> Tensor:
    """Directions in which the rows with the largest bounds weigh most in the sample C."""
    bound = fixed_point(Q, p).sensitivity_bounds()
    rows = Q[bound.topk(min(n, len(Q))).indices]
    rows = rows[rows.abs().amax(1) > 0]
    C = C / power_of_two(float(C.abs().max()), 1e-50, 1e50)  # of which directions do not depend
    start = rows @ torch.linalg.inv(C.T @ C)
    start = start / (start * rows).sum(1, keepdim=True)
    return minimize(C, p, start, normals=rows).z if p >= 1 else start


def _checked_weights(weight: Any, kept: Tensor) -> Tensor:
    w = torch.tensor(check_numbers(weight, "weight"), device=kept.device)
    if w.ndim != 1 or len(w) != len(kept):
        raise ValueError(f"there are {w.numel()} weights for {len(kept)} rows; give one a row")
    wrong = ~torch.isfinite(w) | (w < 0)
    if bool(wrong.any()):
        raise ValueError(f"weight must hold finite numbers of at least 0, got {float(w[wrong][0]):g}")
    return w


@checked
def embedding_distortion(
    A: Any,
    idx: Any,
    weight: Any,
    p: float | int,
    *,
    n_gaussian: int = 100,
    n_extreme: int = 20,
    directions: Any = None,
    random_state: Any = 0,
) -> Distortion:
    """Measure how far ``||S A x||_p`` of a sample is from ``||A x||_p``, over probes.

    Parameters
    ----------
    A : array-like or Tensor, shape (n, d)
    idx : array-like of int, shape (m,), or of bool, shape (n,)
        Rows kept: their numbers, or a mask.
    weight : array-like, shape (m,)
        How often each counts in ``||.||_p^p``; not negative.
    n_gaussian, n_extreme : int
        Probes of these kinds; singular directions are always tried.
    directions : array-like, shape (k, d), optional
        More x to try, e.g. a regression's solution with -1 for the target; counted as ``extreme``.
    random_state : int, Generator or None

    Raises
    ------
    ValueError
        Rows that A has not, none at all, or weights that are negative, not finite, or not one a row.

    Examples
    --------
    >>> from lodim.geometry import embedding_distortion
    >>> embedding_distortion([[1.0], [3.0]], [1], [1.0], 2).value.__round__(4)
    0.0513
    """
    p = check_p(p)
    check_in_range(n_gaussian, "n_gaussian", low=0, integer=True)
    check_in_range(n_extreme, "n_extreme", low=0, integer=True)
    matrix = as_matrix(A)
    basis = orthonormal_basis(matrix)
    Q = basis.Q
    kept = row_numbers(idx, len(matrix), "idx", Q.device)
    C = Q[kept] * _checked_weights(weight, kept)[:, None] ** (1 / p)
    rank_kept = len(C) >= basis.rank and int(torch.linalg.matrix_rank(C)) == basis.rank
    rng = as_generator(random_state)
    probes = {
        "gaussian": torch.from_numpy(rng.standard_normal((n_gaussian, basis.rank))).to(Q.device),
        "singular": torch.linalg.svd(basis.T, full_matrices=False)[0].T,
    }
    extreme = [Q.new_zeros(0, basis.rank)]
    if n_extreme and rank_kept and basis.rank:
        extreme.append(_extreme_directions(Q, C, p, n_extreme))
    if directions is not None:
        given = torch.tensor(np.atleast_2d(check_numbers(directions, "directions")), device=Q.device)
        if given.ndim != 2 or given.shape[1] != matrix.shape[1]:
            raise ValueError(
                f"directions must have shape (k, {matrix.shape[1]}), as A, got {tuple(given.shape)}"
            )
        extreme.append(given @ basis.T.T)
    probes["extreme"] = torch.cat(extreme)
    found = {}
    for kind, Z in probes.items():
        whole = norms(Q, Z, p)
        error = (norms(C, Z, p) / whole - 1).abs()[whole > 0]
        found[kind] = float(error.max()) if len(error) else float("nan")
    value = float(np.nanmax([0.0 if rank_kept else 1.0, *found.values()]))
    n_probes = sum(len(Z) for Z in probes.values())
    return Distortion(value, **found, n_probes=n_probes, n_rows=len(kept), rank_kept=rank_kept, p=p)
