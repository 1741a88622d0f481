"""What a profile is given, checked once: a finite matrix, an encoded target, names, and a seeded split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lodim.datasets import Dataset, Split, encode_target
from lodim.datasets.dataset import MAX_COLUMNS, MIN_ROWS, check_width
from lodim.randomness import derive_seed
from lodim.validation import check_labels, check_matrix

MAX_TRAIN, MAX_VAL = 10_000, 2_500
_VAL_SHARE = 0.2


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
    if isinstance(X, Dataset):
        return _from_dataset(X, y, source, notes)
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) > 2:
        image_shape = tuple(shape[1:]) if image_shape is None and len(shape) <= 4 else image_shape
        X = X.reshape(len(X), -1)
    if shape is not None and len(shape) >= 2:
        check_width(int(np.prod(shape[1:])), MAX_COLUMNS, "X")
    own = getattr(X, "columns", None)
    given = feature_names if feature_names is not None else own
    names = None if given is None else [str(name) for name in given]
    single = str(getattr(X, "dtype", "")).removeprefix("torch.") in (
        "float32",
        "float16",
        "bfloat16",
        "uint8",
    )
    data = check_matrix(X, min_rows=MIN_ROWS, columns=names, dtype=np.float32 if single else np.float64)
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
    return dataset if y is None else _with_target(dataset, y, classes, kind)


def _from_dataset(dataset: Dataset, y: Any, source: str, notes: Sequence[str]) -> Dataset:
    checked = as_dataset(
        dataset.X,
        dataset.y if y is None else y,
        source=dataset.name if source == "array" else source,
        feature_names=dataset.feature_names,
        target_name=dataset.target_name,
        classes=dataset.classes if y is None else None,
        kind=(dataset.kind or "auto") if y is None else "auto",
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


def split(dataset: Dataset, seed: int) -> Split:
    """Split four to one (every class by itself), at most 10,000 and 2,500 rows, and scale for training; needs a target.

    Columns are standardised with the training rows' mean and standard deviation; pixels of images by one mean and one
    standard deviation for all, so that they stay comparable.
    """
    assert dataset.y is not None
    rng = np.random.default_rng(derive_seed(seed, "split"))
    groups = [np.arange(len(dataset.y))]
    if dataset.kind == "classification":
        groups = [np.flatnonzero(dataset.y == c) for c in range(len(dataset.classes or ()))]
    share = min(1.0, (MAX_TRAIN + MAX_VAL) / len(dataset.y))
    train, held = [], []
    for group in groups:
        kept = rng.permutation(group)[: max(2, round(share * len(group)))]
        n_val = max(1, round(_VAL_SHARE * len(kept))) if len(kept) > 1 else 0
        held.append(kept[:n_val])
        train.append(kept[n_val:])
    rows, rows_val = rng.permutation(np.concatenate(train)), np.concatenate(held)
    X, X_val = dataset.X[rows].astype(np.float64), dataset.X[rows_val].astype(np.float64)
    axis = None if dataset.image_shape is not None else 0
    mean, spread = X.mean(axis), X.std(axis)
    spread = np.where(
        spread > 1e-12 * np.maximum(1.0, np.abs(mean)), spread, np.inf
    )  # constant columns become zero
    scale = lambda A: ((A - mean) / spread).astype(np.float32)  # noqa: E731
    return Split(scale(X), dataset.y[rows], scale(X_val), dataset.y[rows_val])
