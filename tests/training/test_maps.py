"""Rows of weights from the numbers that replicas train."""

import pytest
import torch

from lodim.sketch import make_projection
from lodim.training.maps import group_lengths, group_rows


def projections(kind, D, d, n, **options):
    return [make_projection(kind, D, d, seed=s, dtype=torch.float64, **options) for s in range(n)]


class Plain:
    """A map with no adjoint of its own, and not linear."""

    def __init__(self, P):
        self.P = P

    def __call__(self, v):
        return torch.sin(self.P(v))


@pytest.mark.parametrize("d", [1, 5, 7, 12, 23, 24])
@pytest.mark.parametrize("scale", ["column", "row"])
@pytest.mark.parametrize("kind", ["cyclic", "fastfood", "kron", "dense"])
def test_rows_and_adjoints_are_the_projections_own(kind, d, scale):
    D, maps = 24, projections(kind, 24, d, 3, scale=scale)
    generator = torch.Generator().manual_seed(0)
    theta0 = torch.randn(3, D, generator=generator, dtype=torch.float64)
    v = torch.randn(3, d, generator=generator, dtype=torch.float64)
    width = D + 24
    theta, grad = torch.full((3, width), 0.0, dtype=torch.float64), torch.zeros(3, width, dtype=torch.float64)
    grad[:, :D] = torch.randn(3, D, generator=generator, dtype=torch.float64)
    (group,) = group_rows(list(theta0), maps, [d] * 3)
    group.write(v, theta)
    for r, P in enumerate(maps):
        torch.testing.assert_close(theta[r, :D], theta0[r] + P(v[r]))
        assert float(theta[r, D:].abs().sum()) == 0
    expected = torch.stack([P.adjoint(g[:D]) for P, g in zip(maps, grad, strict=True)])
    torch.testing.assert_close(group.adjoint(grad.clone()), expected)


def test_any_differentiable_map_will_do():
    D, d, maps = 10, 4, [Plain(P) for P in projections("dense", 10, 4, 2)]
    v = torch.randn(2, d, dtype=torch.float64)
    theta, grad = torch.zeros(2, D, dtype=torch.float64), torch.randn(2, D, dtype=torch.float64)
    (group,) = group_rows([torch.zeros(D, dtype=torch.float64)] * 2, maps, [d] * 2)
    group.write(v, theta)
    torch.testing.assert_close(theta[1], torch.sin(maps[1].P(v[1])))
    expected = maps[1].P.adjoint(grad[1] * torch.cos(maps[1].P(v[1])))
    torch.testing.assert_close(group.adjoint(grad)[1], expected)


def test_neighbours_with_equal_maps_and_sizes_form_groups():
    cyclic, dense = projections("cyclic", 20, 4, 2), projections("dense", 20, 4, 1)
    wide = projections("cyclic", 20, 4, 1, scale="row")
    maps = [*cyclic, *wide, *dense, Plain(dense[0]), None, None]
    assert group_lengths(maps, [4, 4, 4, 4, 4, 20, 20]) == [2, 1, 2, 2]
    assert group_lengths([cyclic[0], make_projection("cyclic", 20, 5)], [4, 5]) == [1, 1]
