"""Agreement of clusters with classes."""

from __future__ import annotations

from typing import Any

from scipy.optimize import linear_sum_assignment
from sklearn.metrics.cluster import contingency_matrix

from lodim.validation import check_labels, checked, plain_array

__all__ = ["clustering_accuracy"]


@checked
def clustering_accuracy(y_true: Any, y_pred: Any) -> float:
    """Accuracy under the best one-to-one naming of clusters by classes (H. W. Kuhn's Hungarian method, 1955).

    Numbers of clusters and classes may differ; what is left without a partner counts as wrong.

    Parameters
    ----------
    y_true, y_pred : array-like, shape (n,)
        Any labels, text too.

    Raises
    ------
    ValueError
        No labels, missing ones, or different numbers of them.

    Examples
    --------
    >>> clustering_accuracy(["a", "a", "b", "b"], [1, 1, 0, 2])
    0.75
    """
    classes = check_labels(y_true, len(plain_array(y_true, "y_true", rows=True)), name="y_true")
    clusters = check_labels(y_pred, len(classes), name="y_pred")
    if not len(classes):
        raise ValueError("y_true is empty; accuracy needs at least one label")
    table = contingency_matrix(classes, clusters)
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / len(classes))
