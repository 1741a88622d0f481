"""Tables read as their owner means them: columns typed whole, conventions of the file, what is around the table."""

import io
import sys
import zipfile
from datetime import time
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from lodim.datasets import read_source, read_table
from lodim.datasets.layouts import find_layout, number_repeated
from lodim.datasets.readings import SHORT, Facts

N = 30
I = np.arange(N)
X = (I * 37 % 101) / 100  # two decimals, all different
DAYS = [(1 + i * 5 % 28, 1 + i % 12, 2003 + i % 3) for i in I]
EXPECTED_DAYS = [
    (pd.Timestamp(y, m, d) - min(pd.Timestamp(y, m, d) for d, m, y in DAYS)).days for d, m, y in DAYS
]


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def read(tmp_path, text, *, encoding="utf-8", name="t.csv", **options):
    return read_table(write(tmp_path / name, text, encoding), **{"scale": False, **options})


def lines(*columns, delimiter=";"):
    """Return rows of cells, one column of texts beside the other."""
    return "".join(delimiter.join(map(str, row)) + "\n" for row in zip(*columns, strict=True))


def column(tmp_path, cells, *others, delimiter=";", **options):
    """Read a table of the column ``a`` of cells, another beside it and a column of numbers; return it."""
    names = "abcdefg"[: 1 + len(others)]
    header = delimiter.join([*names, "x"]) + "\n"
    beside = [f"{i}.25" for i in range(len(cells))] if not others else range(len(cells))
    return read(tmp_path, header + lines(cells, *others, beside, delimiter=delimiter), **options)


def values(data, name="a"):
    return data.X[:, list(data.feature_names).index(name)].tolist()


def said(data, *words):
    return any(all(word in note for word in words) for note in data.notes)


# Types are decided from all rows.


@pytest.fixture(scope="module")
def long_table(tmp_path_factory):
    """Three blocks of rows whose last entries alone tell what the columns are."""
    n = 21_500
    last = np.arange(n) >= 20_000
    i = np.arange(n)
    frame = pd.DataFrame(
        {
            "truth": np.where(last & (i % 3 == 0), "MAYBE", np.where(i % 2, "TRUE", "FALSE")),
            "one": np.where(last, "1.0", np.where(i % 2, "1", "2")),
            "code": np.where(last, "01", np.where(i % 2, "1", "2")),
            "day": [
                f"{1 + k % 12:02}/{1 + (k % 28 if z else k % 12):02}/2003"
                for k, z in zip(i, last, strict=True)
            ],
            "sign": np.where(last, "2,5", "1.250"),
            "value": i % 101 / 4,
        }
    )
    path = tmp_path_factory.mktemp("tables") / "long.csv"
    frame.to_csv(path, index=False, sep=";")
    return path


@pytest.mark.parametrize("max_rows", [100_000, 2000])
def test_whole_columns_are_typed_once(long_table, max_rows):
    data = read_table(long_table, target="truth", scale=False, max_rows=max_rows)
    assert data.classes == ["FALSE", "MAYBE", "TRUE"]
    assert data.column_kinds == {
        "one": "number", "code": "category", "day": "date", "sign": "number", "value": "number",
    }  # fmt: skip
    assert set(values(data, "one")) == {1, 2}
    assert [name for name in data.feature_names if name.startswith("code")] == ["code=01", "code=1", "code=2"]
    assert set(values(data, "sign")) == {1250, 2.5}
    assert said(data, "month, day, year", "'day'")
    assert said(data, "leading zeros", "'code'")


def test_truth_is_a_boolean_when_all_rows_say_so(tmp_path):
    data = column(tmp_path, np.where(I % 3, "TRUE", "FALSE"))
    assert data.column_kinds["a"] == "boolean"
    assert values(data) == (I % 3 > 0).tolist()
    assert column(tmp_path, np.where(I % 3, "wahr", "falsch"), target="a").classes == ["False", "True"]


@pytest.mark.parametrize("missing", ["auto", "impute"])
def test_words_far_down_a_long_column_of_decimals_are_found(tmp_path, missing):
    """Decimals of a long file are parsed by pandas: what is none of them in a later block is not lost."""
    n = 20_500
    cells = np.arange(n).astype(str).astype(object) + ".25"
    cells[20_100], cells[20_200], cells[20_300], cells[20_400] = "lost", "NA", "", "1,250.5"
    path = write(tmp_path / "t.csv", "a;b\n" + lines(cells, np.arange(n) % 7))
    if missing == "auto":
        with pytest.raises(
            ValueError, match=r"'a' holds numbers except 1 of 20500 entries .'lost' in row 20101"
        ):
            read_table(path)
        return
    data = read_table(path, missing=missing, scale=False)
    assert [values(data)[row] for row in (0, 20_400, 20_499)] == [0.25, 1250.5, 20_499.25]
    assert said(data, "3 missing values")


