"""Targets: the rule that tells classes from numbers, and labels files."""

import numpy as np
import pytest

from lodim.datasets import Dataset, encode_target, read_labels
from lodim.datasets.labels import pick_labels
from lodim.datasets.targets import attach, with_kind
from lodim.validation import infer_kind


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", "b"] * 5, "classification"),
        ([True, False] * 5, "classification"),
        ([0, 1, 2] * 5, "classification"),
        ([0.0, 1.0] * 5, "classification"),
        (np.arange(20).repeat(2), "classification"),
        (np.arange(21).repeat(2), "regression"),
        (np.arange(10), "regression"),
        ([0.5, 1.5] * 5, "regression"),
        (np.arange("2020-01-01", "2020-02-01", dtype="datetime64[D]"), "regression"),
    ],
)
def test_rule(values, kind):
    assert infer_kind(values) == kind
    assert encode_target(values).kind == kind


COVERTYPE = np.array([0.3646, 0.4876, 0.0615, 0.0047, 0.0163, 0.0299, 0.0354])
ZIPF = 1 / np.arange(1, 13)
FAMILIES = {
    "digits": (lambda r: r.integers(0, 10, 1797), "classification"),
    "twenty codes": (lambda r: r.integers(0, 20, 2000), "classification"),
    "stars": (lambda r: r.choice(5, 500, p=[0.05, 0.07, 0.13, 0.3, 0.45]) + 1, "classification"),
    "rare event": (lambda r: (r.random(2000) < 0.01).astype(int), "classification"),
    "signs": (lambda r: r.choice([-1, 1], 100), "classification"),
    "covertype": (lambda r: r.choice(7, 3000, p=COVERTYPE) + 1, "classification"),
    "codes by rank": (lambda r: r.choice(12, 3000, p=ZIPF / ZIPF.sum()), "classification"),
    "status codes": (
        lambda r: r.choice([200, 301, 404, 500], 400, p=[0.8, 0.1, 0.07, 0.03]),
        "classification",
    ),
    "years": (lambda r: r.integers(2015, 2024, 500), "regression"),
    "poisson 3": (lambda r: r.poisson(3, 400), "regression"),
    "poisson 6": (lambda r: r.poisson(6, 800), "regression"),
    "geometric": (lambda r: r.geometric(0.4, 500) - 1, "regression"),
    "negative binomial": (lambda r: r.negative_binomial(2, 0.4, 600), "regression"),
    "ages": (lambda r: r.integers(18, 90, 500), "regression"),
    "ages at school": (lambda r: r.integers(11, 19, 500), "regression"),
    "decades": (lambda r: 10 * r.integers(1, 10, 500), "regression"),
    "degrees": (lambda r: r.integers(-8, 9, 500), "regression"),
    "ids": (lambda r: r.permutation(500), "regression"),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_of_known_kind(name):
    """Nine of ten samples at least: whether counts end in few samples depends on the sample."""
    draw, kind = FAMILIES[name]
    found = [infer_kind(draw(np.random.default_rng(seed))) for seed in range(20)]
    assert found.count(kind) >= 18


def test_how_whole_numbers_were_read_is_said():
    assert (
        "5 different whole numbers were read as classes (kind='regression' otherwise)"
        in encode_target(np.arange(50) % 5, name="stars").notes[0]
    )
    counts = np.random.default_rng(0).poisson(6, 800)
    assert "were read as numbers (kind='classification' otherwise)" in encode_target(counts).notes[0]
    for values in ([0, 1] * 5, ["a", "b"] * 5, [0.5, 1.5] * 5):
        assert encode_target(values).notes == ()
    assert encode_target(np.arange(50) % 5, kind="classification").notes == ()


@pytest.mark.parametrize("values", [np.arange(60) % 6 + 3, np.array([True, False] * 30)])
def test_a_target_is_read_again_as_the_other_kind(values):
    target = encode_target(values, name="t")
    data = Dataset(
        np.zeros((60, 1)), target.y, "d", ["x"], "t", target.classes, target.kind, notes=target.notes
    )
    numbers = with_kind(data, "regression")
    assert (numbers.kind, numbers.classes, numbers.notes) == ("regression", None, ())
    assert numbers.y.tolist() == values.astype(float).tolist()
    assert with_kind(data, "auto") is with_kind(data, "classification") is data
    if values.dtype != bool:
        assert with_kind(numbers, "classification").classes == target.classes


def test_classes_are_numbered_in_order():
    target = encode_target(["b", "a", "b", "c", "a", "c"])
    assert target.classes == ["a", "b", "c"]
    assert target.y.tolist() == [1, 0, 1, 2, 0, 2]
    assert encode_target([10, 2] * 3).classes == ["2", "10"]


def test_objects_keep_their_kind():
    assert encode_target(np.array([1.5, 2.5, 3.0], dtype=object)).y.tolist() == [1.5, 2.5, 3.0]
    assert encode_target(np.array([1, "x"] * 4, dtype=object)).classes == ["1", "x"]


def test_kind_can_be_given():
    assert encode_target([0, 1] * 5, kind="regression").y.dtype == np.float64
    assert encode_target(np.arange(40) // 2 + 0.5, kind="classification").classes[:2] == ["0.5", "1.5"]
    with pytest.raises(ValueError, match="kind must be one of"):
        encode_target([0, 1], kind="ordinal")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["spam"] * 10, "'t' has one class only .'spam' in all 10 rows"),
        ([3] * 10, "one class only"),
        ([2.5] * 10, "is 2.5 in all 10 rows"),
        ([f"id{i}" for i in range(50)], "50 different values in 50 rows .* identifiers"),
        ([0.5, np.inf] * 5, "5 values that are not finite"),
    ],
)
def test_targets_that_will_not_do(values, message):
    with pytest.raises(ValueError, match=message):
        encode_target(values, name="t")


