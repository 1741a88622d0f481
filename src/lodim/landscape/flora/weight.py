r"""One adapted weight: how core and factors start, and :class:`FLoRAWeight`, the update as a torch parametrization.

The core starts at zero and the factors are drawn as :math:`U_n \sim N(0, 2 / (4 J_n))`, so that the update is zero at
the start. The first gradient step then moves the core only, the second one the factors too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.landscape.flora.tucker import RankLike, resolve_ranks, tucker_product
from lodim.randomness import RandomState, root_seed, torch_generator

__all__ = ["FLoRAWeight", "start_tucker"]


def start_tucker(
    shape: Sequence[int], ranks: Sequence[int], like: Tensor, random_state: RandomState = None
) -> tuple[nn.Parameter, nn.ParameterList]:
    """Return a zero core and random factors, on the device of ``like`` and in its precision, but single for half.

    Without a ``random_state`` they are drawn from torch's global generator, as layers do.
    """
    dtype = torch.float32 if like.dtype in (torch.float16, torch.bfloat16) else like.dtype
    generator = None if random_state is None else torch_generator(root_seed(random_state))
    factors = []
    for size, rank in zip(shape, ranks, strict=True):
        drawn = nn.init.kaiming_normal_(torch.empty(size, rank), a=math.sqrt(3), generator=generator)
        factors.append(nn.Parameter(drawn.to(like.device, dtype)))
    core = nn.Parameter(torch.zeros(tuple(ranks), device=like.device, dtype=dtype))
    return core, nn.ParameterList(factors)


class FLoRAWeight(nn.Module):
    """A parameter of any number of modes that moves by a scaled core times one factor a mode.

    ``W -> W + scale * core x_1 U_1 ... x_N U_N``.

    For weights that are no layer's own, e.g. attention's ``in_proj_weight``, and for modules of one's own:
    ``torch.nn.utils.parametrize.register_parametrization(module, "in_proj_weight", FLoRAWeight(shape, 8))``. Freeze
    the original (``module.parametrizations.in_proj_weight.original.requires_grad_(False)``) to train the update only,
    and ``remove_parametrizations(..., leave_parametrized=True)`` merges it.

    Parameters
    ----------
    shape : sequence of int
        Of the parameter, at least two modes.
    r : int or sequence of int
        See :func:`~lodim.landscape.flora.resolve_ranks`.
    scale : float
        s, a plain multiplier.
    random_state : int, Generator or None
        Of the factors.

    Attributes
    ----------
    core : Parameter, shape (J_1, ..., J_N)
    factors : ParameterList of shapes (I_n, J_n)

    Raises
    ------
    ValueError
        Ranks that do not fit.

    Examples
    --------
    >>> from torch import nn
    >>> from torch.nn.utils.parametrize import register_parametrization
    >>> layer = nn.Conv2d(8, 16, 3)
    >>> _ = register_parametrization(layer, "weight", FLoRAWeight(layer.weight.shape, (4, 4, 2, 2)))
    >>> sum(p.numel() for p in layer.parametrizations.weight[0].parameters())
    172
    """

    def __init__(
        self,
        shape: Sequence[int],
        r: RankLike = 8,
        scale: int | float | np.number = 1.0,
        *,
        random_state: RandomState = None,
    ) -> None:
        super().__init__()
        self.shape, self.ranks = tuple(int(size) for size in shape), resolve_ranks(shape, r)
        self.scale = float(scale)
        self.core, self.factors = start_tucker(self.shape, self.ranks, torch.empty(0), random_state)

    def delta(self) -> Float[Tensor, "*modes"]:
        """Return the update, scale included, of the parameter's shape."""
        return self.scale * tucker_product(self.core, list(self.factors))

    def forward(self, weight: Float[Tensor, "*modes"]) -> Float[Tensor, "*modes"]:
        """Return the weight plus the update."""
        return weight + self.delta().to(weight.dtype)

    def extra_repr(self) -> str:
        """Shape, ranks and scale, for ``print(module)``."""
        return f"shape={self.shape}, ranks={self.ranks}, scale={self.scale:g}"