@pytest.mark.parametrize(
    ("delimiter", "thousands", "decimal", "date", "money"),
    [
        (",", "", ".", "{y}-{m:02}-{d:02}", "{}"),
        (",", ",", ".", "{m:02}/{d:02}/{y}", "${}"),
        (";", ".", ",", "{d:02}.{m:02}.{y}", "{} €"),
        (";", "\u202f", ",", "{d:02}/{m:02}/{y}", "{}\xa0€"),
        (";", "’", ".", "{d}.{m}.{y}", "CHF {}"),
        ("\t", " ", ",", "{d}. {m}. {y}", "{} kr"),
        ("|", ",", ".", "{d:02}-{m:02}-{y}", "₹{}"),
    ],
)
def test_one_table_is_the_same_in_every_country(tmp_path, delimiter, thousands, decimal, date, money):
    """The matrix does not depend on how numbers and dates are written."""

    def number(value):
        return f"{value:,.2f}".translate(str.maketrans({",": thousands, ".": decimal}))

    amounts = (I * 7919 % 30_011) - 9000.25
    cells = {
        "amount": [money.format(number(amount)) for amount in amounts],
        "day": [date.format(d=d, m=m, y=y) for d, m, y in DAYS],
        "share": [number(x) for x in X],
        "count": (I * 7 % 19).tolist(),
    }
    text = delimiter.join(cells) + "\n"
    text += "".join(delimiter.join(f'"{c}"' for c in row) + "\n" for row in zip(*cells.values(), strict=True))
    data = read(tmp_path, text)
    np.testing.assert_array_equal(data.X, np.column_stack([amounts, EXPECTED_DAYS, X, I * 7 % 19]))


# Headers.


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        (["group", "2020"], (np.where(I % 2, "a", "b"), X)),
        (["group", "2020"], (np.where(I % 2, "a", "b"), I % 19)),
        (["400", "410", "420", "430"], (X, X[::-1], X + 1, X + 2)),
        (["0", "1", "2"], (I % 7, I % 5, I % 3)),
        (["plant", "2020-01-01", "2020-02-01"], (np.where(I % 2, "a", "b"), X, I % 19)),
        (["", "a", "", "b"], (I, X, I % 7, I % 5)),
        (["", "0"], (I, I % 19)),
        (["#id", "x"], (I + 1, X)),
    ],
)
def test_headers_of_numbers_dates_and_gaps(tmp_path, header, rows):
    layout = find_layout(write(tmp_path / "t.csv", ";".join(header) + "\n" + lines(*rows)))
    expected = [name.lstrip("#") or f"unnamed {i}" for i, name in enumerate(header)]
    assert (layout.header, layout.names) == (True, expected)


@pytest.mark.parametrize(
    "first",
    [("0.13", "0.5", "7"), ("3", "9", "4"), ("1.5", "", ""), ("2020-01-01", "0.5", "3")],
)
def test_rows_that_are_no_header(tmp_path, first):
    days = [f"2020-02-{1 + i % 28:02}" for i in I]
    rest = lines(days if "-" in first[0] else X, X[::-1], I % 11)
    assert not find_layout(write(tmp_path / "t.csv", ";".join(first) + "\n" + rest)).header


def test_words_that_come_again_below_are_no_header(tmp_path):
    data = read(
        tmp_path,
        "red;small;1.5\n" + lines(np.where(I % 2, "red", "blue"), np.where(I % 3, "small", "large"), X),
    )
    assert data.X.shape == (N + 1, 3)
    assert said(data, "no header line")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "a", "a.2"], ["a", "a.3", "a.2"]),
        (["a", "a", "a"], ["a", "a.2", "a.3"]),
        (["a.2", "a", "a", "a"], ["a.2", "a", "a.3", "a.4"]),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_numbered_names_are_all_different(names, expected):
    assert number_repeated(names) == expected


# Dates and times.


@pytest.mark.parametrize(
    "pattern",
    [
        "{d:02}.{m:02}.{y} 14:55", "{m:02}/{d:02}/{y} 02:55 PM", "{d:02}/{m:02}/{s:02}", "{m:02}-{d:02}-{y}",
        "{d}-{M}-{y}",
        "{M} {d}, {y}", "{y}-{m:02}-{d:02}", "{y}{m:02}{d:02}", "{y}-{m:02}-{d:02}T23:30:00+02:00", "{d}. {M}. {y}",
    ],
)  # fmt: skip
def test_dates_are_days(tmp_path, pattern):
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    cells = [pattern.format(d=d, m=m, y=y, s=y % 100, M=months[m - 1]) for d, m, y in DAYS]
    data = column(tmp_path, cells)
    assert data.column_kinds["a"] == "date"
    assert values(data) == EXPECTED_DAYS


def test_months(tmp_path):
    data = column(tmp_path, ["Jan 2001", "Feb 2001", "Mar 2001"] * 10)
    assert values(data)[:3] == [0, 31, 59]


