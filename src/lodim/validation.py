"""One way to check inputs and to say what is wrong: what was expected, what came, what to do.

The messages are part of the interface: the command line prints them as they are.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd  # scikit-learn has loaded it anyway
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_array

from lodim.extras import require

__all__ = [
    "MAX_CLASSES",
    "ConvergenceWarning",
    "check_choice",
    "check_fraction",
    "check_in_range",
    "check_labels",
    "check_matrix",
    "check_numbers",
    "close_matches",
    "infer_kind",
    "require",
]

MAX_CLASSES = 20


def close_matches(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x' or 'y'?`` for a mistyped name, or an empty string."""
    lowered = {k.lower(): k for k in map(str, known)}
    found = difflib.get_close_matches(name.lower(), list(lowered), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(lowered[f]) for f in found)}?" if found else ""


def check_choice(value: Any, choices: Collection[str], name: str) -> Any:
    """Return ``value`` if it is one of ``choices``; ``name`` is the parameter's, for the message."""
    if value not in choices:
        listed = ", ".join(repr(c) for c in choices)
        raise ValueError(
            f"{name} must be one of {listed}; got {value!r}.{close_matches(str(value), choices)}"
        )
    return value


def check_in_range(
    value: Any,
    name: str,
    *,
    low: int | float | None = None,
    high: int | float | None = None,
    integer: bool = False,
) -> Any:
    """Return ``value`` if it is a number (``integer``: a whole one) with ``low <= value <= high``.

    Another kind of number, or none, is a TypeError; one outside the limits, or NaN, a ValueError.
    """
    kinds = (int, np.integer) if integer else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise TypeError(f"{name} must be {'an integer' if integer else 'a number'}, got {value!r}")
    if (low is not None and value < low) or (high is not None and value > high) or value != value:
        limits = " and ".join(
            text for text, bound in ((f"at least {low}", low), (f"at most {high}", high)) if bound is not None
        )
        raise ValueError(f"{name} must be {limits or 'a number'}, got {value}")
    return value


def check_fraction(value: Any, name: str) -> float:
    """Return ``value`` if it is a number in [0, 1]."""
    return check_in_range(value, name, low=0.0, high=1.0)


def check_matrix(
    X: Any,
    *,
    name: str = "X",
    min_rows: int = 1,
    columns: Sequence[str] | None = None,
    dtype: Any = np.float64,
) -> np.ndarray:
    """Return ``X`` as a finite 2-D array, or say which row and column is at fault.

    Parameters
    ----------
    X : array-like, shape (n_samples, n_features)
        NumPy array, data frame, nested list or CPU tensor of numbers.
    columns : sequence of str, optional
        Column names for messages; a data frame brings its own.

    Raises
    ------
    TypeError
        A sparse matrix, or objects that are no numbers.
    ValueError
        Wrong number of axes, too few rows, text, complex numbers, masked entries, NaN or infinity.
    """
    columns = list(getattr(X, "columns", [])) or columns
    array = check_numbers(X, name, dtype=dtype)
    if array.ndim == 1:
        raise ValueError(
            f"{name} must be 2-D (rows are samples, columns features), got shape {array.shape}. "
            f"Reshape your data: {name}.reshape(-1, 1) for one feature, {name}.reshape(1, -1) for one sample"
        )
    if array.ndim != 2:
        raise ValueError(
            f"{name} must be 2-D, got shape {array.shape}; flatten each sample with X.reshape(len(X), -1)"
        )
    for count, what, least in ((len(array), "sample(s)", min_rows), (array.shape[1], "feature(s)", 1)):
        if count < least:
            raise ValueError(
                f"{name} has {count} {what} (shape={array.shape}) while a minimum of {least} is required."
            )
    _raise_if_not_finite(array, name, columns)
    # rows of one layout in memory: sums in another order round otherwise, and the same data would answer otherwise
    return check_array(array, dtype=dtype, order="C", ensure_min_samples=min_rows)


def check_numbers(values: Any, name: str, *, dtype: Any = np.float64) -> np.ndarray:
    """Return real numbers of any shape as an array that torch takes too: native, aligned, no view that runs backwards.

    Parameters
    ----------
    values : array-like or Tensor
    name : str
        How messages call them.

    Raises
    ------
    TypeError
        A sparse matrix, or objects that are no numbers.
    ValueError
        Text, complex numbers, rows of different length, or masked entries.
    """
    if hasattr(values, "tocsr"):
        raise TypeError(f"{name} is sparse, and sparse input is not supported; use {name}.toarray()")
    check_unmasked(values, name)
    values = to_numpy(values)
    try:
        if hasattr(values, "__array_function__"):
            values = np.asanyarray(values)
        is_complex = np.iscomplexobj(values)
        array = np.asarray(values, dtype=None if is_complex else np.dtype(dtype).newbyteorder("="))
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{name} must hold numbers only ({error}); encode text and categories first, "
            "or read the table with lodim.datasets.read_table, which does"
        ) from error
    if is_complex:
        raise ValueError(f"Complex data not supported: {name} must hold real numbers")
    odd = any(step < 0 or step % array.itemsize for step in array.strides)
    return array.copy() if odd or not array.flags.aligned else array


