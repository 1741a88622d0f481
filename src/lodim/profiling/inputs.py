"""What a profile is given, checked once: a finite matrix, an encoded target, names, and a seeded split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lodim.datasets import Dataset, Split, encode_target, read_source, read_table
from lodim.datasets.arrays import from_arrays
from lodim.datasets.dataset import MAX_COLUMNS, MIN_ROWS, check_width
from lodim.datasets.targets import KINDS, with_kind
from lodim.dimension.units import safe_unit
from lodim.neighbors import first_occurrences
from lodim.randomness import derive_seed
from lodim.validation import check_choice, check_labels, check_matrix

MAX_TRAIN, MAX_VAL = 10_000, 2_500
_VAL_SHARE = 0.2
_FEW_PIXELS = 16


def as_dataset(
    X: Any,
    y: Any,
    *,
    source: str,
    feature_names: Sequence[str] | None,
    target_name: str | None,
    classes: Sequence[str] | None,
    kind: str,
    image_shape: Sequence[int] | None,
    notes: Sequence[str],
) -> Dataset:
    """Check what :func:`lodim.profile` was given (see there) and bring it into one form, columns and classes named."""
    check_choice(kind, KINDS, "kind")
    shape = getattr(X, "shape", None)
    if isinstance(X, str | Path):  # whatever the command takes
        X = read_source(X, target=target_name)
    elif isinstance(X, pd.DataFrame):
        check_width(X.shape[1], MAX_COLUMNS, "X")
        frame = X if feature_names is None else X.set_axis([str(name) for name in feature_names], axis=1)
        X, feature_names = replace(read_table(frame, max_rows=len(X)), name=source), None
    elif shape is not None and len(shape) > 2:
        check_width(int(np.prod(shape[1:])), MAX_COLUMNS, "X")
        X = from_arrays(X, name=source, max_rows=len(X))
    if isinstance(X, Dataset):
        given: dict[str, Any] = {
            "feature_names": feature_names,
            "target_name": target_name,
            "image_shape": image_shape,
        }
        told = replace(X, **{key: value for key, value in given.items() if value is not None})
        return _from_dataset(told, y, source, classes, kind, notes)
    if shape is not None and len(shape) == 2:
        check_width(int(shape[1]), MAX_COLUMNS, "X")
    own = feature_names if feature_names is not None else getattr(X, "columns", None)
    names = None if own is None else [str(name) for name in own]
    single = str(getattr(X, "dtype", "")).removeprefix("torch.") in (
        "float32",
        "float16",
        "bfloat16",
        "uint8",
    )
    data = check_matrix(X, min_rows=MIN_ROWS, columns=names, dtype=np.float32 if single else np.float64)
    if (unit := safe_unit(data)) != 1:
        data = data / unit
        notes = (
            *notes,
            f"X was divided by {unit:.2g}, because squares of its distances are beyond the range of numbers",
        )
    columns = names if names is not None else [str(j) for j in range(data.shape[1])]
    if len(columns) != data.shape[1]:
        raise ValueError(f"{len(columns)} feature_names were given for {data.shape[1]} columns of X")
    if image_shape is not None and int(np.prod(tuple(image_shape))) != data.shape[1]:
        raise ValueError(
            f"image_shape {tuple(image_shape)} holds {int(np.prod(tuple(image_shape)))} values, X has "
            f"{data.shape[1]} columns"
        )
    pixels = None if image_shape is None else tuple(int(s) for s in image_shape)
    dataset = Dataset(data, None, source, columns, target_name, image_shape=pixels, notes=tuple(notes))
    if y is not None:
        return _with_target(dataset, y, classes, kind)
    if classes is not None or kind != "auto":
        what = "classes are names" if classes is not None else f"kind={kind!r} is a reading"
        raise ValueError(f"{what} of y, and there is none: give y, or the name of a column as target_name")
    return dataset


def _from_dataset(
    dataset: Dataset, y: Any, source: str, classes: Sequence[str] | None, kind: str, notes: Sequence[str]
) -> Dataset:
    if y is None:
        dataset = with_kind(dataset, kind)
        y, kind = dataset.y, kind if dataset.y is None else dataset.kind or "auto"
        classes = dataset.classes if classes is None else classes
    else:
        dataset = replace(
            dataset, notes=tuple(n for n in dataset.notes if not n.startswith("no target was named"))
        )
    checked = as_dataset(
        dataset.X,
        y,
        source=dataset.name if source == "array" else source,
        feature_names=dataset.feature_names,
        target_name=dataset.target_name,
        classes=classes,
        kind=kind,
        image_shape=dataset.image_shape,
        notes=(*dataset.notes, *notes),
    )
    return replace(checked, origins=dataset.origins, column_kinds=dataset.column_kinds)


def _with_target(dataset: Dataset, y: Any, classes: Sequence[str] | None, kind: str) -> Dataset:
    values = check_labels(y, len(dataset.X))
    name = dataset.target_name or "y"
    names: list[str]
    extra: tuple[str, ...] = ()
    if classes is not None:
        if kind == "regression":
            raise ValueError("classes are names of classes, and y is read as numbers: leave classes out")
        whole = values.dtype.kind in "biu" or (
            values.dtype.kind == "f" and np.all(values == np.round(values))
        )
        if not whole:
            raise ValueError(
                f"classes are names of the classes 0, 1, ... of y; y holds {values.tolist()[0]!r}"
            )
        found = values.astype(np.int64)
        if found.min() < 0 or found.max() >= len(classes):
            raise ValueError(
                f"y names class {found.max()} (or below 0) but classes has {len(classes)} entries"
            )
        used, codes = np.unique(found, return_inverse=True)
        encoded, kind, names = codes, "classification", [str(classes[c]) for c in used]
    else:
        target = encode_target(values, name=name, kind=kind)
        encoded, kind, extra = target.y, target.kind, tuple(target.notes)
        names = target.classes or []
    if kind == "classification" and len(names) < 2:
        raise ValueError(f"{name} holds one class only ({names[0]!r}): there is nothing to tell apart")
    if kind == "regression" and float(np.ptp(encoded)) == 0:
        raise ValueError(f"{name} is constant ({float(encoded[0]):g}): there is nothing to predict")
    return replace(dataset, y=encoded, kind=kind, classes=names or None, notes=(*dataset.notes, *extra))


def column_spreads(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns' standard deviations, and which of them vary by more than rounding, whatever their units."""
    spread = X.std(0, dtype=np.float64)
    return spread, spread > 1e-12 * np.abs(X).max(0)


