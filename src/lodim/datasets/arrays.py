"""Arrays of numbers: NPY and NPZ files, and arrays in memory.

An array is taken as it is: its columns are believed to share a unit (pixels, embeddings), so nothing is standardised,
and a gap is an error unless filling in is asked for. Nothing is copied that need not be: numbers in single or double
precision stay what and where they are (a file's stay a read-only memory map); too many rows are sampled before anything
else is done with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..randomness import RandomState
from ..validation import check_choice, check_matrix, check_unmasked, to_numpy
from .array_files import open_npy, open_npz, take_rows
from .columns import MISSING
from .dataset import MAX_COLUMNS, MAX_ROWS, Dataset, check_width, choose_rows, row_limit, sampled_note
from .labels import pick_labels
from .targets import attach, with_target


def read_npy(
    path: str | Path,
    *,
    target: str | None = None,
    labels: Any = None,
    missing: str = "auto",
    max_rows: int = MAX_ROWS,
    max_columns: int = MAX_COLUMNS,
    random_state: RandomState = 0,
) -> Dataset:
    """Read an ``.npy`` file (memory-mapped), or an ``.npz`` file with arrays ``X`` and, if there is one, ``y``.

    Parameters
    ----------
    path : str or Path
        Arrays of shape (n,), (n, D), or images (n, height, width) and with channels first or last.
    target : str, optional
        Name of the array with the targets in an ``.npz`` file.
    labels : str, Path or array-like, optional
        Targets from elsewhere, one a row.
    missing : {"auto", "impute", "error"}
        ``"impute"`` fills gaps in with the column's median; otherwise they are an error.
    max_rows, max_columns : int
        More rows are sampled, by ``random_state``; more columns are refused.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not numbers, gaps, an unknown array name, labels of another length.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    if target is not None and labels is not None:
        raise ValueError("give the name of the target array or a labels file, not both")
    if path.suffix == ".npz":
        X, y, target_name = open_npz(path, target)
        labels = y if labels is None else labels
    elif target is not None:
        raise ValueError(
            f"{path.name} holds one array without names; give its targets in a labels file instead"
        )
    else:
        X, target_name = open_npy(path), "labels"
    return from_arrays(
        X, labels, name=path.name, target_name=target_name, missing=missing, max_rows=max_rows,
        max_columns=max_columns, random_state=random_state,
    )  # fmt: skip


def from_arrays(
    X: Any,
    y: Any = None,
    *,
    name: str = "data",
    target_name: str = "y",
    missing: str = "auto",
    max_rows: int = MAX_ROWS,
    max_columns: int = MAX_COLUMNS,
    random_state: RandomState = 0,
) -> Dataset:
    """Make a data set of arrays: sampled when large, flattened when images, checked.

    ``X`` has shape (n,), (n, D), (n, height, width) or that with channels; ``y`` may be a labels file.
    """
    check_choice(missing, MISSING, "missing")
    check_unmasked(X, name)
    check_unmasked(y, target_name)
    X, y = to_numpy(X), to_numpy(y)
    X = X if isinstance(X, np.ndarray) else np.asarray(X)
    _check_numeric(X, name)
    if X.ndim == 0 or X.size == 0:
        raise ValueError(f"{name} has shape {X.shape}; expected samples in rows")
    n_total, n_columns = len(X), int(np.prod(X.shape[1:], dtype=np.int64))
    check_width(n_columns, max_columns, name)
    limit, notes = row_limit(n_columns, max_rows), list[str]()
    rows: Any = slice(None)
    if n_total > limit:
        rows = choose_rows(n_total, limit, random_state)
        notes.append(sampled_note(n_total, limit))
        X = take_rows(X, rows)
    X, image_shape, said = _flatten(np.asarray(X))
    notes.extend(said)
    target = None
    if y is not None:
        keep, target = attach(pick_labels(y, n_total, rows), target_name, missing)
        notes.extend(target.notes)
        X = X if keep.all() else X[keep]
    X, said = _fill(X, missing)
    notes.extend(said)
    X = check_matrix(X, name=name, dtype=X.dtype)
    dataset = Dataset(X=X, name=name, image_shape=image_shape, notes=tuple(notes))
    return dataset if target is None else with_target(dataset, target, target_name)


def _check_numeric(X: np.ndarray, name: str) -> None:
    if X.dtype.names:
        raise ValueError(
            f"{name} is a table with the fields {', '.join(map(repr, X.dtype.names))}; read it as one: "
            "lodim.datasets.read_table(pandas.DataFrame(array))"
        )
    if X.dtype.kind in "OUSV":
        sample = next((v for v in X.ravel()[:10_000] if not _is_float(v)), X.ravel()[0] if X.size else "")
        raise ValueError(
            f"{name} holds {_kind_name(X.dtype)} (e.g. {str(sample)[:40]!r}), not numbers; convert it with "
            ".astype(float), or save a mixed table as CSV"
        )
    if X.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} holds {_kind_name(X.dtype)}, not real numbers; use e.g. its real and imaginary parts"
        )


def _is_float(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _kind_name(dtype: np.dtype) -> str:
    names = {"O": "Python objects", "U": "text", "S": "bytes", "V": "records", "c": "complex numbers"}
    return names.get(dtype.kind, str(dtype))


def _flatten(X: np.ndarray) -> tuple[np.ndarray, tuple[int, ...] | None, list[str]]:
    """Return X as (n, D) floats, the image shape where it has one, and notes."""
    shape = X.shape
    single = X.dtype in (np.float32, np.float16, np.uint8)
    floats: Any = X.astype(np.float32 if single else np.float64, copy=False)
    if X.ndim == 1:
        return floats[:, None], None, ["one axis: read as one column"]
    if X.ndim == 2:
        return floats, None, []
    is_image = X.ndim == 3 or (X.ndim == 4 and (shape[1] in (1, 3, 4) or shape[3] in (1, 3, 4)))
    if not is_image:
        return floats.reshape(shape[0], -1), None, [f"samples of shape {shape[1:]} were flattened"]
    if X.ndim == 3:
        floats = floats[:, None]
    elif shape[1] not in (1, 3, 4):
        floats = floats.transpose(0, 3, 1, 2)
    image_shape = tuple(int(s) for s in floats.shape[1:])
    notes = [f"images of {image_shape[1]} x {image_shape[2]} pixels, channels: {image_shape[0]}"]
    if X.dtype == np.uint8:
        floats /= np.float32(255)
        notes.append("pixels were scaled to [0, 1]")
    return floats.reshape(shape[0], -1), image_shape, notes


def _fill(X: np.ndarray, missing: str) -> tuple[np.ndarray, list[str]]:
    gaps = ~np.isfinite(X) if missing == "impute" else np.zeros(0, dtype=bool)
    if not gaps.any():
        return X, []
    if gaps.all(axis=0).any():
        raise ValueError(f"column {int(gaps.all(axis=0).argmax())} has no finite value; drop it")
    note = f"ATTENTION, {int(gaps.sum())} values in {int(gaps.any(0).sum())} columns were filled in (median)"
    filled = X.copy()
    for j in np.flatnonzero(gaps.any(axis=0)):
        filled[gaps[:, j], j] = np.median(X[~gaps[:, j], j])
    return filled, [note]