def test_one_column_tells_the_order_of_another(tmp_path):
    """02/03 is the second of March beside 27/03, and the third of February beside 03/27."""
    unclear = ["02/03/2003", "01/01/2003"] * 15
    assert values(column(tmp_path, unclear, ["27/03/2003", "01/03/2003"] * 15))[0] == 31 + 28 + 1
    assert values(column(tmp_path, unclear, ["03/27/2003", "03/01/2003"] * 15))[0] == 31 + 2


def test_an_order_that_no_row_tells_is_said(tmp_path):
    assert said(
        column(tmp_path, ["02/03/2003", "01/01/2003"] * 15), "ATTENTION", "order", "'a'", "month, day, year"
    )
    by_commas = column(tmp_path, ["02/03/2003", "01/01/2003"] * 15, ["1,5", "2,5"] * 15)
    assert said(by_commas, "ATTENTION", "order", "'a'", "day, month, year")
    assert not said(column(tmp_path, ["2003-03-02", "2003-01-01"] * 15), "order")


@pytest.mark.parametrize(
    ("cells", "hours"),
    [
        (["14:55", "00:30", "7:00"], [14 + 55 / 60, 0.5, 7]),
        (["36:15:00", "2:00:30", "0:00:00"], [36.25, 2 + 30 / 3600, 0]),
        (["1 days 02:00:00", "0 days 00:30:00", "3 days 00:00:00"], [26, 0.5, 72]),
        (["2:30 PM", "11:00 AM", "12:15 AM"], [14.5, 11, 0.25]),
    ],
)
def test_times_and_durations_are_days(tmp_path, cells, hours):
    data = column(tmp_path, cells * 10)
    assert data.column_kinds["a"] == "duration"
    np.testing.assert_allclose(values(data)[:3], np.array(hours) / 24, atol=1e-15)


def test_days_that_follow_each_other_are_no_row_numbers(tmp_path):
    assert values(column(tmp_path, [f"2020-01-{1 + i:02}" for i in I])) == I.tolist()


# Numbers.


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["-7", "3", "(7)"], [-7, 3, -7]),
        (["1 234,5", "2,5", "7"], [1234.5, 2.5, 7]),
        (["1\u202f234,5", "2,5", "1\xa0000,0"], [1234.5, 2.5, 1000]),
        (["1'234.5", "2.5", "1’000.0"], [1234.5, 2.5, 1000]),
        (["1,2E+03", "5,0E-01", "1,0E+00"], [1200, 0.5, 1]),
        (["$1,234.50", "$7.00", "-$0.50"], [1234.5, 7, -0.5]),
        (["€ 1.234,50", "€ 7,00", "0,50 €"], [1234.5, 7, 0.5]),
        (["1.234,50-", "7,00", "0,50"], [-1234.5, 7, 0.5]),
        (["\u22127", "3", "2"], [-7, 3, 2]),
        (["51%", "0.49", "0.2"], [0.51, 0.49, 0.2]),
        (["51%", "49", "20"], [51, 49, 20]),
        (["51 %", "49,5 %", "20 %"], [51, 49.5, 20]),
        (["5 kg", "7kg", "2.5 kg"], [5, 7, 2.5]),
        (["1 room", "2 rooms", "3 rooms"], [1, 2, 3]),
        (["1st", "2nd", "4th"], [1, 2, 4]),
        (["950", "1.5k", "2.3M"], [950, 1500, 2300000]),
        (["52.5° N", "0.5° S", "1.5° N"], [52.5, -0.5, 1.5]),
        (["1.097", "97", "980"], [1097, 97, 980]),
        (["1,097", "97", "980"], [1097, 97, 980]),
        (["1.097", "0.5", "980"], [1.097, 0.5, 980]),
        (["1,5", "2,5", "3.5"], [1.5, 2.5, 3.5]),
        (["1990", "2003", "2020"], [1990, 2003, 2020]),
        (["0", "1", "2"], [0, 1, 2]),
    ],
)
def test_numbers_as_people_write_them(tmp_path, cells, numbers):
    data = column(tmp_path, cells * 10, [0, 1, 3, 7, 5] * 6)
    assert data.column_kinds["a"] == "number"
    assert values(data)[:3] == pytest.approx(numbers, rel=1e-15)


def test_a_column_that_tells_the_decimal_sign_tells_it_for_the_others(tmp_path):
    data = read(tmp_path, "x;preis\n" + "3,5;1.250\n0,1;980\n" * 15)
    assert data.X[:2].tolist() == [[3.5, 1250], [0.1, 980]]
    data = read(tmp_path, "x;price\n" + "3,5;1.250\n0,1;2.980\n" * 15)
    assert data.X[:2].tolist() == [[3.5, 1250], [0.1, 2980]]
    data = read(tmp_path, "x;price\n" + "3.5;1,250\n0.1;2,980\n" * 15)
    assert data.X[:2].tolist() == [[3.5, 1250], [0.1, 2980]]


