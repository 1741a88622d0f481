r"""Sparse weights in little memory: :func:`compress`, :func:`decompress`, :func:`to_semi_structured`.

A group of M weights with at most N non-zeros is stored as N values and their N places, each place in
:math:`\lceil \log_2 M \rceil` bits, so a weight of b-bit values costs

.. math:: \frac{N}{M} \left( b + \lceil \log_2 M \rceil \right) \text{ bits.}

Places are packed without gaps, least significant bit first. 2:4 weights run on NVIDIA's sparse tensor cores through
``torch.sparse.to_sparse_semi_structured``.

Source: A. Bambhaniya and others, arXiv 2402.04744, Section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.landscape.nm_sparsity.masks import (
    FEED_FORWARD,
    check_pattern,
    check_weights,
    nm_mask,
    sparse_layers,
    weight_axis,
)
from lodim.nets.layers import LayerFilter
from lodim.validation import checked

__all__ = ["CompressedNM", "compress", "decompress", "to_semi_structured"]


@dataclass(frozen=True, eq=False)
class CompressedNM:
    """A weight of pattern n:m without its zeros.

    Attributes
    ----------
    values : Tensor, shape (n_groups, n)
        In the weight's dtype, in the order of their places.
    places : Tensor of uint8, shape (n_bytes,)
        Places in the group, ``index_bits`` each, packed.
    shape : tuple of int
        Of the weight.
    axis : int
        Along which groups run.
    """

    values: Tensor
    places: Tensor
    n: int
    m: int
    shape: tuple[int, ...]
    axis: int

    @property
    def index_bits(self) -> int:
        """Bits of a place."""
        return (self.m - 1).bit_length()

    @property
    def bits(self) -> int:
        """Size of values and places, without the last byte's filling."""
        return self.values.numel() * (8 * self.values.element_size() + self.index_bits)

    @property
    def ratio(self) -> float:
        """Bits of the dense weight over ``bits``."""
        return self.m / self.n * 8 * self.values.element_size() * self.values.numel() / self.bits

    def __str__(self) -> str:
        return f"{self.n}:{self.m} weight of shape {self.shape} in {self.bits:,} bits, {self.ratio:.3g} times smaller"


@checked
def compress(W: Float[Tensor, "*shape"], n: int, m: int, dim: str | int = "in") -> CompressedNM:
    """Store a weight of pattern n:m by its values and places; :func:`decompress` gives back the same numbers.

    Parameters
    ----------
    W : Tensor, shape (out, in, ...)
        With at most n non-zeros in every group of m.
    dim : {"in", "out"} or int
        Along which groups run.

    Raises
    ------
    ValueError
        A group with more than n non-zeros, or m does not divide the axis.
    """
    check_pattern(n, m)
    W, axis = W.detach(), weight_axis(W, dim)
    found = check_weights({"W": (W, axis)}, n, m)
    if not found.valid:
        raise ValueError(
            f"a group has {found.most[0]} non-zeros, {n}:{m} allows {n}; finalize, or use apply_nm_mask, first"
        )
    groups, mask = (t.movedim(axis, -1).reshape(-1, m) for t in (W, nm_mask(W, n, m, axis)))
    places = mask.bool().nonzero()[:, 1].reshape(-1, n)
    packed = CompressedNM(groups.gather(1, places), places, int(n), int(m), tuple(W.shape), axis)
    bits = (places.reshape(-1, 1).cpu().numpy() >> np.arange(packed.index_bits)) & 1
    stored = torch.from_numpy(np.packbits(bits.astype(np.uint8), bitorder="little")).to(W.device)
    return CompressedNM(packed.values, stored, packed.n, packed.m, packed.shape, packed.axis)


@checked
def decompress(compressed: CompressedNM) -> Float[Tensor, " ..."]:
    """Return the dense weight."""
    c = compressed
    width = c.index_bits
    bits = np.unpackbits(c.places.cpu().numpy(), bitorder="little", count=c.values.numel() * width)
    numbers = (bits.reshape(-1, width).astype(np.int64) << np.arange(width)).sum(1)
    places = torch.from_numpy(numbers).to(c.values.device).reshape(-1, c.n)
    groups = c.values.new_zeros(len(c.values), c.m).scatter_(1, places, c.values)
    moved = [size for axis, size in enumerate(c.shape) if axis != c.axis] + [c.shape[c.axis]]
    return groups.reshape(moved).movedim(-1, c.axis).contiguous()


@checked
def to_semi_structured(
    model: nn.Module, targets: LayerFilter = FEED_FORWARD, *, exclude: LayerFilter = ()
) -> tuple[str, ...]:
    """Exchange the weights of finalized 2:4 linear layers for torch's semi-structured ones, in place.

    Parameters
    ----------
    model : nn.Module
        On a CUDA device of compute capability 8.0 or above, in half precision or bfloat16.
    targets, exclude : str, sequence of str or callable
        Which linear layers.

    Returns
    -------
    tuple of str
        The layers' names.

    Raises
    ------
    ValueError
        A layer that is not linear, not on such a device, or not 2:4 along its input.
    """
    layers = sparse_layers(model, targets, exclude)
    for name, layer in layers.items():
        if not isinstance(layer, nn.Linear):
            raise ValueError(
                f"{name!r} is a {type(layer).__name__}; semi-structured kernels are for linear layers"
            )
        if layer.weight.device.type != "cuda" or layer.weight.dtype not in (torch.float16, torch.bfloat16):
            raise ValueError(
                f"the weight of {name!r} is {layer.weight.dtype} on {layer.weight.device.type}; semi-structured "
                "kernels need half precision or bfloat16 on a CUDA device"
            )
        found = check_weights({name: (layer.weight, 1)}, 2, 4)
        if not found.valid:
            raise ValueError(f"the weight of {name!r} is not 2:4: {found}")
    for layer in layers.values():
        weight: Any = layer.weight
        sparse = torch.sparse.to_sparse_semi_structured(weight.detach())
        layer.weight = nn.Parameter(sparse, requires_grad=False)
    return tuple(layers)
