"""Rows without a label are found in every kind of labels, and the rest are counted from zero."""

import numpy as np
import pytest

from lodim.partition.partial_labels import read_partial_labels


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        ([3, -1, 3, 7], [3, 7]),
        ([3.0, np.nan, 3.0, 7.0], [3, 7]),
        (["b", None, "b", "c"], ["b", "c"]),
        (np.array(["b", -1, "b", "c"]), ["b", "c"]),
        (np.array(["b", -1, "b", "c"], dtype=object), ["b", "c"]),
        ([[3], [-1], [3], [7]], [3, 7]),
        (np.array([True, None, True, False], dtype=object)[[3, 1, 3, 0]], [False, True]),
    ],
)
def test_every_kind_of_label(y, classes):
    labels = read_partial_labels(y, 4)
    assert labels.classes.tolist() == classes
    assert labels.codes.tolist() == [0, -1, 0, 1]
    assert labels.known.tolist() == [True, False, True, True]


def test_no_label_at_all():
    labels = read_partial_labels([-1, -1], 2)
    assert labels.classes.size == 0
    assert not labels.known.any()


@pytest.mark.parametrize(
    ("y", "message"), [([1, 2], "2 entries"), ([[1, 2], [3, 4], [5, 6]], "1-D"), ([1j, 2, 3], "Complex")]
)
def test_what_is_no_label(y, message):
    with pytest.raises(ValueError, match=message):
        read_partial_labels(y, 3)


def test_texts_beside_numbers():
    with pytest.raises(TypeError, match="one kind"):
        read_partial_labels(np.array(["a", 2, -1], dtype=object), 3)
