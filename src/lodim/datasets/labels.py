"""Labels that come apart from the data: from a file of their own, or as an array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .array_files import open_npy
from .dataset import MAX_VALUES
from .entries import read_target
from .numerals import is_number
from .table_files import choose_column, read_frame


def read_labels(path: str | Path, *, n_samples: int | None = None, column: str | None = None) -> np.ndarray:
    """Read a file of labels, one a sample: text with one label a line, CSV, or NPY. Missing ones are None or NaN.

    Parameters
    ----------
    path : str or Path
        ``.npy``; or a text file (``.txt``, ``.csv``, ``.tsv``, each also ``.gz``), with or without a header line.
    n_samples : int, optional
        How many labels are expected: settles whether a first line of text is a header or a label.
    column : str, optional
        Which column holds the labels when the file has several.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not one label a sample.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no labels file {str(path)!r}")
    if path.suffix == ".npy":
        return _one_column(np.asarray(open_npy(path)), path)
    read = read_frame(path, max_rows=MAX_VALUES)  # which of them are used is chosen with their rows
    frame = read.frame
    if frame.shape[1] > 1 and column is None:
        raise ValueError(
            f"{path.name} has {frame.shape[1]} columns ({', '.join(map(repr, frame.columns[:8]))}); "
            "a labels file has one label a line"
        )
    if frame.shape[1] == 1:
        bare = read_frame(path, max_rows=MAX_VALUES, header=False)
        all_text = not any(is_number(text) for text in bare.frame.iloc[:, 0])
        read = bare if all_text and n_samples is not None and bare.n_total != n_samples + 1 else read
    name = choose_column(read.frame, column) if column else read.frame.columns[0]
    return read_target(read.frame[name], read.readings.get(name), "auto")[0]


def _one_column(array: np.ndarray, path: Path) -> np.ndarray:
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    if array.ndim == 2 and np.isin(array, (0, 1)).all() and np.all(array.sum(1) == 1):
        return array.argmax(1)  # one-hot rows
    if array.ndim != 1:
        raise ValueError(
            f"{path.name} has shape {array.shape}; labels are 1-D (one a sample) or one-hot rows"
        )
    return array


def pick_labels(labels: Any, n_total: int, rows: np.ndarray | slice) -> np.ndarray:
    """Return the labels (or those of a file) of the rows that were read; all ``n_total`` rows must have one."""
    is_file = isinstance(labels, str | Path)
    values = read_labels(labels, n_samples=n_total) if is_file else np.asarray(labels)
    if len(values) != n_total:
        where = f"the labels file {Path(labels).name!r}" if is_file else "labels"
        raise ValueError(
            f"{where} has {len(values):,} entries but the data have {n_total:,} rows; they must match one to one"
        )
    return values[rows]
