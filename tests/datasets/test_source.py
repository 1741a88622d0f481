"""Whatever a person points at; and the data set it becomes."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lodim.datasets import Dataset, load, read_source

X = np.random.default_rng(0).normal(size=(40, 3))


def test_every_kind_of_source(tmp_path):
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "a.npz", X=X, y=np.arange(40) % 2)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "pictures").mkdir()
    for i in range(12):
        Image.new("L", (5, 4), 20 * i).save(tmp_path / "pictures" / f"{i}.png")
    shapes = {
        name: read_source(tmp_path / name).X.shape
        for name in ("a.npy", "a.npz", "a.csv", "a.parquet", "pictures")
    }
    assert shapes == {
        "pictures": (12, 20),
        **dict.fromkeys(("a.npy", "a.npz", "a.csv", "a.parquet"), (40, 3)),
    }
    assert read_source("sklearn.datasets:make_moons").X.shape == (100, 2)


def test_named_tables_are_standardised_and_say_so():
    data = read_source("wine")
    np.testing.assert_allclose(data.X.std(0), 1)
    np.testing.assert_array_equal(data.y, load("wine").y)
    assert any("standardised" in note for note in data.notes)
    np.testing.assert_array_equal(read_source("digits").X, load("digits").X)


def test_named_sets_are_sampled_too():
    data = read_source("digits", max_rows=100)
    assert len(data.X) == len(data.y) == 100
    assert any("sample of 100" in note for note in data.notes)


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("nothing.csv", {}, FileNotFoundError, "no file, folder or data set 'nothing.csv'"),
        ("digit", {}, FileNotFoundError, "Did you mean 'digits'"),
        ("wine", {"target": "alcohol"}, ValueError, "brings its own target"),
        ("wine", {"target": "a", "labels": "b"}, ValueError, "not both"),
        ("wine", {"labels": "nothing.txt"}, FileNotFoundError, "no labels file"),
        ("wine", {"missing": "drop"}, ValueError, "missing must be one of"),
    ],
)
def test_bad_requests(source, options, error, message):
    with pytest.raises(error, match=message):
        read_source(source, **options)


def test_close_file_names_are_suggested(tmp_path):
    (tmp_path / "customers.csv").write_text("a\n1\n")
    with pytest.raises(FileNotFoundError, match=r"Did you mean 'customers.csv'"):
        read_source(tmp_path / "custmers.csv")


def test_too_few_rows(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1.5,2\n2.5,1\n3,7\n")
    with pytest.raises(ValueError, match=r"a.csv has 3 rows; .* at least 10"):
        read_source(tmp_path / "a.csv")


def test_spreadsheets_and_targets_of_folders(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"a.xlsx is not a spreadsheet that can be read"):
        read_source(tmp_path / "a.xlsx")
    with pytest.raises(ValueError, match="folder of images"):
        read_source(tmp_path, target="a")


def test_dataset_prints_takes_and_tabulates():
    data = Dataset(
        X=X,
        y=np.arange(40) % 2,
        name="toy",
        kind="classification",
        classes=["no", "yes"],
        feature_names=["a", "b", "c"],
    )
    assert str(data) == "toy: 40 samples, 3 columns, 2 classes"
    assert data.take([1, 3]).y.tolist() == [1, 1]
    frame = data.to_frame()
    assert list(frame.columns) == ["a", "b", "c", "target"]
    assert frame["target"].iloc[1] == "yes"
    assert data.n_table_columns == 3
    assert Dataset(X=X, origins=("a", "b", "b")).n_table_columns == 2
    assert "target y" in str(Dataset(X=X, y=X[:, 0], kind="regression"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"X": X[0]}, "must be 2-D"),
        ({"X": X, "y": np.zeros(3), "kind": "regression"}, "3 entries but X has 40"),
        ({"X": X, "y": np.zeros(40)}, "kind must be one of"),
        ({"X": X, "feature_names": ["a"]}, "1 feature names for 3 columns"),
        ({"X": X, "origins": ("a",)}, "1 origins for 3 columns"),
        ({"X": X, "origins": ("a", "a", "b"), "column_kinds": {"a": "number"}}, "each once"),
        ({"X": X, "image_shape": (1, 2, 2)}, "does not hold 3 values"),
    ],
)
def test_fields_must_fit_together(fields, message):
    with pytest.raises(ValueError, match=message):
        Dataset(**fields)
