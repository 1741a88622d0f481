import numpy as np
import pandas as pd
import pytest

from lodim.datasets import Dataset
from lodim.profiling.data_part import expected_seconds, measure_data, plan_sample
from lodim.profiling.inputs import MAX_TRAIN, MAX_VAL, as_dataset, split


def read(X, y=None, **fields):
    given = {
        "source": "array",
        "feature_names": None,
        "target_name": None,
        "classes": None,
        "kind": "auto",
        "image_shape": None,
        "notes": (),
    }
    return as_dataset(X, y, **(given | fields))


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(60, 4))


def test_a_frame_brings_its_column_names(X):
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    assert read(frame).feature_names == ["a", "b", "c", "d"]


def test_classes_are_named(X):
    y = np.array(["cat", "dog", "cow"] * 20)
    problem = read(X, y)
    assert problem.kind == "classification"
    assert problem.classes == ["cat", "cow", "dog"]
    assert list(problem.labels) == list(y)
    coded = read(X, np.arange(60) % 3, classes=["x", "y", "z"])
    assert coded.classes == ["x", "y", "z"]
    assert list(coded.labels[:3]) == ["x", "y", "z"]


def test_real_targets_are_a_regression(X):
    problem = read(X, X[:, 0] * 1.5)
    assert problem.kind == "regression"
    assert problem.labels is None


def test_a_dataset_brings_everything(X):
    data = Dataset(
        X,
        np.arange(60) % 2,
        "toy",
        ["a", "b", "c", "d"],
        "side",
        ["l", "r"],
        "classification",
        (1, 2, 2),
        ("n",),
        origins=("a", "b", "b", "b"),
        column_kinds={"a": "number", "b": "category"},
    )
    problem = read(data)
    assert (problem.n_table_columns, problem.column_kinds) == (2, data.column_kinds)
    assert (problem.name, problem.target_name, problem.classes) == ("toy", "side", ["l", "r"])
    assert problem.image_shape == (1, 2, 2)
    assert problem.notes[0] == "n"


def test_stacked_images_are_flattened():
    images = np.random.default_rng(0).random((20, 5, 6))
    problem = read(images)
    assert problem.X.shape == (20, 30)
    assert problem.image_shape == (1, 5, 6)


BAD = [
    (lambda X: (X[:3], None, {}), "minimum of 10"),
    (lambda X: (np.where(X > 2, np.nan, X), None, {}), "NaN"),
    (lambda X: (np.zeros((12, 1_000_000), np.uint8), None, {}), "1,000,000 columns"),
    (lambda X: (X, np.zeros(60, int), {}), "one class only"),
    (lambda X: (X, np.full(60, 0.5), {}), "nothing to learn"),
    (lambda X: (X, np.zeros(59, int), {}), "59 entries but X has 60 rows"),
    (lambda X: (X[:, 0], None, {}), "2-D"),
    (lambda X: (X, None, {"feature_names": ["a"]}), "1 feature_names"),
    (lambda X: (X, None, {"image_shape": (3, 3)}), "image_shape"),
    (lambda X: (X, np.arange(60) % 3, {"classes": ["a", "b"]}), "class 2"),
    (lambda X: (X, np.arange(60) % 3, {"kind": "ranking"}), "kind must be one of"),
    (lambda X: (np.array([["a", "b"]] * 20), None, {}), "numbers only"),
]


@pytest.mark.parametrize(("make", "words"), BAD, ids=[w for _, w in BAD])
def test_bad_input_is_said(X, make, words):
    data, y, fields = make(X)
    with pytest.raises(ValueError, match=words):
        read(data, y, **fields)


def test_equal_rows_are_refused():
    with pytest.raises(ValueError, match="all 20 rows of X are equal"):
        measure_data(np.ones((20, 3)), None, "abc", seed=0, deadline=np.inf, seconds=10)


