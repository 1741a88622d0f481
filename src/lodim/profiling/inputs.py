"""What a profile is given, checked once: a finite matrix, an encoded target, names, and a seeded split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lodim.datasets import Dataset, encode_target
from lodim.randomness import derive_seed
from lodim.validation import check_labels, check_matrix

MIN_ROWS, MAX_COLUMNS = 10, 100_000
MAX_TRAIN, MAX_VAL = 10_000, 2_500
_VAL_SHARE = 0.2


@dataclass(frozen=True)
class Problem:
    """Checked input.

    Attributes
    ----------
    X : ndarray, shape (n_samples, n_features)
    y : ndarray, shape (n_samples,), or None
        Class codes or real targets.
    classes : tuple of str
        Names of the classes 0, 1, ...
    names : tuple of str
        Of the columns.
    """

    X: np.ndarray
    y: np.ndarray | None
    kind: str | None
    classes: tuple[str, ...]
    names: tuple[str, ...]
    source: str
    target_name: str | None
    image_shape: tuple[int, ...] | None
    notes: tuple[str, ...]

    @property
    def labels(self) -> np.ndarray | None:
        """The class name of every row; None without classes."""
        return None if self.y is None or not self.classes else np.array(self.classes)[self.y]


def read_problem(
    X: Any,
    y: Any,
    *,
    source: str,
    feature_names: Sequence[str] | None,
    target_name: str | None,
    classes: Sequence[str] | None,
    kind: str,
    image_shape: Sequence[int] | None,
    notes: Sequence[str],
) -> Problem:
    """Check what :func:`lodim.profile` was given and bring it into one form.

    Parameters are those of :func:`lodim.profile`.

    Parameters
    ----------
    X : array-like, shape (n_samples, n_features), images of shape (n_samples, ...), or a Dataset
    y : array-like, shape (n_samples,), or None

    Raises
    ------
    ValueError
        With what is wrong and what to do.
    """
    if isinstance(X, Dataset):
        return _from_dataset(X, y, source, notes)
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) > 2:
        image_shape = tuple(shape[1:]) if image_shape is None and len(shape) <= 4 else image_shape
        X = X.reshape(len(X), -1)
    if shape is not None and len(shape) >= 2 and int(np.prod(shape[1:])) > MAX_COLUMNS:
        raise ValueError(
            f"X has {int(np.prod(shape[1:])):,} columns; a profile takes at most {MAX_COLUMNS:,}. Are rows and columns "
            "swapped? Otherwise choose columns, or reduce them first, e.g. with "
            "sklearn.random_projection.SparseRandomProjection, which keeps distances"
        )
    own = getattr(X, "columns", None)
    given = feature_names if feature_names is not None else own
    names = None if given is None else [str(name) for name in given]
    single = str(getattr(X, "dtype", "")).removeprefix("torch.") in (
        "float32",
        "float16",
        "bfloat16",
        "uint8",
    )
    data = check_matrix(X, min_rows=MIN_ROWS, columns=names, dtype=np.float32 if single else np.float64)
    columns = tuple(names) if names is not None else tuple(str(j) for j in range(data.shape[1]))
    if len(columns) != data.shape[1]:
        raise ValueError(f"{len(columns)} feature_names were given for {data.shape[1]} columns of X")
    if image_shape is not None and int(np.prod(tuple(image_shape))) != data.shape[1]:
        raise ValueError(
            f"image_shape {tuple(image_shape)} holds {int(np.prod(tuple(image_shape)))} values, X has "
            f"{data.shape[1]} columns"
        )
    problem = Problem(data, None, None, (), columns, source, target_name, _shape(image_shape), tuple(notes))
    return problem if y is None else _with_target(problem, y, classes, kind)


def _shape(image_shape: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if image_shape is None else tuple(int(s) for s in image_shape)


def _from_dataset(dataset: Dataset, y: Any, source: str, notes: Sequence[str]) -> Problem:
    return read_problem(
        dataset.X,
        dataset.y if y is None else y,
        source=dataset.name if source == "array" else source,
        feature_names=dataset.feature_names,
        target_name=dataset.target_name,
        classes=dataset.classes if y is None else None,
        kind=(dataset.kind or "auto") if y is None else "auto",
        image_shape=dataset.image_shape,
        notes=(*dataset.notes, *notes),
    )


def _with_target(problem: Problem, y: Any, classes: Sequence[str] | None, kind: str) -> Problem:
    values = check_labels(y, len(problem.X))
    name = problem.target_name or "y"
    if classes is not None:
        found = values.astype(np.int64)
        if found.min() < 0 or found.max() >= len(classes):
            raise ValueError(
                f"y names class {found.max()} (or below 0) but classes has {len(classes)} entries"
            )
        used, codes = np.unique(found, return_inverse=True)
        encoded, kind, names = codes, "classification", tuple(str(classes[c]) for c in used)
        extra: tuple[str, ...] = ()
    else:
        target = encode_target(values, name=name, kind=kind)
        encoded, kind, extra = target.y, target.kind, tuple(target.notes)
        names = tuple(map(str, target.classes or ()))
    if kind == "classification" and len(names) < 2:
        raise ValueError(f"{name} holds one class only ({names[0]!r}): there is nothing to tell apart")
    if kind == "regression" and float(np.ptp(encoded)) == 0:
        raise ValueError(f"{name} is constant ({float(encoded[0]):g}): there is nothing to predict")
    return replace(problem, y=encoded, kind=kind, classes=names, notes=(*problem.notes, *extra))


@dataclass(frozen=True)
class Split:
    """Rows for training and for validation, ready for a network.

    Attributes
    ----------
    X, X_val : ndarray of float32
    """

    X: np.ndarray
    y: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray


def split(problem: Problem, seed: int) -> Split:
    """Split four to one (every class by itself), at most 10,000 and 2,500 rows, and scale for training.

    Columns are standardised with the training rows' mean and standard deviation; pixels of images by one mean and one
    standard deviation for all, so that they stay comparable.

    Parameters
    ----------
    problem : Problem
        With a target.
    """
    assert problem.y is not None
    rng = np.random.default_rng(derive_seed(seed, "split"))
    groups = [np.arange(len(problem.y))]
    if problem.kind == "classification":
        groups = [np.flatnonzero(problem.y == c) for c in range(len(problem.classes))]
    share = min(1.0, (MAX_TRAIN + MAX_VAL) / len(problem.y))
    train, held = [], []
    for group in groups:
        kept = rng.permutation(group)[: max(2, round(share * len(group)))]
        n_val = max(1, round(_VAL_SHARE * len(kept))) if len(kept) > 1 else 0
        held.append(kept[:n_val])
        train.append(kept[n_val:])
    rows, rows_val = rng.permutation(np.concatenate(train)), np.concatenate(held)
    X, X_val = problem.X[rows].astype(np.float64), problem.X[rows_val].astype(np.float64)
    axis = None if problem.image_shape is not None else 0
    mean, spread = X.mean(axis), X.std(axis)
    spread = np.where(
        spread > 1e-12 * np.maximum(1.0, np.abs(mean)), spread, np.inf
    )  # constant columns become zero
    scale = lambda A: ((A - mean) / spread).astype(np.float32)  # noqa: E731
    return Split(scale(X), problem.y[rows], scale(X_val), problem.y[rows_val])
