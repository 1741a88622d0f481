r"""Attacks on a classifier, one function each: what an adversary who knows much, little or nothing can do.

======================  ============================  ============================================================
attack                  needs                         idea
======================  ============================  ============================================================
:func:`random_noise`    nothing                       control: a random change of the same size
:func:`random_search`   probabilities                 squares of random sign, kept when they lower the margin
:func:`transfer`        another, similar model        projected gradient steps on that model
:func:`fgsm`            gradients                     one step of the gradient's sign
:func:`pgd`             gradients                     many steps, back into the ball after each
:func:`deepfool`        gradients of all logits       to the nearest boundary of the linearised model, repeatedly
:func:`cw_l2`           gradients                     least Euclidean change plus c times the margin, c by bisection
:func:`bpda`            the defence itself            ``pgd`` through it: hard forward, soft backward
======================  ============================  ============================================================

C&W minimises, over w with :math:`x' = \mathrm{mid} + \mathrm{half} \tanh w` inside the bounds,

.. math:: \|x' - x\|_2^2 + c \max\bigl(z_y(x') - \max_{j \ne y} z_j(x') + \kappa, 0\bigr),

and DeepFool steps along :math:`w_j = \nabla z_j - \nabla z_y` of the class with least :math:`|z_j - z_y| / \|w_j\|`.

Every attack keeps its results within the bounds and, where it has one, the ball, which is asserted, and answers with
the worst point it met of each sample. Least changes have no ball: compare their lengths with a size, for a change that
is shortened to it is an error no more. All take logits (n, n_classes), or one logit a sample, and work on all samples
at once.

Sources: arXiv 1412.6572 (gradient sign), 1706.06083 (projected steps), 1608.04644 (C&W), 1511.04599 (DeepFool),
1802.00420 (backward pass differentiable approximation, expectation over transformation), 1912.00049 (square attack, of
which :func:`random_search` is a simpler relative), 1605.07277 (transfer).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lodim.linalg.precision import as_tensor
from lodim.nets.attacks import (
    Bounds,
    Model,
    Norm,
    Number,
    answer_of,
    check_bounds,
    check_classes,
    check_pair,
    check_size,
    confined,
    fgsm,
    is_binary,
    margins,
    norm_of,
    pgd,
    random_step,
    rows_of,
    within,
)
from lodim.randomness import RandomState, as_generator, root_seed, torch_generator
from lodim.training import DescentRecipe, descend
from lodim.validation import check_in_range, check_labels, check_tensor, checked

__all__ = [
    "bpda",
    "cw_l2",
    "deepfool",
    "fgsm",
    "pgd",
    "random_noise",
    "random_search",
    "straight_through",
    "transfer",
]

_HALVED = np.array(
    [0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8]
)  # of the queries, as in the square attack
_FIRST_SHARE = 0.8  # of the pixels, in the first square


@contextmanager
def straight_through(model: Model) -> Iterator[bool]:
    """Let the gradient through every part of a model that offers it by an attribute ``straight_through``.

    Yields whether there is one. The attributes are put back afterwards.
    """
    parts = [part for part in getattr(model, "modules", tuple)() if hasattr(part, "straight_through")]
    before = [part.straight_through for part in parts]
    for part in parts:
        part.straight_through = True
    try:
        yield bool(parts)
    finally:
        for part, value in zip(parts, before):
            part.straight_through = value


@checked
def bpda(
    model: Model,
    X: Float[Tensor, "n ..."],
    y: Int[Tensor, " n"],
    eps: Number,
    *,
    norm: Norm = "inf",
    bounds: Bounds = None,
    steps: int | np.integer = 20,
    step_size: Number | None = None,
    n_restarts: int | np.integer = 1,
    n_eot: int | np.integer = 1,
    loss: str = "margin",
    random_state: RandomState = None,
) -> Tensor:
    """Return what projected gradient steps through a defence find, its gradientless parts replaced by soft ones.

    Parameters
    ----------
    model : nn.Module
        The whole: filter and classifier. Parts with an attribute ``straight_through`` are asked for a gradient.
    X, y, eps, norm, bounds, steps, step_size, n_eot, loss, random_state
        As in :func:`pgd`; ``n_eot`` passes are averaged where the defence answers by chance.
    n_restarts : int
        Starts; of all their steps each sample's worst is returned.
    """
    with straight_through(model):
        return pgd(
            model, X, y, eps, norm=norm, bounds=bounds, steps=steps, step_size=step_size, n_restarts=n_restarts,
            n_eot=n_eot, loss=loss, random_state=random_state,
        )  # fmt: skip


@checked
def transfer(
    substitute: Model,
    X: Float[Tensor, "n ..."],
    y: Int[Tensor, " n"],
    eps: Number,
    *,
    norm: Norm = "inf",
    bounds: Bounds = None,
    steps: int | np.integer = 20,
    random_state: RandomState = None,
) -> Tensor:
    """Return inputs made against another model, of another seed or architecture, to be shown to the one attacked.

    Parameters
    ----------
    substitute : nn.Module or callable
        The adversary's own model.
    X, y, eps, norm, bounds, steps, random_state
        As in :func:`pgd`.
    """
    return bpda(substitute, X, y, eps, norm=norm, bounds=bounds, steps=steps, random_state=random_state)


@checked
def random_noise(
    X: Float[Tensor, "n ..."],
    eps: Number,
    *,
    norm: Norm = "inf",
    bounds: Bounds = None,
    random_state: RandomState = None,
) -> Tensor:
    """Return inputs changed by ``eps`` in every entry with random signs, or by a random direction of that length."""
    if check_tensor(X, "X").ndim < 2:
        raise ValueError(f"X must have samples and entries, shape (n, ...), got shape {tuple(X.shape)}")
    X = X.detach()
    check_size(eps, X)
    check_bounds(X, bounds)
    p, draws = norm_of(norm), torch_generator(root_seed(random_state))
    change = random_step(X, 1.0, p, draws)
    if p == math.inf:
        change = float(eps) * torch.where(change >= 0, 1.0, -1.0).to(X.dtype)
    else:
        change = float(eps) * change / rows_of(change.flatten(1).norm(dim=1).clamp(min=1e-30), X)
    return confined(within(X + change, bounds), X, eps, norm=p, bounds=bounds)


# ---- least changes


def _logits(model: Model, x: Tensor) -> Tensor:
    """At least two columns, in double precision."""
    out = answer_of(model, x).double()
    return torch.stack([torch.zeros_like(out.reshape(-1)), out.reshape(-1)], dim=1) if is_binary(out) else out


@checked
def cw_l2(
    model: Model,
    X: Float[Tensor, "n ..."],
    y: Int[Tensor, " n"],
    *,
    bounds: tuple[Number, Number] = (0, 1),
    steps: int | np.integer = 100,
    binary_steps: int | np.integer = 6,
    lr: Number = 0.05,
    c: Number = 1.0,
    confidence: Number = 0.0,
) -> Tensor:
    """Return the nearest errors found, in Euclidean distance; inputs of which none was found come back as they were.

    Parameters
    ----------
    model, X, y
        As in :func:`fgsm`.
    bounds : (float, float)
        The tanh variable needs them.
    steps, lr
        Of Adam, for each c.
    binary_steps : int
        Values of c tried: ten times the last one until an error is found, then by bisection.
    c : float
        The first.
    confidence : float
        Margin that an error must have.
    """
    for name, count in (("steps", steps), ("binary_steps", binary_steps)):
        check_in_range(count, name, low=1, integer=True)
    if not 0 < check_in_range(c, "c") < math.inf:
        raise ValueError(f"c must be positive and finite, got {c}")
    check_in_range(confidence, "confidence", low=0)
    check_pair(model, X, y)
    X = X.detach()
    check_bounds(X, bounds)
    low, high = (float(end) for end in bounds)
    mid, half = (low + high) / 2, (high - low) / 2
    start = ((X - mid) / half).double().clamp(-1 + 1e-6, 1 - 1e-6).atanh().to(X.dtype)
    weight = torch.full((len(X),), float(c), dtype=torch.float64, device=X.device)
    least, most = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
    best, nearest = X.clone(), torch.full_like(weight, torch.inf)
    with torch.no_grad():
        outputs = answer_of(model, X)
        check_classes(outputs, y)
        if not len(X):
            return best
        nearest[margins(outputs, y) > float(confidence)] = 0.0  # wrong without being touched
    for _ in range(int(binary_steps)):
        w, met = start.clone().requires_grad_(), torch.zeros(len(X), dtype=torch.bool, device=X.device)

        def objective(w: Tensor = w, met: Tensor = met, weight: Tensor = weight) -> Tensor:
            moved = (mid + half * w.tanh()).clamp(low, high)
            gap = margins(answer_of(model, moved), y)
            size = (moved.double() - X.double()).square().flatten(1).sum(1)
            found = gap.detach() > float(confidence)
            nearer = found & (size.detach() < nearest)
            best[nearer], nearest[nearer] = moved.detach()[nearer], size.detach()[nearer]
            met |= found
            return (size + weight * (float(confidence) - gap).clamp(min=0)).sum()

        descend(
            objective, [w], DescentRecipe(steps=int(steps), lr=float(lr)), random_state=0, interruptible=False
        )
        with torch.no_grad():
            objective()  # where the last step arrived
        most, least = torch.where(met, weight, most), torch.where(met, least, weight)
        weight = torch.where(most < torch.inf, (least + most) / 2, 10 * weight)
    return confined(best, X, math.inf, norm=2, bounds=bounds)


@checked
def deepfool(
    model: Model,
    X: Float[Tensor, "n ..."],
    y: Int[Tensor, " n"],
    *,
    norm: Norm = 2,
    bounds: Bounds = None,
    max_iter: int | np.integer = 50,
    overshoot: Number = 0.02,
) -> Tensor:
    """Return inputs just beyond the nearest boundary of the linearised model.

    Parameters
    ----------
    model, X, y, bounds
        As in :func:`fgsm`.
    norm : {2, "inf"}
        In which the boundary is near.
    max_iter : int
        At most; a sample stops where it is wrong.
    overshoot : float
        Share by which the change is stretched, to cross the boundary.
    """
    check_in_range(max_iter, "max_iter", low=1, integer=True)
    check_in_range(overshoot, "overshoot", low=0, high=1)
    check_pair(model, X, y)
    X = X.detach()
    check_bounds(X, bounds)
    p = norm_of(norm)
    total, moved = torch.zeros_like(X), X.clone()
    with torch.no_grad():
        check_classes(answer_of(model, X), y)
    for _ in range(int(max_iter)):
        with torch.no_grad():
            left = (margins(answer_of(model, moved), y) <= 0).nonzero()[:, 0]
        if not len(left):
            break
        own, at = y[left].long(), torch.arange(len(left), device=X.device)
        with torch.enable_grad():
            x = moved[left].detach().requires_grad_()
            z = _logits(model, x)
            rows = torch.stack(
                [torch.autograd.grad(z[:, j].sum(), x, retain_graph=True)[0] for j in range(z.shape[1])],
                dim=1,
            )
        w = (rows - rows[at, own][:, None]).flatten(2).double()
        short = (z[at, own][:, None] - z).detach()  # by how much each class is behind
        length = w.norm(dim=2) if p == 2 else w.abs().sum(2)
        away = torch.where(length > 0, short / length, torch.inf)
        away[at, own] = torch.inf
        near = away.argmin(1)
        reach, along = away[at, near] + 1e-6, w[at, near]
        step = along / length[at, near, None] if p == 2 else along.sign()
        change = torch.where(reach.isfinite()[:, None], reach[:, None] * step, 0)
        total[left] = total[left] + change.view_as(x).to(X.dtype)
        moved[left] = within(X[left] + (1 + float(overshoot)) * total[left], bounds)
    return confined(moved, X, math.inf, norm=p, bounds=bounds)


# ---- without gradients


@checked
def random_search(
    predict_proba: Callable[[Any], Any],
    X: Any,
    y: Any,
    eps: Number,
    *,
    norm: Norm = "inf",
    bounds: Bounds = None,
    n_queries: int | np.integer = 200,
    random_state: RandomState = None,
) -> Any:
    """Return the worst that random changes found, from answers alone; masked gradients do not hinder it.

    A square of every image (a random set of columns of a table), smaller and smaller, is set to ``eps`` with random
    signs and kept where the right class's probability falls behind. In the Euclidean norm noise on the square is added
    and the whole change scaled to ``eps``. A sample that is wrong is asked about no more.

    Parameters
    ----------
    predict_proba : callable
        Rows, as ``X`` holds them, to probabilities (n, n_classes).
    X : array-like or Tensor, shape (n, ...)
        With four axes, images (n, channels, height, width).
    y : array-like or Tensor, shape (n,)
        Numbers of the columns.
    eps, norm, bounds
        As in :func:`pgd`.
    n_queries : int
        Answers a sample, the first included.

    References
    ----------
    arXiv 1912.00049.
    """
    check_in_range(n_queries, "n_queries", low=1, integer=True)
    as_given = isinstance(X, Tensor)
    start = as_tensor(X, "X").detach().cpu()
    start = start if start.is_floating_point() else start.double()
    if not start.ndim or not start.numel():
        raise ValueError(f"X must have samples, shape (n, ...), got shape {tuple(start.shape)}")
    labels = class_numbers(y, len(start))
    check_size(eps, start)
    check_bounds(start, bounds)
    p, rng = norm_of(norm), as_generator(root_seed(random_state))

    def behind(x: Tensor, rows: np.ndarray) -> np.ndarray:
        """Logarithm of the right class's probability over the largest other one; below zero where wrong."""
        asked = x.to(X.device) if as_given else x.numpy()
        logs = np.log(np.maximum(np.asarray(predict_proba(asked), dtype=np.float64), 1e-300))
        if logs.shape[:1] != (len(rows),) or logs.ndim != 2 or labels.max() >= logs.shape[1]:
            raise ValueError(
                f"predict_proba must return a column for each class up to y's {labels.max()}, for {len(rows)} rows, "
                f"got shape {logs.shape}"
            )
        own = np.arange(logs.shape[1]) == labels[rows, None]
        return logs[own] - np.where(own, -np.inf, logs).max(1)

    best, everyone = start.clone(), np.arange(len(start))
    least = behind(start, everyone)  # of the best point; score is that of the present change
    score, change = np.full(len(start), np.inf), torch.zeros_like(start)
    for query in range(int(n_queries) - 1):
        left = everyone[least >= 0]  # a tie is no error: the first class wins it
        if not len(left) or not float(eps):
            break
        share = _FIRST_SHARE / 2 ** np.searchsorted(_HALVED, query / int(n_queries)) if query else 1.0
        moved = within(start[left] + _propose(start[left], change[left], float(eps), p, share, rng), bounds)
        found = behind(moved, left)
        better, best_yet = found <= score[left], found < least[left]  # over plateaus the search drifts
        change[left[better]] = (moved - start[left])[better]
        best[left[best_yet]] = moved[best_yet]
        score[left], least[left] = np.minimum(found, score[left]), np.minimum(found, least[left])
    best = confined(best, start, eps, norm=p, bounds=bounds)
    return best.to(X.device) if as_given else best.numpy()


