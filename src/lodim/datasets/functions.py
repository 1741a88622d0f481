"""Python objects named on a command line: ``package.module:function``."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..randomness import RandomState
from ..validation import close_matches
from .arrays import from_arrays
from .dataset import MAX_COLUMNS, MAX_ROWS, Dataset
from .tables import read_table

_PATTERN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_object_name(text: str) -> bool:
    """Whether a text is of the form ``package.module:name``."""
    return _PATTERN.fullmatch(text) is not None


def resolve(text: str) -> Any:
    """Import the object that ``package.module:name`` names; modules of the current folder are found too.

    Whatever is in the way, an error while importing included, is a ValueError; close matches of names are suggested.
    """
    if not is_object_name(text):
        raise ValueError(f"expected package.module:name, got {text!r}")
    module_name, _, path = text.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise ValueError(
                f"no module {error.name!r} for {text!r}; it is looked for in the current folder and among the "
                "installed packages"
            ) from error
        raise ValueError(
            f"importing {module_name!r} failed: it needs {error.name!r}, which is missing"
        ) from error
    except Exception as error:
        raise ValueError(f"importing {module_name!r} failed: {type(error).__name__}: {error}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            public = [name for name in dir(found) if not name.startswith("_")]
            raise ValueError(f"module {module_name!r} has no {path!r}.{close_matches(part, public)}")
        found = getattr(found, part)
    return found


def read_function(
    source: str,
    *,
    target: str | None = None,
    labels: Any = None,
    missing: str = "auto",
    max_rows: int = MAX_ROWS,
    max_columns: int = MAX_COLUMNS,
    random_state: RandomState = 0,
) -> Dataset:
    """Call ``package.module:function`` and take what it returns as data.

    Parameters
    ----------
    source : str
        The function takes no arguments and returns ``(X, y)``, ``X`` alone, a data frame, a :class:`Dataset`, or a
        torch data set of (sample, target) pairs.
    target : str, optional
        Column to predict, when it returns a data frame.
    labels, missing, max_rows, max_columns, random_state
        As for the readers of files.

    Raises
    ------
    ValueError
        No such function, it fails, or it returns something else.
    """
    function = resolve(source)
    if not callable(function):
        raise ValueError(f"{source} is a {type(function).__name__}, not a function that returns (X, y)")
    try:
        returned = function()
    except Exception as error:
        raise ValueError(f"{source} failed: {type(error).__name__}: {error}") from error
    options: dict[str, Any] = {
        "missing": missing, "max_rows": max_rows, "max_columns": max_columns, "random_state": random_state,
        "name": source,
    }  # fmt: skip
    X, y = _split(returned, source)
    if labels is not None:
        y = labels
    if isinstance(X, Dataset):
        if target is not None or labels is not None:
            raise ValueError(f"{source} returns a Dataset, which brings its own target")
        return X
    if hasattr(X, "columns"):
        return read_table(X, target=target, labels=y, **options)
    if target is not None:
        raise ValueError(f"{source} returns an array, which has no column names: leave the target out")
    return from_arrays(X, y, **options)


def _split(returned: Any, source: str) -> tuple[Any, Any]:
    """Return what a function returned as X and y (or None)."""
    if isinstance(returned, tuple | list) and len(returned) == 2 and not np.isscalar(returned[0]):
        return returned[0], returned[1]
    if isinstance(returned, tuple) or returned is None or np.isscalar(returned):
        what = f"{len(returned)} things" if isinstance(returned, tuple) else repr(returned)[:40]
        raise ValueError(f"{source} must return (X, y), X, a data frame or a Dataset; it returned {what}")
    is_pairs = hasattr(returned, "__getitem__") and hasattr(returned, "__len__")
    is_array = hasattr(returned, "__array__") or hasattr(returned, "columns") or isinstance(returned, list)
    if is_pairs and not is_array:
        pairs = [returned[i] for i in range(len(returned))]
        if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs):
            raise ValueError(
                f"{source} returned a {type(returned).__name__} whose items are not (sample, target)"
            )
        X = np.stack([np.asarray(x) for x, _ in pairs])
        return X, np.asarray([np.asarray(t).item() for _, t in pairs])
    return returned, None
