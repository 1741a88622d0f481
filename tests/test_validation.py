"""Inputs are checked once, and messages say what was expected, what came and what to do."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from lodim.validation import (
    check_choice,
    check_counts,
    check_fraction,
    check_in_range,
    check_labels,
    check_matrix,
    check_numbers,
    check_tensor,
    close_matches,
    require,
    to_torch,
)

X = np.arange(12.0).reshape(4, 3)


def test_require():
    assert require("json", "all").loads("1") == 1
    with pytest.raises(
        ImportError, match=r"'nothing_like_it', which is not installed: pip install 'lodim\[rl\]'"
    ):
        require("nothing_like_it.part", "rl")


def test_close_matches_ignore_case():
    assert close_matches("Digist", ["digits", "wine"]) == " Did you mean 'digits'?"
    assert close_matches("zzz", ["digits"]) == ""


def test_check_choice():
    assert check_choice("a", ("a", "b"), "letter") == "a"
    with pytest.raises(
        ValueError, match=r"letter must be one of 'alpha', 'beta'; got 'alhpa'. Did you mean 'alpha'"
    ):
        check_choice("alhpa", ("alpha", "beta"), "letter")


@pytest.mark.parametrize("value", [1, 1.0, np.int64(1), np.float32(1)])
def test_numbers_in_range(value):
    assert check_in_range(value, "k", low=1, high=1) == 1


@pytest.mark.parametrize("value", [True, "1", None, [1], 1 + 0j])
def test_no_numbers(value):
    with pytest.raises(TypeError, match="k must be a number"):
        check_in_range(value, "k")


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        (0, {"low": 1}, "k must be at least 1, got 0"),
        (3, {"high": 2}, "k must be at most 2, got 3"),
        (3, {"low": 0, "high": 2}, "k must be at least 0 and at most 2, got 3"),
        (float("nan"), {"low": 0}, "k must be at least 0, got nan"),
        (float("nan"), {}, "k must be a number, got nan"),
    ],
)
def test_out_of_range(value, limits, message):
    with pytest.raises(ValueError, match=message):
        check_in_range(value, "k", **limits)


def test_counts_are_refused_by_their_names():
    check_counts(n=1, d=np.int64(3))
    with pytest.raises(ValueError, match="d must be at least 1, got 0"):
        check_counts(n=1, d=0)
    with pytest.raises(TypeError, match=r"n must be an integer, got 1\.0"):
        check_counts(n=1.0, d=0)


def test_whole_numbers_and_fractions():
    assert check_in_range(np.int32(5), "k", integer=True) == 5
    with pytest.raises(TypeError, match=r"k must be an integer, got 5.0"):
        check_in_range(5.0, "k", integer=True)
    assert check_fraction(0.5, "share") == 0.5
    with pytest.raises(ValueError, match=r"at least 0.0 and at most 1.0, got 1.5"):
        check_fraction(1.5, "share")


@pytest.mark.parametrize(
    "given", [X, X.tolist(), pd.DataFrame(X), torch.tensor(X, requires_grad=True), X.astype(int)]
)
def test_matrices_of_every_kind(given):
    checked = check_matrix(given)
    np.testing.assert_array_equal(checked, X)
    assert checked.dtype == np.float64


def test_dtype_is_kept_when_asked_for():
    assert check_matrix(X, dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (X[0], r"X must be 2-D .* got shape \(3,\). Reshape your data: X.reshape\(-1, 1\)"),
        (X[None], r"got shape \(1, 4, 3\); flatten"),
        (X[:0], "a minimum of 1 is required"),
        (X[:, :0], "a minimum of 1 is required"),
        ([["a", 1.0]], r"must hold numbers only .*read_table"),
        ([[1.0], [1.0, 2.0]], "numbers only"),
        (np.where(X == 5, np.nan, X), "X has 1 NaN, the first in row 1, column 2; drop or impute"),
        (np.where(X == 5, np.inf, X), "X has 1 infinite values, the first in row 1, column 2"),
        (pd.DataFrame(np.where(X == 5, np.nan, X), columns=["a", "b", "age"]), "row 1, column 'age'"),
        (X + 1j, "Complex data not supported"),
        (np.where(X > 9, [[np.inf, -np.inf, 1.0]], X), "infinite"),
    ],
)
def test_matrices_that_will_not_do(given, message):
    with pytest.raises(ValueError, match=message):
        check_matrix(given)


def test_column_names_and_rows():
    with pytest.raises(ValueError, match="column 'c'"):
        check_matrix(np.where(X == 5, np.nan, X), columns=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"Z has 4 sample\(s\) .* minimum of 10 is required"):
        check_matrix(X, name="Z", min_rows=10)


def test_large_finite_values_are_no_infinities():
    big = np.full((4, 3), 1e308)
    np.testing.assert_array_equal(check_matrix(big), big)
    assert check_matrix(np.full((4, 3), 3e38, dtype=np.float32), dtype=np.float32).max() > 2e38


@pytest.mark.parametrize(
    "given", [[0, 1, 2], np.array([[0], [1], [2]]), torch.tensor([0, 1, 2]), pd.Series([0, 1, 2])]
)
def test_labels(given):
    assert check_labels(given, 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([0, 1], "y has 2 entries but X has 3 rows"),
        (np.zeros((3, 2)), r"y must be 1-D .* got shape \(3, 2\)"),
        ([0, np.nan, 1], "y has 1 missing values, the first at 1"),
        ([0, 1, -np.inf], "y has 1 infinite values, the first at 2"),
        (np.array(["a", None, None], dtype=object), "y has 2 missing values, the first at 1"),
        (pd.Series([1, None, 3], dtype="Int64"), "y has 1 missing values, the first at 1"),
        (
            np.array(["2020-01-01", "NaT", "2020-01-02"], dtype="datetime64[D]"),
            "y has 1 missing values, the first at 1",
        ),
    ],
)
def test_labels_that_will_not_do(given, message):
    with pytest.raises(ValueError, match=message):
        check_labels(given, 3)


def test_sparse_input_is_refused():
    from scipy.sparse import csr_array

    with pytest.raises(TypeError, match=r"X is sparse.*X.toarray"):
        check_matrix(csr_array(X))


def test_masked_entries_are_refused_and_views_that_run_backwards_are_copied():
    with pytest.raises(ValueError, match=r"X has 1 masked entries.*X\.filled"):
        check_matrix(np.ma.masked_array(np.eye(2), [[False, True], [False, False]]))
    assert type(check_matrix(np.ma.masked_array(np.eye(2)))) is np.ndarray
    assert min(check_matrix(np.eye(3)[::-1]).strides) > 0


def test_warnings_point_at_the_caller():
    """In a process of its own: the type checker of the tests puts frames in between."""
    code = (
        "import warnings\nfrom lodim.validation import warn\n"
        "def library(): warn('look out')\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    library()\n"
        "print(caught[0].lineno, caught[0].message)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "6 look out\n"


def test_masked_rows_in_a_list_are_seen():
    """A list of masked rows, or the masked constant in one, would become an array without its mask."""
    rows = [np.ma.array([1.0, 2.0], mask=[False, True]), np.ma.array([3.0, 4.0])]
    for given in (rows, tuple(rows), [[1.0, np.ma.masked], [3.0, 4.0]]):
        with pytest.raises(ValueError, match="X has 1 masked entries"):
            check_matrix(given)
    with pytest.raises(ValueError, match="y has 1 masked entries"):
        check_labels([0, np.ma.masked, 1], 3)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_numbers_of_any_shape_are_such_that_torch_takes_them(shape):
    values = np.arange(float(np.prod(shape))).reshape(shape)
    for given in (
        values.astype(">f8"),
        values.astype(np.longdouble),
        torch.tensor(values).bfloat16(),
        np.flip(np.flip(values).copy()),
    ):
        found = check_numbers(given, "values")
        np.testing.assert_array_equal(torch.from_numpy(found.copy()).numpy(), values)
        assert found.dtype.isnative
    assert check_numbers(values, "values", dtype=np.dtype(">f4")).dtype == np.float32
    with pytest.raises(ValueError, match="real numbers"):
        check_numbers(values + 1j, "values")


def test_rows_have_one_layout_in_memory():
    """Sums over a matrix of another layout round otherwise."""
    X = np.arange(12.0).reshape(4, 3)
    for given in (X, np.asfortranarray(X), X[::-1][::-1]):
        assert check_matrix(given).flags.c_contiguous
    assert check_matrix(X).base is X.base


def test_limits_may_be_beyond_the_precision_of_a_number():
    assert check_in_range(np.float32(0.5), "x", low=-1e300, high=1e300) == 0.5  # without a warning


def test_arrays_become_tensors_whatever_they_are():
    tensor = torch.ones(2)
    assert to_torch(tensor) is tensor
    array = np.arange(6.0).reshape(2, 3)
    array[0, 0] = 5
    shared = to_torch(array)
    shared[1, 1] = -1
    assert array[1, 1] == -1
    frozen = array.copy()
    frozen.flags.writeable = False
    for odd in (frozen, array[:, ::-1], array.T, array.astype(">f8"), array.tolist()):
        assert torch.equal(to_torch(odd), torch.tensor(np.asarray(odd).tolist(), dtype=torch.float64))
    with pytest.raises(ValueError, match="rows has 1 masked"):
        to_torch(np.ma.masked_equal(array, -1), "rows")


def test_tensors_are_finite_where_they_must_be():
    for bad in (float("nan"), float("inf")):
        held = torch.tensor([0.0, bad])
        assert check_tensor(held, "poses") is held
        with pytest.raises(ValueError, match="poses must be finite"):
            check_tensor(held, "poses", finite=True)
    assert check_tensor(torch.tensor([1, 2]), "codes", finite=True).tolist() == [1, 2]
