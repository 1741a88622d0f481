"""What estimators about labelled points have alike: labels are needed, and there are classes to tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from lodim.validation import check_labels, check_matrix


class LabelledEstimator(BaseEstimator):
    """An estimator of points and their classes."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _read(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows, their labels, and the classes, ascending; notes the columns as scikit-learn asks."""
        data = check_matrix(X)
        validate_data(self, X if hasattr(X, "columns") else data, skip_check_array=True)
        if y is None:
            name = type(self).__name__
            raise ValueError(f"{name} requires y to be passed, but the target y is None: give class labels")
        labels = check_labels(y, len(data))
        if labels.dtype == object and (plain := np.asarray(labels.tolist())).dtype.kind in "biuf":
            labels = plain  # numbers held as objects
        check_classification_targets(labels)
        classes = np.unique(labels)
        if len(classes) < 2:
            raise ValueError(
                f"classes are compared: y must hold at least two, got 1 class ({labels[:1].tolist()[0]!r})"
            )
        return data, labels, classes
