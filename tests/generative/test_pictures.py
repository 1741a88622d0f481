"""Pictures of samples and trajectories: what is drawn where."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from lodim.generative import EDM, EmpiricalDenoiser, Trajectory, heun, plot_samples


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_images_become_a_sheet():
    images = np.zeros((5, 1, 4, 6))
    images[3] = 1.0
    sheet = plot_samples(images).images[0].get_array()
    assert sheet.shape == (2 * 5 - 1, 3 * 7 - 1)  # three columns, lines of one pixel between
    assert (sheet[5:, :6] == 1).all()  # the fourth image, and the lines
    assert (sheet[:4, :6] == 0).all()
    assert plot_samples(images, n=1).images[0].get_array().shape == (4, 6)


def test_colours_ranges_and_bytes():
    colours = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    assert plot_samples(colours).images[0].get_array().shape == (11, 11, 3)
    flat = np.full((1, 1, 2, 2), 128, np.uint8)
    shown = plot_samples(flat, value_range=(150, 250)).images[0].get_array()
    assert (shown == 0).all()  # darker than black, not wrapped around
    assert np.isfinite(plot_samples(flat).images[0].get_array()).all()
    assert plot_samples(np.zeros((2, 3, 3))).images[0].get_array().shape == (3, 7)


def test_points_and_curves():
    assert len(plot_samples(np.zeros((9, 2))).collections[0].get_offsets()) == 9
    assert len(plot_samples(np.zeros((9, 5)), n=3).lines) == 3
    ax = plot_samples(np.zeros((9, 2)))
    assert plot_samples(np.ones((9, 2)), ax) is ax


@pytest.mark.parametrize("values", [np.zeros((0, 2)), np.zeros((2, 0)), np.zeros(3), np.zeros((2, 2, 4, 4))])
def test_what_is_no_picture_is_refused(values):
    with pytest.raises(ValueError, match=r"one or more|1 or 3 channels"):
        plot_samples(values)


@pytest.mark.parametrize("shape", [(2,), (1,), (1, 4, 4), (4, 4), (3, 4, 4)])
def test_a_trajectory_keeps_the_first_samples(shape):
    seen, Y = Trajectory(2), torch.ones(3, *shape)
    sigmas = EDM().sigmas(5)
    out = heun(EmpiricalDenoiser(Y), 80 * torch.ones(6, *shape), sigmas, on_step=seen)
    for _ in range(2):
        assert seen.sigmas == sigmas[1:].tolist()
        assert len(seen.x) == len(seen.x0_hat) == 5
        torch.testing.assert_close(seen.x[-1], out[:2])
        torch.testing.assert_close(seen.x0_hat[0], Y[:2])
        for what in ("x", "x0_hat"):
            ax = seen.plot(what=what)
            if len(shape) > 1:
                assert ax.images[0].get_array().shape[:2] == (9, 24)  # a row a sample, a column a step
            else:
                assert len(ax.lines) == 4
        heun(EmpiricalDenoiser(Y), 80 * torch.ones(6, *shape), sigmas, on_step=seen)  # begins anew


def test_an_empty_trajectory_says_so():
    with pytest.raises(ValueError, match="as on_step"):
        Trajectory().plot()
    with pytest.raises(ValueError, match="n must be"):
        Trajectory(0)


def test_numbers_are_a_histogram():
    ax = plot_samples(np.arange(20.0)[:, None])
    assert sum(bar.get_height() for bar in ax.patches) == 20


def test_nan_stays_blank_and_sets_no_scale():
    images = np.linspace(0, 1, 9).reshape(1, 3, 3)
    images[0, 1, 1] = np.nan
    shown = plot_samples(images).images[0].get_array()
    np.testing.assert_allclose(np.asarray(shown)[[0, 2], [0, 2]], [0, 1])
    for bad, options in ((np.full((1, 3, 3), np.nan), {}), (np.ones((1, 3, 3)), {"value_range": (1, 0)})):
        with pytest.raises(ValueError, match=r"NaN or infinity only|value_range"):
            plot_samples(bad, **options)
    plt.close("all")