def _propose(
    x: Tensor, change: Tensor, eps: float, p: float, share: float, rng: np.random.Generator
) -> Tensor:
    """Changes with a new part: a square of that share of every image, or that share of the columns."""
    n = len(x)
    if x.ndim == 4:
        c, h, w = x.shape[1:]
        side = max(1, round(math.sqrt(share * h * w)))
        tall, wide = min(side, h), min(side, w)
        top, left = rng.integers(0, h - tall + 1, n), rng.integers(0, w - wide + 1, n)
        down = (np.arange(h) >= top[:, None]) & (np.arange(h) < top[:, None] + tall)
        across = (np.arange(w) >= left[:, None]) & (np.arange(w) < left[:, None] + wide)
        new = (down[:, None, :, None] & across[:, None, None, :]).repeat(c, axis=1)
        signs = rng.choice([-1.0, 1.0], (n, c, 1, 1) if share < 1 else (n, c, 1, w))  # at first, stripes
    else:
        size = int(np.prod(x.shape[1:]))
        rank = rng.random((n, size)).argsort(1).argsort(1)
        new = (rank < max(1, round(share * size))).reshape(x.shape)
        signs = rng.choice([-1.0, 1.0], x.shape)
    inside = torch.from_numpy(new)
    if p == math.inf:
        return torch.where(
            inside, eps * torch.from_numpy(np.broadcast_to(signs, x.shape).copy()).to(x.dtype), change
        )
    drawn = inside * torch.from_numpy(rng.normal(size=x.shape)).to(x.dtype)
    drawn = eps * drawn / rows_of(drawn.flatten(1).norm(dim=1).clamp(min=1e-30), x)
    whole = change + drawn
    return eps * whole / rows_of(whole.flatten(1).norm(dim=1).clamp(min=1e-30), x)


def class_numbers(y: Any, n: int) -> Int[np.ndarray, " n"]:
    """Labels as whole numbers from 0; others are a ValueError."""
    labels = check_labels(y, n)
    if labels.dtype.kind not in "biuf" or not np.all((labels >= 0) & (labels % 1 == 0)):
        raise ValueError(
            f"y must hold class numbers 0, 1, ..., got {labels.dtype} labels such as {labels[0]!r}; encode them "
            "(numpy.unique(y, return_inverse=True))"
        )
    if float(labels.max()) > 2.0**62:
        raise ValueError(f"y must hold class numbers 0, 1, ..., got {labels.max()}")
    return labels.astype(np.int64)


def is_random(model: nn.Module, x: Tensor) -> bool:
    """Whether two passes over the same inputs differ."""
    with torch.no_grad():
        return not torch.equal(answer_of(model, x), answer_of(model, x))
