"""One data set, one number: what the answer may depend on (data, budget, seed) and what not (the clock, the door)."""

import itertools

import numpy as np
import pytest
from sklearn.datasets import load_digits

import lodim
from lodim.datasets import read_source
from lodim.profiling.data_part import measure_data
from lodim.profiling.inputs import as_dataset, scaled_together, split
from lodim.profiling.landscape_part import measure_landscape
from lodim.profiling.models import choose_model
from lodim.profiling.report import command


def given(X, y=None, **fields):
    none = dict.fromkeys(("feature_names", "target_name", "classes", "image_shape"))
    return as_dataset(X, y, **(none | {"source": "array", "kind": "auto", "notes": ()} | fields))


class Clock:
    """A clock that goes by so much whenever it is asked."""

    def __init__(self, step):
        self.ticks, self.step = itertools.count(), step

    def monotonic(self):
        return self.step * next(self.ticks)


def on_a_clock(monkeypatch, step):
    clock = Clock(step)
    monkeypatch.setattr("time.monotonic", clock.monotonic)
    return clock


def blobs(n=90):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    return 4 * rng.normal(size=(3, 5))[y] + rng.normal(size=(n, 5)), y


@pytest.mark.trains
def test_a_slow_clock_changes_nothing_until_it_cuts(monkeypatch):
    X, y = blobs()
    data, choice = given(X, y), choose_model("linear", 5, 3)

    def on(step):
        with monkeypatch.context() as patch:
            on_a_clock(patch, step)
            options = {
                "seconds": 1.0,
                "deadline": 2.0,
                "n_jobs": 1,
                "ray": None,
                "progress": lambda *told: None,
            }
            steps = list(measure_landscape(data, choice, seed=0, **options))
        return steps[-1][0], [note for _, notes in steps for note in notes]

    still, slow, stuck = on(0.0), on(1e-6), on(1.0)
    assert slow == still
    assert still[0].curve
    assert not any("ATTENTION" in note for note in still[1])
    assert any(note.startswith("ATTENTION, the time budget of") for note in stuck[1])


def test_the_data_part_outlasts_its_share(monkeypatch):
    """Its deadline is beyond the whole budget: a second more or less cuts no interval."""
    seen = {}

    def measure(*arguments, **options):
        seen.update(options)
        return measure_data(*arguments, **options)

    monkeypatch.setattr("lodim.profiling.data_part.measure_data", measure)
    clock = on_a_clock(monkeypatch, 0.0)
    lodim.profile(blobs()[0], budget=20)
    assert clock.monotonic() == 0.0
    assert seen["deadline"] == pytest.approx(30.0)
    assert seen["seconds"] < 20.0


def test_the_command_and_the_library_prepare_data_alike():
    by_name, by_command = given("iris", source="iris"), given(read_source("iris"), source="iris")
    for one, other in zip(vars(by_name).values(), vars(by_command).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert by_name.name == "iris"


def test_pixels_are_pixels_by_any_door():
    X, y = load_digits(return_X_y=True)
    named, array = given("digits"), given(X, y)
    assert scaled_together(array)
    one, other = split(named, 0), split(array, 0)
    np.testing.assert_array_equal(one.X, other.X)
    np.testing.assert_array_equal(one.y_val, other.y_val)
    bytes_ = given(np.asarray(X, dtype=np.uint8).reshape(-1, 8, 8) * 15, y)
    assert bytes_.image_shape == (1, 8, 8)
    assert 0.9 < bytes_.X.max() <= 1
    found = [
        measure_data(d.X[:200], None, d.feature_names, seed=0, deadline=np.inf, seconds=20)[0]
        for d in (named, array)
    ]
    assert found[0].dimension == pytest.approx(found[1].dimension, rel=1e-9)
    assert found[0].interval == pytest.approx(found[1].interval, rel=1e-9)


@pytest.mark.parametrize(
    "spoil", [lambda X: X[:, :10], lambda X: X - 1, lambda X: X * np.r_[np.ones(20), 1e3, np.ones(43)]]
)
def test_other_columns_are_scaled_each_by_itself(spoil):
    X, y = load_digits(return_X_y=True)
    assert not scaled_together(given(spoil(X), y))


def test_a_data_frame_is_a_table():
    frame = load_digits(as_frame=True).frame[["pixel_0_2", "pixel_0_3", "target"]]
    frame["which"] = np.where(frame["target"] < 5, "low", "high")
    found = given(frame[["pixel_0_2", "pixel_0_3", "which"]], frame["target"])
    assert found.kind == "classification"
    np.testing.assert_allclose(found.X[:, 0].std(), 1.0, rtol=1e-2)
    assert any("standardised" in note for note in found.notes)
    assert not any("no target was named" in note for note in found.notes)


def test_the_kind_asked_for_is_taken_and_repeated():
    X, y = blobs()
    p = lodim.profile(X, y, kind="regression", model="none", budget=30)
    assert (p.kind, p.kind_given) == ("regression", True)
    assert 'kind="regression"' in command(p)
    data = given(X, y)
    assert given(data, kind="regression").y.tolist() == y.tolist()
    counts = np.random.default_rng(0).poisson(6, 90)
    assert given(X, counts).kind == "regression"
    assert any("kind='classification' otherwise" in note for note in given(X, counts).notes)
