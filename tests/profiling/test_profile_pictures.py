import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lodim.pages import figures
from lodim.pages.picture import (
    Across,
    Axis,
    Band,
    Bar,
    Dot,
    Key,
    Line,
    Mark,
    Picture,
    Row,
    Upright,
    Whisker,
    dot_rows,
    linear_axis,
    log_axis,
)
from lodim.pages.svg import svg
from lodim.profiling import wording

numbers = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(numbers, min_size=1, max_size=20), st.booleans())
def test_linear_axis_holds_its_values_on_few_round_ticks(values, zero):
    axis = linear_axis(values, "x", zero=zero)
    slack = 1e-8 * max(map(abs, values))  # far below a pixel
    assert axis.low <= min(values) + slack
    assert axis.high >= max(values) - slack
    assert 2 <= len(axis.ticks) <= 8
    assert not zero or axis.low <= 0 <= axis.high


@given(st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=20))
def test_log_axis_holds_its_values(values):
    axis = log_axis(values, "x")
    assert 0 < axis.low <= min(values)
    assert axis.high >= max(values)
    assert len(axis.ticks) <= 7
    assert all(axis.low <= t <= axis.high * (1 + 1e-9) for t in axis.ticks)


def test_axis_positions():
    assert Axis(0, 10, "x")(5) == pytest.approx(0.5)
    assert Axis(1, 100, "x", log=True)(10) == pytest.approx(0.5)
    assert Axis(0, 10, "x")(99) == 1.0


def test_limits_are_not_passed():
    axis = linear_axis([0.3, 0.99], "accuracy", zero=True, limits=(None, 1.0))
    assert axis.high == 1.0


def rows_picture(*rows, **options):
    x, y, marks = dot_rows(rows, "a < b", **options)
    return Picture("k", "<script>", "what & why", x, y, marks, (), ())


def test_svg_is_well_formed_and_escapes():
    drawn = rows_picture(Row('<b>"x"&', 3.0, (2.0, 4.0)), Row("plain", 5.0), reference=4.0, ends=(3.0, 5.0))
    root = ET.fromstring(svg(drawn))
    assert root.get("role") == "img"
    names = root.get("aria-labelledby").split()
    found = {e.get("id"): e.text for e in root.iter() if e.get("id")}
    assert [found[n] for n in names] == ["<script>", "what & why"]


def test_ticks_are_labelled_with_what_they_are():
    drawn = rows_picture(Row("a", 9.5), Row("b", 10.5), zero=False)
    words = [e.text for e in ET.fromstring(svg(drawn)).iter() if e.get("class") == "tick"]
    assert {float(w) for w in words if w not in "ab"} == set(drawn.x.ticks)
    assert drawn.x.low > 9


EVERY_MARK = (
    Band((0, 10), (0, 0), (1, 1), zone=True),
    Line(((0, 0), (10, 1))),
    Bar(2, 4, 0.5, "two to four"),
    Whisker(1, 9, 0.5),
    Across(0.9, "level", below=True),
    Upright(5, "middle", (4, 6)),
    Dot(10, 1, "corner", hollow=True),
    Dot(99, -7, "outside", chosen=True),
)


def test_dots_lie_where_the_data_say():
    axes = Axis(0, 10, "x", ticks=(0, 5, 10)), Axis(0, 1, "y", ticks=(0, 1))
    root = ET.fromstring(svg(Picture("k", "t", "d", *axes, EVERY_MARK, (), ())))
    corner, outside = (e for e in root.iter() if e.tag.endswith("circle"))
    ticks = {e.text: e for e in root.iter() if e.get("class") == "tick"}
    right, top = (
        float(ticks["10"].get("x")),
        float(ticks["1"].get("y")) - 4,
    )  # the text stands beside its tick
    bottom = float(ticks["0"].get("y"))
    assert float(corner.get("cx")) == pytest.approx(right, abs=0.1)
    assert float(corner.get("cy")) == pytest.approx(top, abs=0.1)
    assert float(outside.get("cx")) == pytest.approx(right, abs=0.1)
    assert bottom - 25 < float(outside.get("cy")) <= bottom
    assert {"level", "middle"} <= {e.text for e in root.iter()}


def test_both_renderers_draw_every_mark():
    from matplotlib.figure import Figure

    assert {type(mark) for mark in EVERY_MARK} == set(Mark.__args__)
    ax = Figure().add_subplot()
    legend = (Key(1, "seen"), Key(4, "hollow", hollow=True))
    axes = Axis(0.1, 10, "x", log=True, ticks=(1, 10)), Axis(0, 1, "y", ticks=(0, 1), names=("no", "yes"))
    figures.draw(ax, Picture("k", "t", "d", *axes, EVERY_MARK, (), (), legend))
    assert (ax.get_xscale(), ax.get_xlim(), ax.get_ylim()) == ("log", (0.1, 10), (0, 1))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["no", "yes"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["seen", "hollow"]
    assert {"level", "middle"} <= {t.get_text() for t in ax.texts}
    assert ax.lines[-1].get_xydata().tolist() == [[10, 0]]  # at the edge
    assert len(ax.patches) == 2  # the bar, and the interval of the upright
    assert len(ax.collections) == 1


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
