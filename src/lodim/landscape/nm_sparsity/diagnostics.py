r"""What a sparse training costs, and how noisy its gradients are: :func:`training_flops`, :class:`GradientNoise`.

*Gradient noise* is each weight's variance of the gradient over a window of K steps,
:math:`\frac{1}{K-1} \sum_k (g_k - \bar g)^2`, averaged over the kept and over the pruned weights; the paper traces the
losses of straight-through training at high sparsity to it. Sums are Welford's, so equal gradients give exactly 0.

*Floating-point operations*: every weight, at each use in each sample, costs two operations in the forward, two in the
gradient of the layer's input and two in its own gradient. What hardware could skip is not counted: weights that count
zero in the first two, and in the third where the gradient of pruned weights is not asked for.

Source: A. Bambhaniya and others, arXiv 2402.04744, Sections 3 and 4. Departure: variances are of the gradients
themselves, not the optimiser's running second moments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lodim.landscape.nm_sparsity.sparsifier import NMSparsifier
from lodim.results import Result
from lodim.validation import check_counts, checked

__all__ = ["GradientNoise", "NoiseRecord", "TrainingFlops", "training_flops"]


@dataclass(frozen=True)
class NoiseRecord(Result):
    """Gradient noise over one window.

    Attributes
    ----------
    step : int
        At the window's end.
    n_gradients : int
        K.
    kept, pruned : float
        Mean variance of the gradients of kept and of pruned weights; NaN where there are none.
    """

    step: int
    n_gradients: int
    kept: float
    pruned: float


@checked
class GradientNoise:
    """Gathers the gradients of a sparsifier's weights and reports their variance, window by window, in ``records``.

    Call :meth:`update` after every backward pass and :meth:`collect` at the end of a window.
    """

    def __init__(self, sparsifier: NMSparsifier) -> None:
        self.sparsifier = sparsifier
        self.records: list[NoiseRecord] = []
        self._reset()

    def _reset(self) -> None:
        self._count = 0
        self._mean: dict[str, Tensor] = {}
        self._squares: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the gradients that the weights hold now; ValueError where one has none."""
        gradients = {}
        for name, weight in self.sparsifier.dense_weights.items():
            if weight.grad is None:
                raise ValueError(f"the weight of {name!r} has no gradient; call update() after backward()")
            gradients[name] = weight.grad.float()
        self._count += 1
        for name, gradient in gradients.items():
            if self._count == 1:
                self._mean[name], self._squares[name] = torch.zeros_like(gradient), torch.zeros_like(gradient)
            delta = gradient - self._mean[name]
            self._mean[name] += delta / self._count
            self._squares[name] += delta * (gradient - self._mean[name])

    def collect(self) -> NoiseRecord:
        """Close a window of at least two gradients: append its record to ``records``, return it and begin anew."""
        if self._count < 2:
            raise ValueError(f"a variance needs at least two gradients, the window has {self._count}")
        kept = torch.cat([mask.reshape(-1) for mask in self.sparsifier.masks.values()]).bool()
        variance = torch.cat([s.reshape(-1) for s in self._squares.values()]).double() / (self._count - 1)
        means = [float(variance[rows].mean()) for rows in (kept, ~kept)]
        record = NoiseRecord(self.sparsifier.steps, self._count, *means)
        self.records.append(record)
        self._reset()
        return record

    def to_frame(self) -> Any:
        """Return a data frame with a row a window: step, n_gradients, kept, pruned."""
        import pandas as pd

        return pd.DataFrame(
            [vars(r) for r in self.records], columns=["step", "n_gradients", "kept", "pruned"]
        )

    def plot(self, ax: Any = None) -> Any:
        """Draw both variances over the steps, and return the axes."""
        from lodim.plots import COLORS, new_axes

        ax, frame = new_axes(ax), self.to_frame()
        for name, color in zip(("kept", "pruned"), COLORS):
            ax.plot(frame.step, frame[name], color=color, label=f"{name} weights")
        ax.set(xlabel="step", ylabel="variance of the gradient", yscale="log")
        ax.legend()
        return ax


@dataclass(frozen=True)
class TrainingFlops(Result):
    """Estimated operations of a training, in the sparse layers only.

    Attributes
    ----------
    dense : float
        With all weights.
    sparse : float
        With this recipe, on hardware that skips every zero.
    inference : float
        Share of a dense forward that the final pattern costs, n/m.
    """

    dense: float
    sparse: float
    inference: float

    @property
    def ratio(self) -> float:
        """``sparse / dense``."""
        return self.sparse / self.dense

    def __str__(self) -> str:
        return f"{self.sparse:.3g} of {self.dense:.3g} operations ({self.ratio:.1%}); inference {self.inference:.1%}"


@checked
def training_flops(sparsifier: NMSparsifier, batch_size: int, n_uses: int = 1) -> TrainingFlops:
    """Estimate what a sparsifier's whole schedule costs in its layers.

    Parameters
    ----------
    batch_size : int
        Samples a step.
    n_uses : int
        How often a sample uses each weight: the tokens of a transformer, the output places of a convolution.
    """
    check_counts(batch_size=batch_size, n_uses=n_uses)
    schedule = sparsifier.schedule
    weights = sum(mask.numel() for mask in sparsifier.masks.values())
    each = 2.0 * weights * batch_size * n_uses
    total = 0.0
    for step in range(schedule.total_steps):
        phase = schedule.at(step)
        share = 1.0 if phase.beta > 0 else phase.n / phase.m
        total += each * (2 * share + (share if sparsifier.backward == "masked" else 1.0))
    final = 1.0 if schedule.recipe == "dense" else schedule.n / schedule.m
    return TrainingFlops(3 * each * schedule.total_steps, total, final)
