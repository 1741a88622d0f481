"""Files of arrays: NPY (memory-mapped) and NPZ."""

from __future__ import annotations

import mmap
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..validation import close_matches

X_KEYS = ("X", "x", "data", "features", "embeddings", "images", "X_train", "x_train", "arr_0")
Y_KEYS = ("y", "Y", "labels", "label", "target", "targets", "y_train", "arr_1")

_BLOCK_BYTES = 1 << 26


def take_rows(X: Any, rows: np.ndarray) -> Any:
    """Return these rows, ascending, of an array or tensor; of a memory-mapped file without holding all its pages."""
    if not isinstance(X, np.memmap) or X.mode != "r" or not X.flags.c_contiguous:
        return X[rows]  # pages of a map that can be changed may hold changes
    pages, forget = getattr(X, "_mmap", None), getattr(mmap, "MADV_DONTNEED", None)
    out = np.empty((len(rows), *X.shape[1:]), X.dtype)
    step = max(1, _BLOCK_BYTES // max(1, X.nbytes // len(X)))
    for start in range(0, len(X), step):
        first, last = np.searchsorted(rows, (start, start + step))
        out[first:last] = X[rows[first:last]]
        if pages is not None and forget is not None:
            pages.madvise(forget)
    return out


def open_npy(path: Path) -> Any:
    """Memory-map an ``.npy`` file; one of Python objects is refused."""
    if path.stat().st_size == 0:
        raise ValueError(f"{path.name} is empty")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(_why_not_an_array(path.name, error)) from error


def open_npz(path: Path, target: str | None) -> tuple[Any, Any, str]:
    """Read samples, targets (or None) and the targets' name from an ``.npz`` file.

    ``target`` names the array with the targets, which is found by its usual names if None. Python objects, a name that
    is not there and several arrays that could be the samples are refused.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            keys = list(archive.files)
            x_key, y_key = _choose_keys(keys, path.name, target)
            return archive[x_key], archive[y_key] if y_key else None, y_key or "labels"
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(_why_not_an_array(path.name, error)) from error
    except ValueError as error:
        if "allow_pickle" in str(error) or "pickled" in str(error):
            raise ValueError(_why_not_an_array(path.name, error)) from error
        raise


def _choose_keys(keys: list[str], name: str, target: str | None) -> tuple[str, str | None]:
    if target is not None and target not in keys:
        raise ValueError(
            f"{name} has no array {target!r}.{close_matches(target, keys)} It holds {', '.join(map(repr, keys))}"
        )
    y_key = target or next((key for key in Y_KEYS if key in keys), None)
    left = [key for key in keys if key != y_key]
    x_key = left[0] if len(left) == 1 else next((key for key in X_KEYS if key in left), None)
    if x_key is None:
        raise ValueError(
            f"{name} holds the arrays {', '.join(map(repr, keys)) or '(none)'}; expected one array, or 'X' and 'y'"
        )
    return x_key, y_key


def _why_not_an_array(name: str, error: Exception) -> str:
    if "allow_pickle" in str(error) or "Python objects" in str(error) or "pickled" in str(error).lower():
        return (
            f"{name} holds Python objects (text among the numbers?) or is no NumPy file; expected an array of numbers. "
            "Save it with a numeric dtype, e.g. np.save(name, X.astype(float))"
        )
    return f"{name} is not a NumPy file that can be read ({error})"
