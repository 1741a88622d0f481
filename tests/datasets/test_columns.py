"""What becomes of each kind of column, and that it is said."""

import numpy as np
import pandas as pd
import pytest

from lodim.datasets import encode_columns, read_table

RNG = np.random.default_rng(0)
N = 100
NUMBERS = RNG.normal(3, 5, N)


def encode(**columns):
    return encode_columns(pd.DataFrame(columns))


def said(notes, *words):
    return any(all(word in note for word in words) for note in notes)


def test_numbers_are_standardised_and_it_is_said():
    X, names, notes = encode(a=NUMBERS, b=NUMBERS * 1e200)
    np.testing.assert_allclose(X.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(X.std(0), 1)
    np.testing.assert_allclose(X[:, 0], X[:, 1])
    assert names == ["a", "b"]
    assert said(notes, "standardised")


def test_scale_can_be_left_alone():
    X, _, notes = encode_columns(pd.DataFrame({"a": NUMBERS}), scale=False)
    np.testing.assert_array_equal(X[:, 0], NUMBERS)
    assert not said(notes, "standardised")


def test_text_that_means_numbers_is_read_as_numbers():
    X, _, notes = encode(a=[f"${x:,.4f}" for x in 1000 + 100 * np.abs(NUMBERS)], b=100 * np.abs(NUMBERS))
    np.testing.assert_allclose(X[:, 0], X[:, 1], atol=1e-4)
    assert said(notes, "thousands", "'a'")


def test_categories_booleans_and_dates():
    colour = np.array(["red", "green", "blue"])[np.arange(N) % 3]
    frame = pd.DataFrame(
        {
            "colour": colour,
            "sex": np.where(np.arange(N) % 2, "m", "f"),
            "flag": np.arange(N) % 5 == 0,
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(N) ** 2, unit="D"),
            "text_day": (pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(N) ** 2, unit="D")).strftime(
                "%d.%m.%Y"
            ),
        }
    )
    X, names, notes = encode_columns(frame)
    assert names == ["colour=blue", "colour=green", "colour=red", "sex=m", "flag", "day", "text_day"]
    np.testing.assert_array_equal(X[:, :3].sum(1), 1)
    np.testing.assert_array_equal(X[:, 2], colour == "red")
    np.testing.assert_array_equal(X[:, 4], frame["flag"])
    np.testing.assert_allclose(X[:, 5], X[:, 6], atol=1e-12)
    assert said(notes, "0/1", "'colour'")
    assert said(notes, "day, month, year", "'text_day'")


def test_columns_know_what_they_were_made_of():
    n = np.arange(N)
    frame = pd.DataFrame(
        {
            "size": NUMBERS,
            "colour": np.array(["red", "green", "blue"])[n % 3],
            "constant": 1,
            "flag": n % 5 == 0,
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(n**2, unit="D"),
        }
    )
    data = read_table(frame)
    assert data.origins == ("size", "colour", "colour", "colour", "flag", "day")
    assert data.n_table_columns == 4
    assert data.column_kinds == {"size": "number", "colour": "category", "flag": "boolean", "day": "date"}
    assert data.take(n < 50).origins == data.origins


@pytest.mark.parametrize(
    ("column", "what"),
    [
        ([f"some words {i}" for i in range(N)], "free text"),
        (np.full(N, 7.0), "one value only"),
        (["same"] * N, "one value only"),
        ([True] * N, "one value only"),
        (np.full(N, np.nan), "without any value"),
        (["?"] * N, "without any value"),
        ([7.0] * (N - 1) + [np.nan], "one value only"),
    ],
)
def test_useless_columns_are_dropped_with_a_note(column, what):
    X, names, notes = encode(a=NUMBERS, b=column)
    assert names == ["a"]
    assert X.shape == (N, 1)
    assert said(notes, what, "'b'")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("anything", np.arange(N)),
        ("Unnamed: 0", np.arange(N) * 3),
        ("customer_id", np.random.default_rng(1).permutation(N)),
        ("row", np.arange(N)[::-1]),
    ],
)
def test_row_numbers_and_keys_are_dropped(name, values):
    _, names, notes = encode_columns(pd.DataFrame({name: values, "a": NUMBERS}))
    assert names == ["a"]
    assert said(notes, "row numbers or keys", repr(name))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("paid", np.random.default_rng(1).permutation(N)),
        ("year", 1900 + np.arange(N)),
        ("row", np.arange(N) ** 2 % 17),
    ],
)
def test_other_whole_numbers_stay(name, values):
    _, names, _ = encode_columns(pd.DataFrame({name: values, "a": NUMBERS}))
    assert names == [name, "a"]


