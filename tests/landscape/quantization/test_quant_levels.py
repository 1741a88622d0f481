"""Tables of levels: nearest ones, gradients through the rounding, rows that share a table."""

import pytest
import torch

from lodim.landscape.quantization.levels import LevelQuantizer, as_rows, nearest_level
from lodim.randomness import torch_generator


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed))


def test_nearest_level_in_any_order_with_ties_downwards():
    rows, levels = normal(3, 50), normal(3, 9, seed=1)
    brute = (rows[:, :, None] - levels[:, None]).abs().argmin(2)
    assert torch.equal(nearest_level(rows, levels), brute)
    assert nearest_level(torch.tensor([[0.5, 1.5]]), torch.tensor([[2.0, 0.0, 1.0]])).tolist() == [[1, 2]]


def test_gradients_reach_weights_in_range_and_levels():
    weight = torch.tensor([[-2.0, -0.9, 0.1, 0.2, 1.1, 3.0]], requires_grad=True)
    quantizer = LevelQuantizer(torch.tensor([[-1.0, 0.0, 1.0]]), torch.eye(3), 16)
    out = quantizer(weight)
    torch.testing.assert_close(out, torch.tensor([[-1.0, -1, 0, 0, 1, 1]]))
    g = torch.arange(1.0, 7.0)[None]
    out.backward(g)
    torch.testing.assert_close(weight.grad, torch.tensor([[0.0, 2, 3, 4, 0, 0]]))
    torch.testing.assert_close(quantizer.coefficients.grad, torch.tensor([[3.0, 7.0, 11.0]]))


def test_rows_that_share_levels():
    weight = normal(4, 6)
    assert as_rows(weight, "tensor").shape == (1, 24)
    assert as_rows(weight, "channel").shape == (4, 6)
    assert as_rows(weight, "group", 3).shape == (8, 3)
    with pytest.raises(ValueError, match="divide a channel's 6"):
        as_rows(weight, "group", 4)
    with pytest.raises(ValueError, match="channel"):
        as_rows(weight, "chanel")
