"""Whatever a person points at, as a :class:`Dataset`."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..randomness import RandomState
from ..validation import check_choice, close_matches
from .columns import MISSING
from .dataset import MAX_COLUMNS, MAX_ROWS, MIN_ROWS, Dataset, choose_rows, row_limit, sampled_note
from .named import TABLES, load, names

# Bytes a second that a laptop reads; of text up to so many are parsed, beyond them lines are drawn (see thinned.py).
_TEXT, _PACKED, _COLUMNS, _NUMBERS, _DRAWN = 4e7, 8e6, 8e7, 1e9, 2.5e8
_PARSED_BYTES = 2e8
_PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zip", ".xlsx", ".xls", ".ods")


def read_source(
    source: str | Path,
    *,
    target: str | None = None,
    labels: str | Path | None = None,
    missing: str = "auto",
    split: str = "all",
    max_rows: int = MAX_ROWS,
    max_columns: int = MAX_COLUMNS,
    random_state: RandomState = 0,
) -> Dataset:
    """Read data of any kind the library knows.

    Parameters
    ----------
    source : str or Path
        A named data set; a CSV, TSV, Parquet or spreadsheet table; an NPY or NPZ file; a folder of images; or
        ``package.module:function``. A name wins over a file of the same name (write ``./name`` for the file).
    target : str, optional
        Column of a table (or array of an NPZ file) to predict.
    labels : str or Path, optional
        File with one label a row, instead.
    missing : {"auto", "impute", "error"}
        ``"auto"`` fills gaps of a table in, and says so, but refuses text among numbers and gaps in arrays;
        ``"impute"`` fills those in too; ``"error"`` refuses every gap.
    split : {"train", "test", "all"}
        Of a named data set.
    max_rows, max_columns : int
        More rows are sampled, by ``random_state``; more columns are refused.

    Raises
    ------
    FileNotFoundError
        No such file, folder or name (close matches are suggested).
    ValueError
        Anything else that is wrong with the data; says what, where, and what to do.
    """
    check_choice(missing, MISSING, "missing")
    if target is not None and labels is not None:
        raise ValueError("give a target column or a labels file, not both")
    if labels is not None and not Path(labels).is_file():
        raise FileNotFoundError(f"no labels file {str(labels)!r}")
    options: dict[str, Any] = {
        "labels": labels, "missing": missing, "max_rows": max_rows, "max_columns": max_columns,
        "random_state": random_state,
    }  # fmt: skip
    if str(source) in names():
        dataset = _named(str(source), split, target, labels, max_rows, random_state)
    else:
        dataset = _from_path(source, target, options)
    if len(dataset.X) < MIN_ROWS:
        raise ValueError(
            f"{dataset.name} has {len(dataset.X)} rows; an estimate of dimension needs at least {MIN_ROWS}, and says "
            "something from about 100 on"
        )
    return replace(dataset, seconds_to_read=0.0 if str(source) in names() else _seconds_to_read(source))


def _seconds_to_read(source: str | Path) -> float:
    """Judge from a file's kind and size alone what reading it takes; 0 for anything but a file."""
    path = Path(source).expanduser()
    if not path.is_file():
        return 0.0
    size, suffix = path.stat().st_size, path.suffix.lower()
    if suffix in (".npy", ".npz"):
        return size / _NUMBERS
    if suffix in (".parquet", ".pq"):
        return size / _COLUMNS
    if suffix in _PACKED_SUFFIXES:
        return size / _PACKED
    return min(size, _PARSED_BYTES) / _TEXT + max(0.0, size - _PARSED_BYTES) / _DRAWN


def _from_path(source: str | Path, target: str | None, options: dict[str, Any]) -> Dataset:
    """Read a file, a folder or a function."""
    from .functions import is_object_name, read_function

    path = Path(source).expanduser()
    if path.is_dir():
        from .images import read_images

        if target is not None:
            raise ValueError(
                f"{path.name!r} is a folder of images: its classes are its sub-folders, leave out target"
            )
        return read_images(path, **options)
    if not path.exists():
        if is_object_name(str(source)):
            return read_function(str(source), target=target, **options)
        raise FileNotFoundError(_not_found(str(source), path))
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] in (["." + s] for s in ("npy", "npz")):
        from .arrays import read_npy

        return read_npy(path, target=target, **options)
    from .tables import read_table

    return read_table(path, target=target, **options)


def _not_found(source: str, path: Path) -> str:
    files = list(path.parent.iterdir()) if path.parent.is_dir() else []
    # Stems are compared first: a common suffix makes any two names alike.
    beside = [p.name for p in files if get_close_matches(path.stem.lower(), [p.stem.lower()])]
    hint = close_matches(source, names()) or close_matches(path.name, beside)
    return (
        f"no file, folder or data set {source!r}.{hint} Data sets are {', '.join(names()[:8])}, ... "
        "(lodim datasets lists them); a function is written package.module:function"
    )


def _named(
    name: str, split: str, target: str | None, labels: Any, max_rows: int, random_state: RandomState
) -> Dataset:
    """Load a named data set; standardise it if it is a table, sample it if it is large."""
    if target is not None or labels is not None:
        raise ValueError(f"the data set {name!r} brings its own target; leave out target and labels")
    dataset = load(name, split=split)
    if name in TABLES:
        from .columns import encode_frame

        table = encode_frame(replace(dataset, y=None).to_frame())
        dataset = replace(
            dataset, X=table.X, feature_names=table.names, notes=(*dataset.notes, *table.notes),
            origins=table.origins, column_kinds=table.kinds,
        )  # fmt: skip
    limit = row_limit(dataset.X.shape[1], max_rows)
    if len(dataset.X) > limit:
        note = sampled_note(len(dataset.X), limit)
        sample = dataset.take(choose_rows(len(dataset.X), limit, random_state))
        dataset = replace(sample, notes=(*dataset.notes, note))
    return dataset
