"""A trained classifier as one function, rows in and probabilities out, whatever it is: :func:`read_black_box`.

Explanations, calibration and attacks all ask a model the same thing. This is the one place where scikit-learn's
classifiers, torch's modules and functions are told apart, and where what they answer is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Number
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

from lodim.nets.activations import batches_of, evaluation_mode, first_tensor, model_inputs
from lodim.validation import check_labels, check_matrix, check_numbers, check_tensor, plain_array

__all__ = ["BlackBox", "check_rows", "plain_labels", "read_black_box", "take_rows"]

_SUM = 1e-3  # how far from one a row of probabilities may sum, single and half precision included


@dataclass(frozen=True)
class BlackBox:
    """A classifier as a function.

    Attributes
    ----------
    answer : callable
        Rows, as the model takes them, to probabilities of shape (n, n_classes).
    classes : ndarray, shape (n_classes,)
        Labels in the order of the columns; 0, 1, ... of a module or function that names none.
    module : nn.Module or None
        What gradients are to be had from; it returns logits unless ``is_probability``.
    """

    answer: Callable[[Any], np.ndarray]
    classes: np.ndarray
    name: str
    module: nn.Module | None = None
    is_probability: bool = False

    def predict_proba(self, X: Any) -> Float[np.ndarray, "n k"]:
        """Probabilities of the classes, checked: a row each, which sums to one.

        Raises
        ------
        ValueError
            What the model answers is no such thing.
        """
        X = check_rows(X)
        p = _as_probabilities(self.answer(X), len(X), self.name)
        if p.shape[1] != len(self.classes):
            raise ValueError(
                f"{self.name} answers {p.shape[1]} classes where it answered {len(self.classes)} before"
            )
        return p

    def class_numbers(self, y: Any, n: int) -> Int[np.ndarray, " n"]:
        """Columns of the labels ``y``; a label that is no class of the model is a ValueError."""
        known, labels = _without_objects(self.classes), plain_labels(y, n)
        if (known.dtype.kind in "biuf") != (labels.dtype.kind in "biuf"):
            known, labels = known.astype(str), labels.astype(str)
        order = np.argsort(known)
        at = np.searchsorted(known[order], labels).clip(max=len(known) - 1)
        if (strange := known[order][at] != labels).any():
            raise ValueError(
                f"y has the label {str(labels[strange][0])!r}, which is no class of {self.name}: its classes are "
                f"{', '.join(repr(str(label)) for label in known[:8])}{'' if len(known) <= 8 else ', ...'}. Where the "
                "model names none, say classes=, in the order of its outputs"
            )
        return order[at]


def read_black_box(model: Any, X: Any, *, classes: Any = None) -> BlackBox:
    """Take a classifier as a function, and try it on the first rows of ``X``.

    Parameters
    ----------
    model : classifier, nn.Module or callable
        A fitted scikit-learn classifier with ``predict_proba``. A module that returns logits (one of them: of the
        second of two classes) or rows of probabilities; it is asked in evaluation mode, and left in its own. A
        function from rows to probabilities, (n, n_classes) or of the second of two classes, (n,).
    X : array-like, data frame or Tensor, shape (n, ...)
        Rows as the model takes them.
    classes : array-like, optional
        Labels in the order of the model's columns, where it does not name them itself.

    Raises
    ------
    TypeError
        No classifier, or one without probabilities.
    ValueError
        Answers that are no probabilities, or classes of another number.
    """
    if isinstance(model, BlackBox):
        return model
    name = getattr(model, "__name__", type(model).__name__)
    if name == "<lambda>":
        name = "the function"
    few = take_rows(X, slice(0, 256))
    if 0 in np.shape(few):
        raise ValueError(f"X has no {'columns' if len(few) else 'rows'} to ask the model about")
    module, is_probability = None, False
    if hasattr(model, "predict_proba"):
        answer = model.predict_proba
    elif isinstance(model, nn.Module):
        module = model
        out, unit = _outputs(model, few)
        is_probability = _gives_probabilities(out, name, max(_SUM, unit))
        answer = _of_module(model, is_probability)
    elif hasattr(model, "predict"):
        raise TypeError(
            f"{name} has predict but no predict_proba; wrap it in sklearn.calibration.CalibratedClassifierCV, or give "
            "a function that returns rows of probabilities"
        )
    elif callable(model):
        answer = model
    else:
        raise TypeError(
            f"the model must be a fitted classifier, a torch module or a function, got {type(model).__name__}"
        )
    n_classes = _as_probabilities(answer(few), len(few), name).shape[1]
    if classes is None:
        classes = getattr(model, "classes_", np.arange(n_classes))
    labels = plain_array(classes, "classes", rows=True)
    labels = check_labels(labels, len(labels), name="classes")
    if labels.shape != (n_classes,) or len(np.unique(labels)) != n_classes:
        raise ValueError(f"classes must name the {n_classes} classes of {name}, got {labels.tolist()}")
    return BlackBox(answer, labels, name, module, is_probability)


def plain_labels(y: Any, n: int, *, name: str = "y") -> np.ndarray:
    """Labels of n rows, checked; numbers that stand in an array of objects as the numbers they are."""
    return _without_objects(check_labels(y, n, name=name))


def _without_objects(labels: np.ndarray) -> np.ndarray:
    if labels.dtype.kind != "O" or not all(isinstance(each, Number | np.bool_) for each in labels):
        return labels
    return np.asarray(labels.tolist())


def check_rows(X: Any) -> Any:
    """Rows for a model, as what they are, lists as an array; what holds no rows is refused."""
    if isinstance(X, torch.Tensor):
        check_tensor(X, "X")
    elif not hasattr(X, "shape"):
        return plain_array(X, "X", rows=True)
    if not np.ndim(X):
        raise ValueError(f"X must have rows, shape (n, ...), got {X!r:.80}")
    return X


def take_rows(X: Any, rows: Any) -> Any:
    """Some rows of an array, a data frame or a tensor, as what it is."""
    X = check_rows(X)
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def _of_module(model: nn.Module, is_probability: bool) -> Callable[[Any], np.ndarray]:
    def answer(X: Any) -> np.ndarray:
        out, _ = _outputs(model, X)
        if is_probability:  # those of half precision sum to one only so far
            return (out / out.sum(1, keepdim=True)).numpy()
        if out.ndim == 1 or out.shape[1] == 1:
            return torch.sigmoid(out.reshape(-1)).numpy()
        return out.softmax(1).numpy()

    return answer


def _outputs(model: nn.Module, X: Any) -> tuple[torch.Tensor, float]:
    """What a module returns, batch by batch, in double precision, and the rounding unit of its own."""
    rows = check_matrix(X) if hasattr(X, "columns") else X if isinstance(X, torch.Tensor) else np.asarray(X)
    found, unit = [], 0.0
    with evaluation_mode(model), torch.no_grad():
        for batch in batches_of(rows, 1024):
            inputs, _ = model_inputs(model, batch)
            try:
                said = first_tensor(model(*inputs))
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                shape = tuple(batch.shape[1:])
                raise ValueError(f"the model does not take X, rows of shape {shape}: {error}") from error
            if said.is_floating_point():
                unit = torch.finfo(said.dtype).eps
            found.append(said.double().cpu())
    out = torch.cat(found)
    if out.ndim > 2:
        raise ValueError(f"the module must return one row of logits a sample, got shape {tuple(out.shape)}")
    return out, unit


def _gives_probabilities(out: torch.Tensor, name: str, off: float) -> bool:
    """Whether a module's outputs are probabilities already; that of one output a row cannot be told."""
    inside = bool(((out >= 0) & (out <= 1)).all())
    if inside and (out.ndim == 1 or out.shape[1] == 1):
        raise ValueError(
            f"{name} returns one number a row, all in [0, 1]: logits and probabilities cannot be told apart. Leave out "
            "its last sigmoid, or give a function that returns the probability of the second class"
        )
    return inside and bool(((out.sum(1) - 1).abs() <= off).all())


def _as_probabilities(values: Any, n: int, name: str) -> Float[np.ndarray, "n k"]:
    p = check_numbers(values, f"what {name} returns")
    if p.ndim == 2 and p.shape[1] == 1:
        p = p[:, 0]
    if p.ndim not in (1, 2) or len(p) != n:
        raise ValueError(
            f"{name} must return a row of probabilities for each of {n} rows, got shape {p.shape}"
        )
    if len(none := np.argwhere(np.isnan(p))):
        raise ValueError(
            f"{name} answers NaN to row {none[0, 0]} of X; look whether that row is finite, and of a size that the "
            "model was trained on"
        )
    if not ((p >= -_SUM) & (p <= 1 + _SUM)).all():
        raise ValueError(
            f"{name} must return probabilities, got values from {p.min():.3g} to {p.max():.3g}; take the softmax or "
            "sigmoid of logits"
        )
    if p.ndim == 1:
        p = np.column_stack([1 - p, p])
    if (off := np.abs(p.sum(1) - 1)).max(initial=0) > _SUM:
        raise ValueError(
            f"{name} must return rows that sum to one, but row {off.argmax()} sums to {p[off.argmax()].sum():.4g}"
        )
    return p
