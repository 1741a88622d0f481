"""Array files and arrays in memory."""

import numpy as np
import pytest
import torch

from lodim.datasets import read_npy
from lodim.datasets.arrays import from_arrays

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 4))
Y = np.arange(30) % 3


def saved(path, array, **kw):
    np.save(path, array, **kw)
    return path


def test_npy_is_taken_as_it_is(tmp_path):
    data = read_npy(saved(tmp_path / "a.npy", X))
    np.testing.assert_array_equal(data.X, X)
    assert data.y is None
    assert data.name == "a.npy"
    assert read_npy(saved(tmp_path / "f.npy", X.astype(np.float32))).X.dtype == np.float32


def test_labels_beside_it(tmp_path):
    path = saved(tmp_path / "a.npy", X)
    data = read_npy(path, labels=saved(tmp_path / "l.npy", Y))
    np.testing.assert_array_equal(data.y, Y)
    with pytest.raises(ValueError, match="29 entries but the data have 30 rows"):
        read_npy(path, labels=saved(tmp_path / "s.npy", Y[1:]))


@pytest.mark.parametrize(
    ("shape", "image_shape"),
    [((6, 5, 4), (1, 5, 4)), ((6, 5, 4, 3), (3, 5, 4)), ((6, 3, 5, 4), (3, 5, 4)), ((6, 5, 4, 1), (1, 5, 4))],
)
def test_images_become_rows_channels_first(shape, image_shape):
    images = RNG.integers(0, 256, shape).astype(np.uint8)
    data = from_arrays(images)
    assert data.image_shape == image_shape
    back = data.X.reshape(-1, *image_shape)
    pixel = images[2, 4, 1] if len(shape) == 3 else images[2, :, 4, 1] if shape[1] == 3 else images[2, 4, 1]
    np.testing.assert_allclose(back[2, :, 4, 1], np.atleast_1d(pixel) / 255, rtol=1e-6)
    assert any("[0, 1]" in note for note in data.notes)


def test_other_shapes():
    assert from_arrays(X[:, 0]).X.shape == (30, 1)
    assert from_arrays(np.zeros((5, 2, 7, 7, 7)) + RNG.normal(size=(5, 2, 7, 7, 7))).X.shape == (5, 686)


def test_tensors():
    data = from_arrays(torch.tensor(X, requires_grad=True), torch.tensor(Y))
    np.testing.assert_array_equal(data.X, X)
    np.testing.assert_array_equal(data.y, Y)


@pytest.mark.parametrize(
    ("arrays", "x", "y"),
    [
        ({"X": X, "y": Y}, X, Y),
        ({"anything": X}, X, None),
        ({"features": X, "labels": Y}, X, Y),
        ({"one": X, "target": Y}, X, Y),
        ({"arr_0": X, "arr_1": Y}, X, Y),
        ({"X": X, "y": Y, "ids": Y}, X, Y),
    ],
)
def test_npz_keys(tmp_path, arrays, x, y):
    np.savez(tmp_path / "a.npz", **arrays)
    data = read_npy(tmp_path / "a.npz")
    np.testing.assert_array_equal(data.X, x)
    assert (data.y is None) == (y is None)
    if y is not None:
        np.testing.assert_array_equal(data.y, y)


def test_npz_target_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", X=X, y=Y, age=X[:, 0])
    assert read_npy(tmp_path / "a.npz", target="age").kind == "regression"
    with pytest.raises(ValueError, match=r"no array 'agee'. Did you mean 'age'. It holds 'X', 'y', 'age'"):
        read_npy(tmp_path / "a.npz", target="agee")


def test_npz_with_several_arrays_says_which(tmp_path):
    np.savez(tmp_path / "a.npz", left=X, right=X)
    with pytest.raises(
        ValueError, match="holds the arrays 'left', 'right'; expected one array, or 'X' and 'y'"
    ):
        read_npy(tmp_path / "a.npz")


def test_large_arrays_are_sampled(tmp_path):
    path = saved(tmp_path / "a.npy", np.arange(2000.0).reshape(1000, 2))
    data = read_npy(path, labels=saved(tmp_path / "l.npy", np.arange(1000) * 0.5), max_rows=100)
    assert data.X.shape == (100, 2)
    np.testing.assert_array_equal(data.y, data.X[:, 0] / 4)
    assert len(np.unique(data.X[:, 0])) == 100
    assert "sample of 100" in data.notes[0]


def test_gaps_are_an_error_unless_filling_is_asked_for():
    gaps = X.copy()
    gaps[3, 1] = np.nan
    with pytest.raises(ValueError, match="1 NaN, the first in row 3, column 1; drop or impute"):
        from_arrays(gaps)
    data = from_arrays(gaps, missing="impute")
    assert data.X[3, 1] == np.median(np.delete(X[:, 1], 3))
    assert "ATTENTION, 1 values" in data.notes[0]
    gaps[:, 2] = np.nan
    with pytest.raises(ValueError, match="column 2 has no finite value"):
        from_arrays(gaps, missing="impute")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([["1", "abc"], ["2", "3"]]), "holds text .e.g. 'abc'"),
        (np.array([[1, "abc"], [2, 3]], dtype=object), "holds Python objects .e.g. 'abc'"),
        (X + 1j, "complex numbers"),
        (np.zeros(3, dtype=[("a", "f8"), ("b", "f8")]), "fields 'a', 'b'"),
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
        (np.array(3.0), "expected samples in rows"),
        (np.broadcast_to(np.float32(1), (2, 1_000_000)), "1,000,000 columns; at most 100,000"),
    ],
)
def test_arrays_that_will_not_do(array, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(array, name="a")


def test_text_in_a_numeric_file(tmp_path):
    path = saved(tmp_path / "a.npy", np.array([[1, "abc"]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a.npy holds Python objects \(text among the numbers"):
        read_npy(path)
    np.savez(tmp_path / "a.npz", X=np.array([[1, "abc"]], dtype=object))
    with pytest.raises(ValueError, match="text among the numbers"):
        read_npy(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_damaged_files(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"not an array at all")
    with pytest.raises(ValueError, match=f"{name} "):
        read_npy(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=f"{name} "):
        read_npy(path)
    with pytest.raises(FileNotFoundError):
        read_npy(tmp_path / "nothing.npy")