@pytest.mark.parametrize(("cells", "number"), [(["1.250", "2.980"], 1.25), (["1,250", "2,980"], 1.25)])
def test_numbers_that_nothing_explains_are_said(tmp_path, cells, number):
    data = column(tmp_path, cells * 15, [0, 1, 3, 7, 5] * 6)
    assert values(data)[0] == number
    assert said(data, "'a'", "can mean 1.25 or 1250")


def test_mixed_currencies_and_units_are_said(tmp_path):
    assert said(
        column(tmp_path, ["$ 5", "€ 7"] * 15), "ATTENTION", "'a'", "15 in $, 15 in €", "not converted"
    )
    data = column(tmp_path, ["5 kg", "700 g", "2 kg", "20 g", "900 g"] * 6)
    assert said(data, "ATTENTION", "'a'", "18 in g, 12 in kg")
    assert data.column_kinds["a"] == "category"


def test_rounding_is_no_difference(tmp_path):
    data = column(tmp_path, ["0.3", "0.30000000000000004"] * 15)
    assert said(data, "one value only", "'a'")
    with pytest.raises(ValueError, match="nothing to learn"):
        column(tmp_path, ["0.3", "0.30000000000000004"] * 15, target="a")


@pytest.mark.parametrize("how", ["text", "int64", "Int64", "int64[pyarrow]", "uint64", "parquet with gaps"])
def test_whole_numbers_of_19_digits_stay_apart(tmp_path, how):
    steps = I * 7 % 31
    big = [10**18 + int(step) for step in steps]
    frame = pd.DataFrame({"a": pd.array(big, dtype="Int64"), "b": X})
    if how == "parquet with gaps":
        frame.loc[0, "a"] = None
        frame.to_parquet(tmp_path / "t.parquet")
        data = read_table(tmp_path / "t.parquet", scale=False)
        assert values(data)[1:] == (steps - steps[1:].min())[1:].tolist()
        return
    data = column(tmp_path, big) if how == "text" else read_table(frame.astype({"a": how}), scale=False)
    assert values(data) == steps.tolist()
    assert said(data, "counted from the smallest", "'a'")


@pytest.mark.parametrize("how", ["text", "datetime64[ns]", "timestamp[ns][pyarrow]"])
def test_close_moments_stay_apart(tmp_path, how):
    """300 moments within 20 microseconds are 300 values, in their order and in proportion."""
    steps = np.random.default_rng(0).permutation(300) * 66
    moments = pd.Timestamp("2003-03-27 14:55") + pd.to_timedelta(steps, unit="ns")
    if how == "text":
        data = column(tmp_path, [moment.isoformat() for moment in moments])
    else:
        data = read_table(pd.DataFrame({"a": pd.Series(moments).astype(how), "x": steps % 7}), scale=False)
    assert len(set(values(data))) == 300
    np.testing.assert_allclose(np.array(values(data)) * 86_400e9, steps, rtol=1e-9, atol=1e-2)


# What is no quantity.


@pytest.mark.parametrize(
    "cells",
    [
        [f"{code:05}" for code in (1067, 10115, 80331)], ["+4930123456", "+4930123457", "+4930123459"],
        ["12A", "7B", "3C"],
        ["192.168.0.1", "10.0.0.2", "10.0.0.3"], ["1.2.0", "1.10.3", "2.0.1"], ["A+", "B-", "C"], ["3:2", "0:0", "1:4"],
        ["007", "7", "12"], ["978-3-16-148410-0", "978-3-16-148410-1", "978-3-16-148410-2"], ["0x1f", "0x10", "0x1a"],
    ],
)  # fmt: skip
def test_codes_stay_text(tmp_path, cells):
    assert column(tmp_path, cells * 10).column_kinds["a"] == "category"


@pytest.mark.parametrize(
    ("cells", "ranks"),
    [
        (["low", "Medium", "HIGH"], [0, 1, 2]),
        (["hoch", "mittel", "niedrig"], [2, 1, 0]),
        (["S", "XL", "M"], [0, 2, 1]),
        (["agree", "strongly disagree", "neutral"], [2, 0, 1]),
        (["18-24", "65+", "<18"], [1, 2, 0]),
        (["(0.5, 1.0]", "(0.0, 0.5]", "(1.0, 2.0]"], [1, 0, 2]),
    ],
)
def test_ordered_words_are_ranks(tmp_path, cells, ranks):
    data = column(tmp_path, cells * 10, delimiter=";")
    assert data.column_kinds["a"] == "ordinal"
    assert values(data)[:3] == ranks
    in_order = [cell for _, cell in sorted(zip(ranks, cells, strict=True))]
    assert said(data, " < ".join(in_order), "'a'")
    assert set(column(tmp_path, cells * 10, target="a").classes) == set(cells)


@pytest.mark.parametrize("cells", [["3-2", "0-1", "1-4"], ["m", "l", "q"], ["red", "green", "blue"]])
def test_other_words_are_categories(tmp_path, cells):
    assert column(tmp_path, cells * 10).column_kinds["a"] == "category"


