"""What the two-sample figures share: how samples come in, halves of the reference, and the result with its floor.

A distance between finite samples of *one* distribution is not zero. How far from zero it is, the **floor**, is
measured here as the distance between two random halves of the reference: a figure near its floor says nothing. The
halves are smaller than the whole, so the floor of a biased distance errs on the large side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lodim.linalg.precision import computable, power_of_two
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.results import Result
from lodim.validation import check_matrix, to_torch

__all__ = ["TwoSample", "as_pair", "as_rows", "halves", "in_own_unit", "measured"]

Rows = Float[Tensor, "n d"]


@dataclass(frozen=True)
class TwoSample(Result):
    """A figure that compares two samples.

    Attributes
    ----------
    name : str
        What was measured.
    value : float
        The figure, samples against reference.
    n, n_reference : int
        Sizes of the two.
    floor : float
        The same figure between two halves of the reference.
    p_value : float or None
        Of the hypothesis that both come from one distribution; None where no test was made.
    """

    name: str
    value: float
    n: int
    n_reference: int
    floor: float
    p_value: float | None = None

    def __str__(self) -> str:
        p = "" if self.p_value is None else f", p = {self.p_value:.3g}"
        return (
            f"{self.name} = {self.value:.4g} (floor {self.floor:.4g}{p}; {self.n} samples, "
            f"{self.n_reference} of the reference)"
        )


def as_rows(X: Any, name: str, min_rows: int = 1) -> Rows:
    """Samples, first axis first and the others flattened, in double precision on their own device.

    Raises
    ------
    ValueError
        Too few samples, no features, or values that are not finite.
    """
    tensor = isinstance(X, Tensor)
    rows = computable(X, name).detach().double() if tensor else X
    if getattr(rows, "ndim", 2) > 2:
        rows = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    checked = check_matrix(rows, name=name, min_rows=min_rows)
    return rows if tensor else to_torch(checked)


def as_pair(
    samples: Any, reference: Any, min_samples: int = 1, min_reference: int = 1, name: str = "reference"
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
    """Both sets as rows on the device of the samples; messages call the second one by its ``name``.

    Raises
    ------
    ValueError
        As :func:`as_rows`, or different numbers of features.
    """
    x = as_rows(samples, "samples", min_samples)
    y = as_rows(reference, name, min_reference).to(x.device)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"samples have {x.shape[1]} features but {name} has {y.shape[1]}; they must match")
    return x, y


def in_own_unit(
    x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"], float]:
    """Both centred and scaled to about one, and the unit: powers of distances must neither over- nor underflow."""
    pooled = torch.cat([x, y])
    largest = float(pooled.abs().max())
    pooled = pooled / (unit := power_of_two(largest))  # first, or the sum overflows
    pooled = pooled - pooled.mean(0)
    again = power_of_two(float(pooled.abs().max()))
    return pooled[: len(x)] / again, pooled[len(x) :] / again, unit * again


def halves(reference: Float[Tensor, "m d"], random_state: RandomState) -> tuple[Rows, Rows]:
    """Two random halves of the same size (an odd row is left out)."""
    order = torch.from_numpy(as_generator(random_state).permutation(len(reference))).to(reference.device)
    half = len(reference) // 2
    return reference[order[:half]], reference[order[half : 2 * half]]


def measured(
    name: str,
    figure: Callable[[Tensor, Tensor], float],
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    random_state: RandomState,
    p_value: float | None = None,
) -> TwoSample:
    """``figure(x, y)`` beside its floor."""
    seed = derive_seed(root_seed(random_state), "halves")
    return TwoSample(name, figure(x, y), len(x), len(y), figure(*halves(y, seed)), p_value)
