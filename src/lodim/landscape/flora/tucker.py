r"""The algebra of FLoRA's update: Tucker products, their ranks, and the cheapest order to multiply them in.

.. math:: \Delta W = s \, \mathcal{G} \times_1 U_1 \times_2 U_2 \cdots \times_N U_N, \qquad
   \mathcal{G} \in \mathbb{R}^{J_1 \times \dots \times J_N},\; U_n \in \mathbb{R}^{I_n \times J_n}

has :math:`\prod_n J_n + \sum_n I_n J_n` numbers. The modes may be multiplied in any order at different cost. With S
entries so far, mode n takes :math:`S I_n` multiplications and leaves :math:`S I_n / J_n` entries; exchanging two
neighbours in an order shows that the cheapest one sorts the modes by :math:`1/J_n - 1/I_n`, smallest first. Modes that
are not reduced (:math:`J_n = I_n`, a kernel's as a rule) therefore come first and the largest channels last.

**One adapted weight** (:class:`FLoRAWeight`, the update as a torch parametrization). The core starts at zero and the
factors are drawn as :math:`U_n \sim N(0, 2 / (4 J_n))`, so that the update is zero at the start. The first gradient
step then moves the core only, the second one the factors too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.randomness import RandomState, root_seed, torch_generator
from lodim.validation import check_in_range, check_kind, checked

__all__ = [
    "FLoRAWeight",
    "contraction_order",
    "ranks_for_budget",
    "resolve_ranks",
    "tucker_numbers",
    "tucker_product",
]

RankLike = int | np.integer | Sequence[Any]


def contraction_order(shape: Sequence[int], ranks: Sequence[int]) -> tuple[int, ...]:
    """Return the order of modes with the fewest multiplications, from their sizes I_n and ranks J_n."""
    return tuple(sorted(range(len(shape)), key=lambda n: 1 / ranks[n] - 1 / shape[n]))


def product_cost(shape: Sequence[int], ranks: Sequence[int]) -> int:
    """Return the multiplications of a Tucker product in the cheapest order."""
    entries, total = math.prod(ranks), 0
    for n in contraction_order(shape, ranks):
        total += entries * shape[n]
        entries = entries // ranks[n] * shape[n]
    return total


def tucker_product(core: Float[Tensor, "*ranks"], factors: Sequence[Tensor]) -> Float[Tensor, "*modes"]:
    """Return ``core x_1 factors[0] x_2 ... x_N factors[N-1]``, the factors being (I_n, J_n), differentiable."""
    if [U.shape[1] for U in factors] != list(core.shape):
        widths = [tuple(U.shape) for U in factors]
        raise ValueError(f"factors of shapes {widths} do not fit a core of shape {tuple(core.shape)}")
    product = core
    for n in contraction_order([U.shape[0] for U in factors], core.shape):
        product = (product.movedim(n, -1) @ factors[n].T).movedim(-1, n)
    return product


def tucker_numbers(shape: Sequence[int], ranks: Sequence[int]) -> int:
    """Return how many numbers core and factors hold together."""
    return math.prod(ranks) + sum(size * rank for size, rank in zip(shape, ranks, strict=True))


def resolve_ranks(shape: Sequence[int], r: RankLike, *, name: str = "the weight") -> tuple[int, ...]:
    """Return one rank a mode.

    The first two modes are channels (rows and columns of a matrix), the others a kernel's. Ranks of kernel modes are
    capped at the kernel's size, those of channels are not: such a rank is an error.

    Parameters
    ----------
    shape : sequence of int
        Mode sizes, at least two.
    r : int or sequence of int
        One rank for all modes; or one a mode; or three numbers for the two channels and every kernel mode; or two for
        the channels, the kernel modes keeping their size.
    name : str
        How messages call the weight.

    Raises
    ------
    ValueError
        A rank below 1, above the size of a channel mode, or the wrong number of ranks.
    """
    sizes = tuple(int(size) for size in shape)
    check_kind(r, RankLike, "r")
    if len(sizes) < 2:
        raise ValueError(
            f"{name} has {len(sizes)} mode(s) (shape {sizes}); a Tucker update needs at least two"
        )
    if isinstance(r, int | np.integer):
        wanted = [r] * len(sizes)
    elif len(r) == 2:
        wanted = [*r, *sizes[2:]]
    elif len(r) == 3 and len(sizes) > 3:
        wanted = [*r[:2], *[r[2]] * (len(sizes) - 2)]
    else:
        wanted = list(r)
    if len(wanted) != len(sizes):
        raise ValueError(
            f"{name} has {len(sizes)} modes (shape {sizes}) but got {len(wanted)} ranks {tuple(wanted)}; give one int, "
            "one rank a mode, or (first channel, second channel, kernel)"
        )
    ranks = []
    for mode, (rank, size) in enumerate(zip(wanted, sizes), start=1):
        check_in_range(rank, f"r (the rank of mode {mode} of {name})", low=1, integer=True)
        if mode <= 2 and rank > size:
            raise ValueError(
                f"rank {rank} is larger than mode {mode} of {name}, which has size {size} (shape {sizes}); give this "
                "layer ranks of its own with r={name: ranks}, or leave it out"
            )
        ranks.append(min(int(rank), size))
    return tuple(ranks)


def capped_ranks(shape: Sequence[int], rank: int) -> tuple[int, ...]:
    """Return the rank in every mode, capped at the mode's size."""
    return tuple(min(rank, int(size)) for size in shape)


@checked
def ranks_for_budget(shape: Sequence[int], n_params: int | np.integer) -> tuple[int, ...]:
    """Return the largest ranks whose core and factors hold at most ``n_params`` numbers.

    All modes get the same rank, capped at their sizes; what is left of the budget raises single modes, the first ones
    before the others.

    Parameters
    ----------
    shape : sequence of int
        Mode sizes of the weight.

    Raises
    ------
    ValueError
        Fewer numbers than ranks of one take.

    Examples
    --------
    >>> ranks_for_budget((64, 32, 3, 3), 3858)
    (16, 16, 3, 3)
    """
    sizes = tuple(int(check_in_range(size, "shape", low=1, integer=True)) for size in shape)
    if not sizes:
        raise ValueError("shape must hold at least one size, got none")
    check_in_range(n_params, "n_params", low=1, integer=True)
    least = tucker_numbers(sizes, (1,) * len(sizes))
    if n_params < least:
        raise ValueError(
            f"a weight of shape {sizes} takes at least {least} numbers (ranks of 1); n_params is {n_params}"
        )
    rank = 1
    while rank < max(sizes) and tucker_numbers(sizes, capped_ranks(sizes, rank + 1)) <= n_params:
        rank += 1
    ranks = list(capped_ranks(sizes, rank))
    for mode, size in enumerate(sizes):
        while ranks[mode] < size:
            ranks[mode] += 1
            if tucker_numbers(sizes, ranks) > n_params:
                ranks[mode] -= 1
                break
    return tuple(ranks)


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


@checked
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
        self.shape = tuple(int(check_in_range(size, "shape", low=1, integer=True)) for size in shape)
        self.ranks = resolve_ranks(shape, r)
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