def test_answers_and_ticks(tmp_path):
    data = column(tmp_path, ["ja", "nein", "ja"] * 10)
    assert (data.feature_names[0], data.column_kinds["a"], values(data, "a=ja")[:3]) == (
        "a=ja",
        "boolean",
        [1, 0, 1],
    )
    data = column(tmp_path, ["x", "", "x"] * 10)
    assert values(data)[:3] == [1, 0, 1]
    assert said(data, "checked", "'a'")


@pytest.mark.parametrize(
    "word", ["k.A.", "keine Angabe", "unbekannt", "#NV", "#N/A", "n.d.", "inconnu", "–", "NULL", "#DIV/0!"]
)
def test_words_for_missing(tmp_path, word):
    cells = [word if i % 10 == 3 else f"{x}" for i, x in enumerate(X)]
    data = column(tmp_path, cells)
    assert data.column_kinds["a"] == "number"
    assert said(data, "ATTENTION, 3 missing values ('a' 3")


@pytest.mark.parametrize(
    ("sentinel", "others"), [(-999, X), (9999, I % 40 + 20), (99, I % 5), (-99, I * 100), (-9999.0, X - 5)]
)
def test_sentinels_are_flagged_and_not_used(tmp_path, sentinel, others):
    cells = [sentinel if i % 9 == 4 else other for i, other in enumerate(others)]
    data = column(tmp_path, cells)
    known = [other for i, other in enumerate(others) if i % 9 != 4]
    assert min(values(data)) == min(known)
    assert max(values(data)) == max(known)
    assert said(data, "ATTENTION", "'a'", f"{sentinel:g} (3 times)", "taken as missing")
    with pytest.raises(ValueError, match="3 missing values"):
        column(tmp_path, cells, missing="error")


@pytest.mark.parametrize(
    "cells",
    [
        [999 if i == 4 else i % 40 for i in I],
        [99 if i % 9 == 4 else i * 3 for i in I],
        [9999 if i % 9 == 4 else i * 500 for i in I],
    ],
)  # fmt: skip
def test_what_is_no_sentinel_stays(tmp_path, cells):
    """It comes once only, or lies among the others."""
    assert values(column(tmp_path, cells)) == cells


@pytest.mark.parametrize("others", [X, I * 7 % 31])
@pytest.mark.parametrize("in_memory", [False, True])
def test_sentinels_in_a_target_are_left_out(tmp_path, others, in_memory):
    cells = np.where(I % 9 == 4, -999, others)
    frame = pd.DataFrame({"a": cells, "x": X})
    data = read_table(frame, target="a") if in_memory else column(tmp_path, cells, target="a")
    assert data.y.min() >= 0
    assert said(data, "ATTENTION", "-999 (3 times)")
    assert said(data, "'a' is missing in 3 of 30 rows")


def test_a_few_words_among_many_numbers_are_refused_and_named(tmp_path):
    cells = ["not tested" if i % 8 == 0 else f"{i / 7:.4f}" for i in range(200)]
    with pytest.raises(
        ValueError, match=r"'a' holds numbers except 25 of 200 entries .'not tested' in row 1"
    ):
        column(tmp_path, cells)


# Around the table.

BODY = lines(X.round(2).tolist() * 2, (I % 19).tolist() * 2, (I % 7).tolist() * 2, delimiter=",")


