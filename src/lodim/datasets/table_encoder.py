"""Tables of mixed columns in front of an estimator: read once, and new rows read alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ..validation import check_choice, check_kind, plain_array, warn
from .columns import MISSING, OTHER, encode_alike, encode_frame
from .dataset import MAX_COLUMNS, check_width
from .layouts import number_repeated


class TableEncoder(TransformerMixin, BaseEstimator):
    """Turns a data frame of mixed columns into numbers as :func:`read_table` does, and new rows of it alike.

    ``make_pipeline(TableEncoder(), KMeans())`` takes what people have: numbers, dates, words, gaps. What becomes of
    each column is found out in ``fit`` (see :mod:`lodim.datasets.columns`) and said in ``notes_``. In ``transform``

    - numbers are standardised by the mean and deviation of the rows in ``fit``, dates count from their earliest;
    - gaps get their median, or most frequent entry;
    - levels of a category that they had not become the pooled level ``(other)`` where there is one, and otherwise 0 in
      all of its columns, with a warning (in a category of two levels, of one column, this is its first level);
    - a column may come as another type (numbers as text, dates as ISO 8601 text); what cannot be read as in ``fit`` is
      refused.

    Parameters
    ----------
    missing : {"auto", "impute", "error"}
        ``"auto"`` fills gaps and refuses stray text in a column of numbers, ``"impute"`` takes such text as a gap,
        ``"error"`` refuses gaps too.
    scale : bool
        Whether columns of numbers are standardised.

    Attributes
    ----------
    notes_ : tuple of str
        What was done to the table.
    codes_ : tuple of ColumnCode
        What becomes of each column.
    feature_names_in_ : ndarray of str
        Columns of the data frame; not of an array.
    n_features_in_ : int

    Examples
    --------
    >>> import pandas as pd
    >>> from lodim.datasets import TableEncoder
    >>> shop = pd.DataFrame({"price": ["$5", "$7", None, "$12"], "colour": ["red", "blue", "red", "red"]})
    >>> encoder = TableEncoder(scale=False).fit(shop)
    >>> encoder.get_feature_names_out()
    array(['price', 'colour=red'], dtype=object)
    >>> encoder.transform(pd.DataFrame({"price": [8.5, None], "colour": ["red", "blue"]}))
    array([[8.5, 1. ],
           [7. , 0. ]])
    """

    def __init__(self, *, missing: Any = "auto", scale: Any = True) -> None:
        self.missing = missing
        self.scale = scale

    def fit(self, X: Any, y: Any = None) -> TableEncoder:
        """Find out what becomes of each column.

        Parameters
        ----------
        X : pandas.DataFrame or array-like, shape (n, D)
            Columns of an array are called x0, x1, ...
        y : ignored

        Raises
        ------
        TypeError
            ``scale`` is no truth value, or X a sparse matrix.
        ValueError
            Unknown ``missing``; stray text or gaps that it does not allow; fewer than two rows; no column left.
        """
        self.fit_transform(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Do what :meth:`fit` does, and return the rows as numbers, shape (n, D)."""
        check_choice(self.missing, MISSING, "missing")
        check_kind(self.scale, bool, "scale")
        encoded = encode_frame(self._frame(X, reset=True), missing=self.missing, scale=self.scale)
        self.codes_, self.notes_ = encoded.codes, encoded.notes
        return encoded.X

    def transform(self, X: Any) -> np.ndarray:
        """Return more rows as numbers, shape (n, D), by what was found out in :meth:`fit`.

        Parameters
        ----------
        X : pandas.DataFrame or array-like, shape (n, D)
            The same columns in the same order.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        ValueError
            Other columns, or entries that cannot be read as those in :meth:`fit`.
        """
        check_is_fitted(self)
        encoded, unseen = encode_alike(self._frame(X, reset=False), self.codes_, missing=self.missing)
        if unseen:
            each = ", ".join(
                f"{column!r} {len(entries)} ({', '.join(map(repr, sorted(set(entries))[:3]))})"
                for column, entries in list(unseen.items())[:8]
            )
            warn(
                f"{sum(map(len, unseen.values()))} entries are levels that were not there in fit: {each}; they became "
                f"{OTHER!r} where levels were pooled, and 0 in every column of the category elsewhere",
                stacklevel=4,  # scikit-learn wraps this method
            )
        return encoded

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns of numbers: those of numeric columns, and ``column=level``.

        Parameters
        ----------
        input_features : ignored
        """
        check_is_fitted(self)
        # a column may be called as the level of another
        return np.array(number_repeated([name for code in self.codes_ for name in code.names]), dtype=object)

    def _frame(self, X: Any, *, reset: bool) -> Any:
        """Return the table as a data frame; its columns are noted as scikit-learn asks, or compared with those."""
        import pandas as pd

        if isinstance(X, pd.DataFrame):
            names = number_repeated([str(column) for column in X.columns])
            frame = X.reset_index(drop=True).set_axis(names, axis=1)
            validate_data(self, frame, reset=reset, skip_check_array=True)
        else:
            array = validate_data(self, plain_array(X, "X"), reset=reset, dtype=None, ensure_all_finite=False)
            frame = pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])])
        check_width(frame.shape[1], MAX_COLUMNS, "X")
        least = 2 if reset else 1
        if len(frame) < least:
            raise ValueError(
                f"X has {len(frame)} sample(s) (shape={frame.shape}) while a minimum of {least} is required."
            )
        return frame

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing != "error"
        tags.input_tags.string = tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = []
        return tags
