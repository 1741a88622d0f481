r"""Message length against accuracy: one trained subspace, rounded to codebooks of several sizes.

The problem: fewer codebook values make a shorter message and a larger training error; the generalisation bound weighs
one against the other. :func:`compress_sweep` measures the trade and certifies every point. Choosing the codebook's
size on the same data costs log2(#sizes) bits, which the bounds here include.

====================== ====================================================
symbol                 name here
====================== ====================================================
L                      ``CompressionPoint.levels``
H                      ``CompressionPoint.entropy_bits``
K                      ``CompressionPoint.message_bits``
====================== ====================================================

Sources: description length of C. Li et al. (arXiv 1804.08838), Section 3; bounds as S. Lotfi et al. (arXiv
2211.13609) use them. No departures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from lodim.landscape.code_lengths import arithmetic_code_length, prefix_free_bits
from lodim.landscape.objective_landscapes.bounds import BOUND_KINDS, compression_bound
from lodim.landscape.objective_landscapes.compression import CompressedModel
from lodim.landscape.objective_landscapes.module import SubspaceModule
from lodim.nets.activations import evaluation_mode
from lodim.results import Result
from lodim.training import Task
from lodim.validation import check_in_range, checked

__all__ = ["CompressionPoint", "CompressionSweep", "compress_sweep", "full_score"]


@dataclass(frozen=True)
class CompressionPoint(Result):
    """One codebook size.

    Attributes
    ----------
    levels : int
        Codebook values asked for.
    entropy_bits : float
        Empirical entropy of a code, in bits a coordinate.
    message_bits : int
        Of the coded coordinates, codebook, counts, and numbers outside the subspace.
    n_bytes : int
        Size of the file, header included.
    train_score, score : float
        Of the rounded model on training and validation data.
    bounds : dict of str to float
        Upper bounds on the error on new data, by kind and ``"best"``; empty for regression.
    """

    levels: int
    entropy_bits: float
    message_bits: int
    n_bytes: int
    train_score: float
    score: float
    bounds: dict[str, float]


@dataclass(frozen=True)
class CompressionSweep(Result):
    """Message length against accuracy.

    Attributes
    ----------
    points : tuple of CompressionPoint
        One a codebook size, increasing.
    train_score, score : float
        Before rounding.
    delta : float
        Probability that a bound is wrong.
    selection_bits : float
        Paid in every bound, for choosing among the points (and what the caller added).
    """

    points: tuple[CompressionPoint, ...]
    D: int
    d: int
    n_train: int
    train_score: float
    score: float
    delta: float
    selection_bits: float

    @property
    def best(self) -> CompressionPoint:
        """The point with the tightest bound (the best score for regression)."""
        return min(self.points, key=lambda p: p.bounds["best"] if p.bounds else -p.score)

    def to_frame(self) -> Any:
        """Return a data frame, one row a codebook size, one column a bound."""
        import pandas as pd

        rows = []
        for point in self.points:
            row = {k: v for k, v in vars(point).items() if k != "bounds"}
            rows.append(row | {f"bound_{kind}": value for kind, value in point.bounds.items()})
        return pd.DataFrame(rows)

    def plot(self, ax: Any = None) -> Any:
        """Draw scores, and what the best bound certifies, against message bytes; return the axes."""
        from lodim.plots import COLORS, new_axes

        ax = new_axes(ax)
        size = [math.ceil(point.message_bits / 8) for point in self.points]
        ax.axhline(self.score, color=COLORS[6], linestyle="--", label="not rounded")
        ax.plot(size, [p.score for p in self.points], "o-", color=COLORS[0], label="validation score")
        ax.plot(size, [p.train_score for p in self.points], "o-", color=COLORS[5], label="training score")
        if all(point.bounds for point in self.points):
            certified = [1 - point.bounds["best"] for point in self.points]
            ax.plot(size, certified, "s-", color=COLORS[1], label="certified accuracy")
        for point, x in zip(self.points, size, strict=True):
            ax.annotate(
                str(point.levels), (x, point.score), textcoords="offset points", xytext=(0, -14), ha="center"
            )
        ax.set(xlabel="message, bytes (numbers: codebook sizes)", ylabel="score")
        ax.legend()
        return ax

    def __str__(self) -> str:
        best = self.best
        bound = f", error on new data below {best.bounds['best']:.3f}" if best.bounds else ""
        return (
            f"{self.D:,} weights from {self.d} numbers: score {best.score:.3f} (not rounded {self.score:.3f}) in "
            f"{math.ceil(best.message_bits / 8)} bytes with {best.levels} levels{bound}"
        )


@checked
def compress_sweep(
    subspace: SubspaceModule,
    make_model: Callable[[], nn.Module],
    theta0_seed: int,
    task: Task,
    *,
    levels: Sequence[int] = (3, 5, 7, 11, 16, 32),
    method: str = "kmeans",
    finetune: Callable[[nn.Module], Any] | None = None,
    delta: float = 0.05,
    selection_bits: int | float = 0.0,
) -> CompressionSweep:
    """Round a trained subspace to codebooks of several sizes; measure length, scores and bounds.

    Parameters
    ----------
    subspace, make_model, theta0_seed
        As in :meth:`CompressedModel.from_subspace`.
    task : Task
        What it was trained on: all training samples count in the bounds.
    levels : sequence of int
        Codebook sizes.
    method, finetune
        As in :meth:`CompressedModel.from_subspace`; fine-tuning runs once a size.
    delta : float
        Probability that a bound is wrong.
    selection_bits : float
        log2 of what else was chosen on the training data (d, seeds, learning rates); log2 of the number of codebook
        sizes is added here.
    """
    sizes = sorted({int(check_in_range(size, "levels", low=1, integer=True)) for size in levels})
    if not sizes:
        raise ValueError("levels must name at least one codebook size")
    paid = float(selection_bits) + math.log2(len(sizes))
    points = []
    for size in sizes:
        model = CompressedModel.from_subspace(
            subspace, make_model, theta0_seed, n_levels=size, method=method, finetune=finetune
        )
        points.append(_measure(model, size, task, delta, paid))
    return CompressionSweep(
        points=tuple(points),
        D=model.D,
        d=model.d,
        n_train=len(task.y),
        train_score=full_score(subspace, task, task.X, task.y),
        score=full_score(subspace, task, task.X_val, task.y_val),
        delta=float(delta),
        selection_bits=paid,
    )


def _measure(model: CompressedModel, size: int, task: Task, delta: float, paid: float) -> CompressionPoint:
    """Length, scores and bounds of one compressed model."""
    assert model.quantized is not None
    module = model.to_module()
    train_score = full_score(module, task, task.X, task.y)
    bounds = {}
    if task.kind == "classification":
        bits = prefix_free_bits(model.message_bits)
        error = 1 - full_score(module, replace(task, score_by="accuracy"), task.X, task.y)
        for kind in (*BOUND_KINDS, "best"):
            bounds[kind] = compression_bound(
                error, bits, len(task.y), delta=delta, kind=kind, selection_bits=paid
            )
    return CompressionPoint(
        levels=size,
        entropy_bits=arithmetic_code_length(model.quantized.codes) / model.d,
        message_bits=model.message_bits,
        n_bytes=model.n_bytes,
        train_score=train_score,
        score=full_score(module, task, task.X_val, task.y_val),
        bounds=bounds,
    )


def full_score(module: nn.Module, task: Task, X: torch.Tensor, y: torch.Tensor, batch: int = 4096) -> float:
    """Return the task's score on all of (X, y), in evaluation mode; every part's own mode is restored."""
    device = next(module.parameters(), X).device
    with torch.no_grad(), evaluation_mode(module):
        outputs = torch.cat([module(part.to(device)) for part in X.split(batch)])
    return float(task.score(outputs, y.to(device)))
