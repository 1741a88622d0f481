"""A classifier as a function: the same probabilities whatever it is, and nothing that is none."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import nn

from lodim.trust import read_black_box
from lodim.trust.black_boxes import take_rows

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 3))
Y = np.where(X[:, 0] > 0, "up", "down")


class Logits(nn.Module):
    """Logits of a fixed linear map; in training mode, nonsense."""

    def __init__(self, classes, dtype=torch.float64):
        super().__init__()
        self.map = nn.Linear(3, classes, dtype=dtype)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return torch.full((len(x), 2), torch.nan) if self.training else self.map(x)


def test_one_classifier_in_four_forms_answers_alike():
    model = LogisticRegression().fit(X, Y)
    net = nn.Linear(3, 1).double()
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(model.coef_))
        net.bias.copy_(torch.from_numpy(model.intercept_))
    two = nn.Linear(3, 2).double()
    with torch.no_grad():
        two.weight.copy_(torch.cat([torch.zeros(1, 3), net.weight]))
        two.bias.copy_(torch.cat([torch.zeros(1), net.bias]))
    expected = model.predict_proba(X)
    forms = {
        "scikit-learn": model,
        "one logit": net,
        "two logits": two,
        "probabilities": nn.Sequential(two, nn.Softmax(1)),
        "function": lambda rows: model.predict_proba(rows)[:, 1],
        "function of both": model.predict_proba,
    }
    for name, form in forms.items():
        box = read_black_box(form, X, classes=None if name == "scikit-learn" else ["down", "up"])
        assert box.predict_proba(X) == pytest.approx(expected, abs=1e-12), name
        assert (box.classes[box.predict_proba(X).argmax(1)] == model.predict(X)).all()
        assert read_black_box(box, X) is box


def test_a_module_is_asked_in_evaluation_mode_and_left_in_its_own():
    model = Logits(2).train()
    box = read_black_box(model, X)
    assert np.isfinite(box.predict_proba(X)).all()
    assert model.training
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rows_get_the_precision_of_the_module(dtype):
    model = nn.Linear(3, 2).to(dtype)
    assert read_black_box(model, X).predict_proba(X).sum(1) == pytest.approx(np.ones(40))
    frame = pd.DataFrame(X, columns=list("abc"))
    assert read_black_box(model, frame).predict_proba(frame).shape == (40, 2)
    assert read_black_box(model, torch.from_numpy(X).to(dtype)).predict_proba(
        torch.zeros(1, 3, dtype=dtype)
    ).shape == (1, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("classes", [2, 3, 100])
def test_probabilities_of_half_precision_are_no_logits(dtype, classes):
    torch.manual_seed(0)
    linear = nn.Linear(3, classes)
    linear.weight.data *= 4
    model = nn.Sequential(linear, nn.Softmax(1)).to(dtype)
    rows = torch.from_numpy(X).to(dtype)
    box = read_black_box(model, rows)
    assert box.is_probability
    assert box.predict_proba(rows) == pytest.approx(model(rows).detach().double().numpy(), abs=4e-3)


def test_labels_are_found_in_any_order_and_kind():
    box = read_black_box(lambda rows: np.full((len(rows), 3), 1 / 3), X, classes=["c", "a", "b"])
    assert box.class_numbers(["a", "b", "c"], 3).tolist() == [1, 2, 0]
    numbers = read_black_box(lambda rows: np.full(len(rows), 0.5), X)
    assert numbers.class_numbers([True, False, 1, 0.0], 4).tolist() == [1, 0, 1, 0]
    with pytest.raises(ValueError, match=r"'d', which is no class of the function.*say classes="):
        box.class_numbers(["a", "d"], 2)
    tens = read_black_box(lambda rows: np.full((len(rows), 3), 1 / 3), X, classes=[1, 2, 10])
    assert tens.class_numbers(["10", "1", "2"], 3).tolist() == [2, 0, 1]  # as text they sort otherwise
    with pytest.raises(ValueError, match="no class"):
        numbers.class_numbers([0, 2], 2)


@pytest.mark.parametrize("known", [[0, 1], [0.0, 1.0], [False, True]], ids=str)
@pytest.mark.parametrize("given", [[1, 0], [1.0, 0.0], [True, False], [np.float32(1), np.int8(0)]], ids=str)
def test_numbers_in_an_array_of_objects_are_numbers(known, given):
    for classes in (known, np.array(known, dtype=object)):
        box = read_black_box(lambda rows: np.full(len(rows), 0.5), X, classes=classes)
        assert box.class_numbers(np.array(given, dtype=object), 2).tolist() == [1, 0]
        assert box.class_numbers(given, 2).tolist() == [1, 0]


def test_answers_are_checked_at_every_call():
    calls = []

    def moody(rows):
        calls.append(len(rows))
        return np.full((len(rows), 2 if len(calls) < 2 else 3), 1 / (2 if len(calls) < 2 else 3))

    box = read_black_box(moody, X)
    with pytest.raises(ValueError, match="3 classes where it answered 2"):
        box.predict_proba(X)


@pytest.mark.parametrize(
    ("model", "error", "said"),
    [
        (lambda rows: 3.0 * np.ones(len(rows)), ValueError, "softmax or sigmoid"),
        (lambda rows: np.full(len(rows), np.nan), ValueError, "NaN"),
        (lambda rows: np.full((len(rows), 2), 0.4), ValueError, "sums to 0.8"),
        (lambda rows: np.full((len(rows) - 1, 2), 0.5), ValueError, "for each of 40 rows"),
        (lambda rows: np.full((len(rows), 2, 2), 0.5), ValueError, "for each of 40 rows"),
        (LinearRegression().fit(X, X[:, 0]), TypeError, "no predict_proba"),
        (nn.Sequential(nn.Linear(3, 1), nn.Sigmoid()).double(), ValueError, "cannot be told apart"),
        (nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (2, 2))).double(), ValueError, "one row of logits"),
        (3, TypeError, "fitted classifier"),
    ],
)
def test_what_is_no_classifier_is_refused(model, error, said):
    with pytest.raises(error, match=said):
        read_black_box(model, X)
    with pytest.raises(ValueError, match="no rows"):
        read_black_box(lambda rows: np.full(len(rows), 0.5), X[:0])


@pytest.mark.parametrize(
    ("rows", "error", "said"),
    [
        (X[:0], ValueError, "no rows"),
        (X[:, :0], ValueError, "no columns"),
        ([[1.0], [1.0, 2.0]], ValueError, "X must be an array"),
        ({"a": [1.0]}, ValueError, "X must have rows"),
        (3, ValueError, "X must have rows"),
        (torch.eye(3).to_sparse(), TypeError, "X is sparse"),
    ],
)
def test_rows_that_are_none_are_refused_before_the_model_is_asked(rows, error, said):
    def never(rows):
        raise AssertionError("asked")

    with pytest.raises(error, match=said):
        read_black_box(never, rows)


def test_lists_of_rows_come_to_the_model_as_an_array_each_time():
    box = read_black_box(lambda rows: 1 / (1 + np.exp(-rows[:, 0])), X.tolist())
    assert np.array_equal(box.predict_proba(X.tolist()), box.predict_proba(X))


def test_a_row_without_an_answer_is_named():
    box = read_black_box(lambda rows: np.exp(-(rows[:, 0] ** 2)), X)
    with pytest.raises(ValueError, match="NaN to row 2 of X"):
        box.predict_proba(np.r_[X[:2], np.full((1, 3), np.nan)])


def test_no_rows_have_no_answers():
    assert read_black_box(lambda rows: np.full(len(rows), 0.5), X).predict_proba(X[:0]).shape == (0, 2)


def test_rows_are_taken_from_what_they_stand_in():
    frame = pd.DataFrame(X)
    assert take_rows(frame, [3, 1]).equals(frame.iloc[[3, 1]])
    assert (take_rows(X.tolist(), slice(0, 2)) == X[:2]).all()
    assert torch.equal(take_rows(torch.from_numpy(X), [0]), torch.from_numpy(X[:1]))


def test_answers_that_are_no_numbers_are_told_whose_they_are():
    with pytest.raises(ValueError, match="what the function returns"):
        read_black_box(lambda rows: np.full(len(rows), "up"), X)
    with pytest.raises(ValueError, match="sigmoid"):
        read_black_box(nn.Sequential(nn.Linear(3, 1), nn.Sigmoid()), X.astype(np.float32))
