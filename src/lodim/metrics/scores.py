"""Scores of predictions: accuracy and R^2 for tensors with any leading axes."""

from __future__ import annotations

from typing import Any

__all__ = ["accuracy", "r2"]


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
    _check_samples(logits.shape[-2], target)
    return (logits.argmax(-1) == target).double().mean(-1)


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
    if prediction.ndim > target.ndim:
        prediction = prediction.squeeze(-1)
    _check_samples(prediction.shape[-1], target)
    prediction, target = prediction.double(), target.double()
    residual = ((target - prediction) ** 2).sum(-1)
    total = ((target - target.mean(-1, keepdim=True)) ** 2).sum(-1)
    return 1 - residual / total


def _check_samples(n: int, target: Any) -> None:
    """Leading axes may be broadcast, but not samples against a single one."""
    if target.shape[-1:] != (n,):
        raise ValueError(
            f"target must end in an axis of {n} samples, as the predictions, got {tuple(target.shape)}"
        )
