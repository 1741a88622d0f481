"""Tables of mixed columns as numbers: files (CSV and its kin, Parquet) and data frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..randomness import RandomState
from .columns import encode_frame
from .dataset import MAX_COLUMNS, MAX_ROWS, Dataset, check_width, row_limit
from .entries import read_target
from .labels import pick_labels
from .layouts import number_repeated
from .table_files import Frame, choose_column, read_frame, sample_rows
from .targets import attach, with_target

_LABEL_NAMES = ("target", "label", "labels", "class", "species", "y", "outcome", "category")


def read_table(
    source: Any,
    *,
    target: str | None = None,
    labels: Any = None,
    missing: str = "auto",
    scale: bool = True,
    max_rows: int = MAX_ROWS,
    max_columns: int = MAX_COLUMNS,
    random_state: RandomState = 0,
    name: str | None = None,
) -> Dataset:
    """Read a table of mixed columns as numbers (see :mod:`lodim.datasets.columns` for what becomes of each).

    Parameters
    ----------
    source : str, Path or pandas.DataFrame
        A CSV, TSV or similar text file (``.gz``, ``.bz2``, ``.xz`` and ``.zip`` too), a Parquet file, a spreadsheet
        (``.xlsx``, ``.xls``, ``.ods``; extra ``excel``), or a data frame.
    target : str, optional
        Column to predict: its name, or its position (``"-1"`` is the last).
    labels : str, Path or array-like, optional
        Targets from a file of their own, one a row.
    missing : {"auto", "impute", "error"}
        What becomes of gaps and of text among numbers (see :func:`lodim.datasets.encode_columns`).
    scale : bool
        Whether columns of numbers are standardised.
    max_rows, max_columns : int
        More rows are sampled, by ``random_state``; more columns are refused.
    name : str, optional
        Name of the data set; by default the file's.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not a table, unknown target (close matches are suggested), stray text among numbers, too many columns,
        labels of another length.
    """
    if hasattr(source, "columns"):
        frame = source.reset_index(drop=True)
        check_width(frame.shape[1], max_columns, name or "the data frame")
        frame = frame.set_axis(number_repeated([str(c) for c in frame.columns]), axis=1)
        read = sample_rows([frame], row_limit(frame.shape[1], max_rows), random_state)
        name = name or "data frame"
    else:
        read = read_frame(
            source,
            max_rows=max_rows,
            max_columns=max_columns,
            random_state=random_state,
            every_row=labels is not None,
        )
        name = name or Path(source).name
    if target is not None and labels is not None:
        raise ValueError("give a target column or a labels file, not both")
    return _assemble(read, name, target=target, labels=labels, missing=missing, scale=scale)


def _assemble(
    read: Frame, name: str, *, target: str | None, labels: Any, missing: str, scale: bool
) -> Dataset:
    """Split the target off, encode the rest."""
    frame, notes = read.frame, list(read.notes)
    target_name, encoded = "labels", None
    if target is not None:
        target_name = choose_column(frame, target)
        raw, said = read_target(frame[target_name], read.readings.get(target_name), missing)
        notes.extend(said)
        frame = frame.drop(columns=target_name)
    elif labels is not None:
        raw = pick_labels(labels, read.n_total, frame.index.to_numpy())
    if target is not None or labels is not None:
        keep, encoded = attach(raw, target_name, missing)
        frame = frame[keep]
        notes.extend(encoded.notes)
    else:
        notes.extend(_label_hint(frame))
    table = encode_frame(frame, read.readings, missing=missing, scale=scale)
    dataset = Dataset(
        X=table.X, name=name, feature_names=table.names, notes=(*notes, *table.notes), origins=table.origins,
        column_kinds=table.kinds,
    )  # fmt: skip
    return dataset if encoded is None else with_target(dataset, encoded, target_name)


def _label_hint(frame: Any) -> list[str]:
    found = [str(c) for c in frame.columns if str(c).lower() in _LABEL_NAMES]
    return (
        [f"no target was named: column {found[0]!r} is read as a feature (name it as the target?)"]
        if found
        else []
    )
