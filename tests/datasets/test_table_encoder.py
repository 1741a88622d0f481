"""TableEncoder: the reader's encoding in front of an estimator, and the same for rows that come later."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from lodim.datasets import TableEncoder, read_table

RNG = np.random.default_rng(0)
N = 120
DAYS = pd.Timestamp("2020-01-01") + pd.to_timedelta(RNG.integers(0, 900, N), unit="D")


def pick(*words):
    return np.array(words, dtype=object)[RNG.integers(0, len(words), N)]


def with_gaps(values, entry=None, n=9):
    values = pd.Series(values).astype(object)
    values[RNG.choice(N, n, replace=False)] = entry
    return values


# one column of every kind of which something is found out that few rows cannot tell
FRAME = pd.DataFrame(
    {
        "row": np.arange(N),
        "age": with_gaps(RNG.normal(40, 9, N)).astype(float),
        "sentinel": with_gaps(np.abs(RNG.normal(size=N)), -999.0).astype(float),
        "huge": 2**60 + RNG.integers(0, 99, N),
        "huge text": [str(2**62 + int(k)) for k in RNG.integers(0, 99, N)],
        "price": with_gaps([f"{x:,.2f} €".translate(str.maketrans(",.", ".,")) for x in RNG.random(N) * 3000]),
        "share": [f"{x:.0f}%" if x > 50 else f"{x / 100:.2f}" for x in RNG.random(N) * 100],
        "day": with_gaps(DAYS).astype("datetime64[us]"),
        "day text": with_gaps(DAYS.strftime("%d.%m.%Y"), "01.01.1900"),
        "never": with_gaps(DAYS, pd.Timestamp("9999-12-31")).astype("datetime64[us]"),
        "zone": DAYS.tz_localize("Europe/Berlin"),
        "length": pd.to_timedelta(RNG.integers(0, 10**6, N), unit="s"),
        "flag": pd.array(with_gaps(RNG.random(N) < 0.4), dtype="boolean"),
        "answer": with_gaps(pick("Yes", "No")),
        "tick": pick("x", ""),
        "size": pd.Categorical(with_gaps(pick("s", "m", "l")), ["s", "m", "l"], ordered=True),
        "level": pick("low", "medium", "high"),
        "colour": with_gaps(pick("red", "green", "blue"), "unknown"),
        "rare": [f"rare {k}" if k % 12 == 0 else word for k, word in enumerate(pick("u", "v", "w"))],
        "state": pick("AL", "CA", "FL", "GA", "IA", "KS", "ME", "ND", "NJ", "NY", "OH", "TX"),
        "remark": [f"some words {k}" for k in range(N)],
    }
)  # fmt: skip
X = TableEncoder().fit_transform(FRAME)
COLUMNS = list(TableEncoder().fit(FRAME).get_feature_names_out())


@parametrize_with_checks([TableEncoder(), TableEncoder(scale=False)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("scale", [True, False])
def test_it_reads_as_the_reader_does(scale):
    table, encoder = read_table(FRAME, scale=scale), TableEncoder(scale=scale)
    np.testing.assert_array_equal(encoder.fit_transform(FRAME), table.X)
    assert list(encoder.get_feature_names_out()) == table.feature_names
    assert set(encoder.notes_) == set(table.notes)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rows", [range(N), range(30), range(N)[::-3], *([i] for i in range(0, N, 7))])
def test_rows_are_encoded_as_among_all(rows):
    encoder = pickle.loads(pickle.dumps(TableEncoder().fit(FRAME)))
    np.testing.assert_array_equal(encoder.transform(FRAME.iloc[list(rows)]), X[list(rows)])


def test_refitting_and_clones_forget():
    encoder = TableEncoder().fit(FRAME[["age", "colour"]])
    np.testing.assert_array_equal(encoder.fit(FRAME).transform(FRAME), X)
    np.testing.assert_array_equal(clone(encoder).fit_transform(FRAME), X)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", [object, str, "csv"])
def test_the_same_entries_as_another_type(tmp_path, kind):
    """Text that lost no digits is read as the numbers, dates and categories that were written."""
    if kind == "csv":
        FRAME.to_csv(tmp_path / "rows.csv", index=False)
        new = pd.read_csv(tmp_path / "rows.csv")
    else:
        new = FRAME.astype(object) if kind is object else FRAME.astype(object).map(str, na_action="ignore")
    np.testing.assert_allclose(TableEncoder().fit(FRAME).transform(new), X, atol=1e-9)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("levels", [[1.0, 2.0, 3.0], [1.0, 2.5, 3.0], [1, 2, 3], [True, False, 2]])
@pytest.mark.parametrize("dtype", [float, object, "Float64", "category"])
def test_numbers_are_the_level_that_they_equal(levels, dtype, ordered):
    """Whatever the type in which categories of numbers come back, some of them or all."""
    levels = np.array(levels, dtype=object)
    categories = pd.CategoricalDtype(pd.Index(levels).infer_objects(), ordered=ordered)
    encoder = TableEncoder().fit(pd.DataFrame({"c": pd.Series(np.tile(levels, 3), dtype=categories)}))
    expected = encoder.transform(pd.DataFrame({"c": pd.Series(levels, dtype=categories)}))
    assert len(np.unique(expected, axis=0)) == 3
    for rows in ([0, 1, 2], [0, 2], [2]):
        new = pd.Series(levels[rows].astype(float), dtype=dtype)
        np.testing.assert_array_equal(encoder.transform(pd.DataFrame({"c": new})), expected[rows])


def test_months_as_categories_come_back_as_months():
    months = pd.period_range("2020-01", periods=3, freq="M")
    encoder = TableEncoder().fit(pd.DataFrame({"c": pd.Categorical(months.repeat(2))}))
    np.testing.assert_array_equal(encoder.transform(pd.DataFrame({"c": months})), np.eye(3))


def test_output_names_differ_where_a_column_is_called_as_a_level():
    frame = pd.DataFrame({"c=x": [1.0, 2, 5, 4, 3, 1], "c": list("xyzxyz")})
    assert TableEncoder().fit(frame).get_feature_names_out().tolist() == ["c=x", "c=x.2", "c=y", "c=z"]


def test_gaps_get_what_fit_found():
    frame = pd.DataFrame(
        {
            "a": [1.0, 2.0, 9.0],
            "c": ["red", "red", "blue"],
            "d": pd.to_datetime(["2020-01-01"] * 2 + ["2020-01-05"]),
        }
    )
    encoder = TableEncoder(scale=False).fit(frame)
    gaps = pd.DataFrame({"a": [np.nan], "c": [None], "d": [None]})
    np.testing.assert_array_equal(encoder.transform(gaps), [[2.0, 1.0, 0.0]])
    with pytest.raises(ValueError, match=r"3 missing values \('a' 1, 'c' 1, 'd' 1"):
        encoder.set_params(missing="error").transform(gaps)


def test_unseen_levels_are_pooled_or_nothing_and_counted():
    encoder = TableEncoder().fit(FRAME)
    with pytest.warns(
        UserWarning, match=r"^3 entries are levels .* 'colour' 1 \('pink'\), 'rare' 2 \('new'\)"
    ):
        Z = encoder.transform(FRAME.iloc[:2].assign(colour=["pink", "red"], rare="new"))
    shown = dict(zip(COLUMNS, Z.T, strict=True))
    for name, expected in {
        "colour=blue": [0, 0],
        "colour=red": [0, 1],
        "rare=(other)": [1, 1],
        "rare=u": [0, 0],
    }.items():
        np.testing.assert_array_equal(shown[name], expected)


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (FRAME[FRAME.columns[::-1]], "same order"),
        (FRAME.drop(columns="age"), "now missing:\n- age"),
        (FRAME.assign(more=1), "unseen at fit time:\n- more"),
        (FRAME.to_numpy()[:, 1:], "X has 20 features"),
        (FRAME[:0], r"X has 0 sample\(s\)"),
        (FRAME.iloc[0], "Expected 2D array"),
        (
            FRAME.assign(age="forty"),
            r"column 'age' holds numbers except 120 of 120 entries \('forty' in row 1",
        ),
        (FRAME.assign(age=FRAME["day"]), "column 'age' holds numbers except"),
        (FRAME.assign(age=np.inf), "column 'age' has 120 infinite values"),
        (FRAME.assign(day="3.4.2020"), "column 'day' holds dates .*'3.4.2020' in row 1"),
        (FRAME.assign(day=FRAME["zone"]), "column 'day' held dates without a time zone"),
        (FRAME.assign(flag=2), "column 'flag' holds 0 and 1 except"),
        (FRAME.assign(size="xl"), r"column 'size' holds ranks \(s < m < l\) except .*'xl' in row 1"),
    ],
)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_rows_of_another_table_are_refused(new, message):
    with pytest.raises(ValueError, match=message):
        TableEncoder().fit(FRAME).transform(new)


def test_stray_text_is_a_gap_where_that_is_wanted():
    encoder = TableEncoder(missing="impute", scale=False).fit(FRAME)
    Z = encoder.transform(FRAME.assign(age="forty"))
    np.testing.assert_array_equal(Z[:, COLUMNS.index("age")], FRAME["age"].median())


def test_values_out_of_all_proportion_are_refused():
    encoder = TableEncoder().fit(pd.DataFrame({"a": [1e-300, 2e-300, 4e-300]}))
    with pytest.raises(ValueError, match="column 'a' has values too large"):
        encoder.transform(pd.DataFrame({"a": [1e30]}))


def test_arrays_are_tables_whose_columns_have_no_names():
    rows = [[1, "a"], [2, "b"], [3.5, "a"]]
    encoder = TableEncoder().fit(rows)
    assert list(encoder.get_feature_names_out()) == ["x0", "x1=b"]
    assert not hasattr(encoder, "feature_names_in_")
    for refused in (np.ma.masked_greater(np.eye(3), 0.5), np.eye(3) * 1j, np.ones(3), "rows.csv", None):
        with pytest.raises(ValueError, match=r"masked|Complex|2D"):
            TableEncoder().fit(refused)


@pytest.mark.parametrize(
    ("options", "error"), [({"missing": "drop"}, ValueError), ({"scale": "no"}, TypeError)]
)
def test_options_are_checked_in_fit(options, error):
    with pytest.raises(error, match=next(iter(options))):
        TableEncoder(**options).fit(FRAME)


def test_columns_of_one_name_and_numbers_as_names():
    frame = pd.DataFrame(RNG.normal(size=(9, 3)), columns=[1, "a", "a"])
    encoder = TableEncoder().fit(frame)
    assert list(encoder.get_feature_names_out()) == ["1", "a", "a.2"]
    np.testing.assert_array_equal(encoder.transform(frame), read_table(frame).X)


def test_in_a_pipeline_new_rows_join_the_clusters_of_their_like():
    clusters = make_pipeline(TableEncoder(), KMeans(3, n_init=2, random_state=0)).fit(FRAME)
    labels = clusters[-1].labels_
    np.testing.assert_array_equal(clusters.predict(FRAME.iloc[5:6]), labels[5:6])
    np.testing.assert_array_equal(clusters.predict(FRAME[::-1]), labels[::-1])
