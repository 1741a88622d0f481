"""Merge and reduce: a coreset of a stream of blocks of rows, kept as a binary counter keeps a number.

Each block is sampled down to n_rows weighted rows. Two samples of the same level are put together and sampled again,
which makes one of the next level, so that 2^l blocks pass through l + 1 samplings, and only one sample a level is kept.
Sampling is unbiased given what it samples, so the whole is unbiased; its distortion is at most the product of the
levels', about ``(1 + eps)^(l+1)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from sklearn.base import clone
from torch import Tensor

from lodim.geometry.sensitivity_sampling.basis import Basis, orthonormal_basis
from lodim.randomness import derive_seed, root_seed


@dataclass(frozen=True)
class _Part:
    """Weighted rows of the stream: positions, rows as they came, how often each counts."""

    idx: Tensor
    rows: Tensor
    weight: Tensor


class MergeReduce:
    """The samples of a stream, one a level at most."""

    def __init__(self, sampler: Any):
        self._sampler = clone(sampler)
        self._seed = root_seed(sampler.random_state)
        self._levels: list[_Part | None] = []
        self._n_samplings = 0
        self.last: Basis
        self.n_seen = 0

    def add(self, block: Float[Tensor, "n d"]) -> None:
        """Take in a block."""
        kept = [part for part in self._levels if part is not None]
        if kept and kept[0].rows.shape[1] != block.shape[1]:
            raise ValueError(
                f"the stream's rows have {kept[0].rows.shape[1]} columns, this block's {block.shape[1]}"
            )
        idx = torch.arange(self.n_seen, self.n_seen + len(block), device=block.device)
        part = self._reduced(_Part(idx, block, block.new_ones(len(block))))
        self.n_seen += len(block)
        for level, other in enumerate(self._levels):
            if other is None:
                self._levels[level] = part
                return
            part = self._reduced(_joined([other, part]))
            self._levels[level] = None
        self._levels.append(part)

    def _reduced(self, part: _Part) -> _Part:
        p = self._sampler.p
        basis = orthonormal_basis(part.rows * part.weight[:, None] ** (1 / p))
        self.last = basis
        sampler = clone(self._sampler).set_params(
            random_state=derive_seed(self._seed, "reduce", self._n_samplings)
        )
        self._n_samplings += 1
        sampler._check()
        sampler._wants_tensors, sampler._stream = True, None
        at, weight = sampler._fit_basis(basis).sample()
        return _Part(part.idx[at], part.rows[at], part.weight[at] * weight)

    def _whole(self) -> _Part:
        return _joined([part for part in reversed(self._levels) if part is not None])

    def rows(self) -> Tensor:
        """Rows kept, as they came."""
        return self._whole().rows

    def sample(self) -> tuple[Tensor, Tensor]:
        """Positions in the stream and weights of the rows kept."""
        whole = self._whole()
        return whole.idx, whole.weight


def _joined(parts: list[_Part]) -> _Part:
    return _Part(
        torch.cat([part.idx for part in parts]),
        torch.cat([part.rows for part in parts]),
        torch.cat([part.weight for part in parts]),
    )
