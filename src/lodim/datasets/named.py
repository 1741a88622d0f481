"""Named data sets: ``load("digits")``.

Those without a published split are split 80/20, stratified by class, always in the same way. Pixels lie in [0, 1];
tables come as published, in their units (``read_source`` standardises them as it does every table).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..validation import check_choice
from . import idx
from .dataset import Dataset
from .manifolds import MANIFOLDS, manifold

SPLITS = ("train", "test", "all")
TABLES = ("wine", "breast_cancer", "iris", "diabetes", "california_housing")
_TEXT_COMPONENTS = 256

_SUMMARIES = {
    "digits": "1,797 handwritten digits, 8 x 8 pixels, 10 classes",
    "wine": "178 wines, 13 chemical measurements, 3 growers",
    "breast_cancer": "569 tumours, 30 measurements of cell nuclei, 2 diagnoses",
    "iris": "150 flowers, 4 measurements, 3 species",
    "diabetes": "442 patients, 10 measurements, progression after a year (regression)",
    "california_housing": "20,640 districts, 8 measurements, house value (regression; downloaded)",
    "mnist": "70,000 handwritten digits, 28 x 28 pixels, 10 classes (LODIM_DATA or downloaded)",
    "fashion_mnist": "70,000 pieces of clothing, 28 x 28 pixels, 10 classes (LODIM_DATA or downloaded)",
    "debian_sections": "4,400 one-line package descriptions as text features, 8 sections (LODIM_DATA)",
}


def summaries() -> dict[str, str]:
    """Return one line about each named data set, by name."""
    synthetic = dict.fromkeys(MANIFOLDS, "2,000 synthetic points of known dimension")
    return {**_SUMMARIES, **synthetic}


def names() -> tuple[str, ...]:
    """Return the names :func:`load` knows."""
    return tuple(summaries())


def load(name: str, *, split: str = "all") -> Dataset:
    """Load a named data set, one of :func:`names`.

    Parameters
    ----------
    split : {"train", "test", "all"}
        The published split where there is one (MNIST, Fashion-MNIST, Debian sections), else 80/20 stratified.

    Raises
    ------
    ValueError
        Unknown name (close matches are suggested) or split, or a damaged file.
    OSError
        The files are nowhere to be had.
    """
    check_choice(name, names(), "name")
    check_choice(split, SPLITS, "split")
    if name in idx.SOURCES:
        return _load_idx(name, split)
    if name == "debian_sections":
        return _load_sections(split)
    dataset = manifold(name, random_state=0) if name in MANIFOLDS else _load_sklearn(name)
    return dataset if split == "all" else _split(dataset, split)


def _split(dataset: Dataset, split: str) -> Dataset:
    from sklearn.model_selection import train_test_split

    stratify = dataset.y if dataset.kind == "classification" else None
    train, test = train_test_split(
        np.arange(len(dataset.X)), test_size=0.2, random_state=0, stratify=stratify
    )
    return dataset.take(np.sort(train if split == "train" else test))


def _load_sklearn(name: str) -> Dataset:
    from sklearn import datasets as bundled

    loaders: dict[str, Callable[[], Any]] = {
        "digits": bundled.load_digits,
        "wine": bundled.load_wine,
        "breast_cancer": bundled.load_breast_cancer,
        "iris": bundled.load_iris,
        "diabetes": lambda: bundled.load_diabetes(scaled=False),
        "california_housing": lambda: bundled.fetch_california_housing(n_retries=1),
    }
    try:
        bunch = loaders[name]()
    except OSError as error:
        raise OSError(f"{name} could not be downloaded ({error}); it needs the network once") from error
    X, y = bunch.data.astype(np.float64), bunch.target
    feature_names = [str(f) for f in bunch.feature_names]
    if name in ("diabetes", "california_housing"):
        return Dataset(
            X=X, y=y.astype(np.float64), name=name, feature_names=feature_names, kind="regression",
            target_name="progression" if name == "diabetes" else "house value",
        )  # fmt: skip
    is_digits = name == "digits"
    return Dataset(
        X=X / 16 if is_digits else X,
        y=y.astype(np.int64),
        name=name,
        feature_names=feature_names,
        target_name={"digits": "digit", "wine": "grower", "iris": "species"}.get(name, "diagnosis"),
        classes=[str(c) for c in bunch.target_names],
        kind="classification",
        image_shape=(1, 8, 8) if is_digits else None,
        notes=("pixels were scaled from 0..16 to [0, 1]",) if is_digits else (),
    )


def _load_idx(name: str, split: str) -> Dataset:
    parts = [idx.read_split(name, part) for part in (("train", "test") if split == "all" else (split,))]
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    n, height, width = images.shape
    return Dataset(
        X=images.reshape(n, -1).astype(np.float32) / np.float32(255),
        y=labels.astype(np.int64),
        name=name,
        target_name="digit" if name == "mnist" else "article",
        classes=list(idx.SOURCES[name].classes),
        kind="classification",
        image_shape=(1, height, width),
        notes=("pixels were scaled to [0, 1]",),
    )


def _load_sections(split: str) -> Dataset:
    """Package descriptions as TF-IDF of 1- and 2-grams, projected by a truncated SVD (both from the train part)."""
    import pandas as pd
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    folder = os.environ.get(idx.DATA_VARIABLE)
    path = Path(folder or ".") / "debian-sections.csv.gz"
    if folder is None or not path.is_file():
        where = f"not in {folder}" if folder else f"{idx.DATA_VARIABLE} is not set"
        raise OSError(
            f"debian_sections needs the file debian-sections.csv.gz: {where}. Set {idx.DATA_VARIABLE} to the folder "
            "that holds it (columns split, label, text)"
        )
    frame = pd.read_csv(path)
    is_train = (frame["split"] == "train").to_numpy()
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    svd = TruncatedSVD(_TEXT_COMPONENTS, random_state=0)
    svd.fit(vectors.fit_transform(frame["text"][is_train]))
    wanted = {"all": np.ones(len(frame), dtype=bool), "train": is_train, "test": ~is_train}[split]
    classes, codes = np.unique(frame["label"], return_inverse=True)
    return Dataset(
        X=np.asarray(svd.transform(vectors.transform(frame["text"][wanted])), dtype=np.float64),
        y=codes[wanted].astype(np.int64),
        name="debian_sections",
        target_name="section",
        classes=[str(c) for c in classes],
        kind="classification",
        notes=(
            f"texts became TF-IDF of words and word pairs ({len(vectors.vocabulary_):,} terms), then the "
            f"{_TEXT_COMPONENTS} leading directions of a truncated SVD; both were fitted on the train part",
        ),
    )
