"""Text that means numbers and dates, in the ways people write them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lodim.datasets.numerals import is_number, parse_dates, parse_numbers


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_plain_numbers_come_back_exactly(numbers):
    values, how = parse_numbers([repr(x) for x in numbers])
    assert values.tolist() == numbers
    assert how == ""


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1))
def test_english_thousands(numbers):
    values, _ = parse_numbers([f"{x:,}.25" if x >= 0 else f"{x:,}" for x in numbers])
    assert values.tolist() == [x + 0.25 if x >= 0 else x for x in numbers]


@given(st.lists(st.integers(1000, 10**12), min_size=1))
def test_continental_numbers(numbers):
    texts = [f"{x:,}".replace(",", ".") + ",5" for x in numbers]
    values, how = parse_numbers(texts)
    assert values.tolist() == [x + 0.5 for x in numbers]
    assert how == "with decimal commas"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$1,200.50", 1200.5),
        ("12 %", 12),
        ("€ 5", 5),
        ("-$3", -3),
        ("1 234 567", 1234567),
        ("+.5e-3", 5e-4),
        ("1'000", 1000),
    ],
)
def test_units_and_spaces(text, value):
    values, _ = parse_numbers([text])
    assert values[0] == pytest.approx(value, rel=1e-15)


def test_one_convention_a_column():
    """``1,234`` is a thousand among English numbers and a fraction among continental ones."""
    assert parse_numbers(["1,234", "2,500.5"])[0].tolist() == [1234, 2500.5]
    assert parse_numbers(["1,234", "2,5", "3,75"])[0].tolist() == [1.234, 2.5, 3.75]


def test_a_point_stays_a_point_beside_commas():
    values, _ = parse_numbers(["1,5", "2,5", "3.5"])
    assert values.tolist() == [1.5, 2.5, 3.5]


@pytest.mark.parametrize("text", ["abc", "1.2.3", "12a", "", "1,23,4", "nan", "inf", "0x10", "1_000"])
def test_no_number(text):
    assert np.isnan(parse_numbers([text])[0][0])
    assert not is_number(text)


@pytest.mark.parametrize(
    ("texts", "days"),
    [
        (["1970-01-02", "1970-01-11"], [1, 10]),
        (["1970-01-01T12:00:00", "1970-01-02 00:00:00"], [0.5, 1]),
        (["31.01.1970", "01.02.1970"], [30, 31]),
        (["01/31/1970", "02/01/1970"], [30, 31]),
        (["31/01/1970", "01/02/1970"], [30, 31]),
    ],
)
def test_dates(texts, days):
    found = parse_dates(texts)
    assert found is not None
    assert found[0].tolist() == days


@pytest.mark.parametrize("texts", [["a", "b"], ["12", "13"], [], ["1970-01-01", "x"], ["1.2.3", "99.99.99"]])
def test_no_dates(texts):
    assert parse_dates(texts) is None
