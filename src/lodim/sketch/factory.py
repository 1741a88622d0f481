"""Choosing a projection by name.

=====================  ==================  ===================  =====================================================
Kind                   Columns             Cost of a product    Use it for
=====================  ==================  ===================  =====================================================
``cyclic`` (default)   orthonormal         D                    training in a subspace
``countsketch``        orthonormal         D                    sketching; ``partition`` is another name
``sparse_embedding``   unit                s D                  sketching with less variance than CountSketch
``sparse``             unit                d sqrt(D)            comparison with the published experiments
``fastfood``           unit in mean        L log L              Gaussian-like mixing of all of v into every row
``fastfood_block``     unit in mean        D log d              the same, faster, independent of powers of two in D
``srht``               unit                L log L              sketching with guarantees for every vector
``kron``               unit in mean        sqrt(D d) (..)       bounds whose code has to describe little
``dense``              unit                D d                  small problems; the published reference
``dense_orthonormal``  orthonormal         D d                  exact isometries; tests
``dense_lazy``         unit in mean        D d hashes           dense behaviour without memory
``ams``                unit                D d hashes           tug-of-war sketches
=====================  ==================  ===================  =====================================================

``L`` is the power of two at or above D. All give the same accuracy when trained in, to within noise.
"""

from __future__ import annotations

from typing import Any

import torch

from lodim.sketch.base import Integer, RandomProjection
from lodim.sketch.countsketch import CountSketch, SparseEmbedding
from lodim.sketch.cyclic import Cyclic
from lodim.sketch.dense import Dense, DenseOrthonormal
from lodim.sketch.fastfood import Fastfood, FastfoodBlock
from lodim.sketch.kron import Kronecker
from lodim.sketch.lazy import AMS, DenseLazy
from lodim.sketch.sparse import Sparse
from lodim.sketch.srht import SRHT
from lodim.validation import check_choice, checked

__all__ = ["KINDS", "make_projection"]

_CLASSES: tuple[type[RandomProjection], ...] = (
    Cyclic,
    CountSketch,
    SparseEmbedding,
    Sparse,
    Fastfood,
    FastfoodBlock,
    SRHT,
    Kronecker,
    Dense,
    DenseOrthonormal,
    DenseLazy,
    AMS,
)
_BY_KIND = {cls.kind: cls for cls in _CLASSES}
_ALIASES = {"partition": "countsketch"}
KINDS: tuple[str, ...] = (*_BY_KIND, *_ALIASES)


@checked
def make_projection(
    kind: str,
    D: Integer,
    d: Integer,
    *,
    seed: Integer = 0,
    scale: str = "column",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    **options: Any,
) -> RandomProjection:
    """Make a random linear map from d to D numbers, ``1 <= d <= D``, determined by its seed.

    Parameters
    ----------
    kind : str
        One of ``KINDS``, see the table above.
    scale : {"column", "row", "isotropic"}
        Unit columns, or that times ``sqrt(D/d)``.
    dtype : torch.dtype
        float32 or float64, what products are computed in.
    **options
        What the kind takes besides: ``density`` (sparse), ``s`` (sparse_embedding), ``law`` and ``max_bytes`` (dense
        kinds), ``block_numbers`` (lazy kinds).

    Raises
    ------
    ValueError
        Unknown kind or scale, ``d < 1`` or ``d > D``.
    MemoryError
        A dense kind would store more than ``max_bytes``.

    Examples
    --------
    >>> import torch
    >>> P = make_projection("cyclic", D=1000, d=10, seed=0)
    >>> theta_change = P(torch.ones(10))
    >>> P.adjoint(theta_change)
    tensor([1.0000, 1.0000, 1.0000, 1.0000, 1.0000, 1.0000, 1.0000, 1.0000, 1.0000,
            1.0000])
    """
    check_choice(kind, KINDS, "kind")
    cls = _BY_KIND[_ALIASES.get(kind, kind)]
    return cls(D, d, seed=seed, scale=scale, dtype=dtype, device=device, **options)
