r"""Fastfood: Gaussian-like maps from Hadamard transforms, signs, a permutation and a diagonal.

**One large block.** With :math:`L = 2^{\lceil\log_2 D\rceil}`, :math:`P` is made of the first D rows and d columns of

.. math:: \frac{1}{\sqrt{D}\,\|G\|}\; H_L\, \mathrm{diag}(G)\, \Pi\, H_L\, \mathrm{diag}(B) ,

unit columns in expectation. The input lives on the first :math:`b = 2^{\lceil\log_2 d\rceil}` coordinates, and
the first b columns of :math:`H_L` are :math:`H_b` stacked :math:`L/b` times: the first transform has length b, and
the permutation a gather from its b results. So a product costs a single transform of length L.

**Independent small blocks.** :math:`\lceil D/b \rceil` blocks of size b stacked, each with its own
:math:`G, \Pi, B`, scaled by :math:`1/(\sqrt{D}\,\|G_k\|)`: the layout of the Fastfood paper, with less padding.

=====================  ==============================================================
Symbol                 Here
=====================  ==============================================================
:math:`L, b`           ``len(gauss)``, ``signs.shape[-1]``
:math:`B`              ``signs`` (int8)
:math:`\Pi`            ``source`` (already modulo b); its inverse ``target``
:math:`G` scaled       ``gauss``
=====================  ==============================================================

The adjoint undoes the gather with the inverse permutation, a second gather, never a scatter.

References
----------
Q. Le, T. Sarlos, A. Smola, Fastfood: approximate kernel expansions in loglinear time, arXiv 1408.3060.
C. Li et al., Measuring the intrinsic dimension of objective landscapes, arXiv 1804.08838, appendix S7.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lodim.linalg.hadamard import hadamard_product
from lodim.sketch.base import RandomProjection, index_dtype, random_signs, zero_pad

__all__ = ["Fastfood", "FastfoodBlock"]


def power_of_two(n: int) -> int:
    """Return the least power of two that is at least ``n >= 1``."""
    return 1 << (n - 1).bit_length()


class Fastfood(RandomProjection):
    """One block of size ``2^ceil(log2 D)``; unit columns in expectation; cost of one transform; stores 3L numbers.

    See :class:`RandomProjection` for the parameters.
    """

    kind = "fastfood"
    signs: Tensor
    source: Tensor
    target: Tensor
    gauss: Tensor

    def _draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        L, b = power_of_two(self.D), power_of_two(self.d)
        permutation = torch.randperm(L, generator=generator)
        inverse = torch.empty_like(permutation).index_copy_(0, permutation, torch.arange(L))
        gauss = torch.randn(L, generator=generator, dtype=torch.float64)
        return {
            "signs": random_signs((b,), generator),
            "source": (permutation % b).to(index_dtype(L)),
            "target": inverse.to(index_dtype(L)),
            "gauss": (gauss / (gauss.norm() * self.D**0.5)).to(self.dtype),
        }

    def _forward(self, v: Tensor) -> Tensor:
        small = hadamard_product(zero_pad(v, self.signs.shape[-1]) * self.signs)
        return hadamard_product(small.index_select(-1, self.source) * self.gauss)[..., : self.D]

    def _adjoint(self, g: Tensor) -> Tensor:
        large = hadamard_product(zero_pad(g, len(self.gauss))) * self.gauss
        b = self.signs.shape[-1]
        folded = large.index_select(-1, self.target).unflatten(-1, (-1, b)).sum(-2)
        return (hadamard_product(folded) * self.signs)[..., : self.d]


class FastfoodBlock(RandomProjection):
    """Independent blocks of size ``2^ceil(log2 d)``; unit columns in expectation; stores about 4D numbers.

    See :class:`RandomProjection` for the parameters.
    """

    kind = "fastfood_block"
    signs: Tensor
    source: Tensor
    target: Tensor
    gauss: Tensor

    def _draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        b = power_of_two(self.d)
        blocks = -(-self.D // b)
        # sorting random keys permutes every block at once
        permutation = torch.rand(blocks, b, generator=generator, dtype=torch.float64).argsort(-1)
        offset = torch.arange(blocks)[:, None] * b
        gauss = torch.randn(blocks, b, generator=generator, dtype=torch.float64)
        gauss /= gauss.norm(dim=-1, keepdim=True) * self.D**0.5
        dtype = index_dtype(blocks * b)
        return {
            "signs": random_signs((blocks, b), generator),
            "source": (permutation + offset).flatten().to(dtype),
            "target": (permutation.argsort(-1) + offset).flatten().to(dtype),
            "gauss": gauss.to(self.dtype),
        }

    def _forward(self, v: Tensor) -> Tensor:
        first = hadamard_product(zero_pad(v, self.signs.shape[-1]).unsqueeze(-2) * self.signs)
        mixed = first.flatten(-2).index_select(-1, self.source).unflatten(-1, self.gauss.shape)
        return hadamard_product(mixed * self.gauss).flatten(-2)[..., : self.D]

    def _adjoint(self, g: Tensor) -> Tensor:
        blocks = zero_pad(g, self.gauss.numel()).unflatten(-1, self.gauss.shape)
        last = hadamard_product(blocks) * self.gauss
        mixed = last.flatten(-2).index_select(-1, self.target).unflatten(-1, self.gauss.shape)
        return (hadamard_product(mixed) * self.signs).sum(-2)[..., : self.d]
