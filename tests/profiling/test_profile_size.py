"""Reading counts against the budget, too many rows are sampled first, and large arrays are not copied."""

import tracemalloc
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import lodim
from lodim.datasets import Dataset, read_source
from lodim.datasets.dataset import sampled_note
from lodim.profiling.data_part import measure_data
from lodim.profiling.inputs import as_dataset, column_spreads

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 3)) @ RNG.normal(size=(3, 5))


def given(X, y=None, **fields):
    none = dict.fromkeys(("feature_names", "target_name", "classes", "image_shape"))
    return as_dataset(X, y, **(none | {"source": "array", "kind": "auto", "notes": ()} | fields))


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is put on."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def planned(monkeypatch):
    """What the data part was allowed: seconds and deadline."""
    seen = {}

    def measure(*arguments, **options):
        seen.update(options)
        return measure_data(*arguments, **options)

    monkeypatch.setattr("lodim.profiling.data_part.measure_data", measure)
    return seen


def slow_reader(clock, seconds, dataset):
    def read(source, **options):
        clock[0] += seconds
        return dataset

    return read


def test_reading_counts(monkeypatch, clock, planned):
    data = Dataset(X, name="a.csv")
    monkeypatch.setattr("lodim.profiling.inputs.read_source", slow_reader(clock, 8.0, data))
    p = lodim.profile("a.csv", budget=10)
    assert planned["deadline"] == pytest.approx(15.0)  # of a clock that stood at 0 when reading began
    assert planned["seconds"] == pytest.approx(0.6 * 0.9 * 2.0)
    assert p.seconds == p.timings["reading"] == 8.0
    assert any(note.startswith("ATTENTION, reading took 8.0 s") for note in p.notes)
    assert p.data.dimension is not None


def test_reading_as_long_as_its_file_explains_is_planned_for_by_its_size(clock, planned):
    """A machine that is busy today plans what it planned yesterday."""
    data, found = Dataset(X, seconds_to_read=4.0), []
    for reading in (3.0, 4.0, 5.5):
        p = lodim.profile(data, budget=10, reading=reading)
        found.append((planned["seconds"], p.data))
        assert not any("ATTENTION" in note for note in p.notes)
        assert planned["deadline"] == pytest.approx(15.0 - reading)
    assert found[0] == found[1] == found[2]
    assert found[0][0] == pytest.approx(0.6 * 0.9 * 6.0)


def test_reading_that_takes_all_leaves_the_least(clock, planned):
    p = lodim.profile(X, budget=10, reading=30.0)
    assert planned["seconds"] == pytest.approx(0.6 * 0.9 * 1.0)
    assert any("Reading alone takes about 30 s" in note for note in p.notes)
    assert round(p.data.dimension) == 3
    assert any(note.startswith("No time left for") for note in p.notes)
    with pytest.raises(ValueError, match="reading must be at least 0"):
        lodim.profile(X, reading=-1)


def test_the_command_counts_its_reading(monkeypatch, clock):
    from lodim.cli.app import app

    said = {}

    def profile(dataset, **options):
        said.update(options)
        raise ValueError("enough")

    monkeypatch.setattr("lodim.datasets.read_source", slow_reader(clock, 8.0, Dataset(X)))
    monkeypatch.setattr(lodim, "profile", profile)
    assert "enough" in CliRunner().invoke(app, ["profile", "a.csv"]).output
    assert said["reading"] == 8.0


