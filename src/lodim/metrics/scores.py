"""Scores of predictions: accuracy, area under the curve and R^2 for tensors with any leading axes."""

from __future__ import annotations

from typing import Any

import torch

from lodim.validation import check_tensor, checked

__all__ = ["accuracy", "auc", "r2", "rank_shares"]


@checked
def accuracy(logits: Any, target: Any) -> Any:
    """Share of samples whose largest logit is the target's.

    Parameters
    ----------
    logits : Tensor, shape (..., n, n_classes)
    target : integer Tensor, shape (..., n)

    Returns
    -------
    Tensor, shape (...)

    Raises
    ------
    ValueError
        Different numbers of samples.
    """
    _check_scored(logits, "logits", 2, target)
    if logits.dtype is torch.bool:
        logits = logits.byte()
    return (logits.argmax(-1) == target).double().mean(-1)


@checked
def auc(logits: Any, target: Any) -> Any:
    r"""Area under the ROC curve, one class against the rest, mean over the classes that occur.

    The area of a class is the chance that a row of it is given a larger log-odds of being it than a row of another
    class is, ties counting half: 1/2 for every answer that does not depend on the row, whatever the classes' shares.

    Parameters
    ----------
    logits : Tensor, shape (..., n, n_classes)
    target : integer Tensor, shape (..., n)

    Returns
    -------
    Tensor, shape (...); NaN where the target has one class only.

    Raises
    ------
    ValueError
        Different numbers of samples, or classes that have no logit.
    """
    _check_scored(logits, "logits", 2, target)
    given, target = target, target.long()
    if not bool(((target == given) & (target >= 0) & (target < logits.shape[-1])).all()):
        raise ValueError(f"target must hold classes, whole numbers from 0 to {logits.shape[-1] - 1}")
    target = target.expand(logits.shape[:-1])
    shares = rank_shares(logits).gather(-1, target[..., None]).squeeze(-1)
    counts = torch.nn.functional.one_hot(target, logits.shape[-1]).sum(-2).double()
    sums = torch.zeros_like(counts).scatter_add_(-1, target, shares)
    others = target.shape[-1] - counts
    areas = (sums * target.shape[-1] - counts * counts / 2) / (counts * others)
    occurs = (counts > 0) & (others > 0)
    return torch.where(occurs, areas, 0.0).sum(-1) / occurs.sum(-1)


def rank_shares(logits: Any) -> Any:
    """Return for each row and class the share of rows with less log-odds of that class, ties counting half.

    Shapes are those of ``logits``, (..., n, n_classes).
    """
    odds = _log_odds(logits.double()).transpose(-1, -2).contiguous()
    ordered = odds.sort(-1).values
    below, upto = (torch.searchsorted(ordered, odds, right=right) for right in (False, True))
    return ((below + upto).double() / (2 * odds.shape[-1])).transpose(-1, -2)


def _log_odds(logits: Any) -> Any:
    """Log-odds of each class, from the other classes' logits only: nothing saturates."""
    n_classes = logits.shape[-1]
    others = ~torch.eye(n_classes, dtype=torch.bool, device=logits.device)
    rest = torch.stack([logits[..., others[c]].logsumexp(-1) for c in range(n_classes)], dim=-1)
    return logits - rest


@checked
def r2(prediction: Any, target: Any) -> Any:
    """Coefficient of determination, ``1 - residual / total`` sum of squares (1 is perfect, 0 the mean's).

    Parameters
    ----------
    prediction : Tensor, shape (..., n) or (..., n, 1)
    target : Tensor, shape (..., n)

    Returns
    -------
    Tensor, shape (...); undefined (NaN or -inf) for a constant target.

    Raises
    ------
    ValueError
        Different numbers of samples.
    """
    check_tensor(target, "target")
    if check_tensor(prediction, "prediction").ndim > target.ndim:
        prediction = prediction.squeeze(-1)
    _check_scored(prediction, "prediction", 1, target)
    prediction, target = prediction.double(), target.double()
    residual = ((target - prediction) ** 2).sum(-1)
    total = ((target - target.mean(-1, keepdim=True)) ** 2).sum(-1)
    return 1 - residual / total


def _check_scored(values: Any, name: str, axes: int, target: Any) -> None:
    """Both are real tensors on one device; leading axes may be broadcast, but not samples against a single one."""
    check_tensor(values, name)
    check_tensor(target, "target")
    if values.ndim < axes:
        raise ValueError(f"{name} must have at least {axes} axes, got shape {tuple(values.shape)}")
    if axes == 2 and values.shape[-1] == 0:
        raise ValueError(f"{name} must have a column a class, got shape {tuple(values.shape)}")
    if target.device != values.device:
        raise ValueError(
            f"target is on {target.device}, but {name} on {values.device}; move one to the other"
        )
    n = values.shape[-axes]
    if target.shape[-1:] != (n,):
        raise ValueError(f"target must end in an axis of {n} samples, as {name}, got {tuple(target.shape)}")
