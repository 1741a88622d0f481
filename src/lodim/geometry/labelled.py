"""What estimators about labelled points check alike: rows, labels, and that there are classes to tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from lodim.validation import check_labels, check_matrix

__all__ = ["read_labelled"]


def read_labelled(estimator: Any, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows, their labels, and the classes; notes the columns in the estimator as scikit-learn asks.

    Parameters
    ----------
    estimator : BaseEstimator
    X : array-like or Tensor, shape (n_samples, n_features)
    y : array-like, shape (n_samples,)

    Returns
    -------
    X : ndarray, shape (n_samples, n_features)
    labels : ndarray, shape (n_samples,)
    classes : ndarray, shape (n_classes,)
        Ascending, at least two.

    Raises
    ------
    ValueError
        Bad input, no labels, targets that are no classes, or a single class.
    """
    data = check_matrix(X)
    validate_data(estimator, X if hasattr(X, "columns") else data, skip_check_array=True)
    if y is None:
        name = type(estimator).__name__
        raise ValueError(f"{name} requires y to be passed, but the target y is None: give class labels")
    labels = check_labels(y, len(data))
    check_classification_targets(labels)
    classes = np.unique(labels)
    if len(classes) < 2:
        raise ValueError(f"classes are compared: y must hold at least two, got 1 class ({labels[0]!r})")
    return data, labels, classes
