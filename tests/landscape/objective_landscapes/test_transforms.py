"""Shuffles are permutations: fixed by the seed, the same for all images, exact in number."""

import numpy as np
import pytest
import torch

from lodim.landscape.objective_landscapes.toy import shuffle_labels, shuffle_pixels

IMAGES = np.random.default_rng(0).normal(size=(5, 3, 4, 6)).astype(np.float32)


@pytest.mark.parametrize("shape", [(15, 24), (15, 4, 6), (5, 3, 4, 6)])
def test_all_images_get_the_same_permutation(shape):
    X = IMAGES.reshape(shape)
    shuffled = shuffle_pixels(X, random_state=3)
    assert shuffled.shape == shape
    assert shuffled.dtype == X.dtype
    before, after = X.reshape(15, 24), shuffled.reshape(15, 24)
    order = [int(np.flatnonzero(before[0] == value)[0]) for value in after[0]]
    assert sorted(order) == list(range(24))
    assert order != list(range(24))
    np.testing.assert_array_equal(after, before[:, order])


def test_the_seed_fixes_the_permutation_of_any_split():
    np.testing.assert_array_equal(shuffle_pixels(IMAGES, 1)[2:], shuffle_pixels(IMAGES[2:], 1))
    assert (shuffle_pixels(IMAGES, 1) != shuffle_pixels(IMAGES, 2)).any()


def test_tensors_and_arrays_agree():
    tensor = shuffle_pixels(torch.from_numpy(IMAGES), random_state=4)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor, shuffle_pixels(IMAGES, random_state=4))
    y = np.arange(50)
    labels = shuffle_labels(torch.from_numpy(y), 0.4, random_state=4)
    assert isinstance(labels, torch.Tensor)
    np.testing.assert_array_equal(labels, shuffle_labels(y, 0.4, random_state=4))
    np.testing.assert_array_equal(y, np.arange(50))  # the input is left alone


@pytest.mark.parametrize(("fraction", "count"), [(0.0, 0), (0.1, 20), (0.503, 101), (1.0, 200)])
def test_exactly_that_many_labels_move(fraction, count):
    y = np.arange(200)  # all different: a sample keeps its label only if it was not chosen
    shuffled = shuffle_labels(y, fraction, random_state=1)
    assert (shuffled != y).sum() == count
    np.testing.assert_array_equal(np.sort(shuffled), y)


def test_chosen_samples_are_nested_and_fixed():
    y = np.arange(200)
    few, many = shuffle_labels(y, 0.2, random_state=1) != y, shuffle_labels(y, 0.6, random_state=1) != y
    assert (many | ~few).all()
    np.testing.assert_array_equal(
        shuffle_labels(y, 0.2, random_state=1), shuffle_labels(y, 0.2, random_state=1)
    )
    assert (shuffle_labels(y, 0.2, random_state=2) != shuffle_labels(y, 0.2, random_state=1)).any()


def test_fully_shuffled_labels_are_independent_of_the_old():
    y = np.repeat(np.arange(10), 2000)
    assert (shuffle_labels(y, 1.0, random_state=0) == y).mean() == pytest.approx(0.1, abs=0.01)


def test_text_labels():
    y = ["cat", "dog", "eel", "fox"]
    assert sorted(shuffle_labels(y, 1.0)) == y


def test_bad_input():
    with pytest.raises(ValueError, match="shape"):
        shuffle_pixels(np.zeros(4))
    with pytest.raises(ValueError, match="1-D"):
        shuffle_labels(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="fraction"):
        shuffle_labels(np.arange(4), 1.2)
    with pytest.raises(ValueError, match="nothing to swap"):
        shuffle_labels(np.arange(10), 0.1)
