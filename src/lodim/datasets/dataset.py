"""The form in which all data arrive: :class:`Dataset`; and in which a model is given them: :class:`Split`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..randomness import RandomState, as_generator
from ..validation import check_choice, check_labels

MAX_ROWS = 100_000  # more rows than this are sampled: neighbour searches and training gain nothing from them
MAX_COLUMNS = 100_000  # more columns than this are refused
MAX_VALUES = 200_000_000  # rows times columns that are read into memory (1.6 GB in double precision)
MIN_ROWS = 10  # fewer rows say nothing about a dimension


@dataclass(frozen=True, eq=False)
class Dataset:
    """A matrix of numbers, its target and what is known about both.

    Attributes
    ----------
    X : ndarray of float, shape (n, D)
        One sample a row. Pixels lie in [0, 1], in the order of ``image_shape``.
    y : ndarray, shape (n,), or None
        Class numbers 0, 1, ... for classification, floats for regression.
    feature_names : sequence of str or None
        One a column.
    classes : list of str or None
        Name of class 0, 1, ...
    kind : {"classification", "regression"} or None
        None without a target.
    image_shape : tuple of int or None
        (channels, height, width): ``X.reshape(-1, *image_shape)`` is a batch of images.
    notes : tuple of str
        What was done to the data while reading them.
    dimension : int or None
        The true intrinsic dimension, for synthetic data.
    origins : tuple of str or None
        For each column of ``X`` the column of the user's table it was made of: the 0/1 columns of a category share one.
    column_kinds : mapping of str to str, or None
        What each of these columns is: ``"number"``, ``"date"``, ``"duration"``, ``"boolean"``, ``"category"`` or
        ``"ordinal"``.
    seconds_to_read : float
        What reading takes on a laptop, judged by the size of the file alone: a profile plans with the rest of its time.

    Raises
    ------
    ValueError
        ``X`` is not 2-D, or the target, the names, the origins or the image shape do not fit it.
    """

    X: np.ndarray
    y: np.ndarray | None = None
    name: str = "data"
    feature_names: Sequence[str] | None = None
    target_name: str | None = None
    classes: list[str] | None = None
    kind: str | None = None
    image_shape: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()
    dimension: int | None = None
    origins: tuple[str, ...] | None = None
    column_kinds: Mapping[str, str] | None = None
    seconds_to_read: float = 0.0

    def __post_init__(self) -> None:
        if self.X.ndim != 2:
            raise ValueError(f"X must be 2-D (rows are samples, columns features), got shape {self.X.shape}")
        if self.y is not None:
            check_labels(self.y, len(self.X))
            check_choice(self.kind, ("classification", "regression"), "kind")
        if self.feature_names is not None and len(self.feature_names) != self.X.shape[1]:
            raise ValueError(f"{len(self.feature_names)} feature names for {self.X.shape[1]} columns")
        if self.origins is not None and len(self.origins) != self.X.shape[1]:
            raise ValueError(f"{len(self.origins)} origins for {self.X.shape[1]} columns")
        if self.column_kinds is not None and set(self.column_kinds) != set(self.origins or ()):
            raise ValueError("column_kinds must name the columns of origins, each once")
        if self.image_shape is not None and np.prod(self.image_shape) != self.X.shape[1]:
            raise ValueError(f"image_shape {self.image_shape} does not hold {self.X.shape[1]} values")

    def __str__(self) -> str:
        text = f"{self.name}: {self.X.shape[0]:,} samples, {self.X.shape[1]:,} columns"
        if self.y is not None and self.kind == "classification":
            n_classes = len(self.classes) if self.classes is not None else len(np.unique(self.y))
            text += f", {n_classes} classes" + (f" ({self.target_name})" if self.target_name else "")
        elif self.kind == "regression":
            text += f", target {self.target_name or 'y'}"
        return text

    def __repr__(self) -> str:
        return f"<Dataset {self}>"

    @property
    def n_table_columns(self) -> int:
        """How many columns of the user's table ``X`` was made of; its own columns where that is not known."""
        return self.X.shape[1] if self.origins is None else len(set(self.origins))

    @property
    def labels(self) -> np.ndarray | None:
        """The class name of every row; None without named classes."""
        return None if self.y is None or not self.classes else np.array(self.classes)[self.y]

    def take(self, rows: Any) -> Dataset:
        """Return the data set of these rows: numbers, a mask or a slice, as NumPy takes them."""
        y = None if self.y is None else self.y[rows]
        return replace(self, X=self.X[rows], y=y)

    def to_frame(self) -> Any:
        """Return a pandas data frame: the columns, then the target (by class name where there are classes)."""
        import pandas as pd

        columns = None if self.feature_names is None else list(self.feature_names)
        frame = pd.DataFrame(self.X, columns=columns)
        if self.y is not None:
            names = self.labels
            frame[self.target_name or "target"] = self.y if names is None else names.astype(object)
        return frame


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to train on, and rows held out: ``X`` of shape (n, D), ``y`` (n,)."""

    X: np.ndarray
    y: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray


def row_limit(n_columns: int, max_rows: int = MAX_ROWS) -> int:
    """Return how many rows of ``n_columns`` values are read at most."""
    return max(1, min(int(max_rows), MAX_VALUES // max(n_columns, 1)))


def choose_rows(n_total: int, limit: int, random_state: RandomState) -> np.ndarray:
    """Return ``limit`` of ``n_total`` row numbers, ascending, drawn at random."""
    return np.sort(as_generator(random_state).choice(n_total, limit, replace=False))


def sampled_note(n_total: int, n: int) -> str:
    """Say that ``n`` of ``n_total`` rows stand for all of them."""
    return (
        f"{n_total:,} rows: a random sample of {n:,} is used, and what is said of equal rows, gaps and columns is said "
        "of the sample"
    )


def check_width(n_columns: int, max_columns: int, name: str) -> None:
    """Refuse data (called ``name`` in the message) with more columns than can be handled."""
    if n_columns > max_columns:
        raise ValueError(
            f"{name} has {n_columns:,} columns; at most {max_columns:,} can be read. Are rows and columns swapped? "
            "Otherwise choose columns, or reduce them first (e.g. sklearn.random_projection.SparseRandomProjection)"
        )
