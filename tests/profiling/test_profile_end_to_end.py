import json
import time

import numpy as np
import pytest
from sklearn.datasets import load_digits
from torch import nn

import lodim
from lodim.profiling import Profile, ProfileInterrupted
from lodim.profiling.held_out import HeldOut
from lodim.profiling.inputs import as_dataset, split
from lodim.profiling.landscape_part import flops_per_row, measure_landscape, plan_training
from lodim.profiling.models import choose_model

pytestmark = pytest.mark.trains


def blobs(n=84, d=6, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    centres = 4 * rng.normal(size=(classes, d))
    y = np.arange(n) % classes
    return centres[y] + rng.normal(size=(n, d)), y


def given(X, y):
    fields = dict.fromkeys(("feature_names", "target_name", "classes", "image_shape"))
    return as_dataset(X, y, source="a", kind="auto", notes=(), **fields)


@pytest.fixture(scope="module")
def solved():
    X, y = blobs()
    told = []
    p = lodim.profile(X, y, budget=300, source="blobs", progress=lambda done, text: told.append((done, text)))
    return p, told


def test_classification_is_solved_in_few_dimensions(solved):
    p, _ = solved
    part = p.landscape
    assert part.status in ("found", "below_d_min")
    assert part.baseline_score > 0.9
    assert part.threshold_score == pytest.approx(0.9 * part.baseline_score)
    assert part.n_parameters == 6 * 64 + 64 + 64 * 64 + 64 + 64 * 3 + 3
    assert part.n_train + part.n_val == 84
    assert part.d_int90 < 60
    assert part.compression_ratio == pytest.approx(part.n_parameters / part.d_int90)
    assert part.chance_score == pytest.approx(1 / 3, abs=0.05)
    assert part.layer_shapes == ((64, 6), (64, 64), (3, 64))


def test_messages_lie_on_their_scores(solved):
    part = solved[0].landscape
    assert part.messages
    good = [m.bytes for m in part.messages if m.score >= part.threshold_score]
    assert part.message_bytes == min(good)
    assert part.message_bytes < 4 * part.n_parameters / 20
    assert all(0 < m.bound <= 1 for m in part.messages)
    assert part.bound == min(m.bound for m in part.messages)


def test_the_trained_models_layers_and_bits_are_there(solved):
    p, _ = solved
    assert p.landscape.layers[0].name == "input"
    assert p.landscape.layers[-1].width == 3
    assert p.landscape.n_layer_rows == 84
    assert p.data.density.n == 84
    assert p.difficulty.supplied_by in ("mlp", "linear")
    assert p.difficulty.supplied_error == pytest.approx(
        1 - max(p.landscape.baseline_score, p.landscape.linear_score)
    )
    assert p.data.topology is None


def test_answer_travels_and_shows(solved, schema_problems):
    p, _ = solved
    assert schema_problems(p.to_json()) == []
    assert Profile.from_json(p.to_json()) == p
    assert p.to_html().count("<svg") >= 6
    assert p.complete
    assert {"lodim", "torch", "python"} <= set(p.versions)


def test_progress_rises_to_one(solved):
    _, told = solved
    shares = [done for done, _ in told]
    assert shares[0] == 0
    assert shares[-1] == 1
    assert all(0 <= s <= 1 for s in shares)
    assert shares == sorted(shares)


def test_same_seed_same_answer(solved):
    X, y = blobs()
    again = lodim.profile(X, y, budget=300, source="blobs").to_dict()
    first = solved[0].to_dict()
    for plain in (again, first):
        for key in ("seconds", "timings"):
            del plain[key]
    assert json.dumps(again) == json.dumps(first)


def test_without_labels_only_the_data():
    p = lodim.profile(blobs()[0], budget=300)
    assert p.landscape is None
    assert p.kind is None
    assert p.data.per_class == {}
    assert p.data.k_f is None
    assert "dimension" in p.verdict


def test_model_none_keeps_the_labels():
    X, y = blobs()
    p = lodim.profile(X, y, model="none", budget=300)
    assert p.landscape is None
    assert {name: e.n for name, e in p.data.per_class.items()} == {"0": 28, "1": 28, "2": 28}
    assert p.data.k_f > 0


def test_a_regression_by_ones_own_model():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(84, 5))
    y = X @ [1.0, -2.0, 0.5, 0.0, 0.0] + 0.05 * rng.normal(size=84)

    def tiny(n_in, n_out):
        return nn.Sequential(nn.Linear(n_in, 8), nn.Tanh(), nn.Linear(8, n_out))

    p = lodim.profile(X, y, model=tiny, budget=300)
    assert p.kind == "regression"
    assert p.landscape.model == "tiny"
    assert p.landscape.n_parameters == 5 * 8 + 8 + 8 + 1
    assert p.landscape.score_name == "R²"
    assert p.landscape.baseline_score > 0.8
    assert p.landscape.bound is None
    assert "of the variance" in p.verdict


