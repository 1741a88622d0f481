"""What is to be learnt: :class:`Task`, training and validation data with their loss and score.

Losses and scores reduce the last axes only, so a batch of models (leading axes) is scored at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lodim.metrics import accuracy, auc, r2
from lodim.validation import (
    check_choice,
    check_labels,
    check_matrix,
    check_numbers,
    check_unmasked,
    checked,
    infer_kind,
    to_numpy,
)

__all__ = ["Task"]


@checked
@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """Training and validation data as tensors, ready for :func:`~lodim.training.fit`.

    Attributes
    ----------
    X, X_val : Tensor, shape (n, ...)
        Inputs, float32.
    y, y_val : Tensor, shape (n,)
        Class numbers (int64), or standardised targets (float32).
    kind : {"classification", "regression"}
        Decides loss (cross-entropy, mean squared error) and score (accuracy, R^2).
    score_by : {"accuracy", "auc", "r2"} or None
        The score, if another than the kind's: ``"auc"`` (:func:`lodim.metrics.auc`) for classes of very unequal sizes,
        where a constant answer has a high accuracy.
    n_outputs : int
        Outputs a model needs: the number of classes, or 1.
    classes : tuple
        Labels in the order of their numbers; empty for a regression.
    target_mean, target_scale : float
        What a regression's targets were standardised with (the training set's mean and standard deviation).
    """

    X: Tensor
    y: Tensor
    X_val: Tensor
    y_val: Tensor
    kind: str = "classification"
    n_outputs: int = 1
    classes: tuple[Any, ...] = ()
    target_mean: float = 0.0
    target_scale: float = 1.0
    score_by: str | None = None

    def __repr__(self) -> str:
        rows = f"{len(self.X):,} + {len(self.X_val):,} rows of shape {tuple(self.X.shape[1:])}"
        return f"Task({self.kind} of {rows}, n_outputs={self.n_outputs})"

    def __post_init__(self) -> None:
        usual = ("accuracy", "auc") if self.kind == "classification" else ("r2",)
        check_choice(self.score_by or usual[0], usual, f"score_by of a {self.kind}")

    @classmethod
    def from_arrays(
        cls,
        X: Any,
        y: Any,
        X_val: Any,
        y_val: Any,
        *,
        kind: str = "auto",
        image_shape: Sequence[int] | None = None,
        score_by: str | None = None,
    ) -> Task:
        """Check arrays, encode the labels (or standardise the targets), and make tensors of them.

        Parameters
        ----------
        X, X_val : array-like, shape (n, ...)
        y, y_val : array-like, shape (n,)
            Any labels, or numbers.
        kind : {"auto", "classification", "regression"}
            "auto": as :func:`lodim.validation.infer_kind` decides; text, booleans and few different whole numbers are
            classes.
        image_shape : sequence of int, optional
            Shape given to each row of X, e.g. ``(1, 28, 28)``.
        score_by : {"accuracy", "auc", "r2"}, optional
            See above.

        Raises
        ------
        ValueError
            Missing values, lengths or widths that differ, a constant regression target, one class only, labels
            in ``y_val`` that ``y`` does not have.
        """
        check_choice(kind, ("auto", "classification", "regression"), "kind")
        inputs, inputs_val = _inputs(X, "X", image_shape), _inputs(X_val, "X_val", image_shape)
        if inputs.shape[1:] != inputs_val.shape[1:]:
            raise ValueError(
                f"samples of X have shape {tuple(inputs.shape[1:])} but those of X_val "
                f"{tuple(inputs_val.shape[1:])}; they must match"
            )
        labels = check_labels(y, len(inputs))
        labels_val = check_labels(y_val, len(inputs_val), name="y_val")
        if kind == "auto":
            kind = infer_kind(labels)
        encode = _encode_classes if kind == "classification" else _standardise
        y_train, y_valid, fields = encode(labels, labels_val)
        return cls(inputs, y_train, inputs_val, y_valid, kind, score_by=score_by, **fields)

    @property
    def n_train(self) -> int:
        """Number of training samples."""
        return len(self.X)

    @property
    def device(self) -> torch.device:
        """Where the data are."""
        return self.X.device

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Task:
        """Return the task on another device, or with inputs and regression targets of another dtype."""
        moved = {}
        for name in ("X", "y", "X_val", "y_val"):
            tensor = getattr(self, name)
            moved[name] = tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)
        return replace(self, **moved)

    def loss(self, output: Tensor, target: Tensor) -> Float[Tensor, "*replicas"]:
        """Mean loss over the samples: cross-entropy in nats, or squared error.

        Outputs have shape (..., n, n_outputs), or (..., n) for a regression; targets (..., n).
        """
        if self.kind == "classification":
            if output.ndim < 2 or output.shape[-1] < self.n_outputs:
                raise ValueError(
                    f"the model must give {self.n_outputs} outputs a sample, one a class, got {tuple(output.shape)}"
                )
            flat = torch.nn.functional.cross_entropy(
                output.reshape(-1, output.shape[-1]), target.reshape(-1), reduction="none"
            )
            return flat.reshape(target.shape).mean(-1)
        if output.ndim > target.ndim:
            output = output.squeeze(-1)
        if output.shape[-1:] != target.shape[-1:]:
            raise ValueError(
                f"the model must give one output a sample of a regression, got shape {tuple(output.shape)}"
            )
        return (output - target).square().mean(-1)

    def score(self, output: Tensor, target: Tensor) -> Float[Tensor, "*replicas"]:
        """Accuracy, area under the curve or R^2 (``score_by``); NaN where the output is not finite.

        Shapes are as in :meth:`loss`; one target, shape (n,), may serve all outputs.
        """
        measure = auc if self.score_by == "auc" else accuracy if self.kind == "classification" else r2
        value = measure(output.nan_to_num() if measure is auc else output, target)
        sizes = output.flatten(target.ndim - 1 if output.ndim == target.ndim else -2)
        return torch.where(sizes.isfinite().all(-1), value, math.nan)


def _inputs(X: Any, name: str, image_shape: Sequence[int] | None) -> Float[Tensor, "n ..."]:
    check_unmasked(X, name)
    X = to_numpy(X, name)
    shape = None if image_shape is None else tuple(int(s) for s in image_shape)
    if not hasattr(X, "columns"):  # a data frame keeps its column names for messages
        X = X if isinstance(X, np.ndarray) else check_numbers(X, name, dtype=np.float32)
        if shape is None and X.ndim > 2:
            shape = X.shape[1:]
        X = X.reshape(len(X), -1) if X.ndim > 2 else X
    rows = check_matrix(X, name=name, dtype=np.float32)
    if shape is not None and math.prod(shape) != rows.shape[1]:
        raise ValueError(
            f"image_shape {shape} holds {math.prod(shape)} numbers, rows of {name} {rows.shape[1]}"
        )
    return torch.from_numpy(rows.copy()).reshape(len(rows), *(shape or (-1,)))


def _encode_classes(y: np.ndarray, y_val: np.ndarray) -> tuple[Tensor, Tensor, dict[str, Any]]:
    classes, codes = np.unique(y, return_inverse=True)
    unseen = np.setdiff1d(y_val, classes)
    if len(unseen):
        raise ValueError(
            f"y_val has labels that y does not have: {unseen[:5].tolist()}; split so that every class is trained"
        )
    if len(classes) < 2:
        raise ValueError(f"a classification needs at least two classes, y has only {classes.tolist()}")
    fields = {"n_outputs": len(classes), "classes": tuple(classes.tolist())}
    return torch.from_numpy(codes), torch.from_numpy(np.searchsorted(classes, y_val)), fields


def _standardise(y: np.ndarray, y_val: np.ndarray) -> tuple[Tensor, Tensor, dict[str, Any]]:
    try:
        train, val = np.asarray(y, np.float64), np.asarray(y_val, np.float64)
    except ValueError as error:
        raise ValueError(f"a regression needs numbers as targets ({error})") from error
    mean, scale = float(train.mean()), float(train.std())
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"the regression target must vary and be finite; its standard deviation is {scale}")
    first, second = (torch.from_numpy(((t - mean) / scale).astype(np.float32)) for t in (train, val))
    return first, second, {"n_outputs": 1, "target_mean": mean, "target_scale": scale}