def scaled_together(dataset: Dataset) -> bool:
    """Whether the columns share a unit and a range, as pixels do: 16 or more, from 0 up to about the same value."""
    if dataset.image_shape is not None:
        return True
    X = dataset.X
    if X.shape[1] < _FEW_PIXELS or X.min() < 0:
        return False
    tops = X.max(axis=0)
    varying = tops > X.min(axis=0)
    return bool(varying.any() and np.median(tops[varying]) >= tops.max() / 2)


def split(dataset: Dataset, seed: int) -> Split:
    """Split four to one (every class by itself), at most 10,000 and 2,500 rows, and scale for training; needs a target.

    Equal rows stay on one side: a model that has seen a row is not asked for it. Rows held out whose class has no row
    to train on are left out. Columns are standardised with the training rows' mean and standard deviation; columns of
    one unit (:func:`scaled_together`) by one mean and one standard deviation for all, so that they stay comparable.
    """
    assert dataset.y is not None
    rng = np.random.default_rng(derive_seed(seed, "split"))
    first = first_occurrences(dataset.X)
    strata = [np.flatnonzero(first == np.arange(len(first)))]
    if dataset.kind == "classification":  # a set of equal rows goes with the class of its first
        strata = [strata[0][dataset.y[strata[0]] == c] for c in range(len(dataset.classes or ()))]
    share = min(1.0, (MAX_TRAIN + MAX_VAL) / len(dataset.y))
    sizes = np.bincount(first, minlength=len(first))
    train, held = [], []
    for stratum in strata:
        sets = rng.permutation(stratum)
        most = max(2, round(share * int(sizes[sets].sum())))
        sets = sets[np.cumsum(sizes[sets]) - sizes[sets] < most]
        chosen = _about(sizes[sets], max(1, round(_VAL_SHARE * int(sizes[sets].sum()))))
        held.append(sets[chosen])
        train.append(sets[~chosen])
    rows, rows_val = (np.flatnonzero(np.isin(first, np.concatenate(sets))) for sets in (train, held))
    rows = rng.permutation(rows)
    if dataset.kind == "classification":
        rows_val = rows_val[np.isin(dataset.y[rows_val], dataset.y[rows])]
    X, X_val = dataset.X[rows].astype(np.float64), dataset.X[rows_val].astype(np.float64)
    axis = None if scaled_together(dataset) else 0
    mean, (spread, varying) = X.mean(axis), column_spreads(X)
    spread = X.std() if axis is None else np.where(varying, spread, np.inf)  # constant columns become zero
    scale = lambda A: ((A - mean) / spread).astype(np.float32)  # noqa: E731
    return Split(scale(X), dataset.y[rows], scale(X_val), dataset.y[rows_val])


def _about(sizes: np.ndarray, wanted: int) -> np.ndarray:
    """Choose sets, in their order, that hold at most ``wanted`` rows together; the least one where none does."""
    chosen = np.zeros(len(sizes), dtype=bool)
    if len(sizes) < 2:
        return chosen
    for i, size in enumerate(sizes):
        if size <= wanted:
            chosen[i], wanted = True, wanted - size
    if not chosen.any():
        chosen[np.argmin(sizes)] = True
    return chosen
