r"""The smallest changes that a model cannot bear, sought along its gradient: :func:`fgsm` and :func:`pgd`.

The fast gradient sign method is one step of :math:`\epsilon` in every entry,

.. math:: x' = x + \epsilon\,\mathrm{sign}\,\nabla_x L(f(x), y),

and projected gradient steps iterate it, back onto the ball around the input after each step,

.. math:: x_{t+1} = \Pi_{\|x' - x\| \le \epsilon}\bigl(x_t + \alpha\, g_t\bigr), \qquad
          g_t = \mathrm{sign}\,\nabla_x L \ (\text{largest norm}), \ \nabla_x L / \|\nabla_x L\|_2 \ (\text{Euclidean}).

============== ============= ==============================================================================
in the papers  here          meaning
============== ============= ==============================================================================
epsilon        ``eps``       radius of the ball in the norm ``norm``
alpha          ``step_size`` of one step
L              ``loss``      cross-entropy of the logits, or the margin by which a wrong class wins
============== ============= ==============================================================================

Sources: Goodfellow and others 2014, arXiv 1412.6572; Madry and others 2017, arXiv 1706.06083.

Departures. The gradient of a cross-entropy vanishes in single precision where a model is sure, and the attack with it;
logits are therefore taken to double precision first. The first start is the input itself unless told otherwise, and the
answer is not the last step but each sample's error of the largest loss, or where none was met the step of the largest
loss: among three classes or more the largest cross-entropy may be where the model is still right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lodim.nets.activations import first_tensor
from lodim.randomness import RandomState, root_seed, torch_generator
from lodim.validation import check_choice, check_in_range, check_tensor, checked

__all__ = [
    "Bounds", "Model", "Norm", "Number", "answer_of", "check_bounds", "check_classes", "check_pair", "check_size",
    "confined", "fgsm", "into_ball", "is_binary", "is_right", "losses_of", "margins", "norm_of", "pgd", "random_step",
    "rows_of", "uphill", "within",
]  # fmt: skip

Model = nn.Module | Callable[[Tensor], Any]
Number = int | float | np.number
Bounds = tuple[Number, Number] | None
Norm = str | Number
LOSSES = ("cross_entropy", "margin")


@checked
def fgsm(
    model: Model, X: Float[Tensor, "n ..."], y: Int[Tensor, " n"], eps: Number, *, bounds: Bounds = None
) -> Tensor:
    """Return the inputs moved by ``eps`` in every entry, uphill in the loss.

    Parameters
    ----------
    model : nn.Module or callable
        Returns logits (n, n_classes), or one logit a sample. Used in the mode it is in.
    y : Tensor, shape (n,)
        Class numbers.
    bounds : (float, float), optional
        Least and largest value that an entry may take.

    References
    ----------
    arXiv 1412.6572, section 4.
    """
    X = X.detach()
    check_pair(model, X, y)
    check_size(eps, X)
    check_bounds(X, bounds)
    moved = within(X + float(eps) * uphill(model, X, y)[0].sign(), bounds)
    return confined(moved, X, eps, bounds=bounds)


@checked
def pgd(
    model: Model,
    X: Tensor,
    y: Int[Tensor, " n"],
    eps: Number,
    *,
    bounds: Bounds = None,
    steps: int | np.integer = 10,
    step_size: Number | None = None,
    random_start: bool = False,
    norm: Norm = "inf",
    n_restarts: int | np.integer = 1,
    loss: str = "cross_entropy",
    n_eot: int | np.integer = 1,
    random_state: RandomState = None,
) -> Tensor:
    """Return inputs within ``eps`` of the given ones, uphill in the loss by projected gradient steps.

    Parameters
    ----------
    model, X, y, eps, bounds
        As in :func:`fgsm`.
    step_size : float, optional
        Default ``2.5 eps / steps``: enough to reach any point of the ball.
    random_start : bool
        Begin at a random point of the ball. The restarts after the first always do.
    norm : {"inf", 2}
        Whose ball: of the largest change of an entry, or the Euclidean one.
    n_restarts : int
        Runs; of all their steps each sample's worst is returned.
    loss : {"cross_entropy", "margin"}
        What is raised. The margin, the largest wrong logit less the right one, is above zero exactly where the model
        errs, so that the worst step is an error whenever one was met; its gradient does not vanish with confidence.
    n_eot : int
        Passes whose losses and gradients are averaged (expectation over transformation), for a model that answers by
        chance.
    random_state : int, Generator or None
        Draws the starts.

    References
    ----------
    arXiv 1706.06083, section 2.1; expectation over transformation: arXiv 1707.07397.
    """
    check_in_range(steps, "steps", low=1, integer=True)
    check_in_range(n_restarts, "n_restarts", low=1, integer=True)
    check_in_range(n_eot, "n_eot", low=1, integer=True)
    check_choice(loss, LOSSES, "loss")
    X = X.detach()
    check_pair(model, X, y)
    check_bounds(X, bounds)
    p = norm_of(norm)
    if step_size is None or float(eps) < float("inf"):  # with steps of their own, inputs may go anywhere
        check_size(eps, X)
    radius = float(eps)
    if step_size is not None and check_in_range(step_size, "step_size", low=0) == math.inf:
        raise ValueError("step_size must be finite")
    stride = 2.5 * radius / int(steps) if step_size is None else float(step_size)
    draws = torch_generator(root_seed(random_state)) if random_start or n_restarts > 1 else None
    best = X.clone()
    largest = torch.full((len(X),), -torch.inf, dtype=torch.float64, device=X.device)
    broken = torch.zeros_like(largest, dtype=torch.bool)
    for restart in range(int(n_restarts)):
        moved = X.clone()
        if draws is not None and (random_start or restart):
            moved = within(X + random_step(X, radius, p, draws), bounds)
            best = moved if random_start and not restart else best
        for step in range(int(steps) + 1):
            slope, losses, errs = uphill(model, moved, y, loss, int(n_eot), only_loss=step == steps)
            better = torch.where(errs == broken, losses > largest, errs)
            best, largest = torch.where(rows_of(better, X), moved, best), torch.where(better, losses, largest)
            broken = broken | errs
            if step < steps:
                direction = slope.sign() if p == math.inf else _unit(slope)
                moved = within(X + into_ball(moved + stride * direction - X, radius, p), bounds)
    return confined(best, X, radius, norm=p, bounds=bounds)


# ---- what the model says


def answer_of(model: Model, x: Tensor) -> Tensor:
    """Return the model's first tensor; an input that it does not take is a ValueError."""
    try:
        return first_tensor(model(x))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(f"the model does not take inputs of shape {tuple(x.shape)}: {error}") from error


