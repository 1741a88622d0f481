"""Scores of predictions: leading axes may be many, samples must match."""

import pytest
import torch

from lodim.metrics import accuracy, r2


def test_scores_over_leading_axes():
    logits = torch.eye(3).repeat(2, 1, 1)
    assert accuracy(logits, torch.tensor([0, 1, 0])).tolist() == pytest.approx([2 / 3, 2 / 3])
    target = torch.tensor([[1.0, 2, 3], [4, 6, 5]])
    assert r2(target[..., None], target).tolist() == [1, 1]
    assert r2(target.mean(-1, keepdim=True).expand(2, 3), target).tolist() == [0, 0]


def test_samples_are_not_broadcast():
    y = torch.arange(5.0)
    for score, prediction, target in (
        (accuracy, torch.eye(5), torch.zeros(5, 1, dtype=torch.int64)),
        (r2, y, y[:, None]),
        (r2, torch.eye(5)[:, :2], y),
    ):
        with pytest.raises(ValueError, match="samples, as the predictions"):
            score(prediction, target)
