"""Pictures of samples and of their way from noise to data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lodim.generative.samplers import SamplerState
from lodim.plots import COLORS, new_axes
from lodim.validation import check_choice, check_in_range, check_numbers, checked

__all__ = ["Trajectory", "plot_samples"]


@checked
def plot_samples(
    samples: Any, ax: Any = None, *, n: int = 64, value_range: tuple[float | int, float | int] | None = None
) -> Any:
    """Draw samples: images as a grid, points in the plane as a scatter, numbers as a histogram, other rows as lines.

    Returns the axes.

    Parameters
    ----------
    samples : array or Tensor, shape (n, channels, height, width), (n, height, width) or (n, d)
    n : int
        At most so many images or lines, the first ones.
    value_range : (float, float), optional
        Shown black and white; by default the samples' own smallest and largest number. NaN stays blank.
    """
    check_in_range(n, "n", low=1, integer=True)
    values = check_numbers(samples, "samples")
    if values.ndim < 2 or not values.size:
        raise ValueError(f"samples must be images or rows of numbers, one or more, got shape {values.shape}")
    if values.ndim == 2:
        ax = new_axes(ax)
        if values.shape[1] == 1:
            ax.hist(values[:, 0], bins="auto", color=COLORS[0])
        elif values.shape[1] == 2:
            ax.scatter(*values.T, s=4, alpha=0.4, linewidths=0, color=COLORS[0])
            ax.set_aspect("equal")
        else:
            ax.plot(values[:n].T, linewidth=0.8, alpha=0.5, color=COLORS[0])
            ax.set(xlabel="coordinate")
        return ax
    return _tile(values[:n], ax, math.ceil(math.sqrt(min(n, len(values)))), value_range)


def _tile(values: np.ndarray, ax: Any, columns: int, value_range: Any) -> Any:
    """Images in rows of so many."""
    images = values[:, None] if values.ndim == 3 else values
    channels, height, width = images.shape[1:]
    if channels not in (1, 3):
        raise ValueError(f"images have 1 or 3 channels, got shape {values.shape}")
    if value_range is None:
        finite = images[np.isfinite(images)]
        if not finite.size:
            raise ValueError("the images hold NaN or infinity only")
        value_range = (finite.min(), finite.max())
    elif not value_range[0] < value_range[1]:
        raise ValueError(f"value_range must be a lower and a higher number, got {value_range}")
    low, high = value_range
    rows = math.ceil(len(images) / columns)
    sheet = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, channels))
    for i, image in enumerate(images):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        scaled = np.clip((image - low) / max(high - low, 1e-30), 0, 1)
        sheet[top : top + height, left : left + width] = scaled.transpose(1, 2, 0)
    ax = new_axes(ax, figsize=(0.6 * columns, 0.6 * rows * height / width))
    ax.imshow(sheet.squeeze(-1) if channels == 1 else sheet, cmap="gray", vmin=0, vmax=1)
    ax.set_axis_off()
    return ax


@checked
class Trajectory:
    """A sampler's callback that keeps the first few samples of every step.

    Attributes
    ----------
    sigmas : list of float
        The levels reached.
    x, x0_hat : list of Tensor
        The samples there, and what the denoiser made of those of the level before.

    Examples
    --------
    >>> from lodim.generative import EDM, GaussianDenoiser, euler
    >>> seen = Trajectory(3)
    >>> x = euler(GaussianDenoiser(torch.zeros(2), torch.eye(2)), 80 * torch.ones(5, 2), EDM().sigmas(6), on_step=seen)
    >>> len(seen.x), seen.x[-1].shape
    (6, torch.Size([3, 2]))
    """

    def __init__(self, n: int = 8) -> None:
        self.n = int(check_in_range(n, "n", low=1, integer=True))
        self.sigmas: list[float] = []
        self.x: list[Tensor] = []
        self.x0_hat: list[Tensor] = []

    def __call__(self, state: SamplerState) -> None:
        """Note a step; the first step of a run begins anew."""
        if state.i == 0:
            self.sigmas, self.x, self.x0_hat = [], [], []
        self.sigmas.append(state.sigma_next)
        self.x.append(state.x[: self.n].float().cpu())
        self.x0_hat.append(state.x0_hat[: self.n].float().cpu())

    def plot(self, ax: Any = None, *, what: str = "x0_hat", value_range: Any = None) -> Any:
        """Draw the way of each sample: images a row each, from left to right; points as lines; and return the axes."""
        check_choice(what, ("x0_hat", "x"), "what")
        if not self.x:
            raise ValueError("nothing was sampled yet: pass this object as on_step")
        steps = torch.stack(self.x if what == "x" else self.x0_hat, 1)  # (samples, steps, ...)
        if steps.ndim >= 4:
            return _tile(steps.flatten(0, 1).numpy(), ax, steps.shape[1], value_range)
        ax = new_axes(ax)
        flat = steps.flatten(2).numpy()
        for i, way in enumerate(flat):
            line = (way[:, 0], way[:, 1]) if flat.shape[2] > 1 else (np.arange(len(way)), way[:, 0])
            ax.plot(*line, linewidth=1, color=COLORS[i % len(COLORS)])
            ax.plot(line[0][-1:], line[1][-1:], "o", color=COLORS[i % len(COLORS)])
        return ax
