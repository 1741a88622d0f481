"""Named data sets."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lodim.datasets import MANIFOLDS, load, names, summaries

needs_data = pytest.mark.skipif("LODIM_DATA" not in os.environ, reason="LODIM_DATA is not set")


@pytest.mark.parametrize(
    ("name", "shape", "kind", "n_classes"),
    [
        ("digits", (1797, 64), "classification", 10),
        ("wine", (178, 13), "classification", 3),
        ("breast_cancer", (569, 30), "classification", 2),
        ("iris", (150, 4), "classification", 3),
        ("diabetes", (442, 10), "regression", None),
    ],
)
def test_bundled(name, shape, kind, n_classes):
    data = load(name)
    assert data.X.shape == shape
    assert data.kind == kind
    assert len(data.feature_names) == shape[1]
    assert (len(data.classes) if data.classes else None) == n_classes
    train, test = load(name, split="train"), load(name, split="test")
    assert len(train.X) + len(test.X) == shape[0]
    rows = np.vstack([np.column_stack([part.X, part.y]) for part in (train, test)])
    whole = np.column_stack([data.X, data.y])
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], whole[np.lexsort(whole.T)])
    if kind == "classification":
        share = np.bincount(test.y) / np.bincount(data.y)
        np.testing.assert_allclose(share, 0.2, atol=0.03)
    np.testing.assert_array_equal(load(name, split="train").X, train.X)


def test_digits_are_images_in_the_unit_interval():
    data = load("digits")
    assert data.image_shape == (1, 8, 8)
    assert data.X.min() == 0
    assert data.X.max() == 1


@pytest.mark.parametrize("name", MANIFOLDS)
def test_synthetic_ones_know_their_dimension(name):
    data = load(name)
    assert data.dimension >= 1
    np.testing.assert_array_equal(load(name).X, data.X)


def test_names_are_summarised_and_close_ones_suggested():
    assert set(names()) == set(summaries())
    with pytest.raises(ValueError, match="Did you mean 'fashion_mnist'"):
        load("fashionmnist")
    with pytest.raises(ValueError, match="split must be one of 'train', 'test', 'all'"):
        load("wine", split="dev")


@needs_data
def test_mnist():
    data = load("mnist", split="test")
    assert data.X.shape == (10_000, 784)
    assert data.X.dtype == np.float32
    assert (data.X.min(), data.X.max()) == (0, 1)
    assert data.image_shape == (1, 28, 28)


@needs_data
def test_sections_are_deterministic_and_separable():
    from sklearn.linear_model import LogisticRegression

    both, test = load("debian_sections", split="all"), load("debian_sections", split="test")
    is_test = pd.read_csv(Path(os.environ["LODIM_DATA"]) / "debian-sections.csv.gz")["split"] == "test"
    train = both.take(~is_test.to_numpy())
    assert train.X.shape == (3600, 256)
    assert test.X.shape == (800, 256)
    np.testing.assert_array_equal(both.take(is_test.to_numpy()).X, test.X)  # fitted anew
    score = LogisticRegression(C=10, max_iter=2000).fit(train.X, train.y).score(test.X, test.y)
    assert score > 0.7  # full TF-IDF reaches 0.825; guessing 0.125


def test_sections_need_their_file(monkeypatch, tmp_path):
    monkeypatch.setenv("LODIM_DATA", str(tmp_path))
    with pytest.raises(OSError, match="needs the file debian-sections"):
        load("debian_sections")
    monkeypatch.delenv("LODIM_DATA")
    with pytest.raises(OSError, match="LODIM_DATA is not set"):
        load("debian_sections")


def test_a_download_that_fails_is_explained(monkeypatch):
    import sklearn.datasets

    def fail(**options):
        raise OSError("no route")

    monkeypatch.setattr(sklearn.datasets, "fetch_california_housing", fail)
    with pytest.raises(OSError, match=r"california_housing could not be downloaded \(no route\)"):
        load("california_housing")
