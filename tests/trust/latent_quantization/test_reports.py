"""Accuracies under attack: closed forms, what can only fall, and whether masked gradients are found out."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from lodim.nets import mlp
from lodim.randomness import build_seeded
from lodim.trust import (
    LQVAE,
    adversarial_training,
    benchmark_classifier,
    defend,
    robust_accuracy,
    robustness_report,
)


def line(d=6):
    return build_seeded(lambda: nn.Linear(d, 1), 0).double()


def labelled(n=60, d=6):
    """Points, with the labels of :func:`line` but for every tenth."""
    x = np.random.default_rng(0).normal(size=(n, d))
    y = (line(d)(torch.from_numpy(x)).detach().numpy()[:, 0] > 0).astype(int)
    y[::10] = 1 - y[::10]
    return x, y


def signed_margins(x, y):
    return line()(torch.from_numpy(x)).detach().numpy()[:, 0] * np.where(y == 1, 1, -1)


@pytest.mark.parametrize(("norm", "dual"), [("inf", 1), (2, 2)])
def test_a_linear_model_in_closed_form(norm, dual):
    x, y = labelled()
    away = signed_margins(x, y) / line().weight.norm(dual).item()
    eps = [0.0, 0.1, 0.3]
    found = robust_accuracy(line(), x, y, eps, norm=norm, n_queries=5, random_state=0)
    expected = tuple(float((away > e).mean()) for e in eps)
    assert found.accuracy == pytest.approx(expected, abs=1e-12) == found.attacks["gradient"]
    assert found.clean == expected[0] == 0.9
    assert found.adaptive
    assert found.warnings == ()
    low, high = found.intervals[1]
    assert low < found.accuracy[1] < high


def test_the_worst_is_the_worst_of_all_and_falls_with_the_size():
    model = build_seeded(lambda: mlp([6, 16, 3]), 0)
    x, _ = labelled()
    y = model(torch.from_numpy(x).float()).argmax(1).numpy()
    found = robust_accuracy(
        model, x, y, [0.3, 0.02, 0.1], steps=3, n_restarts=1, n_queries=10, random_state=0
    )
    assert found.eps == (0.02, 0.1, 0.3)
    assert found.accuracy == tuple(sorted(found.accuracy, reverse=True))
    for each in (*found.attacks.values(), found.noise):
        assert all(a <= b for a, b in zip(found.accuracy, each))
    again = robust_accuracy(
        model, x, y, [0.3, 0.02, 0.1], steps=3, n_restarts=1, n_queries=10, random_state=0
    )
    assert again == found


def test_labels_and_frames_are_read_as_the_model_has_them():
    x, y = labelled()
    names = np.where(y == 1, "yes", "no")
    frame = pd.DataFrame(x, columns=list("abcdef"))
    fitted = LogisticRegression().fit(frame, names)
    by_model = robust_accuracy(fitted, frame, names, 0.2, n_queries=40, random_state=0)
    by_function = robust_accuracy(
        lambda rows: fitted.predict_proba(pd.DataFrame(rows, columns=list("abcdef"))), x, names, 0.2,
        n_queries=40, classes=["no", "yes"], random_state=0,
    )  # fmt: skip
    assert by_model.accuracy == by_function.accuracy
    assert by_model.clean == fitted.score(frame, names)
    for found in (by_model, by_function):
        assert not found.adaptive
        assert "gradient attack" in found.warnings[0]
        assert list(found.attacks) == ["search"]
        assert found.accuracy[0] < found.clean


class Rounded(nn.Module):
    """A defence by masked gradients: inputs rounded to quarters."""

    def forward(self, x):
        return (4 * x).round() / 4


class Honest(Rounded):
    """The same, which lets the gradient through where it is asked to."""

    straight_through = False

    def forward(self, x):
        return super().forward(x) + (x - x.detach() if self.straight_through else 0)


class Chance(nn.Module):
    """Answers with noise on the logits."""

    def __init__(self):
        super().__init__()
        self.line = line()

    def forward(self, x):
        return self.line(x) + 0.02 * torch.randn(len(x), 1, dtype=x.dtype)


def test_masked_gradients_are_found_out():
    x, y = labelled()
    masked, honest = (
        robust_accuracy(
            nn.Sequential(part, line()), x, y, 0.3, steps=5, n_restarts=1, n_queries=60, random_state=0
        )
        for part in (Rounded(), Honest())
    )
    said = " ".join(masked.warnings)
    assert "gradient is zero at 100%" in said
    assert "the search without gradients breaks" in said
    assert "where any change is allowed" in said
    assert masked.attacks["gradient"][0] == masked.clean > masked.accuracy[0]
    assert honest.warnings == ()
    assert honest.attacks["gradient"][0] <= masked.attacks["search"][0]


def test_sizes_of_another_scale_and_models_of_one_answer_are_named():
    x, y = labelled()
    tiny = robust_accuracy(line(), 255 * x, y, 8 / 255, n_queries=2, random_state=0)
    assert "on the scale of X" in tiny.warnings[0]
    same = nn.Linear(6, 2)
    with torch.no_grad():
        same.weight.zero_()
    constant = robust_accuracy(same, x, np.full(60, int(same.bias[1] > same.bias[0])), 0.3, n_queries=2)
    assert constant.accuracy == (1.0,)
    assert "the model answers one class" in constant.warnings[-1]


def test_chance_leaves_torchs_own_as_it_was():
    x, y = labelled()
    few = {"steps": 1, "n_restarts": 1, "n_queries": 2, "random_state": 0}
    before = torch.get_rng_state()
    robust_accuracy(Chance(), x, y, 0.1, **few)
    robustness_report(Chance(), {}, x, y, eps=0.1, bounds=None, substitute=Chance(), **few)
    assert torch.equal(torch.get_rng_state(), before)


def test_chance_is_averaged_where_it_is_there():
    x, y = labelled()
    once = robust_accuracy(Chance(), x, y, 0.1, steps=3, n_restarts=1, n_queries=3, random_state=0)
    assert "n_eot above 1" in once.warnings[0]
    many = robust_accuracy(Chance(), x, y, 0.1, steps=3, n_restarts=1, n_queries=3, n_eot=8, random_state=0)
    assert many.warnings == ()
    away = signed_margins(x, y)
    sure = float((away - 0.1 * line().weight.norm(1).item() > 0.05).mean())
    assert sure <= many.accuracy[0] <= float((away > -0.05).mean())


class Probable(nn.Module):
    def forward(self, x):
        p = torch.sigmoid(x[:, :1])
        return torch.cat([1 - p, p], dim=1)


def test_a_module_of_probabilities_has_gradients_too():
    x, _ = labelled()
    y = (x[:, 0] > 0).astype(int)
    found = robust_accuracy(Probable(), x, y, 0.3, n_queries=3, random_state=0)
    assert found.adaptive
    assert found.accuracy[0] == pytest.approx(float((np.abs(x[:, 0]) > 0.3).mean()), abs=1e-12)


def test_a_report_has_every_threat_for_every_defence():
    x, y = labelled()
    x = 1 / (1 + np.exp(-x))
    base = nn.Sequential(nn.Flatten(), line())
    with torch.no_grad():
        base[1].bias.sub_(base[1].weight.sum() / 2)
    defences = {"nothing": defend(base, nn.Identity()), "masked": defend(base, Rounded())}
    found = robustness_report(
        base, defences, x, y, eps=0.15, steps=5, n_restarts=1, n_queries=30, substitute=base, random_state=0
    )
    frame = found.to_frame()
    assert list(frame.columns) == ["none", "nothing", "masked"]
    assert frame["none"].equals(frame["nothing"])  # the identity defends from nothing
    assert frame.loc["static grey-box", "none"] == frame.loc["adaptive white-box", "none"]
    assert frame.loc["adaptive white-box", "masked"] == frame.loc["none", "masked"]
    assert frame.loc["black-box transfer", "none"] == pytest.approx(
        frame.loc["adaptive white-box", "none"], abs=0.02
    )
    assert (frame.loc["worst of all"] <= frame.min()).all()
    said = [text for text in found.warnings if text.startswith("masked:")]
    assert any("static grey-box breaks" in text for text in said)
    assert not any(text.startswith("no") for text in found.warnings)
    with pytest.raises(ValueError, match='"none"'):
        robustness_report(base, {"none": base}, x, y, eps=0.1)


@pytest.mark.trains
def test_without_a_substitute_one_is_trained_on_the_models_answers():
    x, y = labelled()
    base = nn.Sequential(nn.Flatten(), line())
    found = robustness_report(
        base, {}, x, y, eps=0.3, bounds=None, steps=3, n_restarts=1, n_queries=2, random_state=0
    )
    frame = found.to_frame()["none"]
    assert frame["adaptive white-box"] <= frame["black-box transfer"] < frame["random noise"]


def test_a_filter_is_attacked_through_its_rounding():
    """The adaptive attack meets the soft code's gradient, the plain one nothing."""
    filter_ = build_seeded(lambda: LQVAE(latent_dim=6, image_shape=(1, 8, 8), width=2, tau=0.3), 0)
    net = build_seeded(lambda: nn.Sequential(nn.Flatten(), mlp([64, 3])), 0)
    x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model = defend(net, filter_)
    y = model(x).argmax(1).numpy()
    found = robust_accuracy(
        model, x, y, 0.3, bounds=(0, 1), steps=3, n_restarts=1, n_queries=3, random_state=0
    )
    assert not any("gradient is zero" in text for text in found.warnings)
    assert not filter_.straight_through
    assert not any(p.grad is not None for p in model.parameters())


