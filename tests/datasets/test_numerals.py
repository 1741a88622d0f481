"""Text that means a number, in the ways people write numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lodim.datasets.numerals import from_smallest, is_number, is_one_value, numeral


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_plain_numbers_come_back_exactly(x):
    assert numeral(repr(x)).value(comma=False) == x


@given(st.integers(-(10**12), 10**12), st.sampled_from(", '\xa0\u202f\u2009’"))
def test_thousands_by_decimal_point(x, separator):
    text = f"{x:,}.25".replace(",", separator)
    assert float(numeral(text).point) == float(f"{x}.25")
    assert numeral(text).comma is None or abs(x) < 1000


@given(st.integers(-(10**12), 10**12), st.sampled_from(". '\xa0\u202f\u2009"))
def test_thousands_by_decimal_comma(x, separator):
    text = f"{x:,}".replace(",", separator) + ",5"
    assert float(numeral(text).comma) == float(f"{x}.5")
    assert numeral(text).point is None


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("$1,200.50", 1200.5, "$"),
        ("1,200.50 USD", 1200.5, "$"),
        ("12 %", 12, "%"),
        ("€ 5", 5, "€"),
        ("-$3", -3, "$"),
        ("$-3", -3, "$"),
        ("($3)", -3, "$"),
        ("(7)", -7, ""),
        ("7-", -7, ""),
        ("\u22127", -7, ""),
        ("1 234 567", 1234567, ""),
        ("12,34,567", 1234567, ""),
        ("+.5e-3", 5e-4, ""),
        ("1'000", 1000, ""),
        ("5 kg", 5, "kg"),
        ("21.5°C", 21.5, "°C"),
        ("80 km/h", 80, "km/h"),
        ("12 m²", 12, "m²"),
        ("3 days", 3, "day"),
        ("2nd", 2, "th"),
        ("1.5k", 1500, ""),
        ("$2M", 2e6, "$"),
    ],
)
def test_what_numbers_are_dressed_in(text, value, unit):
    number = numeral(text)
    assert (number.value(comma=False), number.unit) == (value, unit)


@pytest.mark.parametrize(
    ("text", "point", "comma"),
    [
        ("1.250", 1.25, 1250),
        ("1,250", 1250, 1.25),
        ("0.250", 0.25, None),  # no number begins with a group of 0
        ("1234.567", 1234.567, None),  # nor has its first group four digits
        ("1.234.567", None, 1234567),
        ("1.2345", 1.2345, None),
        ("3,5", None, 3.5),
        ("1.234E+03", 1234, None),  # nobody groups what has an exponent
        ("1,2E+03", None, 1200),
        ("1 234,500", None, 1234.5),
        ("12", 12, 12),
    ],
)
def test_what_the_decimal_sign_decides(text, point, comma):
    number = numeral(text)
    assert (number.point and float(number.point), number.comma and float(number.comma)) == (point, comma)


@pytest.mark.parametrize(
    "text",
    ["abc", "1.2.3", "", "1,23,4", "nan", "inf", "0x10", "1_000", "12 34", "(7", "--7", "$5 €", "+491701234567",
     "5 big dogs"],
)  # fmt: skip
def test_no_number(text):
    assert numeral(text) is None


def test_plain_numbers():
    assert all(map(is_number, ["1", "-2.5", ".5", "1e-3", '"7"']))
    assert not any(map(is_number, ["", "a", "1,5", "12a", "nan", "inf", "0x10", "1_000"]))


def test_large_whole_numbers_stay_apart():
    start = 10**18
    assert from_smallest([start + 3, start, start + 1]).tolist() == [3, 0, 1]
    assert from_smallest(np.array([2**64 - 1, 2**64 - 2], dtype=np.uint64)).tolist() == [1, 0]


@given(st.floats(-1e300, 1e300), st.integers(2, 6))
def test_the_rounding_of_a_sum_is_no_difference(x, n):
    """Terms added in another order differ by n - 1 roundings at most, each of half a unit in the last place."""
    assert is_one_value(np.array([x, x * (1 + (n - 1) / 2 * np.finfo(float).eps)]))
    assert not is_one_value(np.array([1.0, 1 + 1e-12]))


def test_one_value():
    assert is_one_value(np.array([0.3, 0.1 + 0.2]))
    assert is_one_value(np.zeros(3))
    assert not is_one_value(np.array([0.0, 5e-324]))
