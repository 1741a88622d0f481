"""Scores of predictions: leading axes may be many, samples must match."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from lodim.metrics import accuracy, auc, r2


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
        (auc, torch.eye(5), torch.zeros(5, 1, dtype=torch.int64)),
        (r2, y, y[:, None]),
        (r2, torch.eye(5)[:, :2], y),
    ):
        with pytest.raises(ValueError, match=r"target must end in an axis of \d samples"):
            score(prediction, target)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_area_is_scikit_learns_one_against_the_rest(n_classes):
    rng = np.random.default_rng(n_classes)
    target = rng.choice(n_classes, 90, p=np.arange(1, n_classes + 1) / sum(range(n_classes + 1)))
    logits = np.round(rng.normal(size=(90, n_classes)) + np.eye(n_classes)[target], 1)  # with ties
    shares = torch.tensor(logits).softmax(-1).numpy()
    peer = roc_auc_score(target, shares[:, 1] if n_classes == 2 else shares, multi_class="ovr")
    found = auc(torch.tensor(np.stack([logits, -logits])), torch.tensor(target))
    assert found[0].item() == pytest.approx(peer, abs=1e-12)
    if n_classes == 2:
        assert found.sum().item() == pytest.approx(1.0)


def test_area_of_a_constant_is_one_half_at_any_shares():
    target = torch.tensor([0] * 95 + [1] * 4 + [2])
    assert auc(torch.tensor([3.0, -1.0, 0.5]).expand(100, 3), target).item() == 0.5
    certain = 1e4 * torch.nn.functional.one_hot(target, 4).float()  # a class that never occurs does not count
    assert auc(certain, target).item() == pytest.approx(1.0, abs=1e-12)
    assert auc(certain, torch.zeros(100, dtype=torch.int64)).isnan()


@pytest.mark.parametrize("bad", [-1, 2, 0.5, float("nan"), float("inf")])
def test_classes_without_a_logit_are_refused(bad):
    with pytest.raises(ValueError, match="target must hold classes, whole numbers from 0 to 1"):
        auc(torch.eye(2), torch.tensor([0, bad]))
