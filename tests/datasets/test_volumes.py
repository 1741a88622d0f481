"""What must hold of volumes whatever the seed: slices go together, amplitudes are kept, nothing outside [0, 1]."""

import numpy as np
import pytest

from lodim.datasets import digit_volume, ellipse_volume


def image(size=28):
    at = np.arange(size) - (size - 1) / 2
    return np.exp(-((at[:, None] / 8) ** 2 + ((at - 2) / 3) ** 2))


def second_moments(volume):
    """Angle of the long axis in degrees, and root of the mean squared radius, of each slice about the centre."""
    out = []
    for cut in volume[:, 0].astype(float):
        at = np.arange(cut.shape[0]) - (cut.shape[0] - 1) / 2
        y, x = np.meshgrid(at, at, indexing="ij")
        m = np.array([[np.sum(cut * a * b) for b in (y, x)] for a in (y, x)]) / cut.sum()
        values, vectors = np.linalg.eigh(m)
        out.append((np.degrees(np.arctan(vectors[1, 1] / vectors[0, 1])), np.sqrt(values.sum())))
    return np.array(out).T


def test_slices_turn_and_grow_by_the_amplitudes_asked_for():
    blob = np.exp(-((np.arange(41)[:, None] - 20.0) ** 2 / 60 + (np.arange(41) - 20.0) ** 2 / 8))
    still = digit_volume(blob, 5, angle=0, zoom=0, random_state=0)
    np.testing.assert_allclose(still, np.broadcast_to(blob, (5, 1, 41, 41)), atol=1e-6)
    for seed in range(5):
        turned, size = second_moments(digit_volume(blob, 33, angle=20, zoom=0, random_state=seed))
        assert np.abs(turned).max() == pytest.approx(20, abs=0.7)  # half a wave always has a crest
        assert np.ptp(size) < 0.02 * size.mean()
        turned, size = second_moments(digit_volume(blob, 33, angle=0, zoom=0.2, random_state=seed))
        grown = np.abs(size / second_moments(still)[1][0] - 1)
        assert grown.max() == pytest.approx(0.2, abs=0.02)
        assert np.abs(turned).max() < 1


def test_neighbouring_slices_are_alike():
    volume = digit_volume(image(), 16, random_state=0)
    steps = np.abs(np.diff(volume, axis=0)).mean((1, 2, 3))
    ends = np.abs(volume[0] - volume[-1]).mean()
    assert steps.max() < 0.35 * max(ends, np.abs(volume - volume[8]).mean((1, 2, 3)).max())


@pytest.mark.parametrize(
    "draw",
    [
        lambda seed: digit_volume(image(), 9, random_state=seed),
        lambda seed: ellipse_volume(9, 20, random_state=seed),
    ],
)
def test_volumes_are_reproducible_and_stay_in_range(draw):
    one = draw(1)
    assert one.dtype == np.float32
    assert one.ndim == 4
    assert one.shape[:2] == (9, 1)
    np.testing.assert_array_equal(one, draw(1))
    assert np.abs(one - draw(2)).max() > 0.05
    assert 0 <= one.min() <= one.max() <= 1


def test_the_body_has_its_density_and_voxels_hold_what_part_is_inside():
    plain = ellipse_volume(8, 48, n_inside=0, random_state=0)
    assert set(np.unique(plain[4, 0, 20:28, 20:28])) == {0.5}
    assert plain[:, 0, 0, 0].max() == 0
    counted = plain.sum() / 0.5
    finer = ellipse_volume(8, 144, n_inside=0, random_state=0).sum() / 0.5 / 9
    assert counted == pytest.approx(finer, rel=0.005)  # part voxels: the sum does not depend on the grid
    assert len(np.unique(plain)) > 5
    assert ellipse_volume(8, 48, random_state=0).std() != plain.std()


def test_what_makes_no_volume_is_refused():
    for wrong, words in (
        (np.zeros((3, 28, 28)), "one row"),
        (np.full((28, 28), np.nan), "NaN"),
    ):
        with pytest.raises(ValueError, match=words):
            digit_volume(wrong)
    for options in ({"n_slices": 0}, {"angle": 400}, {"zoom": 1.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            digit_volume(image(), **options)
    for options in ({"n_slices": 0}, {"size": 2}, {"n_inside": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            ellipse_volume(**options)