def test_split_keeps_shares_and_standardises(X):
    y = np.array([0] * 40 + [1] * 19 + [2])
    parts = split(read(X * [1, 10, 100, 0] + 5, y, classes=["a", "b", "c"]), seed=0)
    assert len(parts.y) + len(parts.y_val) == 60
    assert np.bincount(parts.y_val, minlength=3).tolist() == [8, 4, 0]
    assert np.bincount(parts.y).tolist() == [32, 15, 1]
    np.testing.assert_allclose(parts.X.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(parts.X.std(0), [1, 1, 1, 0], atol=1e-5)
    again = split(read(X * [1, 10, 100, 0] + 5, y, classes=["a", "b", "c"]), seed=0)
    np.testing.assert_array_equal(parts.X, again.X)
    other = split(read(X * [1, 10, 100, 0] + 5, y, classes=["a", "b", "c"]), seed=1)
    assert not np.array_equal(parts.X, other.X)


def test_pixels_are_scaled_together(X):
    y = np.arange(60) % 2
    parts = split(read(X * [1, 10, 1, 1], y, image_shape=(1, 2, 2)), seed=0)
    spread = parts.X.std(0)
    assert spread[1] / spread[0] == pytest.approx(10, rel=0.5)
    assert parts.X.std() == pytest.approx(1, rel=1e-4)


def test_large_data_is_capped():
    X = np.random.default_rng(0).random((40_000, 2)).astype(np.float32)
    parts = split(read(X, np.arange(40_000) % 4), seed=0)
    assert len(parts.y) <= MAX_TRAIN + 4
    assert len(parts.y_val) <= MAX_VAL + 4
    assert abs(len(parts.y) / len(parts.y_val) - 4) < 0.05


def test_sampling_follows_the_time():
    assert plan_sample(2000, 64, 20.0).n_rows == 2000
    assert plan_sample(2000, 64, 20.0).n_queries == 2000
    large = plan_sample(100_000, 3072, 10.0)
    assert large.n_queries < 100_000
    assert expected_seconds(large.n_rows, large.n_queries, 3072) <= 10.0 or large.n_rows == 1000
    assert plan_sample(100_000, 3072, 40.0).n_queries >= large.n_queries


def test_measured_parts_of_a_plane():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 12))
    X[:, 3] = 1.0
    X[5] = X[4]
    labels = np.where(X[:, 0] > 0, "up", "down")
    labels[5] = "up" if labels[4] == "down" else "down"
    part, _ = measure_data(X, labels, [f"c{j}" for j in range(12)], seed=0, deadline=np.inf, seconds=20)
    assert part.dimension == pytest.approx(2, abs=0.4)
    assert part.pca95 <= 2
    assert part.participation_ratio <= 2
    assert part.constant_columns == ("c3",)
    assert part.n_duplicates == 1
    assert part.n_conflicts == 1
    assert set(part.k_f_pair) == {"up", "down"}
    assert {k: e.n for k, e in part.per_class.items()} == {
        "up": int((labels == "up").sum()),
        "down": int((labels == "down").sum()),
    }
    assert sum(part.pointwise.counts) == part.pointwise.n
    assert part.spectrum[-1] == pytest.approx(1)
    assert {s.method for s in part.scale_profile} == {"gride", "decimation"}


@pytest.mark.parametrize(
    ("y", "fields", "message"),
    [
        (None, {"classes": ["a", "b"]}, "names of y, and there is none"),
        (None, {"kind": "regression"}, "reading of y, and there is none"),
        (None, {"kind": "clasification"}, "kind must be one of"),
        (np.arange(60) % 2 + 0.7, {"classes": ["a", "b"]}, "0, 1, ... of y; y holds"),
        (np.array(["u", "v"] * 30), {"classes": ["a", "b"]}, "0, 1, ... of y; y holds"),
        (np.arange(60) % 2, {"classes": ["a", "b"], "kind": "regression"}, "y is read as numbers"),
    ],
)
def test_what_would_do_nothing_is_refused(X, y, fields, message):
    with pytest.raises(ValueError, match=message):
        read(X, y, **fields)


def test_classes_of_a_dataset_can_be_named(X):
    dataset = Dataset(X, np.arange(60) % 2, "t", list("abcd"), "y", classes=["0", "1"], kind="classification")
    assert read(dataset, classes=["no", "yes"]).classes == ["no", "yes"]
    assert read(dataset).classes == ["0", "1"]


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda X: X[::-1].copy()[::-1]])
def test_a_layout_in_memory_is_no_other_data(X, layout):
    y = np.arange(60) % 2
    ours, theirs = split(read(X, y), 0), split(read(layout(X), y), 0)
    assert np.array_equal(ours.X, theirs.X)
    assert np.array_equal(ours.X_val, theirs.X_val)


def test_tiny_units_are_not_constant_for_the_model(X):
    y = np.arange(60) % 2
    a, b = split(read(X, y), 0), split(read(2.0**-60 * X, y), 0)
    assert np.array_equal(a.X, b.X)  # scaled by a power of two