@pytest.mark.parametrize(
    ("before", "names", "after"),
    [
        ('"net\nsales",price,qty\n', ["net sales", "price", "qty"], ""),
        ("a,a,a.2\n", ["a", "a.3", "a.2"], ""),
        ("# made by x\n# 2020, y\n\na,b,c\n", ["a", "b", "c"], ""),
        ("#a,b,c\n", ["a", "b", "c"], ""),
        ("# made by x, 2020, y\na,b,c\n", ["a", "b", "c"], ""),
        ("Sales report 2020\n\na,b,c\n", ["a", "b", "c"], ""),
        ("Sales report 2020,,\n,,\na,b,c\n", ["a", "b", "c"], ",,\n,,\n"),
        ("Place:,Ulm\nDate:,2020-01-01\n\na,b,c\n", ["a", "b", "c"], ""),
        (",2020,\na,b,c\n", ["a", "b", "c"], ""),
        ("60\na,b,c\n", ["a", "b", "c"], ""),
        ("60\n", ["c0", "c1", "c2"], ""),
        ("a,b,c\nkg,cm,s\n", ["a", "b", "c"], ""),
        ("a,b,c\n", ["a", "b", "c"], "Total,570,180\n"),
        ("a,b,c\n", ["a", "b", "c"], "\nSource: the office\n* preliminary\n"),
        ("a,b,c\n", ["a", "b", "c"], "a,b,c\n"),
        ("a,b,c,\n", ["a", "b", "c", "unnamed 3"], ""),
        ("sep=,\na,b,c\n", ["a", "b", "c"], ""),
        ("\ufeffa,b,c\n", ["a", "b", "c"], ""),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_sixty_rows_stay_sixty_rows(tmp_path, before, names, after, end):
    text = (before + BODY + after).replace("\n", end)
    data = read(tmp_path, text)
    assert [name for name in names if not name.startswith("unnamed")] == list(data.feature_names)
    np.testing.assert_array_equal(data.X, np.column_stack([X, I % 19, I % 7]).tolist() * 2)


def test_rows_that_are_mostly_empty_stay_at_the_end(tmp_path):
    known = I % 3 > 0
    a, b = (np.where(known, cells.astype(str), "") for cells in (X, I % 7))
    assert read(tmp_path, "n;a;b\n" + lines(np.where(I % 2, "u", "v"), a, b)).X.shape == (N, 3)


def test_what_is_left_out_is_said(tmp_path):
    data = read(tmp_path, "Report\n\na,b,c\nkg,cm,s\n" + BODY + ",,\na,b,c\nTotal,5,5\n")
    for words in (
        ("before", "'Report'"),
        ("below the header", "kg, cm, s"),
        ("empty lines", "1"),
        ("repeat", "1"),
        ("end", "Total"),
    ):
        assert said(data, *words)


def test_sep_says_the_delimiter(tmp_path):
    data = read(tmp_path, "sep=;\na;b;c\n" + BODY.replace(",", ";"))
    assert data.X.shape == (60, 3)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("a;b;x\n" + lines(["one, two"] * 15 + ["three, four"] * 15, X, I % 7), (N, 3)),
        ("a,b,x\n" + lines(["one; two"] * 15 + ["three; four"] * 15, X, I % 7, delimiter=","), (N, 3)),
        ("a|b|x\n" + lines(["one,two;"] * 15 + ["three;four,"] * 15, X, I % 7, delimiter="|"), (N, 3)),
        ("'a','b'\n" + "".join(f"'x,{i % 2}',{x}\n" for i, x in enumerate(X)), (N, 2)),
        ("a,b\n" + "".join(f'"x\t{i % 2}",{x}\n' for i, x in enumerate(X)), (N, 2)),
        ("a,b\r\n" + "".join(f'"line\r\n""{i % 2}""",{x}\r\n' for i, x in enumerate(X)), (N, 2)),
        ("a,b\r\n" + "".join(f"{i % 7},{x}{chr(13) if i % 2 else ''}\n" for i, x in enumerate(X)), (N, 2)),
        ("a,b\n" + "".join(f"{i % 7},{x}{',' if i % 3 else ''}\n\n" for i, x in enumerate(X)), (N, 2)),
        ("# a b\n" + lines(X, X[::-1], delimiter=" "), (N, 2)),
        ("  a     b\n" + "".join(f"  {i % 7}   {x}\n" for i, x in enumerate(X)), (N, 2)),
    ],
)
def test_delimiters_quotes_and_line_ends(tmp_path, text, shape):
    assert read(tmp_path, text).X.shape == shape


# Files.


def test_encodings_of_one_table_are_one_table(tmp_path):
    text = "größe;prix;Käse\n" + lines(
        [f"{x}".replace(".", ",") for x in X], [f"{i} £" for i in I % 7], ["süß", "mür", "süß"] * 10
    )
    read_as = [
        read(tmp_path, text, encoding=encoding, target="Käse")
        for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252")
    ]
    for data in read_as:
        np.testing.assert_array_equal(data.X, np.column_stack([X, I % 7]))
        np.testing.assert_array_equal(data.y, read_as[0].y)
        assert (data.feature_names, data.classes) == (["größe", "prix"], ["mür", "süß"])


@pytest.mark.parametrize("suffix", ["zip", "bz2", "xz"])
def test_packed_files(tmp_path, suffix):
    path = tmp_path / f"t.csv.{suffix}"
    frame = pd.DataFrame({"a": X, "b": I % 7})
    frame.to_csv(path, index=False)
    np.testing.assert_array_equal(read_table(path, scale=False).X, frame.to_numpy())


def sheet(path, rows):
    """Write a workbook of one sheet: text as it stands in the cells, numbers, True and False, None for empty cells."""
    import xml.sax.saxutils as xml

    def cell(value, row, place):
        at = f'r="{"ABCDEFG"[place]}{row}"'
        if isinstance(value, str):
            return f'<c {at} t="inlineStr"><is><t>{xml.escape(value)}</t></is></c>'
        return (
            f'<c {at} t="b"><v>{value:d}</v></c>'
            if isinstance(value, bool)
            else f"<c {at}><v>{value}</v></c>"
        )

    body = "".join(
        f'<row r="{i}">{"".join(cell(v, i, j) for j, v in enumerate(row) if v is not None)}</row>'
        for i, row in enumerate(rows, 1)
    )
    main, office = "http://schemas.openxmlformats.org", "officeDocument/2006"
    kinds = f"{main}/{office}/relationships"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{main}/package/2006/content-types"><Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" '
        'ContentType="application/xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{main}/package/2006/relationships"><Relationship Id="r1" '
        f'Type="{kinds}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}/spreadsheetml/2006/main" xmlns:r="{kinds}"><sheets>'
        '<sheet name="one" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{main}/package/2006/relationships"><Relationship Id="r1" '
        f'Type="{kinds}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}/spreadsheetml/2006/main"><sheetData>{body}</sheetData>'
        "</worksheet>",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    path.write_bytes(buffer.getvalue())
    return path