def to_numpy(values: Any) -> Any:
    """Return a tensor as an array (in single precision where NumPy lacks its dtype), anything else as it is."""
    if not hasattr(values, "detach"):
        return values
    values = values.detach().cpu()
    return (values.float() if "bfloat16" in str(values.dtype) else values).numpy()


def check_unmasked(values: Any, name: str) -> None:
    """Refuse masked entries, which a plain array would hold as if they were numbers."""
    if count := _count_masked(values):
        raise ValueError(
            f"{name} has {count} masked entries; drop those rows, or impute them with {name}.filled(...)"
        )


def _count_masked(values: Any) -> int:
    if isinstance(values, list | tuple):
        return sum(_count_masked(part) for part in values if isinstance(part, list | tuple | np.ndarray))
    return int(np.ma.count_masked(values)) if isinstance(values, np.ma.MaskedArray) else 0


def _raise_if_not_finite(array: np.ndarray, name: str, columns: Sequence[Any] | None) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum(dtype=np.float64)
    if not np.issubdtype(array.dtype, np.floating) or np.isfinite(total):
        return  # one pass in the common case
    bad = ~np.isfinite(array)
    if not bad.any():
        return
    row, column = (int(i) for i in np.argwhere(bad)[0])
    label = repr(str(columns[column])) if columns is not None else column
    n_nan = int(np.isnan(array).sum())
    what = f"{n_nan} NaN" if n_nan else f"{int(bad.sum())} infinite values"
    raise ValueError(f"{name} has {what}, the first in row {row}, column {label}; drop or impute them")


def check_labels(y: Any, n_samples: int, *, name: str = "y") -> np.ndarray:
    """Return ``y`` as a 1-D array of ``n_samples`` entries, none of them missing or masked."""
    check_unmasked(y, name)
    array = np.asarray(to_numpy(y))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D (one target a sample), got shape {array.shape}")
    if len(array) != n_samples:
        raise ValueError(f"{name} has {len(array)} entries but X has {n_samples} rows; they must match")
    missing = np.asarray(pd.isna(array))
    if missing.any():
        raise ValueError(
            f"{name} has {int(missing.sum())} missing values, the first at {int(missing.argmax())}"
        )
    return array


def infer_kind(values: Any) -> str:
    """Return ``"classification"`` or ``"regression"``, as a target's values (none of them missing) suggest.

    Text, categories and booleans are classes, fractions and dates numbers. Whole numbers are classes when there are at
    most :data:`MAX_CLASSES` different ones, with two samples each on average, and nothing marks them as quantities:

    - three or more, all of them years (1800 to 2100);
    - six or more below -1, from 10 up, or with wide gaps: codes of classes begin near 0 and leave few numbers out;
    - six or more whose frequencies rise to one peak and thin out to single samples at the upper end, as those of counts
      do: a class that is worth a code has samples.
    """
    values = np.asarray(values)
    if values.dtype.kind not in "iufMm":
        return "classification"
    if values.dtype.kind in "Mm" or not np.all(values == np.round(values)):
        return "regression"
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) > MAX_CLASSES or 2 * len(levels) > len(values):
        return "regression"
    least, span, n = float(levels[0]), float(levels[-1]) - float(levels[0]) + 1, len(levels)
    years = n >= 3 and least >= 1800 and levels[-1] <= 2100
    uncoded = n >= 6 and (least < -1 or least >= 10 or span > 5 * n)
    return "regression" if years or uncoded or _thin_out(counts) else "classification"


def _thin_out(counts: np.ndarray) -> bool:
    """Whether frequencies of ordered values rise to one peak, up to sampling noise, and end in a few samples."""
    peak = int(counts.argmax())
    few = min(max(5.0, counts[peak] / 100), counts[peak] / 5)
    if len(counts) < 6 or counts[-1] > few:
        return False
    from scipy.optimize import isotonic_regression
    from scipy.stats import chi2

    sides = (counts[:peak], True), (counts[peak:], False)
    fit = np.concatenate([isotonic_regression(c, increasing=up).x for c, up in sides if len(c)])
    return bool(((counts - fit) ** 2 / fit).sum() <= chi2.isf(1e-3, len(counts)))


def warn(message: str, category: type[Warning] = UserWarning, *, stacklevel: int = 3) -> None:
    """Warn from the caller's caller, so that the line shown is the user's."""
    warnings.warn(message, category, stacklevel=stacklevel)