def test_labels_without_meaning_are_called_unsolved():
    X, _ = blobs()
    y = np.random.default_rng(1).normal(size=len(X))
    p = lodim.profile(X, y, model="linear", budget=300)
    assert p.landscape.n_parameters == 7
    assert p.landscape.unsolved
    assert p.landscape.curve == ()  # nothing is searched for then
    assert p.advice[0].rule == "unsolved"
    assert "cannot be told from guessing" in p.verdict


@pytest.mark.parametrize(("when", "has_data"), [(0.0, False), (0.45, True)])
def test_interruption_keeps_what_is_known(when, has_data, schema_problems):
    X, y = blobs()

    def stop(done, text):
        if done >= when:
            raise KeyboardInterrupt

    with pytest.raises(ProfileInterrupted) as caught:
        lodim.profile(X, y, budget=300, progress=stop)
    p = caught.value.partial
    assert not p.complete
    assert (p.data is not None) == has_data
    assert (p.landscape is not None) == has_data
    assert "interrupted" in p.verdict
    assert schema_problems(p.to_json()) == []
    assert p.to_html()


def test_a_short_budget_shortens_the_work_and_says_so():
    X, y = blobs(n=3000, d=300, classes=5)
    p = lodim.profile(X, y, budget=2)
    assert p.complete
    assert p.landscape.n_train < 0.8 * 3000
    assert any("of 3,000 rows" in note for note in p.notes)
    assert any("passes long" in note for note in p.notes)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": "mpl"}, "Did you mean 'mlp'"),
        ({"budget": 0}, "budget"),
        ({"model": "lenet"}, "needs images"),
    ],
)
def test_wrong_arguments_are_said_at_once(fields, words):
    X, y = blobs()
    with pytest.raises(ValueError, match=words):
        lodim.profile(X, y, **fields)


def test_a_model_without_labels_is_refused():
    with pytest.raises(ValueError, match="needs something to learn"):
        lodim.profile(blobs()[0], model="mlp")


def test_unequal_classes_are_scored_by_the_area_under_the_curve():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4))
    y = (np.arange(200) % 10 == 0).astype(int)
    X[y == 1] += 3

    def stop(done, text):
        if text.startswith("d = ") and not text.startswith("d = 10:"):  # all ten weights are trained
            raise KeyboardInterrupt

    steps = measure_landscape(
        given(X, y),
        choose_model("linear", 4, 2),
        seed=0,
        seconds=200,
        deadline=time.monotonic() + 300,
        n_jobs=1,
        ray=None,
        progress=stop,
    )
    _, (part, _) = next(steps), next(steps)
    with pytest.raises(KeyboardInterrupt):
        next(steps)
    assert (part.score_name, part.chance_score, part.majority) == ("AUC", 0.5, pytest.approx(0.9))
    assert part.threshold_score == pytest.approx(0.5 + 0.9 * (part.baseline_score - 0.5))


def test_plan_of_training_follows_time_and_cost():
    together = plan_training(1e4, 1000, 60, as_one=True)
    assert together.max_runs > plan_training(1e4, 1000, 60).max_runs
    assert (together.other_runs, plan_training(1e4, 1000, 9).other_runs) == (90, 0)
    assert plan_training(1e4, 1000, 60).epochs == 30
    assert plan_training(1e4, 1000, 60).n_train == 1000
    costly = plan_training(1.2e6, 10_000, 40)
    assert costly.epochs == 10
    assert costly.n_train < 10_000
    assert plan_training(1.2e6, 10_000, 400).n_train >= costly.n_train
    assert plan_training(1e12, 10_000, 1).epochs == 3


def test_flops_of_a_matrix():
    import torch

    assert flops_per_row(nn.Linear(100, 10), torch.zeros(1, 100)) == pytest.approx(3 * 2 * 1000)


def test_linear_and_constant_baselines():
    X, y = blobs()
    held = HeldOut(split(given(X, y), seed=0), "classification", 0)
    assert held.linear_score > 0.9
    assert held.linear_parameters == 6 * 3 + 3
    assert held.chance == pytest.approx(1 / 3, abs=0.05)
    held = HeldOut(split(given(X, X @ np.arange(6.0)), seed=0), "regression", 0)
    assert held.linear_score > 0.99
    assert (held.chance, held.majority) == (0.0, None)


@pytest.mark.slow
def test_digits_within_the_measured_range():
    """Digits, 64-64-64-10: a 90 per cent dimension near 160 (90..260)."""
    digits = load_digits()
    p = lodim.profile(digits.data / 16, digits.target, image_shape=(1, 8, 8), budget=300)
    assert p.landscape.n_parameters == 8970
    assert p.landscape.baseline_score > 0.95
    assert 90 <= p.landscape.d_int90 <= 260
    assert p.landscape.interval[0] <= p.landscape.d_int90 <= p.landscape.interval[1]
    low, high = p.data.interval
    assert low < 11  # what neighbour estimators say of digits, 6 to 11, meets the interval
    assert high > 6
    assert p.landscape.message_bytes < 600