def is_binary(outputs: Tensor) -> bool:
    """Whether outputs are one logit a sample, that of class 1."""
    return outputs.ndim == 1 or outputs.shape[1] == 1


def is_right(outputs: Tensor, y: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Whether the largest logit is the label's; NaN is never right."""
    if is_binary(outputs):
        logits = outputs.reshape(-1)
        return ((logits > 0).long() == y) & ~logits.isnan()
    return (outputs.argmax(1) == y) & ~outputs.isnan().any(1)


def losses_of(outputs: Tensor, y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Cross-entropy of each sample in double precision; one column of outputs is the logit of class 1."""
    logits = outputs.double()
    if is_binary(logits):
        signed = torch.where(y == 1, logits.reshape(-1), -logits.reshape(-1))
        return nn.functional.softplus(-signed)
    return nn.functional.cross_entropy(logits, y.long(), reduction="none")


def margins(outputs: Tensor, y: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Largest wrong logit less the right one, in double precision: above zero where the model errs."""
    logits = outputs.double()
    if is_binary(logits):
        return torch.where(y == 1, -logits.reshape(-1), logits.reshape(-1))
    own = nn.functional.one_hot(y.long(), logits.shape[1]).bool()
    return logits.masked_fill(own, -torch.inf).amax(1) - logits[own]


def uphill(
    model: Model,
    x: Tensor,
    y: Tensor,
    loss: str = "cross_entropy",
    n_eot: int = 1,
    *,
    only_loss: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss's gradient, each sample's loss and whether it errs by its margin; parameters' gradients stay."""
    value = losses_of if loss == "cross_entropy" else margins
    slope, total = torch.zeros_like(x), torch.zeros(len(x), dtype=torch.float64, device=x.device)
    behind = torch.zeros_like(total)
    for _ in range(n_eot):
        with torch.inference_mode(False), torch.set_grad_enabled(not only_loss):
            x = (x.clone() if x.is_inference() else x.detach()).requires_grad_(not only_loss)
            outputs = answer_of(model, x)
            if outputs.shape[:1] != y.shape:
                raise ValueError(f"the model returned shape {tuple(outputs.shape)} for {len(y)} samples")
            check_classes(outputs, y)
            losses = value(outputs, y)
            if not only_loss:
                if len(x) and not losses.requires_grad:
                    raise ValueError(
                        "the model hides the gradient to its inputs (no_grad, detach, whole numbers?); attack it by "
                        "what needs none, as lodim.trust.random_search"
                    )
                slope = slope + torch.autograd.grad(losses.sum(), x)[0] / n_eot
        total = total + losses.detach() / n_eot
        behind = behind + margins(outputs.detach(), y) / n_eot
    return slope, total, behind > 0


# ---- where an attack may go


def norm_of(norm: Norm) -> float:
    """Return ``inf`` or 2.0."""
    if norm in ("inf", "Linf", math.inf):
        return math.inf
    if norm in (2, "2", "L2"):
        return 2.0
    raise ValueError(f'norm must be "inf" (largest change of an entry) or 2 (Euclidean), got {norm!r}')


def rows_of(values: Tensor, X: Tensor) -> Tensor:
    """One value a sample, shaped to meet ``X``."""
    return values.view(-1, *[1] * (X.ndim - 1))


def within(x: Tensor, bounds: Bounds) -> Tensor:
    """Entries brought within the bounds."""
    return x if bounds is None else x.clamp(float(bounds[0]), float(bounds[1]))


def into_ball(change: Tensor, radius: float, p: float) -> Tensor:
    """The nearest change of at most this norm, sample by sample."""
    if p == math.inf:
        return change.clamp(-radius, radius)
    length = rows_of(change.flatten(1).norm(dim=1), change)
    return torch.where(
        length > radius, change * (radius / length.clamp(min=torch.finfo(change.dtype).tiny)), change
    )


def random_step(X: Tensor, radius: float, p: float, generator: torch.Generator) -> Tensor:
    """A uniformly random point of the ball, for each sample."""
    if p == math.inf:
        return radius * (2 * torch.rand(X.shape, generator=generator, dtype=X.dtype).to(X.device) - 1)
    drawn = torch.randn(X.shape, generator=generator, dtype=X.dtype)
    share = torch.rand(len(X), generator=generator, dtype=X.dtype) ** (1 / max(1, X[0:1].numel()))
    return (radius * rows_of(share, X) * _unit(drawn)).to(X.device)


def confined(
    moved: Tensor, X: Tensor, eps: Number, *, norm: Norm = math.inf, bounds: Bounds = None
) -> Tensor:
    """Return what an attack found, having asserted that it is within the bounds and the ball, up to rounding."""
    p, radius = norm_of(norm), float(eps)
    if not moved.numel():
        return moved
    if bounds is not None:
        low, high = (torch.tensor(float(end), dtype=moved.dtype, device=moved.device) for end in bounds)
        assert not bool(((moved < low) | (moved > high)).any()), "an attack left the bounds"
    if radius < math.inf:
        size = (moved.double() - X.double()).flatten(1).norm(p, dim=1)
        slack = 8 * torch.finfo(X.dtype).eps * (X.double().abs() + abs(radius)).flatten(1).norm(p, dim=1)
        assert not bool((size > abs(radius) + slack).any()), "an attack left its ball"
    return moved


def _unit(slope: Tensor) -> Tensor:
    """Of Euclidean length one, sample by sample; zero stays zero."""
    largest = rows_of(slope.flatten(1).abs().amax(1), slope)  # squares of small numbers would vanish
    slope = torch.where(largest > 0, slope / largest, 0)
    length = rows_of(slope.flatten(1).norm(dim=1), slope)
    return torch.where(length > 0, slope / length, 0)


def check_pair(model: Model, X: Tensor, y: Tensor) -> None:
    """Refuse labels of another number, and inputs of another precision than the model's."""
    if len(check_tensor(X, "X")) != len(check_tensor(y, "y")):
        raise ValueError(f"y has {len(y)} entries but X has {len(X)} rows; they must match")
    weight = next((p for p in getattr(model, "parameters", tuple)() if p.is_floating_point()), None)
    if weight is not None and weight.dtype != X.dtype:
        raise ValueError(
            f"X is {X.dtype} but the model's numbers are {weight.dtype}; use X.to({weight.dtype})"
        )


def check_size(eps: Number, X: Tensor) -> None:
    """Refuse sizes below zero, and those that are infinite in the precision of the inputs."""
    if check_in_range(eps, "eps", low=0) > torch.finfo(X.dtype).max:
        raise ValueError(f"eps must be finite in the numbers of X, {X.dtype}, got {eps}")


def check_bounds(X: Tensor, bounds: Bounds) -> None:
    """Refuse bounds in disorder, and inputs outside."""
    if bounds is None:
        return
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        raise ValueError(f"bounds must be (least, largest), got {bounds}")
    low, high = (float(check_in_range(end, "bounds")) for end in bounds)
    if not low < high:
        raise ValueError(f"bounds must be (least, largest), got {bounds}")
    if X.numel() and (float(X.min()) < low or float(X.max()) > high):
        raise ValueError(
            f"X goes from {float(X.min()):.4g} to {float(X.max()):.4g}, outside bounds {bounds}; give the range "
            "of X as the model takes it"
        )


def check_classes(outputs: Tensor, y: Tensor) -> None:
    """Refuse outputs that are no row of logits a sample, and labels beyond them."""
    if outputs.ndim > 2:
        raise ValueError(
            f"the model must return one row of logits a sample, got shape {tuple(outputs.shape)}"
        )
    known = 2 if is_binary(outputs) else outputs.shape[1]
    if len(y) and int(y.min()) < 0:
        raise ValueError(f"y must hold class numbers 0, 1, ..., got {int(y.min())}")
    if len(y) and int(y.max()) >= known:
        raise ValueError(f"y holds class {int(y.max())} but the model's outputs are {known} classes")
