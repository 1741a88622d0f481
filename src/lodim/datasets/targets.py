"""Targets: classes or numbers (:func:`lodim.validation.infer_kind` decides)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..validation import MAX_CLASSES, check_choice, infer_kind
from .dataset import Dataset
from .numerals import is_one_value

KINDS = ("auto", "classification", "regression")
_READ_AS = "were read as"


@dataclass(frozen=True, eq=False)
class Target:
    """An encoded target: ``y`` (class numbers or floats), its ``kind``, its ``classes`` and notes."""

    y: np.ndarray
    kind: str
    classes: list[str] | None
    notes: tuple[str, ...]


def encode_target(values: Any, *, name: str = "target", kind: str = "auto") -> Target:
    """Encode a target without missing values: numbers, text, booleans or dates, shape (n,).

    Parameters
    ----------
    name : str
        For messages and notes.
    kind : {"auto", "classification", "regression"}

    Raises
    ------
    ValueError
        One class only, a constant number, text that is different in nearly every row, or text to regress on.
    """
    check_choice(kind, KINDS, "kind")
    values = np.asarray(values)
    if values.dtype == object:
        values = np.array(values.tolist())
    if values.dtype.kind not in "biufMm":
        values = np.array([str(v) for v in values], dtype=object)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(
            f"target {name!r} has {int((~np.isfinite(values)).sum())} values that are not finite"
        )
    found = infer_kind(values) if kind == "auto" else kind
    target = _classes(values, name) if found == "classification" else _numbers(values, name)
    return (
        target if kind != "auto" else replace(target, notes=(*_reading(values, name, found), *target.notes))
    )


def _reading(values: np.ndarray, name: str, kind: str) -> tuple[str, ...]:
    """How whole numbers were read, where they could be read otherwise."""
    if values.dtype.kind not in "iuf" or not np.all(values == np.round(values)):
        return ()
    n_levels = len(np.unique(values))
    if n_levels < 3 or n_levels > max(MAX_CLASSES, len(values) // 2):
        return ()
    read, other = ("classes", "regression") if kind == "classification" else ("numbers", "classification")
    return (
        f"target {name!r}: its {n_levels} different whole numbers {_READ_AS} {read} (kind={other!r} otherwise)",
    )


def with_kind(dataset: Dataset, kind: str) -> Dataset:
    """Return a data set whose target is read as ``kind``: numbers as classes, or classes whose names are numbers."""
    check_choice(kind, KINDS, "kind")
    if dataset.y is None or kind in ("auto", dataset.kind):
        return dataset
    values: Any = dataset.y
    if dataset.kind == "classification" and dataset.labels is not None:
        truth = set(dataset.classes or ()) == {"False", "True"}
        values = dataset.labels == "True" if truth else dataset.labels
    name = dataset.target_name or "y"
    target = encode_target(values, name=name, kind=kind)
    notes = (*(n for n in dataset.notes if _READ_AS not in n), *target.notes)
    return with_target(replace(dataset, notes=notes), target, name)


def _classes(values: np.ndarray, name: str) -> Target:
    whole = values.dtype.kind == "f" and np.all((values == np.round(values)) & (np.abs(values) < 2**53))
    levels, codes, counts = np.unique(
        values.astype(np.int64) if whole else values, return_inverse=True, return_counts=True
    )
    classes = [str(level) for level in levels]
    if len(classes) < 2:
        raise ValueError(
            f"target {name!r} has one class only ({classes[0]!r} in all {len(values)} rows); a task needs at least "
            "two. Choose another target, or leave it out to profile the columns alone"
        )
    if len(classes) > max(MAX_CLASSES, len(values) // 2):
        raise ValueError(
            f"target {name!r} has {len(classes)} different values in {len(values)} rows (e.g. {classes[0]!r}): these "
            "look like identifiers or free text, not classes. Choose another column"
        )
    rare = [c for c, count in zip(classes, counts, strict=True) if count < 2]
    notes = (
        (f"target {name!r}: {len(rare)} of {len(classes)} classes have one sample only ({_listed(rare)})",)
        if rare
        else ()
    )
    return Target(codes.astype(np.int64), "classification", classes, notes)


def _numbers(values: np.ndarray, name: str) -> Target:
    notes: tuple[str, ...] = ()
    if values.dtype.kind in "Mm":
        days = np.timedelta64(1, "D")
        values = (values - values.min()) / days if values.dtype.kind == "M" else values / days
        notes = (f"target {name!r}: dates and durations became numbers of days",)
    try:
        y = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"target {name!r} holds text ({error}); regression needs numbers") from error
    if not np.isfinite(y).all():
        raise ValueError(f"target {name!r} has {int((~np.isfinite(y)).sum())} values that are not finite")
    if is_one_value(y):
        raise ValueError(
            f"target {name!r} is {y[0]:g} in all {len(y)} rows: nothing to learn. Choose another"
        )
    return Target(y, "regression", None, notes)


def _listed(items: list[str], most: int = 5) -> str:
    shown = ", ".join(repr(item) for item in items[:most])
    return shown + (", ..." if len(items) > most else "")


def attach(values: np.ndarray, name: str, missing: str) -> tuple[np.ndarray, Target]:
    """Encode a target that may have gaps: rows without one are left out, and said, or refused (``missing="error"``).

    Which rows have one, a mask, is returned before the target of those rows.
    """
    import pandas as pd

    if not len(values):
        raise ValueError(f"target {name!r} has no rows: the table is empty")
    keep = ~np.asarray(pd.isna(values))
    n_missing = int((~keep).sum())
    if n_missing and (missing == "error" or not keep.any()):
        raise ValueError(
            f"target {name!r} is missing in {n_missing} of {len(keep)} rows; fill them in or drop them"
        )
    target = encode_target(values[keep], name=name)
    if n_missing:
        note = f"target {name!r} is missing in {n_missing} of {len(keep)} rows: those rows were left out"
        target = Target(target.y, target.kind, target.classes, (note, *target.notes))
    return keep, target


def with_target(dataset: Dataset, target: Target, name: str) -> Dataset:
    """Return a data set with a target for its rows."""
    return replace(dataset, y=target.y, kind=target.kind, classes=target.classes, target_name=name)
