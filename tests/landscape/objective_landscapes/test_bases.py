"""Given bases and one map for each tensor."""

import pytest
import torch

from lodim.landscape.objective_landscapes.bases import Basis, PerTensor, trajectory_basis


def test_a_basis_is_its_matrix():
    matrix = torch.randn(9, 4)
    basis, v, g = Basis(matrix), torch.randn(3, 4), torch.randn(3, 9)
    matrix[0] = 7  # a copy was taken
    torch.testing.assert_close(basis(v), v @ basis.columns.T)
    torch.testing.assert_close((basis(v) * g).sum(-1), (v * basis.adjoint(g)).sum(-1))
    assert not torch.equal(basis.columns, matrix)
    assert (basis.D, basis.d) == (9, 4)


@pytest.mark.parametrize("scale", ["column", "row"])
def test_maps_of_tensors_are_independent_and_scaled_together(scale):
    maps = PerTensor("cyclic", (12, 12, 3), 5, seed=0, scale=scale, dtype=torch.float64)
    P = maps(torch.eye(5, dtype=torch.float64))
    length = 1.0 if scale == "column" else (27 / 5) ** 0.5
    first, second, small = P.split((12, 12, 3), dim=1)
    for part in (first, second, small):
        torch.testing.assert_close(part.norm(dim=1), torch.full((5,), length, dtype=torch.float64))
    assert not torch.equal(first.sign(), second.sign())
    torch.testing.assert_close(maps.adjoint(torch.eye(27, dtype=torch.float64)).T, P)
    assert list(maps.state_dict()) == []


def test_a_trajectory_that_does_not_move_has_no_directions():
    with pytest.raises(ValueError, match="0 independent directions"):
        trajectory_basis(torch.ones(5, 8), 1)