def test_gaps_are_filled_in_loudly():
    values = NUMBERS.copy()
    values[:4] = np.nan
    colour = np.array(["red", "blue"], dtype=object)[np.r_[np.zeros(60, int), np.ones(40, int)]]
    colour[-3:] = None
    frame = pd.DataFrame({"age": values, "colour": colour})
    X, _, notes = encode_columns(frame, scale=False)
    np.testing.assert_array_equal(X[:4, 0], np.median(NUMBERS[4:]))
    np.testing.assert_array_equal(X[-3:, 1], 1)  # red, the most frequent
    assert notes[0].startswith("ATTENTION, 7 missing values ('age' 4, 'colour' 3, of 100 rows)")
    with pytest.raises(ValueError, match=r"7 missing values \('age' 4"):
        encode_columns(frame, missing="error")


def test_stray_text_among_numbers_is_refused_and_named():
    values = [f"{x:.3f}" for x in NUMBERS]
    values[16] = "abc"
    frame = pd.DataFrame({"age": values})
    with pytest.raises(
        ValueError, match=r"column 'age' holds numbers except 1 of 100 entries \('abc' in row 17\)"
    ):
        encode_columns(frame)
    X, _, notes = encode_columns(frame, missing="impute", scale=False)
    assert X[16, 0] == pytest.approx(np.median(np.delete(np.round(NUMBERS, 3), 16)))
    assert said(notes, "'abc' in row 17", "taken as missing")


def test_infinite_values_are_refused():
    values = NUMBERS.copy()
    values[5] = np.inf
    with pytest.raises(ValueError, match="column 'a' has 1 infinite value"):
        encode(a=values)


def test_half_numbers_half_text_are_categories_and_it_is_said():
    _, names, notes = encode(a=["1", "2", "3", "x"] * 25, b=NUMBERS)
    assert names[:4] == ["a=1", "a=2", "a=3", "a=x"]
    assert said(notes, "'a' mixes numbers (75%) and text")


def test_rare_levels_are_pooled():
    levels = ["a"] * 60 + ["b"] * 30 + [f"rare {i}" for i in range(10)]
    X, names, notes = encode(c=levels)
    assert names == ["c=(other)", "c=a", "c=b"]
    np.testing.assert_array_equal(X.sum(0), [10, 60, 30])
    assert said(notes, "10 of 12 levels are rare")


def test_many_levels_are_capped():
    levels = np.repeat([f"city {i:02d}" for i in range(40)], 5)
    _, names, _ = encode_columns(pd.DataFrame({"c": levels}))
    assert len(names) == 20
    assert "c=(other)" in names


def test_numbered_categories_stay_categories():
    _, names, _ = encode(c=pd.Categorical(np.arange(N) % 3))
    assert names == ["c=0", "c=1", "c=2"]


def test_nothing_left():
    with pytest.raises(ValueError, match="no usable column: dropped, one value only: 'a'"):
        encode(a=np.ones(N))


def test_rows_may_carry_any_index():
    frame = pd.DataFrame({"a": NUMBERS, "b": [f"{x:.2f}" for x in NUMBERS]}, index=np.arange(N)[::-1] * 2)
    X, _, _ = encode_columns(frame)
    np.testing.assert_allclose(X[:, 0], X[:, 1], atol=0.01)


def test_unknown_policy():
    with pytest.raises(ValueError, match="'auto', 'impute', 'error'"):
        encode_columns(pd.DataFrame({"a": NUMBERS}), missing="drop")


def test_nd_among_states_is_north_dakota():
    states = ["AL", "CA", "FL", "GA", "IA", "KS", "ME", "ND", "NJ", "NY", "OH", "TX"]
    _, names, notes = encode(state=states * 10, b=RNG.normal(size=120))
    assert "state=ND" in names
    assert not said(notes, "mean missing")
    _, names, notes = encode(grade=["AL", "CA", "ND"] * 40, b=RNG.normal(size=120))  # too few to be codes
    assert "grade=ND" not in names
    assert said(notes, "'ND'", "mean missing")
