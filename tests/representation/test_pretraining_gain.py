"""What unlabelled rows are worth: identities, nulls, and what people bring."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import FunctionTransformer

from lodim.parallel import JobsInterrupted
from lodim.representation import (
    FactorModel,
    FactorPretrainer,
    MixtureModel,
    MixturePretrainer,
    PretrainedClassifier,
    PretrainedRegressor,
    PretrainingGain,
    pretraining_gain,
)
from lodim.representation.pretraining_gains import _as_good, _Curve

MODEL = FactorModel.random(30, 2, scale=0.5, random_state=0)
X, Y = MODEL.sample(580, random_state=1)
EXTRA, ROWS, TARGET = X[:-80], X[-80:], Y[-80:]
FAST = {
    "n_repeats": 8,
    "random_state": 0,
    "n_labels": [15, 30, 60],
    "baseline": RidgeCV(np.logspace(-2, 3, 6)),
}
NAMES = np.array(["sparrow", "finch", "wren"])


@pytest.fixture(scope="module")
def gain() -> PretrainingGain:
    return pretraining_gain(EXTRA, ROWS, TARGET, **FAST)


def curve(means, sizes, rows=40, deals=6, noise=0.0):
    """Losses of ``rows`` rows, all tested in each deal."""
    losses = np.broadcast_to(np.asarray(means, dtype=float)[None, :, None], (deals, len(sizes), rows)).copy()
    losses += noise * np.random.default_rng(0).standard_normal(losses.shape)
    return _Curve(losses, np.tile(np.arange(rows), (deals, 1)), np.asarray(sizes), 100)


def same(a, b):
    """Whether two answers are equal but for what they tell of rows left out."""
    return dataclasses.replace(a, notes=()) == dataclasses.replace(b, notes=())


def test_a_known_curve_is_inverted():
    sizes = [8, 16, 32, 64]
    falling, flat = curve([1.0, 0.8, 0.4, 0.2], sizes), curve([0.6] * 4, sizes)
    worth, low, high = _as_good(falling, flat, 8, 2.0)  # half way between 16 and 32 in log n
    assert worth == low == pytest.approx(16 * math.sqrt(2), rel=0.02)
    assert high == pytest.approx(worth, rel=0.02)
    never, least, most = _as_good(flat, curve([0.1] * 4, sizes), 16, 2.0)
    assert math.isinf(never)
    assert math.isinf(most)
    assert least == pytest.approx(64)
    always, least, most = _as_good(flat, curve([0.9] * 4, sizes), 16, 2.0)
    assert (always, least, most) == pytest.approx((8.0, 0.0, 8.0))


def test_the_variance_is_that_of_the_formula():
    rng, sizes, n, t = np.random.default_rng(0), np.array([8, 16]), 60, 20
    tested = np.stack([rng.permutation(n)[:t] for _ in range(30)])
    losses = (
        rng.standard_normal((30, 2, t))
        + rng.standard_normal((30, 2, 1)) * 2
        + rng.standard_normal(n)[tested][:, None]
    )
    means, rows, learnt = _Curve(losses, tested, sizes, n).at(sizes.astype(float))
    for s, size in enumerate(sizes):
        of_rows = [losses[:, s][tested == i].mean() for i in range(n) if (tested == i).any()]
        np.testing.assert_allclose(rows[s], of_rows)
        spread = np.var(means[:, s], ddof=1) - np.mean([np.var(one, ddof=1) / t for one in losses[:, s]])
        rho = size / n
        assert learnt[s] == pytest.approx(spread * (1 / 30 + rho / (1 - rho)))
    middle = _Curve(losses, tested, sizes, n).at(np.array([8 * math.sqrt(2)]))[0][:, 0]
    np.testing.assert_allclose(middle, means.mean(1))


def test_what_is_the_baseline_itself_is_worth_nothing():
    itself = PretrainedRegressor(FunctionTransformer(), LinearRegression())
    found = pretraining_gain(
        EXTRA, ROWS, TARGET, predictor=itself, **{**FAST, "baseline": LinearRegression()}
    )
    np.testing.assert_allclose(found.error, found.rivals["supervised"])
    assert (found.low <= 0).all()
    assert "gain" not in found.verdicts
    assert (np.isnan(found.high) | (found.high >= 0)).all()


def test_rows_with_structure_are_worth_labels(gain):
    assert gain.verdict == "gain"
    assert gain.n_components == 2
    assert gain.n_unlabelled == 500
    assert (gain.error < gain.rivals["supervised"]).all()
    assert gain.low[gain.headline] > 0
    assert "more" in str(gain)
    assert list(gain.to_frame()["n_labels"]) == list(gain.n_labels)
    assert gain.n_labels[-1] == 60
    assert gain.n_test == 20


def test_where_noise_decides_they_are_worth_none():
    model = FactorModel.random(12, 2, scale=1.0, random_state=0)
    rows, _ = model.sample(1080, random_state=1)
    direction = np.linalg.svd(model.loadings)[0][:, -1]  # across all loadings
    found = pretraining_gain(rows[:1000], rows[1000:], rows[1000:] @ direction, **FAST)
    assert found.verdict == "none"
    assert "worth none" in str(found)


def test_where_nothing_is_found_they_are_worth_none():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((900, 12))
    found = pretraining_gain(noise[100:], noise[:100], noise[:100] @ np.arange(12.0), **FAST)
    assert found.n_components == 0
    assert found.verdict == "none"
    assert "no component" in " ".join(found.notes)


def test_random_labels_seldom_gain():
    rng = np.random.default_rng(0)
    quick = {**FAST, "n_labels": [15, 60], "baseline": Ridge(), "n_repeats": 5}
    verdicts = [pretraining_gain(EXTRA, ROWS, rng.standard_normal(80), **quick).verdict for _ in range(20)]
    assert verdicts.count("gain") <= 1  # at 2.5 % each, more in one of 40 seeds at most


def test_a_gain_of_the_model_is_none_of_the_rows():
    """Where the true directions are given, unlabelled rows add nothing to the same two phases without them."""
    known = FunctionTransformer(lambda rows: rows @ MODEL.loadings)
    found = pretraining_gain(EXTRA, ROWS, TARGET, predictor=PretrainedRegressor(known), **FAST)
    assert (found.error < found.rivals["supervised"]).all()
    np.testing.assert_allclose(found.error, found.rivals["labelled rows alone"])
    assert "gain" not in found.verdicts


def test_classes_by_name():
    model = MixtureModel.random(4, 3, 3, separation=1.5, random_state=0)
    inputs, classes = model.sample(260, random_state=1)
    found = pretraining_gain(
        inputs[60:],
        inputs[:60],
        NAMES[classes[:60]],
        predictor=PretrainedClassifier(MixturePretrainer(3, random_state=0)),
        baseline=LogisticRegression(),
        n_labels=[8, 16, 40],
        n_repeats=5,
        random_state=0,
    )
    assert found.error.max() < 0.5 < found.constant
    assert found.n_components == 3
    assert found.n_labels.tolist() == [8, 16, 40]


def test_copies_change_nothing(gain):
    twice = pretraining_gain(EXTRA, np.tile(ROWS, (2, 1)), np.tile(TARGET, 2), **FAST)
    assert same(twice, gain)
    assert "80 labelled rows are copies" in twice.notes[0]
    inside = pretraining_gain(X, ROWS, TARGET, **FAST)
    assert same(inside, gain)
    assert "80 of the unlabelled rows" in inside.notes[0]


def test_frames(gain):
    frame = pd.DataFrame(X, columns=[f"column {i}" for i in range(30)])
    assert pretraining_gain(frame[:-80], frame[-80:], pd.Series(TARGET), **FAST) == gain


@pytest.mark.slow  # two processes that import
def test_processes(gain):
    assert pretraining_gain(EXTRA, ROWS, TARGET, n_jobs=2, **FAST) == gain


def test_few_rows_for_the_pretrainer_are_said():
    found = pretraining_gain(EXTRA, ROWS, TARGET, predictor=PretrainedRegressor(FactorPretrainer(20)), **FAST)
    alone = found.rivals["labelled rows alone"]
    assert np.isnan(alone[found.n_labels < 20]).all()
    assert np.isfinite(alone[found.n_labels >= 20]).all()
    assert "cannot learn from 15 rows" in " ".join(found.notes)
    only = pretraining_gain(
        EXTRA, ROWS, TARGET, predictor=PretrainedRegressor(PCA(25)), **{**FAST, "n_labels": [10, 20]}
    )
    assert list(only.rivals) == ["supervised"]


def test_an_interrupted_run_says_what_it_knows():
    def stop(share, text):
        if share >= 0.75:
            raise KeyboardInterrupt

    found = pretraining_gain(EXTRA, ROWS, TARGET, progress=stop, **FAST)
    assert found.n_repeats == 6
    assert "Interrupted: 6 of 8" in found.notes[-1]

    def at_once(share, text):
        raise KeyboardInterrupt

    with pytest.raises(JobsInterrupted):
        pretraining_gain(EXTRA, ROWS, TARGET, progress=at_once, **FAST)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"X": ROWS[:20], "y": TARGET[:20]}, "24 different labelled rows"),
        ({"X_unlabelled": ROWS}, "not in X"),
        ({"X_unlabelled": EXTRA[:, :5]}, "transposed"),
        ({"y": np.ones(80) * 0.5}, "one value only"),
        ({"y": np.arange(80)}, "classes, or numbers"),
        ({"y": np.zeros((80, 2))}, "one value for each row"),
        ({"n_labels": [10]}, "two different whole numbers"),
        ({"n_labels": [10, 70]}, "between 2 and 60"),
        ({"n_repeats": 3}, "n_repeats"),
        ({"y": np.where(np.arange(80) < 1, np.nan, TARGET)}, "missing values"),
    ],
)
def test_bad_input_is_explained(given, words):
    asked = {"X_unlabelled": EXTRA, "X": ROWS, "y": TARGET, **FAST, **given}
    with pytest.raises(ValueError, match=words):
        pretraining_gain(asked.pop("X_unlabelled"), asked.pop("X"), asked.pop("y"), **asked)


def test_a_predictor_must_say_what_y_is():
    with pytest.raises(TypeError, match="PretrainedClassifier"):
        pretraining_gain(EXTRA, ROWS, TARGET, predictor=LinearRegression())


def test_many_columns_and_classes_by_default():
    """The mixture has directions of them, fewer where rows are few."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 2, 300)
    inputs = 10 * rng.standard_normal((3, 30))[classes] + rng.standard_normal((300, 30))
    asked = {"n_labels": [10, 30], "n_repeats": 5, "baseline": LogisticRegression(), "random_state": 0}
    found = pretraining_gain(inputs[50:], inputs[:50], NAMES[classes[:50]], **asked)
    assert found.error.max() < 0.3
    assert np.isfinite(found.rivals["labelled rows alone"]).all()


