import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lodim.profiling import charts, wording

numbers = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(numbers, min_size=1, max_size=20), st.booleans())
def test_linear_axis_holds_its_values_on_few_round_ticks(values, zero):
    axis = charts.linear_axis(values, "x", zero=zero)
    slack = 1e-8 * max(map(abs, values))  # far below a pixel
    assert axis.low <= min(values) + slack
    assert axis.high >= max(values) - slack
    assert 2 <= len(axis.ticks) <= 8
    assert not zero or axis.low <= 0 <= axis.high


@given(st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=20))
def test_log_axis_holds_its_values(values):
    axis = charts.log_axis(values, "x")
    assert 0 < axis.low <= min(values)
    assert axis.high >= max(values)
    assert len(axis.ticks) <= 7
    assert all(axis.low <= t <= axis.high * (1 + 1e-9) for t in axis.ticks)


def test_axis_positions():
    assert charts.Axis(0, 10, "x")(5) == pytest.approx(0.5)
    assert charts.Axis(1, 100, "x", log=True)(10) == pytest.approx(0.5)
    assert charts.Axis(0, 10, "x")(99) == 1.0


def test_limits_are_not_passed():
    axis = charts.linear_axis([0.3, 0.99], "accuracy", zero=True, limits=(None, 1.0))
    assert axis.high == 1.0


def test_svg_is_well_formed_and_escapes():
    rows = [charts.Row('<b>"x"&', 3.0, (2.0, 4.0)), charts.Row("plain", 5.0)]
    canvas = charts.dot_rows(rows, "a < b", reference=4.0, ends=(3.0, 5.0))
    root = ET.fromstring(canvas.svg("k", "<script>", "what & why"))
    assert root.get("role") == "img"
    names = root.get("aria-labelledby").split()
    found = {e.get("id"): e.text for e in root.iter() if e.get("id")}
    assert [found[n] for n in names] == ["<script>", "what & why"]


def test_ticks_are_labelled_with_what_they_are():
    canvas = charts.dot_rows([charts.Row("a", 9.5), charts.Row("b", 10.5)], "x", zero=False)
    words = [e.text for e in ET.fromstring(canvas.svg("k", "t", "d")).iter() if e.get("class") == "tick"]
    assert {float(w) for w in words if w not in "ab"} == set(canvas.x.ticks)
    assert canvas.x.low > 9


def test_dots_lie_where_the_data_say():
    canvas = charts.Canvas(charts.Axis(0, 10, "x"), charts.Axis(0, 1, "y"))
    canvas.dot(10, 1, "s1", "corner")
    (mark,) = canvas.marks
    circle = ET.fromstring(mark)
    assert float(circle.get("cx")) == pytest.approx(canvas.px(10), abs=0.01)
    assert float(circle.get("cy")) == pytest.approx(canvas.top, abs=0.01)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (8970, "8,970"),
        (0.8741, "0.874"),
        (12.34, "12.3"),
        (3.0, "3"),
        (0.05, "0.05"),
        (1e-5, "1e-05"),
        (0, "0"),
        (None, "–"),
        (math.nan, "–"),
        (-2.5, "-2.5"),
    ],
)
def test_numbers_as_people_read_them(x, text):
    assert wording.number(x) == text


def test_intervals_as_people_read_them():
    assert wording.interval((7.81, 10.43)) == "7.8–10.4"
    assert wording.interval((320, None), lambda x: f"{x:,.0f}") == "above 320"
    assert wording.interval(None) == "–"
    assert wording.percent(0.0178) == "1.8 %"
    assert wording.percent(0.144) == "14 %"