def test_more_rows_than_are_used_are_sampled_by_any_door(tmp_path, monkeypatch):
    """The same rows of an array, a file, a data frame and a tensor; the targets go with them."""
    monkeypatch.setattr("lodim.datasets.dataset.MAX_VALUES", 2000)
    rows = np.arange(1000.0)
    many = np.c_[rows + 0.5, RNG.normal(size=(1000, 3))]
    np.save(tmp_path / "many.npy", many)
    array, file = given(many, rows / 3, seed=7), read_source(tmp_path / "many.npy", random_state=7)
    assert array.X.shape == (500, 4)
    np.testing.assert_array_equal(array.X, file.X)
    np.testing.assert_allclose(array.y, (array.X[:, 0] - 0.5) / 3)
    note = sampled_note(1000, 500)
    assert "1,000 rows: a random sample of 500" in note
    assert note in array.notes
    assert note in file.notes
    assert array.X[:, 0].max() > 900
    tensor = given(torch.from_numpy(many), rows / 3, seed=7)
    np.testing.assert_array_equal(tensor.X, array.X)
    frame = given(pd.DataFrame(many, columns=list("abcd")), rows / 3, seed=7)
    np.testing.assert_array_equal(frame.y, array.y)
    assert note in frame.notes
    assert len(given(Dataset(many)).X) == 1000  # whoever made it has chosen its rows
    p = lodim.profile(many, random_state=7, budget=60)
    assert p.n_samples == 500
    assert any(note in said for said in p.notes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_in_memory_is_not_copied(dtype):
    A = X.astype(dtype)
    assert np.shares_memory(given(A).X, A)
    assert np.shares_memory(given(given(A)).X, A)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_beside_the_array(monkeypatch, dtype):
    """No step holds more than the array once again; blocks of a fixed size are made small beside it."""
    for name in (
        "neighbors.duplicates._CHUNK_ENTRIES",
        "profiling.inputs._BLOCK_VALUES",
        "dimension.spectrum._BLOCK_VALUES",
    ):
        monkeypatch.setattr(f"lodim.{name}", 1 << 17)
    A = (RNG.normal(size=(12_000, 6)) @ RNG.normal(size=(6, 300))).astype(dtype)
    measure_data(
        A[:100], None, [str(j) for j in range(300)], seed=0, deadline=np.inf, seconds=1.0
    )  # loads libraries
    tracemalloc.start()
    try:
        data = given(A)
        measure_data(data.X, None, data.feature_names, seed=0, deadline=-np.inf, seconds=0.1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * A.nbytes


def leaves(plain, name=""):
    """Every number and text in nested dictionaries and sequences, by its place."""
    if isinstance(plain, dict):
        return {k: v for key, part in plain.items() for k, v in leaves(part, f"{name}.{key}").items()}
    if isinstance(plain, list | tuple):
        return leaves(dict(enumerate(plain)), name)
    return {name: plain}


def test_single_precision_gives_what_double_gives():
    """Of numbers that are single ones exactly; here of the grey levels of images."""
    turn = RNG.normal(size=(5, 80))
    pixels = np.clip(128 + 40 * np.tanh(RNG.normal(size=(700, 5))) @ turn, 0, 255).round()
    labels = np.array(["a", "b"])[(pixels[:, 0] > 128).astype(int)]

    def measured(dtype):
        data = given(pixels.astype(dtype), labels)
        options = {"seed": 0, "deadline": np.inf, "seconds": 60.0}
        return measure_data(data.X, data.labels, data.feature_names, **options)

    (single, notes), (double, other) = measured(np.float32), measured(np.float64)
    assert notes == other
    one, two = leaves(asdict(single)), leaves(asdict(double))
    assert one.keys() == two.keys()
    assert len(one) > 100
    for name, value in one.items():
        assert value == (pytest.approx(two[name], rel=1e-9) if isinstance(value, float) else two[name]), name
    assert measured(np.uint8)[0] == single


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_spreads_do_not_hang_on_the_blocks(monkeypatch, dtype):
    A = (RNG.normal(size=(500, 37)) + 5).astype(dtype)
    whole = column_spreads(A)
    np.testing.assert_array_equal(whole[0], A.std(0, dtype=np.float64))
    monkeypatch.setattr("lodim.profiling.inputs._BLOCK_VALUES", 1)
    np.testing.assert_array_equal(column_spreads(A)[0], whole[0])
