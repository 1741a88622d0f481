"""Labels of which some are missing: scikit-learn's convention, -1, for numbers; None or NaN too, for any kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from lodim.validation import check_labels, plain_array

__all__ = ["PartialLabels", "read_partial_labels"]


@dataclass(frozen=True)
class PartialLabels:
    """Labels of some rows.

    Attributes
    ----------
    classes : ndarray, shape (n_classes,)
        The distinct labels, sorted, as they were given.
    codes : int ndarray, shape (n,)
        For each row the position of its label in ``classes``, -1 where it has none.
    """

    classes: np.ndarray
    codes: Int[np.ndarray, " n"]

    @property
    def known(self) -> Bool[np.ndarray, " n"]:
        """Which rows have a label."""
        return self.codes >= 0


def read_partial_labels(y: Any, n_samples: int) -> PartialLabels:
    """Read y, in which -1 marks rows without a label.

    Among texts None, NaN and the text ``"-1"`` (which NumPy makes of -1 among texts) mark them, among numbers NaN too.

    Raises
    ------
    ValueError, TypeError
        Not one label a row, or texts and numbers mixed.
    """
    array = plain_array(y, "y")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        check_labels(array, n_samples)  # which says what is wrong
    if array.dtype.kind == "V":
        raise TypeError("y must hold labels, one a row, got records of several fields")
    missing = np.asarray(pd.isna(array), dtype=bool)
    present = array[~missing]
    as_text = present.dtype.kind in "US" or any(isinstance(label, str) for label in present)
    unlabelled = np.array([str(label) == "-1" for label in present], dtype=bool) if as_text else present == -1
    missing[~missing] = unlabelled
    check_labels(np.zeros(len(array)), n_samples)
    labels = check_labels(array[~missing], int((~missing).sum()))
    if labels.dtype.kind == "O":
        labels = np.array(labels.tolist())
    classes, inverse = np.unique(labels, return_inverse=True)
    codes = np.full(n_samples, -1, dtype=np.int64)
    codes[~missing] = inverse
    return PartialLabels(classes, codes)
