"""Results print, travel as JSON and come back the same, make tables and draw."""

import json

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.axes import Axes

from .examples import RESULTS, result_of

mpl.use("Agg")


@pytest.fixture(scope="module", params=list(RESULTS), ids=lambda thing: thing.__name__)
def result(request):
    """One instance of the class, which the tests below share."""
    return result_of(request.param)


def test_it_travels_as_json(result):
    text = result.to_json()
    assert json.loads(text) == result.to_dict()
    again = type(result).from_json(text)
    assert type(again) is type(result)
    assert again == result
    assert hash(again) == hash(result)
    assert again.to_json() == text
    assert str(again) == str(result)


def test_it_can_be_read(result):
    assert str(result)
    assert result._repr_html_().startswith("<")
    with pytest.raises(AttributeError):
        result.anything = 1  # frozen


def test_its_table_has_rows(result):
    if not hasattr(result, "to_frame"):
        return
    frame = result.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame)
    assert frame.columns.is_unique


def test_it_draws_on_axes_of_its_own_or_given_ones(result):
    if not hasattr(result, "plot"):
        return
    _, given = plt.subplots()
    try:
        assert isinstance(result.plot(), Axes)
        assert result.plot(given) is given
        assert given.has_data()
    finally:
        plt.close("all")
