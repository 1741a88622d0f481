"""Random columns of a Hadamard matrix."""

import scipy.linalg
import torch

from lodim.sketch import SRHT


def test_equals_its_definition():
    D, d = 50, 11
    projection = SRHT(D, d, seed=1, dtype=torch.float64)
    H = torch.tensor(scipy.linalg.hadamard(64), dtype=torch.float64)
    expected = projection.signs[:, None] * H[:D, projection.columns] / D**0.5
    torch.testing.assert_close(projection.matrix(), expected)


def test_columns_are_distinct_and_orthogonal_when_D_is_a_power_of_two():
    projection = SRHT(128, 100, seed=1, dtype=torch.float64)
    assert len(projection.columns.unique()) == 100
    P = projection.matrix()
    torch.testing.assert_close(P.T @ P, torch.eye(100, dtype=torch.float64), rtol=0, atol=1e-12)