@pytest.mark.parametrize("title", [[], [["Sales report"], [None, None, "2020"], []]])
def test_spreadsheets(tmp_path, title):
    rows = [
        [None, "a", "b", "c"],
        *([None, float(x), "süß" if i % 3 else "neu", i % 2 == 0] for i, x in zip(I, X, strict=True)),
    ]
    data = read_source(sheet(tmp_path / "t.xlsx", [*title, *rows, [None, "Total", None, None]]), target="c")
    assert (data.feature_names, data.classes, data.X.shape) == (["a", "b=süß"], ["False", "True"], (N, 2))
    np.testing.assert_allclose(data.X[:, 0], (X - X.mean()) / X.std())


def test_spreadsheets_need_their_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(ImportError, match=r"lodim\[excel\]"):
        read_source(sheet(tmp_path / "t.xlsx", [["a"], [1.5]]))


# Frames in memory.


def test_columns_of_every_type_of_a_frame():
    frame = pd.DataFrame(
        {
            "date32": pd.array(pd.date_range("2020-01-01", periods=N).date, dtype="date32[pyarrow]"),
            "period": pd.period_range("2020-01", periods=N, freq="M"),
            "decimal": [Decimal(f"{x}") for x in X],
            "truth": pd.array(I % 3 == 0, dtype="bool[pyarrow]"),
            "size": pd.Categorical(np.array(["S", "M", "L"])[I % 3], ["S", "M", "L"], ordered=True),
            "text": pd.array(np.array(["u", "v"])[I % 2], dtype="string[pyarrow]"),
            "clock": pd.array([time(i % 24, 30) for i in I], dtype="time64[us][pyarrow]"),
            "objects": [None, 1, 2.5, "3"] * 7 + [4, 5],
            "duration": pd.to_timedelta(I % 5, unit="h"),
        }
    )
    data = read_table(frame, scale=False)
    assert data.column_kinds == {
        "date32": "date", "period": "date", "decimal": "number", "truth": "boolean", "size": "ordinal",
        "text": "category", "clock": "duration", "objects": "number", "duration": "duration",
    }  # fmt: skip
    assert values(data, "date32") == I.tolist()
    assert values(data, "period")[:3] == [0, 31, 60]
    assert values(data, "size")[:3] == [0, 1, 2]
    assert values(data, "objects")[1:4] == [1, 2.5, 3]


# Files as their owners export them.


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["48°12'N", "47°30'36\"N", "12°30'S"], [48.2, 47.51, -12.5]),
        (["16°22,5′ E", "0°0′ W", "1°15′ O"], [16.375, 0, 1.25]),
        (["($1,200.50)", "$(20.00)", "$300.00"], [-1200.5, -20, 300]),
        (["151%", "49%", "230%"], [151, 49, 230]),
        (["0.5%", "99%", "1.2%"], [0.5, 99, 1.2]),
        (["1,5E-3", "2E5", "3,25"], [0.0015, 2e5, 3.25]),
        (["-0", "1", "-0.0"], [0, 1, 0]),
        (["1,00,000", "2,50,000", "12,34,567"], [1e5, 2.5e5, 1234567]),
        (["1.234.567", "2.000.000", "1.000"], [1234567, 2e6, 1000]),
        (["1.5", ".", ".a", "2.5"], [1.5, 2, 2, 2.5]),
    ],
)
def test_numbers_of_instruments_and_banks(tmp_path, cells, numbers):
    data = column(tmp_path, cells * 10, [0, 1, 3, 7, 5] * (2 * len(cells)))
    assert data.column_kinds["a"] == "number"
    assert values(data)[: len(cells)] == pytest.approx(numbers, rel=1e-15)


@pytest.mark.parametrize(
    "cells",
    [
        ["5M", "7F", "3M"],
        ["5M", "10%", "2M"], ["1/2", "1/4", "3/4"], ["1e5", "5c2", "3a4"], ["030 123456", "089 111222", "030 654321"],
        ["00:1A:2B", "00:1A:2C", "0A:1A:2B"], ["Q1", "Q2", "Q4"], ["Mon", "Tue", "Sun"],
        ["2019/20", "2020/21", "2021/22"],
        ["1-Mar", "2-Sep", "3-Dec"], ["01022020", "15032020", "28042020"],
    ],
)  # fmt: skip
def test_codes_that_look_like_numbers_stay_text(tmp_path, cells):
    assert column(tmp_path, cells * 10).column_kinds["a"] == "category"