def test_text_is_no_regression_target():
    with pytest.raises(ValueError, match="holds text"):
        encode_target(["a", "b"], kind="regression")


def test_lonely_classes_are_reported():
    assert (
        "1 of 3 classes have one sample only ('c')" in encode_target(["a"] * 5 + ["b"] * 5 + ["c"]).notes[0]
    )


def test_rows_without_target_are_left_out():
    keep, target = attach(np.array(["a", None, "b", "a", "b"], dtype=object), "t", "auto")
    assert keep.tolist() == [True, False, True, True, True]
    assert target.y.tolist() == [0, 1, 0, 1]
    assert "missing in 1 of 5 rows" in target.notes[0]
    with pytest.raises(ValueError, match="missing in 1 of 5"):
        attach(np.array(["a", None, "b", "a", "b"], dtype=object), "t", "error")


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("labels", [["cat", "dog", "cat"], ["0", "1", "0"], ["0.5", "1.25", "-3"]])
def test_text_file_with_and_without_header(tmp_path, header, labels):
    path = tmp_path / "labels.txt"
    path.write_text("\n".join((["animal"] if header else []) + labels) + "\n")
    found = read_labels(path, n_samples=3)
    assert [str(v) for v in found] == labels or found.tolist() == [float(v) for v in labels]
    assert (found.dtype == object) == (labels[0] == "cat") or found.dtype.kind in "if"


def test_npy_labels(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0], [1], [2]]))
    assert read_labels(tmp_path / "a.npy").tolist() == [0, 1, 2]
    np.save(tmp_path / "b.npy", np.eye(3)[[2, 0]])
    assert read_labels(tmp_path / "b.npy").tolist() == [2, 0]
    np.save(tmp_path / "c.npy", np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"shape \(3, 2\)"):
        read_labels(tmp_path / "c.npy")


def test_several_columns_need_a_choice(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("row,animal\n0,cat\n1,dog\n")
    with pytest.raises(ValueError, match=r"2 columns .'row', 'animal'.; a labels file has one label a line"):
        read_labels(path)
    assert read_labels(path, column="animal").tolist() == ["cat", "dog"]


def test_length_is_checked(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("a\nb\nc\n")
    with pytest.raises(ValueError, match=r"labels file 'labels.txt' has 3 entries but the data have 10 rows"):
        pick_labels(path, 10, np.arange(10))
    assert pick_labels(["a", "b", "c"], 3, np.array([2, 0])).tolist() == ["c", "a"]


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no labels file"):
        read_labels(tmp_path / "nothing.txt")
