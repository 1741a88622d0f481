"""Data, losses and scores of a task."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, r2_score

from lodim.training import Task

RNG = np.random.default_rng(0)
X, X_VAL = RNG.normal(size=(12, 3)), RNG.normal(size=(6, 3))


def test_labels_are_encoded_in_sorted_order():
    task = Task.from_arrays(X, list("cab" * 4), X_VAL, list("bbacca"))
    assert task.kind == "classification"
    assert task.classes == ("a", "b", "c")
    assert task.n_outputs == 3
    assert task.y.tolist() == [2, 0, 1] * 4
    assert task.y_val.tolist() == [1, 1, 0, 2, 2, 0]
    assert (task.X.dtype, task.y.dtype, task.n_train) == (torch.float32, torch.int64, 12)


def test_regression_targets_are_standardised_by_the_training_set():
    y, y_val = RNG.normal(3, 5, 12), RNG.normal(3, 5, 6)
    task = Task.from_arrays(X, y, X_VAL, y_val)
    assert task.kind == "regression"
    assert float(task.y.mean()) == pytest.approx(0, abs=1e-6)
    assert float(task.y.std(correction=0)) == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(task.y_val * task.target_scale + task.target_mean, y_val, rtol=1e-5)


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        (np.arange(12) % 3, "classification"),
        (np.arange(12) % 3 * 1.0, "classification"),
        (np.arange(12) % 2 == 0, "classification"),
        (np.arange(12) % 3 + 0.5, "regression"),
        (np.arange(12), "regression"),
    ],
)
def test_the_kind_is_told_from_the_target(y, kind):
    assert Task.from_arrays(X, y, X_VAL, y[:6]).kind == kind
    assert (
        Task.from_arrays(X, np.arange(12) % 3, X_VAL, [0, 1, 2] * 2, kind="regression").kind == "regression"
    )


def test_images_keep_or_get_their_shape():
    y = np.arange(12) % 2
    flat = Task.from_arrays(
        RNG.normal(size=(12, 16)), y, RNG.normal(size=(6, 16)), y[:6], image_shape=(1, 4, 4)
    )
    kept = Task.from_arrays(RNG.normal(size=(12, 1, 4, 4)), y, RNG.normal(size=(6, 1, 4, 4)), y[:6])
    assert flat.X.shape[1:] == kept.X.shape[1:] == kept.X_val.shape[1:] == (1, 4, 4)


def test_loss_and_score_agree_with_scikit_learn_for_every_replica():
    y = np.arange(12) % 3
    task = Task.from_arrays(X, y, X_VAL, y[:6])
    logits = torch.randn(5, 12, 3, generator=torch.Generator().manual_seed(1))
    target = task.y.expand(5, -1)
    losses, scores = task.loss(logits, target), task.score(logits, target)
    for r in range(5):
        assert float(losses[r]) == pytest.approx(log_loss(y, logits[r].double().softmax(1).numpy()), rel=1e-5)
        assert float(scores[r]) == accuracy_score(y, logits[r].argmax(1))
    assert task.loss(logits[0], task.y).shape == ()


def test_regression_scores_agree_with_scikit_learn():
    y = RNG.normal(size=12)
    task = Task.from_arrays(X, y, X_VAL, y[:6])
    output = torch.randn(4, 12, 1, generator=torch.Generator().manual_seed(1))
    scores = task.score(output, task.y.expand(4, -1))
    for r in range(4):
        assert float(scores[r]) == pytest.approx(r2_score(task.y, output[r, :, 0]), rel=1e-5)
    assert float(task.loss(output, task.y.expand(4, -1))[2]) == pytest.approx(
        float(((output[2, :, 0] - task.y) ** 2).mean()), rel=1e-5
    )


def test_scores_of_non_finite_outputs_are_nan_and_others_are_not():
    y = np.arange(12) % 3
    task = Task.from_arrays(X, y, X_VAL, y[:6])
    logits = torch.randn(2, 12, 3)
    logits[1, 4, 0] = torch.inf
    score = task.score(logits, task.y.expand(2, -1))
    assert score.isfinite().tolist() == [True, False]
    numbers = Task.from_arrays(X, RNG.normal(size=12), X_VAL, RNG.normal(size=6))
    output = torch.randn(2, 12)
    output[0, 3] = torch.nan
    assert numbers.score(output, numbers.y.expand(2, -1)).isfinite().tolist() == [False, True]


def test_to_changes_numbers_but_not_labels():
    task = Task.from_arrays(X, np.arange(12) % 3, X_VAL, [0, 1, 2] * 2).to(dtype=torch.float64)
    assert (task.X.dtype, task.y.dtype) == (torch.float64, torch.int64)


def test_faults_are_named():
    y = np.arange(12) % 3
    with pytest.raises(ValueError, match="does not have: \\[7\\]"):
        Task.from_arrays(X, y, X_VAL, [0, 1, 2, 7, 0, 1], kind="classification")
    with pytest.raises(ValueError, match="at least two classes"):
        Task.from_arrays(X, np.zeros(12, int), X_VAL, np.zeros(6, int))
    with pytest.raises(ValueError, match="must vary"):
        Task.from_arrays(X, np.ones(12), X_VAL, np.ones(6), kind="regression")
    with pytest.raises(ValueError, match="they must match"):
        Task.from_arrays(X, y, X_VAL[:, :2], y[:6])
    with pytest.raises(ValueError, match="X_val has 1 NaN"):
        Task.from_arrays(X, y, np.where(np.arange(18).reshape(6, 3) == 4, np.nan, X_VAL), y[:6])
    with pytest.raises(ValueError, match="column 'age'"):
        Task.from_arrays(pd.DataFrame({"age": [1.0, np.nan], "b": 0.0}), [0, 1], X_VAL[:, :2], y[:6])
    with pytest.raises(ValueError, match="image_shape"):
        Task.from_arrays(X, y, X_VAL, y[:6], image_shape=(2, 2))
    with pytest.raises(ValueError, match="numbers as targets"):
        Task.from_arrays(X, list("ab" * 6), X_VAL, list("ab" * 3), kind="regression")
