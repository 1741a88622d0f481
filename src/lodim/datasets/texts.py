"""Labelled texts: a named collection, or a table of one's own.

Text models take the words themselves; :class:`TextDataset` brings them with their class numbers. (For methods on
numbers, :func:`lodim.datasets.load` gives the same collection as text features.)
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..randomness import RandomState, as_generator
from ..validation import check_choice, check_in_range, close_matches
from .idx import DATA_VARIABLE

__all__ = ["TextDataset", "load_texts", "read_texts"]

SPLITS = ("train", "test", "all")
_FILES = {
    "debian_sections": (
        "debian-sections.csv.gz",
        "1a59ba1799c060b0ac2a763507a1612b3c45d033526f99253e5c8942c458eaa6",
    )
}


@dataclass(frozen=True, eq=False)
class TextDataset:
    """Texts with their classes: ``y`` holds class numbers 0, 1, ..., shape (n,), ``classes`` their names.

    As many numbers as texts are needed, and every number must have a name (ValueError otherwise). ``split`` tells which
    part this is: ``"train"``, ``"test"`` or ``"all"``.
    """

    texts: tuple[str, ...]
    y: np.ndarray
    classes: tuple[str, ...]
    split: str = "all"
    name: str = "texts"

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.y):
            raise ValueError(f"{len(self.texts)} texts, but {len(self.y)} class numbers")
        if len(self.y) and not 0 <= self.y.min() <= self.y.max() < len(self.classes):
            raise ValueError(
                f"class numbers must lie in 0..{len(self.classes) - 1}, got {self.y.min()}..{self.y.max()}"
            )

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Any) -> TextDataset:
        """Return the texts of some rows."""
        chosen = np.asarray(rows, dtype=np.int64)
        texts = tuple(self.texts[row] for row in chosen)
        return TextDataset(texts, self.y[chosen], self.classes, self.split, self.name)

    def sample(self, n_per_class: int, random_state: RandomState = 0) -> TextDataset:
        """Return random texts, the same number of each class (ValueError if one has fewer), in random order."""
        check_in_range(n_per_class, "n_per_class", low=1, integer=True)
        rng = as_generator(random_state)
        rows = []
        for code, name in enumerate(self.classes):
            own = np.flatnonzero(self.y == code)
            if len(own) < n_per_class:
                raise ValueError(f"class {name!r} has {len(own)} texts, {n_per_class} were asked for")
            rows.append(rng.permutation(own)[:n_per_class])
        return self.take(rng.permutation(np.concatenate(rows)))

    def __str__(self) -> str:
        return f"{self.name} ({self.split}): {len(self):,} texts in {len(self.classes)} classes"


def load_texts(name: str = "debian_sections", *, split: str = "all") -> TextDataset:
    """Load a named collection of texts.

    Parameters
    ----------
    name : {"debian_sections"}
        One-line descriptions of 4,400 software packages in eight sections of Debian 12; 450 to train and 100 to test
        in each.
    split : {"train", "test", "all"}

    Raises
    ------
    OSError
        The file is nowhere to be had; says where it was looked for.
    ValueError
        Unknown name or split, or a file that is not the published one.
    """
    check_choice(name, tuple(_FILES), "name")
    check_choice(split, SPLITS, "split")
    path = _find(*_FILES[name])
    data = read_texts(path, name=name)
    if split == "all":
        return data
    parts = _column(_table(path), "split", path)
    chosen = data.take(np.flatnonzero(parts == split))
    return TextDataset(chosen.texts, chosen.y, chosen.classes, split, name)


def read_texts(
    path: str | os.PathLike[str], *, text: str = "text", label: str = "label", name: str | None = None
) -> TextDataset:
    """Read labelled texts from a CSV file, possibly compressed, with a line of column names.

    ``text`` and ``label`` are the columns of the texts and of their classes. The collection is named as the file by
    default.

    Raises
    ------
    OSError
        No such file.
    ValueError
        A column that is not there, an empty text or label, or fewer than two classes.
    """
    path = Path(path)
    frame = _table(path)
    texts, labels = _column(frame, text, path), _column(frame, label, path)
    for column, values in ((text, texts), (label, labels)):
        empty = np.flatnonzero([not value.strip() for value in values])
        if len(empty):
            raise ValueError(
                f"{path.name} has {len(empty)} empty entries in column {column!r}, the first in line {empty[0] + 2}; "
                "drop those lines"
            )
    classes, codes = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{path.name} needs at least two classes in column {label!r}, has {list(classes)}")
    plain = tuple(str(c) for c in classes)
    return TextDataset(tuple(texts), codes.astype(np.int64), plain, "all", name or path.name.split(".")[0])


def _table(path: Path) -> Any:
    import pandas as pd

    if not path.is_file():
        raise OSError(f"{path} is no file; give a CSV file with a column of texts and one of labels")
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _column(frame: Any, name: str, path: Path) -> np.ndarray:
    if name not in frame.columns:
        columns = [str(c) for c in frame.columns]
        raise ValueError(f"{path.name} has no column {name!r}, only {columns}.{close_matches(name, columns)}")
    return frame[name].to_numpy()


def _find(file: str, sha256: str) -> Path:
    """The file in the folder of data, or in the library's cache."""
    import pooch

    folder = os.environ.get(DATA_VARIABLE)
    cache = Path(pooch.os_cache("lodim"))
    for place in ([Path(folder)] if folder else []) + [cache]:
        if (place / file).is_file():
            _check(place / file, sha256)
            return place / file
    first = (
        f"{folder} (the folder {DATA_VARIABLE} names)" if folder else f"{DATA_VARIABLE}, which is not set,"
    )
    raise OSError(
        f"{file} was found neither in {first} nor in {cache}. Put it there: a table with the columns split, label and "
        "text, or read texts of your own with read_texts(path)"
    )


def _check(path: Path, sha256: str) -> None:
    try:
        found = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is no complete gzip file ({error}); copy it again") from error
    if found != sha256:
        raise ValueError(
            f"{path} is not the file expected: the SHA-256 of its content is {found[:12]}..., not {sha256[:12]}..."
        )