@pytest.mark.trains
@pytest.mark.parametrize("attack", ["pgd", "fgsm"])
def test_training_on_attacks_prefers_what_they_cannot_flip(attack):
    """One large column that agrees with nine labels of ten, and many small ones that agree a little more together."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    sign = np.where(y == 1, 1, -1)
    large = np.where(rng.random(400) < 0.9, sign, -sign)
    x = np.c_[large, 0.15 * sign[:, None] + 0.3 * rng.normal(size=(400, 30))]
    accuracy = {}
    for eps in (0.0, 0.3):
        model = build_seeded(lambda: nn.Linear(31, 2), 0)
        adversarial_training(
            model,
            x,
            y,
            eps=eps,
            attack=attack,
            bounds=None,
            epochs=10,
            batch_size=200,
            attack_steps=2,
            lr=0.1,
            random_state=0,
        )
        assert not model.training
        accuracy[eps] = robust_accuracy(model, x, y, 0.3, steps=5, n_restarts=1, n_queries=2, random_state=0)
    assert accuracy[0.0].clean > 0.95
    assert accuracy[0.3].accuracy[0] > 0.8 > 0.5 > accuracy[0.0].accuracy[0]


@pytest.mark.parametrize("kind", "ABCD")
def test_the_four_classifiers_take_images_of_any_size(kind):
    for shape in ((1, 28, 28), (3, 16, 20)):
        net = benchmark_classifier(kind, shape, 7, width=2).eval()
        assert net(torch.rand(2, *shape)).shape == (2, 7)
    with pytest.raises(ValueError, match="kind"):
        benchmark_classifier("E")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"eps": -0.1}, "eps"),
        ({"eps": math.inf}, "finite"),
        ({"y": np.full(60, 7)}, "which is no class"),
        ({"bounds": (0, 1)}, "outside bounds"),
        ({"norm": 3}, "norm must be"),
        ({"n_queries": 0}, "n_queries"),
        ({"X": np.full((60, 6), np.nan)}, "NaN or infinity"),
    ],
)
def test_what_is_refused(options, said):
    x, y = labelled()
    with pytest.raises(ValueError, match=said):
        robust_accuracy(**{"model": line(), "X": x, "y": y, "eps": 0.1, **options})