@pytest.mark.parametrize(
    ("cells", "days"),
    [
        (["20200101120000", "20200102130000", "20200301000000"], [0, 25 / 24, 59.5]),
        (["202001011200", "202001021300", "202003010000"], [0, 25 / 24, 59.5]),
        (
            ["2020-01-01 00:00 CET", "2020-07-01 00:00 CEST", "2020-01-01 00:00 UTC"],
            [0, 182 - 1 / 24, 1 / 24],
        ),
        (["1799-12-31", "1900-02-28", "1900-03-01"], [0, 36583, 36584]),
        (["2000-02-28", "2000-03-01", "2262-04-12"], [0, 2, 95737]),
    ],
)
def test_dates_of_machines_and_of_other_centuries(tmp_path, cells, days):
    data = column(tmp_path, cells * 10)
    assert data.column_kinds["a"] == "date"
    assert values(data)[:3] == pytest.approx(days, rel=1e-14)


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        (["1:23.456", "1:24", "0:59.5"], [83.456, 84, 59.5]),
        (["59:59", "1:00:01", "2:03"], [3599, 3601, 123]),
        (["14:55", "14:55:30", "0:00"], [53_700, 53_730, 0]),
    ],
)
def test_times_of_two_numbers_and_of_three_are_on_one_scale(tmp_path, cells, seconds):
    data = column(tmp_path, cells * 10)
    assert values(data)[:3] == pytest.approx([s / 86_400 for s in seconds], rel=1e-14)
    assert said(data, "minutes and seconds", "'a'") or said(data, "ATTENTION", "'a'", "hours and minutes")


def test_years_of_two_digits_that_lie_ahead_are_said(tmp_path):
    assert said(
        column(tmp_path, ["27.03.45", "28.04.71", "29.05.99"] * 10), "ATTENTION", "'a'", "10 entries as 2030"
    )
    assert not said(column(tmp_path, ["27.03.15", "28.04.71", "29.05.99"] * 10), "two digits")
    assert not said(column(tmp_path, ["27.03.2045", "28.04.1971", "29.05.1999"] * 10), "two digits")


@pytest.mark.parametrize("day", ["9999-12-31", "1900-01-01"])
@pytest.mark.parametrize("in_memory", [False, True])
def test_days_that_stand_for_not_known_are_flagged_and_not_used(tmp_path, day, in_memory):
    days = np.array([f"2020-01-{1 + i:02}" for i in I])
    cells = np.where(I % 9 == 4, day, days)
    if in_memory:
        when = pd.Series(cells.astype("datetime64[s]"))
        data = read_table(pd.DataFrame({"a": when, "x": X}), scale=False)
    else:
        data = column(tmp_path, cells)
    assert [value for value, cell in zip(values(data), cells, strict=True) if cell != day] == I[
        I % 9 != 4
    ].tolist()
    assert max(values(data)) == N - 1
    assert said(data, "ATTENTION", "'a'", f"{day} (3 times)", "taken as missing")


def test_a_day_among_others_is_no_gap(tmp_path):
    cells = ["1970-01-01" if i % 9 == 4 else f"{1960 + i}-01-01" for i in I]
    assert min(values(column(tmp_path, cells))) == 0
    assert not said(column(tmp_path, cells), "missing")


def test_truth_in_words_and_in_digits_is_one_boolean(tmp_path):
    data = column(tmp_path, ["TRUE", "0", "1", "FALSE"] * 8)
    assert (data.column_kinds["a"], values(data)[:4]) == ("boolean", [1, 0, 1, 0])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("150,4,setosa,versicolor,virginica\n" + lines(X, X[::-1], X + 1, X + 2, I % 3, delimiter=","),
         "c0 c1 c2 c3 c4"),
        ("Q1,Q2,x\nHow old are you?,Sex,Rate\nImport 1,Import 2,Import 3\n" + lines(I % 7, I % 2, X, delimiter=","),
         "Q1 Q2 x"),
        ("r,x\n" + lines(I % 7, X, delimiter=",") + "Average,14.5\n", "r x"),
    ],
)  # fmt: skip
def test_lines_that_are_no_rows(tmp_path, text, names):
    data = read(tmp_path, text)
    assert (data.feature_names, len(data.X)) == (names.split(), N)
    assert said(data, "left out")


@pytest.mark.parametrize("plain", ["49", "49.5"])
def test_per_cent_signs_far_below_plain_numbers_are_on_their_scale(tmp_path, plain):
    cells = np.where(np.arange(20_500) < 20_000, plain, "51%")
    data = column(tmp_path, cells, np.arange(20_500) % 7)
    assert set(values(data)) == {float(plain), 51}
    assert said(data, "'a'", "all were read as per cent")


def test_what_a_block_holds_does_not_hang_on_its_other_entries():
    """Three digits are short beside a minus sign and a long word for "missing" too."""
    together, apart = Facts(), Facts()
    together.add(["980", "-123", "NULL"])
    for text in ("980", "-123", "NULL"):
        apart.add([text])
    assert together.counts == apart.counts
    assert together.count(SHORT) == 2
