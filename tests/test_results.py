"""Results travel as JSON and come back the same."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from lodim.results import Result, to_plain


@dataclass(frozen=True)
class Point(Result):
    d: int
    score: float
    name: str = "p"


@dataclass(frozen=True, eq=False)
class Whole(Result):
    best: Point
    curve: tuple[Point, ...]
    interval: tuple[float, float]
    values: np.ndarray
    by_class: dict[int, float]
    listed: list[Point]
    limit: float | None = None

    def __str__(self):
        return "a < b"


def whole(**changes):
    fields = {
        "best": Point(3, 0.5), "curve": (Point(1, 0.1), Point(2, math.nan)), "interval": (1.0, math.inf),
        "values": np.arange(6.0).reshape(2, 3), "by_class": {3: 0.25}, "listed": [Point(4, 1.0)],
    }  # fmt: skip
    return Whole(**{**fields, **changes})


def test_json_round_trip():
    before = whole()
    after = Whole.from_json(before.to_json())
    assert after.best == before.best
    assert after.curve[0] == before.curve[0]
    assert math.isnan(after.curve[1].score)
    np.testing.assert_array_equal(after.values, before.values)
    assert after.by_class == {3: 0.25}
    assert after.listed == before.listed
    assert after.limit is None
    assert Whole.from_json(whole(limit=2.5).to_json()).limit == 2.5


@dataclass(frozen=True)
class Arrays(Result):
    values: np.ndarray
    parts: tuple[Point, ...] = ()
    limit: float = 1.0
    named: dict[str, float] | None = None


def test_results_with_arrays_are_equal_by_content():
    one = Arrays(np.array([1.0, math.nan]), (Point(1, 0.5),), math.nan, {"a": 1.0})
    again = Arrays.from_json(one.to_json())
    assert again == one
    assert again.values.dtype == float
    assert hash(again) == hash(one)
    for limit in (1, np.float32(1), np.int64(1), np.bool_(True)):
        assert Arrays(np.ones(2), limit=limit) == Arrays(np.ones(2))
        assert hash(Arrays(np.ones(2), limit=limit)) == hash(Arrays(np.ones(2)))


@pytest.mark.parametrize(
    "other",
    [
        Arrays(None), Arrays((1.0, 2.0)),
        Arrays(np.array([1.0, 2.5])), Arrays(np.array([1.0, 2.0, 2.0])), Arrays(np.array([[1.0, 2.0]])),
        Arrays(np.array([1.0, 2.0]), (Point(1, 0.5),)), Arrays(np.array([1.0, 2.0]), limit=math.nan),
        Arrays(np.array([1.0, 2.0]), named={"a": 1.0}), Point(1, 2.0),
    ],
)  # fmt: skip
def test_results_of_other_content_differ(other):
    assert Arrays(np.array([1.0, 2.0])) != other


def test_json_has_no_bare_nan_or_infinity():
    def refuse(token):
        raise AssertionError(token)

    found = json.loads(whole().to_json(), parse_constant=refuse)
    assert found["interval"] == [1.0, None]
    assert found["curve"][1]["score"] is None


def test_infinite_ends_come_back_as_nan():
    low, high = Whole.from_json(whole().to_json()).interval
    assert low == 1.0
    assert math.isnan(high)


def test_unknown_keys_are_ignored():
    assert Point.from_dict({"d": 1, "score": 2.0, "later": 3}) == Point(1, 2.0)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([1.0, np.nan]), [1.0, None]),
        (torch.tensor([[1, 2]]), [[1, 2]]),
        (-math.inf, None),
        ({1: (np.float64(2.0),)}, {"1": [2.0]}),
        ("text", "text"),
        (None, None),
        (True, True),
    ],
)
def test_plain_forms(value, plain):
    found = to_plain(value)
    assert found == plain
    assert type(found) is type(plain)


def test_no_plain_form():
    with pytest.raises(TypeError, match="no JSON form for object"):
        to_plain(object())


def test_notebook_view_is_escaped():
    assert whole()._repr_html_() == "<pre>a &lt; b</pre>"