def test_what_draws_is_seeded():
    predictor = PretrainedRegressor(KMeans(8, n_init=1))
    first, second = (pretraining_gain(EXTRA, ROWS, TARGET, predictor=predictor, **FAST) for _ in range(2))
    assert first == second
    assert predictor.pretrainer.random_state is None


def test_few_values_agree_by_chance():
    """Rows of few columns with few values are not copies: without them both classes would be as frequent everywhere."""
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 2, (500, 4)).astype(float)
    y = (inputs[:, 0] > 0) ^ (rng.random(500) < 0.1)
    asked = {"n_labels": [40, 75], "n_repeats": 5, "baseline": LogisticRegression(), "random_state": 0}
    asked["predictor"] = PretrainedClassifier(PCA(2), LogisticRegression())
    found = pretraining_gain(inputs[100:], inputs[:100], y[:100], **asked)
    assert (found.n_rows, found.n_unlabelled) == (100, 400)
    assert found.rivals["supervised"][-1] < 0.25


class Column(LinearRegression):
    def predict(self, X):
        return super().predict(X)[:, None]


class Nothing(LinearRegression):
    def predict(self, X):
        return super().predict(X) * np.nan


@pytest.mark.parametrize(
    ("baseline", "y", "words"),
    [
        (KNeighborsRegressor(20), TARGET, "KNeighborsRegressor fails with 15 rows"),
        (Column(), TARGET, "shape"),
        (Nothing(), TARGET, "Nothing predicts NaN"),
        (LinearRegression(), (TARGET > 0).astype(int), "no class"),
    ],
)
def test_a_rival_that_fails_is_named(baseline, y, words):
    predictor = PretrainedRegressor(PCA(2))
    if y.dtype.kind == "i":
        predictor = PretrainedClassifier(PCA(2), LogisticRegression())
    asked = {**FAST, "baseline": baseline, "predictor": predictor}
    with pytest.raises(ValueError, match=words):
        pretraining_gain(EXTRA[:, :5], ROWS[:, :5], y, **asked)


def test_columns_in_another_order_are_refused():
    frame = pd.DataFrame(X)
    with pytest.raises(ValueError, match="in their order"):
        pretraining_gain(frame[frame.columns[::-1]], frame[-80:], TARGET, **FAST)


def test_a_rival_that_cannot_learn_is_not_printed_as_beyond(gain):
    missing = dataclasses.replace(gain, rivals={"supervised": np.full(len(gain.n_labels), np.nan)})
    for line in str(missing).split("\n")[2:]:
        if line.strip()[:2].isdigit():
            assert line.split()[2] == "-"
    unbounded = dataclasses.replace(gain, high=np.full(len(gain.n_labels), np.nan))
    assert "beyond" in str(unbounded).split("\n")[2]


def test_copies_are_found_when_one_table_came_in_single_precision():
    tables = [X[-60:], X[-60:].astype(np.float32)]
    for extra, rows in (tables, tables[::-1]):
        unlabelled = np.r_[EXTRA[:20].astype(extra.dtype), extra]
        found = pretraining_gain(unlabelled, rows, Y[-60:], **{**FAST, "n_labels": [15, 30]})
        assert any(note.startswith("60 of the unlabelled") for note in found.notes)
        assert found.n_unlabelled == 20
