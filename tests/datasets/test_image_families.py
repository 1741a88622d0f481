"""Image families: their dimension by their differences, their smoothness by their spectrum, repeats found."""

import numpy as np
import pytest

from lodim import datasets


def singular_shares(images):
    s = np.linalg.svd(images.reshape(len(images), -1).astype(float), compute_uv=False)
    return s / s[0]


@pytest.mark.parametrize("alpha", [1, 2.5])
def test_contours_have_amplitudes_of_frequency_to_minus_alpha(alpha):
    contours = datasets.c_alpha(4000, alpha, 32, random_state=0).contours
    power = (np.abs(np.fft.rfft(contours)) ** 2).mean(0)
    f = np.arange(1, 16)
    slope = np.polyfit(np.log(f), np.log(power[1:16]), 1)[0]
    assert slope == pytest.approx(-2 * alpha, abs=0.05)
    assert power[0] == pytest.approx(power[1], rel=0.1)  # the constant counts as frequency 1
    assert power[0] == pytest.approx(32 / 3, rel=0.1)  # of 32 numbers uniform in [-1, 1]


def test_geometric_images_are_two_textures_on_both_sides_of_the_contour():
    images, contours = datasets.c_alpha(200, 3, 40, random_state=1)
    assert images.shape == (200, 1, 40, 40)
    assert images.min() >= 0
    assert images.max() <= 1
    height = np.rint(contours * 40) + 20
    jump = np.abs(np.diff(images[:, 0], axis=1))  # along columns
    place = jump.argmax(1)  # the greatest step of each column
    at_contour = np.abs(place - (height - 1)) <= 1.5  # as the mask is two pixels wide
    assert at_contour.mean() > 0.6
    np.testing.assert_array_equal(images, datasets.c_alpha(200, 3, 40, random_state=1).images)


def test_discs_have_five_tangents_and_these_are_their_derivatives():
    images, parameters = datasets.discs(20, 24, random_state=0)
    np.testing.assert_allclose(images, datasets.draw_discs(parameters, 24), atol=1e-7)
    tangents = datasets.disc_tangents(parameters, 24)
    assert tangents.shape == (20, 5, 1, 24, 24)
    for each in tangents:
        assert singular_shares(each)[-1] > 1e-4  # rank 5
    rng = np.random.default_rng(0)
    move = 1e-3 * rng.normal(size=parameters.shape)
    change = datasets.draw_discs(parameters + move, 24) - datasets.draw_discs(parameters, 24)
    predicted = np.einsum("nk,nkchw->nchw", move, tangents)
    assert np.linalg.norm(change - predicted) < 0.05 * np.linalg.norm(change)
    row, column, radius = parameters[:, :3].T
    border = np.minimum.reduce([row, column, 24 - row, 24 - column])
    assert (radius <= border).all()
    level, around = parameters[:, 3:].T
    area = ((images[:, 0] - around[:, None, None]) / (level - around)[:, None, None]).sum((1, 2))
    np.testing.assert_allclose(area, np.pi * radius**2, rtol=0.05)  # antialiased


def test_ray_and_sines_have_the_dimensions_they_say():
    image = np.random.default_rng(0).random((1, 6, 4))
    copies = datasets.ray(50, image, random_state=0)
    assert copies.shape == (50, 1, 6, 4)
    assert singular_shares(copies)[1] < 1e-6
    waves = datasets.sines(300, 16, random_state=0)
    assert singular_shares(waves)[2] > 0.1  # a cone within a space of three
    assert singular_shares(waves)[3] < 1e-6
    flat = waves[:, 0, 0]
    wave = np.fft.rfft(flat)
    np.testing.assert_allclose(np.abs(wave[:, 1]), wave[:, 0].real / 2, atol=1e-5)  # a (1 + sin) / 2
    np.testing.assert_array_equal(waves[:, 0], np.repeat(flat[:, None], 16, 1))


def test_shuffled_pixels_go_back():
    images = np.random.default_rng(0).random((5, 2, 3, 4))
    shuffled, order = datasets.shuffle_pixels(images, random_state=0)
    assert not np.array_equal(shuffled, images)
    back, _ = datasets.shuffle_pixels(shuffled, np.argsort(order))
    np.testing.assert_array_equal(back, images)
    np.testing.assert_array_equal(datasets.shuffle_pixels(images, order).images, shuffled)
    with pytest.raises(ValueError, match="0 to 11 once"):
        datasets.shuffle_pixels(images, np.zeros(12, int))


def test_planted_repeats_are_found_and_nothing_else():
    rng = np.random.default_rng(0)
    images = rng.random((1200, 1, 30, 26))
    images[700] = 0.5 * images[3] + 0.2  # another contrast
    images[1100] = images[700] + 0.01 * rng.random((1, 30, 26))
    images[5], images[900] = 0.3, 0.8  # of one colour
    found = datasets.near_duplicates(images)
    assert np.flatnonzero(found).tolist() == [700, 900, 1100]
    assert not datasets.near_duplicates(images[~found]).any()
    assert datasets.near_duplicates(np.stack([images[0, 0]] * 3)).tolist() == [False, True, True]
    assert len(datasets.near_duplicates(images[:0])) == 0


def test_thumbnails_average_exactly():
    ramp = np.arange(30.0)  # its averages over 20 stretches are their middles
    averaged = datasets.image_families._averaging(30, 20) @ ramp
    np.testing.assert_allclose(averaged[::2], np.arange(10) * 3 + 1 / 3, atol=1e-12)
    np.testing.assert_allclose(datasets.image_families._averaging(7, 3).sum(1), 1)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: datasets.c_alpha(3, -1.0), "alpha must be at least 0"),
        (lambda: datasets.discs(0), "n must be at least 1"),
        (lambda: datasets.near_duplicates(np.full((2, 4, 4), np.nan)), "NaN or infinity in number 0"),
        (lambda: datasets.near_duplicates(np.ones((4, 4))), r"\(n, ..., h, w\)"),
    ],
)
def test_bad_input_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
