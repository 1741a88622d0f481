r"""Masks that are N:M along the rows and along the columns: :func:`transposable_mask`.

The problem: a forward pass multiplies with W, the backward pass with :math:`W^\top`. A mask with N of every M along the
input channels speeds up the first only. A transposable mask has exactly N ones in every row and in every column of
each M x M block, so that both products have the pattern; the best one keeps the most magnitude:

.. math:: \max_\Pi \sum_{ij} \Pi_{ij} |W_{ij}| \quad \text{with} \quad \sum_j \Pi_{ij} = \sum_i \Pi_{ij} = N .

For blocks of up to four rows all such patterns can be listed (90 for 2:4), and the sum of magnitudes that each keeps
finds the best of every block: an exact solution, on any device.

=========================== =====================================
symbol in the paper         name here
=========================== =====================================
N, M                        ``n``, ``m``
all feasible patterns       :func:`transposable_patterns`
=========================== =====================================

Source: I. Hubara and others, "Accelerated sparse neural training: a provable and efficient method to find N:M
transposable masks", arXiv 2102.08124, Section 4. Departure: enumeration in place of a flow problem, for blocks of at
most 4 x 4.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations, product

import torch
from jaxtyping import Float
from torch import Tensor

from lodim.landscape.nm_sparsity.masks import check_pattern
from lodim.validation import checked

__all__ = ["transposable_mask", "transposable_patterns"]

_LARGEST = 4


@checked
def transposable_patterns(n: int, m: int) -> Float[Tensor, "patterns m m"]:
    """Return all m x m matrices of zeros and ones with n ones in every row and column; ``m`` is at most 4.

    Examples
    --------
    >>> [len(transposable_patterns(n, 4)) for n in (1, 2, 3)]
    [24, 90, 24]
    """
    check_pattern(n, m)
    if m > _LARGEST:
        raise ValueError(f"transposable masks are found by listing, for m of at most {_LARGEST}; got {m}")
    return _patterns(n, m).clone()


@cache
def _patterns(n: int, m: int) -> Tensor:
    rows = [[float(i in kept) for i in range(m)] for kept in combinations(range(m), n)]
    found = torch.tensor(list(product(rows, repeat=m)))
    return found[(found.sum(1) == n).all(1)]


@checked
@torch.no_grad()
def transposable_mask(W: Float[Tensor, "out in"], n: int = 2, m: int = 4) -> Float[Tensor, "out in"]:
    """Return ones where a weight is kept: n of every m along both axes, of the largest sum of magnitudes.

    Parameters
    ----------
    W : Tensor, shape (out, in)
        A linear layer's weight.
    n, m : int
        ``m`` at most 4, dividing both axes.

    Raises
    ------
    ValueError
        Not a pattern, ``m`` too large or not dividing an axis, or weights that are NaN or infinite.

    Examples
    --------
    >>> W = torch.arange(16.0).reshape(4, 4)
    >>> mask = transposable_mask(W)
    >>> mask.sum(0).tolist(), mask.sum(1).tolist()
    ([2.0, 2.0, 2.0, 2.0], [2.0, 2.0, 2.0, 2.0])
    """
    patterns = transposable_patterns(int(n), int(m)).to(W.device)
    if any(size % m for size in W.shape):
        raise ValueError(f"blocks of {m} x {m} do not divide a weight of shape {tuple(W.shape)}")
    if not bool(W.isfinite().all()):
        raise ValueError(
            "the weights hold NaN or infinity, of which no sum is the largest; the training has diverged"
        )
    blocks = (
        W.abs().to(torch.promote_types(W.dtype, torch.float32)).unflatten(1, (-1, m)).unflatten(0, (-1, m))
    )
    blocks = blocks.transpose(1, 2).flatten(2)
    most = torch.full_like(blocks[..., 0], -1.0)
    best = torch.zeros_like(most, dtype=torch.long)
    for i, places in enumerate(patterns.flatten(1).nonzero()[:, 1].view(len(patterns), -1)):
        kept = blocks[..., places].sum(-1)  # no matrix product: it would round on some devices
        best = torch.where(kept > most, i, best)
        most = torch.maximum(kept, most)
    return patterns[best].transpose(1, 2).reshape(W.shape).to(W.dtype)
