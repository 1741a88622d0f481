r"""Learning an algebra from its products: :func:`learn_algebra`.

A hidden layer multiplies m quaternions by fixed ones, :math:`y = H^\star x` with :math:`H^\star = \sum_i Q_i \otimes
S_i` and :math:`Q_i` the matrices of Hamilton's units. A learned layer of the same n is shown pairs (x, y) and nothing
else. If it fits them, :math:`\sum_i \mathrm{vec}(A_i)\mathrm{vec}(F_i)^\top = \sum_i \mathrm{vec}(Q_i)
\mathrm{vec}(S_i)^\top`, a matrix of rank n; hence the learned :math:`A_i` span the same space as the :math:`Q_i`: the
layer has found the quaternions, up to a choice of basis. The distance of each :math:`Q_i` from that span says how well.

Source: arXiv 2110.04176, Section 4 (toy examples of learning the algebra; their targets are products with one
quaternion, which fix one combination of the :math:`Q_i` only. Here several products with independent factors fix all).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lodim.landscape.hypercomplex.algebra import algebra_matrices, span_residual
from lodim.landscape.hypercomplex.linear import PHMLinear
from lodim.randomness import RandomState, build_seeded, derive_seed, root_seed, torch_generator
from lodim.results import Result
from lodim.training import DescentRecipe, DescentRun, descend
from lodim.validation import ConvergenceWarning, check_in_range, checked, warn

__all__ = ["LearnedAlgebra", "learn_algebra"]

_LOSS_GOAL = 1e-8


@dataclass(frozen=True)
class LearnedAlgebra(Result):
    """An algebra found from examples.

    Attributes
    ----------
    algebra : str
        The hidden one.
    A : ndarray, shape (n, n, n)
        The learned matrices.
    loss : float
        Mean squared error on fresh examples, in units of the targets' variance.
    losses : tuple of float
        The same on the training examples, every tenth step.
    residual : float
        Largest relative distance of a true matrix from the span of the learned ones.
    residual_at_start : float
        The same before training.
    """

    algebra: str
    A: np.ndarray
    loss: float
    losses: tuple[float, ...]
    residual: float
    residual_at_start: float
    steps: int

    def plot(self, ax: Any = None) -> Any:
        """Draw the training loss over the steps, and return the axes."""
        from lodim.plots import COLORS, new_axes

        ax = new_axes(ax)
        ax.plot(10 * np.arange(len(self.losses)), self.losses, color=COLORS[0])
        ax.set(xlabel="step", ylabel="mean squared error / variance", yscale="log")
        return ax

    def __str__(self) -> str:
        return (
            f"{self.algebra} from products alone: loss {self.loss:.1e} after {self.steps} steps; the true matrices lie "
            f"{self.residual:.1e} outside the learned span ({self.residual_at_start:.2f} before training)"
        )


@checked
def learn_algebra(
    algebra: str = "quaternion",
    *,
    n_numbers: int = 4,
    n_samples: int = 1000,
    max_steps: int = 2000,
    lr: float = 0.02,
    random_state: RandomState = 0,
) -> LearnedAlgebra:
    """Train a layer of learned algebra on the outputs of one with a fixed algebra, by Adam on all examples.

    Parameters
    ----------
    algebra : {"quaternion", "complex"}
        What is hidden.
    n_numbers : int
        Hypercomplex numbers per input and output, at least 2.
    n_samples : int
        Examples, standard normal.
    max_steps : int
        Training ends earlier once the loss is below 1e-8.
    lr : float
        Falls to zero as a half-cosine.

    Raises
    ------
    ValueError
        Unknown algebra, or fewer numbers than it takes.
    """
    true = algebra_matrices(algebra)
    n = len(true)
    check_in_range(n_numbers, "n_numbers", low=2, integer=True)
    check_in_range(n_samples, "n_samples", low=1, integer=True)
    check_in_range(max_steps, "max_steps", low=0, integer=True)
    seed, size = root_seed(random_state), n * int(n_numbers)
    hidden = build_seeded(
        lambda: PHMLinear(size, size, n, bias=False, algebra=algebra), derive_seed(seed, "hidden")
    )
    layer = build_seeded(lambda: PHMLinear(size, size, n, bias=False), derive_seed(seed, "layer"))
    draws = torch_generator(derive_seed(seed, "examples"))
    x, x_new = (torch.randn(n_samples, size, generator=draws) for _ in range(2))
    with torch.no_grad():
        y, y_new = hidden(x), hidden(x_new)
    at_start, variance = span_residual(layer.A, true), y.var()

    def loss() -> Tensor:
        return (layer(x) - y).square().mean() / variance

    reached: list[float] = []

    @torch.no_grad()
    def look(run: DescentRun) -> None:
        if run.step % 10 == 0 and run.step < max_steps and (value := float(loss())) < _LOSS_GOAL:
            reached.append(value)
            run.stop()

    recipe = DescentRecipe(steps=int(max_steps), lr=lr, optimizer=torch.optim.Adam, schedule="cosine")
    run = descend(loss, layer, recipe, on_step=look, interruptible=False)
    losses, steps = (*run.losses[::10, 0].tolist(), *reached), run.steps
    with torch.no_grad():
        final = float((layer(x_new) - y_new).square().mean() / y_new.var())
    if not final < 1e-4:
        warn(f"the products were not learned: loss {final:.2g} after {steps} steps", ConvergenceWarning)
    residual = span_residual(layer.A, true)
    return LearnedAlgebra(algebra, layer.A.detach().numpy(), final, losses, residual, at_start, steps)
