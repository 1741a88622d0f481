r"""Training many runs as one: :func:`fit_replicas`.

**Problem.** A sweep over subspace dimensions and seeds is many trainings of one small network, each too small to keep
a processor busy. Replica r has the weights :math:`\theta_r = \theta_{0,r} + P_r v_r`, with :math:`v_r \in
\mathbb{R}^{d_r}` and dimensions that differ. All weights are rows of one matrix :math:`\Theta` (R, D); the network is
run once for all rows (``torch.func.vmap``), each on its own minibatch; one backward gives :math:`\partial L /
\partial\Theta`; the adjoints :math:`P_r^\top` give the gradients, which lie one after the other in one vector. The
optimisers are elementwise, so one update of that vector with a rate per element *is* the separate optimisers.

======================  ============================================================
Symbol                  Here
======================  ============================================================
:math:`\theta_{0,r}`    ``Replica.theta0``
:math:`P_r`             ``Replica.map`` (None: the identity, direct training)
:math:`v_r`             ``Replica.v0`` at the start, returned at the end
:math:`\Theta`          ``ReplicaBatch.theta``
======================  ============================================================

The result equals :func:`~lodim.training.fit` of the same replica up to rounding: same order of data, same schedule,
same reasons to stop. A replica that stops leaves the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lodim.nets import FlatSpec
from lodim.training.batch import Finished, ReplicaBatch
from lodim.training.descent import Progress
from lodim.training.recipe import FitResult, Recipe, Watch
from lodim.training.task import Task
from lodim.training.threads import threads_for
from lodim.training.vectorize import can_vectorize
from lodim.validation import check_choice, check_in_range, checked

__all__ = ["Replica", "fit_replicas"]

_CPU_NUMBERS = 1_200_000  # weights trained together on a CPU
_ACCELERATOR_NUMBERS = 200_000_000


@dataclass(frozen=True, eq=False)
class Replica:
    """One run of a vectorised training.

    Attributes
    ----------
    theta0 : Tensor, shape (D,)
        Weights at v = 0.
    map : callable or None
        The linear map v -> P v, shape (d,) -> (D,), e.g. a :class:`~lodim.sketch.RandomProjection`; any
        differentiable function will do. None trains the weights directly: theta = theta0 + v.
    v0 : Tensor, shape (d,)
        Where v starts.
    lr : float
        Highest learning rate.
    seed : int
        Of the order of the data.
    """

    theta0: Tensor
    map: Callable[[Tensor], Tensor] | None
    v0: Tensor
    lr: float
    seed: int


@checked
def fit_replicas(
    model: nn.Module,
    spec: FlatSpec,
    replicas: Sequence[Replica],
    task: Task,
    recipe: Recipe = Recipe(),  # noqa: B008 (frozen)
    *,
    early_stop_score: float | None = None,
    deadline: float | None = None,
    score_on: str = "val",
    progress: Progress | None = None,
    on_done: Finished | None = None,
    chunk_size: int | None = None,
    record_scores: bool = False,
) -> list[tuple[FitResult, Tensor]]:
    """Train many replicas of one module as one vectorised run; each one's result comes with its final v, shape (d,).

    Parameters
    ----------
    model : nn.Module
        Gives the code; its own parameters are not changed.
    spec : FlatSpec
        Which parameters the replicas' weights stand for.
    task, recipe, early_stop_score, deadline, score_on, progress, record_scores
        As for :func:`~lodim.training.fit`.
    on_done : callable, optional
        ``on_done(index, result, v)`` when a replica has finished; what it keeps survives an interruption.
    chunk_size : int, optional
        Replicas trained together; by default as many as fit in memory and still gain from it.

    Raises
    ------
    ValueError
        The module cannot be vectorised (the message says why; train it with ``fit``), or shapes do not match.
    """
    check_choice(score_on, ("val", "train"), "score_on")
    answer = can_vectorize(model)
    if not answer:
        raise ValueError(f"this module cannot be trained as a batch: {answer.reason}")
    for replica in replicas:
        _check_replica(replica, spec)
    if chunk_size is None:
        chunk_size = replicas_at_once(model, spec.numel, replicas[0].theta0.device) if replicas else 1
    check_in_range(chunk_size, "chunk_size", low=1, integer=True)
    order = sorted(range(len(replicas)), key=lambda i: (replicas[i].map is None, replicas[i].v0.numel()))
    results: dict[int, tuple[FitResult, Tensor]] = {}

    def finish(index: int, result: FitResult, v: Tensor) -> None:
        results[index] = (result, v)
        if on_done is not None:
            on_done(index, result, v)

    for start in range(0, len(order), chunk_size):
        chunk = {index: replicas[index] for index in order[start : start + chunk_size]}
        watches = {index: Watch(recipe.patience, early_stop_score) for index in chunk}
        batch = ReplicaBatch(model, spec, chunk, task, recipe, watches, score_on, record_scores)
        part = _part_of(progress, start / len(order), len(chunk) / len(order))
        with threads_for(spec.numel, task.device):
            batch.run(deadline, finish, part)
    return [results[index] for index in range(len(replicas))]


def _part_of(progress: Progress | None, before: float, share: float) -> Progress | None:
    """Progress of one chunk as a part of the whole."""
    if progress is None:
        return None
    return lambda done, text: progress(before + share * done, text)


def replicas_at_once(model: nn.Module, D: int, device: torch.device) -> int:
    """Return how many replicas train together; the same on every machine.

    Measured on one CPU core: batched convolutions (grouped ones) are slower than one after the other, and dense
    networks gain until the weights and what is computed from them (about 20 times as much) leave the cache. An
    accelerator is limited by its memory only.
    """
    if device.type != "cpu":
        return max(1, min(1024, _ACCELERATOR_NUMBERS // D))
    if any(isinstance(layer, nn.modules.conv._ConvNd) for layer in model.modules()):
        return 1
    return max(1, min(64, round(_CPU_NUMBERS / D)))


def _check_replica(replica: Replica, spec: FlatSpec) -> None:
    if replica.theta0.shape != (spec.numel,):
        raise ValueError(
            f"theta0 of a replica has shape {tuple(replica.theta0.shape)}, but the parameters are {spec.numel} numbers"
        )
    if replica.v0.ndim != 1 or (replica.map is None and replica.v0.numel() != spec.numel):
        wanted = f"({spec.numel},), since there is no map" if replica.map is None else "(d,)"
        raise ValueError(f"v0 of a replica must have shape {wanted}, got {tuple(replica.v0.shape)}")
    if not (replica.lr > 0 and math.isfinite(replica.lr)):
        raise ValueError(f"lr of a replica must be positive and finite, got {replica.lr}")
