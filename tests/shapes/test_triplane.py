import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator

from lodim.randomness import torch_generator
from lodim.shapes.triplane import sample_triplane


def planes(batch=2, channels=4, height=5, width=7, dtype=torch.float64):
    return torch.randn(batch, 3, channels, height, width, generator=torch_generator(0), dtype=dtype)


def test_a_node_has_its_own_features_exactly():
    # sides of 5 and a bound of 1/2 have nodes at whole multiples of 1/4, which are exact
    given, bound = planes(height=5, width=5), 0.5
    axis = torch.linspace(-bound, bound, 5, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis, axis).expand(2, -1, -1)
    i, j, k = torch.cartesian_prod(*[torch.arange(5)] * 3).T
    expected = torch.stack([given[:, 0, :, k, i], given[:, 1, :, j, i], given[:, 2, :, k, j]], 1)
    found = sample_triplane(given, x, bound, "cat")
    assert found.equal(expected.flatten(1, 2).mT)


def test_between_nodes_it_is_bilinear_and_beyond_the_border_constant():
    given = planes(batch=1)
    x = torch.from_numpy(np.random.default_rng(0).uniform(-1.3, 1.3, (1, 200, 3)))
    found = sample_triplane(given, x, 1.0, "cat")[0].numpy()
    for plane, (column, row) in enumerate(((0, 2), (0, 1), (1, 2))):
        read = RegularGridInterpolator(
            (np.linspace(-1, 1, 5), np.linspace(-1, 1, 7)), given[0, plane].movedim(0, -1).numpy()
        )
        at = x[0][:, [row, column]].clamp(-1, 1).numpy()
        assert found[:, 4 * plane : 4 * plane + 4] == pytest.approx(read(at), abs=1e-12)


def test_sum_mean_and_cat_agree_and_the_scale_is_that_of_the_bound():
    given, x = planes(), torch.rand(2, 50, 3, dtype=torch.float64) - 0.5
    every = sample_triplane(given, x, 0.5, "cat").unflatten(2, (3, 4))
    assert torch.allclose(sample_triplane(given, x, 0.5, "sum"), every.sum(2))
    assert torch.allclose(sample_triplane(given, x), every.mean(2))
    assert torch.allclose(sample_triplane(given, 4 * x, 2.0, "mean"), every.mean(2))


def test_gradients_are_those_of_finite_differences():
    given, x = planes(batch=1, channels=2, height=3, width=4), torch.rand(1, 5, 3, dtype=torch.float64) - 0.5
    assert torch.autograd.gradcheck(
        lambda p, q: sample_triplane(p, q), (given.requires_grad_(), x.requires_grad_())
    )


@pytest.mark.parametrize(
    ("shape", "points", "options", "said"),
    [
        ((2, 2, 4, 5, 5), (2, 9, 3), {}, "batch, 3, channels"),
        ((2, 3, 4, 5, 5), (1, 9, 3), {}, r"\(2, n, 3\)"),
        ((2, 3, 4, 5, 5), (2, 9, 2), {}, r"\(2, n, 3\)"),
        ((2, 3, 4, 5, 5), (2, 9, 3), {"bound": 0.0}, "positive"),
        ((2, 3, 4, 5, 5), (2, 9, 3), {"reduce": "max"}, "one of"),
    ],
)
def test_wrong_shapes_and_options_are_refused(shape, points, options, said):
    with pytest.raises(ValueError, match=said):
        sample_triplane(torch.zeros(shape), torch.zeros(points), **options)


def test_points_that_are_nowhere_are_refused():
    planes, points = torch.zeros(1, 3, 2, 4, 4), torch.full((1, 2, 3), torch.nan)
    with pytest.raises(ValueError, match="6 NaN"):
        sample_triplane(planes, points)
    with pytest.raises(ValueError, match="a node at least"):
        sample_triplane(planes[..., :0], torch.zeros(1, 2, 3))
