"""Descent on points: move a cloud so that its topology changes as wanted.

Adam or plain subgradient steps, that of iteration k multiplied by ``1 / sqrt(k)``. The paper's theorem asks for plain
steps with ``sum a_k = inf`` and ``sum a_k^2 < inf`` and bounded iterates; ``decay="1/k"`` satisfies the condition on
the steps, ``"sqrt"`` is what is used in practice. Adam moves every coordinate about as fast, whatever the size of its
gradient: points that a functional hardly weighs move as far as others. Where weights should count, use ``"sgd"``.

Source: Scoccola et al. 2024, arXiv 2406.07224, sections 3 and 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lodim.geometry.differentiable_persistence.losses import scalar
from lodim.geometry.multiparameter_persistence.bifiltrations import checked_points
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, derive_seed, root_seed, torch_generator
from lodim.results import Result
from lodim.training import DescentRecipe, DescentRun, descend
from lodim.validation import check_choice, check_in_range, checked


@dataclass(frozen=True)
class PointOptimization(Result):
    """Points before and after descent, and the loss on the way.

    Attributes
    ----------
    losses : ndarray, shape (steps + 1,)
        Before every step, and at the end.
    """

    start: Float[np.ndarray, "n features"]
    points: Float[np.ndarray, "n features"]
    losses: Float[np.ndarray, " steps"]

    @property
    def moved(self) -> np.ndarray:
        """Distance from start to end of every point."""
        return np.linalg.norm(self.points - self.start, axis=1)

    def plot(self, ax: Any = None) -> Any:
        """Draw the first two coordinates (of one, against zero) before and after.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
        """
        ax = new_axes(ax, figsize=(4.4, 4.2))
        both = np.stack([self.start[:, :2], self.points[:, :2]], 1)
        both = np.pad(both, ((0, 0), (0, 0), (0, 2 - both.shape[2])))
        for path in both:
            ax.plot(*path.T, color=COLORS[6], linewidth=0.7, alpha=0.6, zorder=1)
        ax.scatter(*both[:, 0].T, s=14, color=COLORS[5], label="before")
        ax.scatter(*both[:, 1].T, s=14, color=COLORS[1], label="after")
        ax.set_aspect("equal", adjustable="datalim")
        ax.legend()
        return ax

    def __str__(self) -> str:
        return (
            f"{len(self.points)} points moved by {self.moved.mean():.3g} on average in {len(self.losses) - 1} steps; "
            f"loss {self.losses[0]:.4g} to {self.losses[-1]:.4g}"
        )


@checked
def optimize_points(
    x: Any,
    loss: Callable[[Tensor], Tensor],
    steps: int = 200,
    lr: float = 0.05,
    *,
    optimizer: str = "adam",
    decay: str = "sqrt",
    clip: int | float | None = None,
    noise: int | float = 0.0,
    random_state: RandomState = 0,
    on_step: Callable[[int, Tensor, float], None] | None = None,
) -> PointOptimization:
    """Minimise a loss of points.

    Parameters
    ----------
    x : Tensor or array-like, shape (n_points, n_features)
        Not changed. Whole numbers are taken as double precision, half precision as single.
    loss : callable
        Points -> scalar tensor, e.g. a :class:`TopologicalLoss` plus a penalty that keeps the points in place. It must
        bound the points itself: a loop can always be made larger by going far away.
    lr : float
        Step, for Adam in the unit of the points.
    optimizer : {"adam", "sgd"}
    decay : {"sqrt", "1/k", "none"}
        What multiplies the step of iteration k.
    clip : float, optional
        Largest norm of the gradient.
    noise : float
        Standard deviation of normal noise added to the points, in units of the current step.
    random_state : int, Generator or None
        Draws the noise.
    on_step : callable, optional
        ``on_step(step, points, loss)`` before every step, with a copy of the points.

    Raises
    ------
    ValueError
        Points that are not finite, a loss that is no scalar tensor, or one that becomes NaN or infinite.
    """
    check_in_range(steps, "steps", low=0, integer=True)
    check_choice(optimizer, ("adam", "sgd"), "optimizer")
    check_choice(decay, ("sqrt", "1/k", "none"), "decay")
    check_in_range(noise, "noise", low=0)
    start = checked_points(x).detach().clone()
    if not start.numel():
        raise ValueError(f"x must hold points, got shape {tuple(start.shape)}")
    points = start.clone().requires_grad_(True)
    power = {"sqrt": 0.5, "1/k": 1.0, "none": 0.0}[decay]
    generator, losses = torch_generator(derive_seed(root_seed(random_state), "noise")), []

    def noted(points: Tensor) -> Tensor:
        value = scalar(loss(points), "loss")
        losses.append(float(value.detach()))
        if not np.isfinite(losses[-1]):
            where = (
                f"after {len(losses) - 1} steps; lower lr or clip the gradient"
                if losses[1:]
                else "at x itself"
            )
            raise ValueError(f"the loss is {losses[-1]} {where}")
        return value

    def value_before_step() -> Tensor:
        value = noted(points)
        if on_step is not None:
            on_step(len(losses) - 1, points.detach().clone(), losses[-1])
        return value

    @torch.no_grad()
    def kick(run: DescentRun) -> None:
        normal = torch.randn(points.shape, generator=generator, dtype=torch.float64)
        points.add_((noise * run.players[0].optimizer.param_groups[0]["lr"] * normal).to(points))

    if clip is not None and check_in_range(clip, "clip", low=0.0) == 0:
        raise ValueError("clip must be positive; None leaves gradients as they are")
    recipe = DescentRecipe(
        steps=int(steps),
        lr=lr,
        optimizer=torch.optim.Adam if optimizer == "adam" else torch.optim.SGD,
        schedule=lambda k: (k + 1.0) ** -power,
        grad_clip=clip,
        skip_nonfinite=False,
    )
    descend(value_before_step, [points], recipe, on_step=kick if noise else None, interruptible=False)
    noted(points)
    arrays = [t.detach().cpu().double().numpy() for t in (start, points)]
    return PointOptimization(arrays[0], arrays[1], np.array(losses))
