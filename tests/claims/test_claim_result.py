"""Checks, verdicts and their JSON form."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lodim.claims import Check, Claim, ClaimResult, Findings, check_between, check_that, verdict_of
from lodim.results.records import format_expected, format_value


@given(st.floats(allow_nan=True), st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_interval_check_passes_exactly_inside(value, one, other):
    low, high = min(one, other), max(one, other)
    assert check_between("x", value, low, high).passed == (low <= value <= high)


def test_open_intervals_are_said_in_words():
    assert check_between("ratio", 3.0, 2.5, math.inf).expected == "at least 2.5"
    assert check_between("loss", 0.1, -math.inf, 0.5).expected == "at most 0.5"


@pytest.mark.parametrize(
    ("passed", "verdict"),
    [
        ([True, True], "holds"),
        ([False, True], "fails"),
        ([True, False], "differs"),
        ([False, False], "fails"),
    ],
)
def test_verdict_follows_from_the_checks(passed, verdict):
    essential, other = passed
    checks = (check_that("a", 1, "is so", essential), check_that("b", 2, "is so", other, essential=False))
    assert verdict_of(checks) == verdict


def test_no_check_no_verdict():
    with pytest.raises(ValueError, match="at least one check"):
        verdict_of(())


def result(**changes):
    fields = {
        "name": "topic/one",
        "arxiv": "1234.56789",
        "statement": "Two and two are four.",
        "scale": "laptop",
        "verdict": "fails",
        "checks": (
            check_between("sum", 5.0, 4, 4, paper=4),
            check_that("signs", [1, 2], "all positive", True),
        ),
        "seconds": 1.5,
        "seed": 7,
        "figures": {"curve": [[1, 0.5], [2, math.nan]]},
        "notes": ("one note",),
    }
    return ClaimResult(**(fields | changes))


def test_json_round_trip_keeps_the_checks_and_writes_no_nan():
    first = result()
    text = first.to_json()
    assert "NaN" not in text
    again = ClaimResult.from_json(text)
    assert [c.passed for c in again.checks] == [False, True]
    assert again.checks[0].paper == 4
    assert tuple(again.checks[0].expected) == (4.0, 4.0)
    assert again.notes == first.notes
    assert again.to_json() == text
    assert not again.passed


def test_frame_has_a_row_a_check():
    frame = result().to_frame()
    assert list(frame["what"]) == ["sum", "signs"]
    assert list(frame["passed"]) == [False, True]
    assert list(result(checks=(), verdict="error").to_frame().columns) == list(frame.columns)


def test_text_says_what_failed_and_why():
    text = str(result())
    assert "topic/one (laptop): fails" in text
    assert "FAIL sum: 5 (expected 4 to 4; paper: 4)" in text
    assert "no data" in str(result(verdict="skipped", checks=(), message="no data"))
    assert str(Check("a", 1, "b", False, essential=False)).startswith("differs a")


@pytest.mark.parametrize("name", ["Upper/case", "a b", "", "/a", "a//b", "../a"])
def test_claim_names_are_safe_file_names(name):
    with pytest.raises(ValueError, match="lower-case"):
        Claim(name=name, arxiv="1", statement="s", laptop=found)


def found(seed, progress):
    for step in progress.part(0.5, 1.0).over("ab"):
        progress.part(0.0, 0.5)(1.0, f"with {step}")
    return Findings([check_between("seed", seed, 3, 3)])


def test_a_claim_has_the_scales_that_it_has_experiments_for():
    small = Claim(name="a", arxiv="1", statement="s", laptop=found, needs=("rl",), full_needs=("gpu",))
    assert small.scales == ("laptop",)
    with pytest.raises(ValueError, match="scale of a"):
        small.run("full")
    both = replace(small, full=lambda seed, progress: Findings([check_that("x", seed, "y", False)]))
    assert both.scales == ("laptop", "full")
    assert (both.needed("laptop"), both.needed("full")) == (("rl",), ("gpu", "rl"))
    assert both.run("laptop", 3).checks[0].passed
    assert not both.run("full", 3).checks[0].passed


def test_progress_fills_its_stretch_and_is_silent_where_nobody_watches():
    seen = []
    Claim(name="a", arxiv="1", statement="s", laptop=found).run("laptop", 3, lambda *said: seen.append(said))
    assert seen == [(0.5, "a"), (0.5, "with a"), (0.75, "b"), (0.5, "with b")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        (199210, "199,210"),
        (1234.5, "1,234"),
        (math.inf, "inf"),
        (None, "-"),
        (True, "yes"),
        ([1, 0.25], "[1, 0.25]"),
        ({"a": 0.5}, "a: 0.5"),
        ("word", "word"),
    ],
)
def test_figures_read_short(value, text):
    assert format_value(value) == text


def test_expected_reads_as_interval_or_words():
    assert format_expected((90.0, 260.0)) == "90 to 260"
    assert format_expected([90.0, 260.0]) == "90 to 260"
    assert format_expected("at least 2") == "at least 2"
