"""The measurement on problems whose answer is known, its bookkeeping (cache, budget, interruption), and digits."""

from __future__ import annotations

import math
import pickle

import matplotlib as mpl
import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from lodim.landscape import LandscapeDimension, LandscapeResult, RunOptions, SearchOptions, SubspaceModule
from lodim.landscape.objective_landscapes.trials import Trial
from lodim.metrics import r2
from lodim.nets import mlp
from lodim.training import Recipe, Task, fit

pytestmark = pytest.mark.trains

mpl.use("Agg")

D, RANK = 60, 6


class Point(nn.Module):
    """A module that is nothing but D weights."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.randn(D))

    def forward(self):
        return self.weights


def equations(rank=RANK):
    """``rank`` equations for D unknowns: solvable in a random d-plane exactly when d >= rank."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(rank, D))), torch.from_numpy(rng.normal(size=rank))


def solve(module, train, *, lr, seed):
    """Least squares in v (or in all the weights)."""
    A, c = train
    direct = not isinstance(module, SubspaceModule)
    P = torch.eye(D, dtype=torch.float64) if direct else module.projection.matrix().double()
    parameter = module.weights if direct else module.theta_d
    rest = c - A @ module().detach().double()
    with torch.no_grad():
        parameter += torch.linalg.lstsq(A @ P, rest[:, None]).solution[:, 0].float()
    return 1


def performance(module, data):
    A, c = data
    return math.exp(-float(((A @ module().detach().double() - c) ** 2).sum()))


def measure(**options):
    fixed = {"lr_grid": (1.0,), "n_seeds": 2, "fit_fn": solve, "score_fn": performance, "random_state": 1}
    return LandscapeDimension(Point, **{**fixed, **options})


@pytest.mark.parametrize(
    ("rank", "options"),
    [(3, {}), (17, {}), (6, {"estimator": "first_crossing"}), (6, {"search": [1, 2, 4, 5, 6, 7, 9]})],
)
def test_exact_transition(rank, options):
    found = measure(**options).fit(equations(rank), equations(rank))
    assert found.status_ == "found"
    assert found.d_int_ == rank
    assert found.d_int_ci_[0] <= rank <= found.d_int_ci_[1] + 1e-9
    assert found.n_parameters_ == D
    assert found.compression_ratio_ == D / rank
    assert found.baseline_score_ == pytest.approx(1.0)
    assert found.threshold_score_ == pytest.approx(0.9)
    by_d = found.result_.summary().set_index("d")["mean"]
    assert (by_d[by_d.index >= rank] > 0.99).all()
    assert (by_d[by_d.index < rank] < 0.9).all()


def test_success_probability_and_a_given_baseline():
    found = measure(baseline=1.0, estimator="success_probability", n_seeds=8, search=[2, 4, 5, 6, 7, 9]).fit(
        equations(), equations()
    )
    assert found.d_int_ == RANK
    assert found.result_.baseline_scores == ()
    assert all(r.d < D for r in found.curve_)


def test_not_reached_and_below_d_min_are_bounds():
    never = measure(d_max=5, d0=2).fit(equations(), equations())
    assert (never.status_, never.d_int_, never.result_.bound) == ("not_reached", math.inf, 5.0)
    assert math.isnan(never.compression_ratio_)
    assert "needs more than 5 of 60" in never.report()
    with pytest.raises(ValueError, match="no run reaches the threshold"):
        never.model_at()
    always = measure(d_min=8).fit(equations(), equations())
    assert (always.status_, always.result_.bound) == ("below_d_min", 8.0)
    assert math.isnan(always.d_int_)
    assert always.compression_ratio_ == D / 8
    assert "needs at most 8 of 60" in always.report()


def test_every_run_has_its_own_seed_and_repeats():
    first, again = (measure().fit(equations(), equations()) for _ in range(2))
    assert [(r.d, r.seed, r.score) for r in first.curve_] == [(r.d, r.seed, r.score) for r in again.curve_]
    seeds = [r.seed for r in first.curve_]
    assert len(set(seeds)) == len(seeds)
    other = measure(random_state=2).fit(equations(), equations())
    assert {r.seed for r in other.curve_}.isdisjoint(seeds)


def test_a_number_of_runs_ends_the_search_on_any_machine(monkeypatch):
    whole = measure(max_runs=200).fit(equations(), equations())
    assert not any("planned" in note for note in whole.result_.notes)
    short, again = measure(max_runs=7), measure(max_runs=7, time_budget=1e6)
    short.fit(equations(), equations())
    now = iter(range(10**9))
    monkeypatch.setattr("lodim.landscape.objective_landscapes.sweep.time.monotonic", lambda: 10.0 * next(now))
    again.fit(equations(), equations())  # on a clock on which everything takes long
    assert len(short.direct_runs()) + len(short.curve_) <= 7
    assert len(short.direct_runs()) <= 2
    assert [(r.d, r.seed, r.score) for r in short.curve_] == [(r.d, r.seed, r.score) for r in again.curve_]
    assert short.result_.notes == again.result_.notes
    assert any("ended with the 7 runs that were planned" in note for note in short.result_.notes)
    single = measure(max_runs=1).fit(equations(), equations())  # a third of it is no run
    assert any("ended with the 1 runs that were planned" in note for note in single.result_.notes)


def test_the_floor_may_be_settled_by_the_baseline():
    asked = []

    def floor():
        asked.append(found.partial_result().baseline_score)
        return 0.5

    found = measure(score_floor=floor)
    found.fit(equations(), equations())
    assert asked == [found.baseline_score_]
    assert found.threshold_score_ == pytest.approx(0.5 + 0.9 * (found.baseline_score_ - 0.5))

    def refuse():
        raise ValueError("no better than guessing")

    stopped = measure(score_floor=refuse)
    with pytest.raises(ValueError, match="no better than guessing"):
        stopped.fit(equations(), equations())
    assert stopped.partial_result().baseline_score == pytest.approx(1.0)
    assert stopped.partial_result().curve == ()


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
def test_processes_give_the_same_answer(backend):
    one = measure(search=[5, 6], baseline=1.0).fit(equations(), equations())
    with parallel_config(backend):
        two = measure(search=[5, 6], baseline=1.0, n_jobs=2).fit(equations(), equations())
    job, trial = one._sweep.trainer.job, Trial(5, 1, 1.0)
    # what `solve` leaves of an equation is rounding, which follows where in memory its matrices lie
    assert pickle.loads(pickle.dumps(job)).one([trial])[0].record.score == pytest.approx(
        job.one([trial])[0].record.score, rel=1e-6
    )
    assert [(r.d, r.seed) for r in one.curve_] == [(r.d, r.seed) for r in two.curve_]
    assert [r.score for r in one.curve_] == pytest.approx([r.score for r in two.curve_], rel=1e-6)
    assert (one.d_int_, *one.d_int_ci_) == pytest.approx((two.d_int_, *two.d_int_ci_), rel=1e-6)


def test_cached_runs_are_not_made_again(tmp_path):
    log = tmp_path / "log"

    def logged(module, train, *, lr, seed):
        with log.open("a") as file:
            file.write(f"{seed}\n")
        return solve(module, train, lr=lr, seed=seed)

    options = {"fit_fn": logged, "cache_dir": tmp_path / "cache"}
    first = measure(**options).fit(equations(), equations())
    made = len(log.read_text().split())
    assert made == len(first.curve_) + 2
    second = measure(**options).fit(equations(), equations())
    assert len(log.read_text().split()) == made
    assert second.result_.curve == first.result_.curve
    assert second.d_int_ci_ == first.d_int_ci_
    finer = measure(n_seeds=4, **options).fit(equations(), equations())  # refined: only what is new is run
    assert len(log.read_text().split()) == made + len(finer.curve_) - len(first.curve_) + 2
    measure(**options).fit(equations(5), equations(5))  # other data: nothing is reused
    assert len(log.read_text().split()) > 2 * made


class FakeClock:
    """Time that passes only when a run says so."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def time(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    fake = FakeClock()
    for module in ("sweep", "trials"):
        monkeypatch.setattr(f"lodim.landscape.objective_landscapes.{module}.time", fake)
    return fake


@pytest.mark.parametrize("budget", [3.0, 8.0, 1000.0])
def test_time_budget_is_kept_and_what_is_known_is_said(clock, budget):
    def slow(module, train, *, lr, seed):
        clock.now += 1.0
        return solve(module, train, lr=lr, seed=seed)

    started = clock.now
    found = measure(fit_fn=slow, time_budget=budget, n_seeds=3).fit(equations(), equations())
    spent = clock.now - started
    assert spent <= 1.2 * budget
    assert spent == len(found.curve_) + len(found._sweep.direct)
    assert found.result_.seconds == spent
    early = any("time budget" in note for note in found.result_.notes)
    assert early == (budget < 100)
    if early:
        assert spent > budget - 2  # nor is the budget left unused
    else:
        assert found.d_int_ == RANK


def test_a_budget_too_small_for_anything_measures_nothing():
    X = np.random.default_rng(0).normal(size=(400, 8))
    found = LandscapeDimension.for_regressor(
        lambda: mlp([8, 16, 1]), X, X[:, 0], X, X[:, 0], time_budget=1e-6, vectorize=False
    ).fit()
    assert found.status_ == "not_measured"
    assert found.report().startswith("not measured")
    assert math.isnan(found.d_int_)


def test_ctrl_c_keeps_what_is_done_and_the_cache_resumes(tmp_path):
    log = tmp_path / "log"  # what a fit_fn appends to in its closure is part of what runs are found by
    log.touch()

    def stops(module, train, *, lr, seed):
        stop = len(log.read_text().split()) == 6
        with log.open("a") as file:
            file.write("stopped\n" if stop else f"{seed}\n")
        if stop:
            raise KeyboardInterrupt
        return solve(module, train, lr=lr, seed=seed)

    finder = measure(fit_fn=stops, cache_dir=tmp_path / "runs")
    with pytest.raises(KeyboardInterrupt):
        finder.fit(equations(), equations())
    assert len(finder.curve_) == 4  # the first two were the baseline
    assert finder.partial_result() == finder.result_
    assert any("interrupted" in note for note in finder.result_.notes)
    made = len(log.read_text().split()) - 1
    finder.fit(equations(), equations())
    runs = log.read_text().split()
    assert finder.d_int_ == RANK
    assert len(runs) - 1 == len(finder.curve_) + 2
    assert len(set(runs)) == len(runs)
    assert len(runs) > made


def test_runs_that_fail_count_as_failures_and_are_reported():
    def fragile(module, train, *, lr, seed):
        if isinstance(module, SubspaceModule) and module.d in (10, 20):
            raise FloatingPointError("singular")
        return solve(module, train, lr=lr, seed=seed)

    with pytest.warns(UserWarning, match="failed, the first with: FloatingPointError: singular"):
        found = measure(fit_fn=fragile).fit(equations(), equations())
    assert 20 < found.d_int_ <= 40

    def broken(module, train, *, lr, seed):
        raise FloatingPointError("always")

    with pytest.raises(RuntimeError, match="always"):
        measure(fit_fn=broken).fit(equations(), equations())


class Rate:
    """Pretends to train: the score is a function of d and of the rate, remembered by the module's weights."""

    def __init__(self, best):
        self.best = best

    def fit(self, module, train, *, lr, seed):
        d = sum(p.numel() for p in module.parameters() if p.requires_grad)
        g = lr / (1e-3 * math.sqrt(D / d))
        self.last = (1 - math.exp(-d / 8)) * math.exp(-0.3 * math.log(g / self.best) ** 2)

    def score(self, module, data):
        return self.last


@pytest.mark.parametrize("best", [0.3, 3.0, 10.0, 33.3])
def test_the_multiplier_is_chosen_and_kept(best):
    rate = Rate(best)
    found = LandscapeDimension(Point, rate.fit, rate.score, n_seeds=1).fit(None, None)
    assert found.lr_multiplier_ == pytest.approx(best, rel=0.12)
    assert found.d_int_ == math.ceil(-8 * math.log(0.1 + 0.9 * math.exp(-D / 8)))
    for record in found.curve_:
        assert record.lr == pytest.approx(1e-3 * record.multiplier * math.sqrt(D / record.d))
    assert len(found.result_.kept) < len(found.curve_)
    assert found.result_.lr_direct == pytest.approx(1e-3 * best, rel=0.12)


def test_row_scale_keeps_the_rate():
    found = measure(scale="row", lr=0.02).fit(equations(), equations())
    assert {r.lr for r in found.curve_} == {0.02}
    assert found.d_int_ == RANK


def test_a_best_multiplier_at_the_very_end_is_noted():
    rate = Rate(1e9)
    found = LandscapeDimension(Point, rate.fit, rate.score, n_seeds=1).fit(None, None)
    for where in ("of direct training", "in subspaces"):
        assert any(f"{where}, 370.37, is the last one tried" in note for note in found.result_.notes)


def test_losses_may_be_measured_too():
    loss = lambda module, data: -math.log(max(performance(module, data), 1e-300)) + 0.5  # noqa: E731
    found = measure(score_fn=loss, greater_is_better=False, threshold=0.5).fit(equations(), equations())
    assert found.threshold_score_ == pytest.approx(1.0)
    assert found.d_int_ == RANK


def test_score_floor_moves_the_threshold():
    shifted = lambda module, data: 42 * performance(module, data) - 21  # noqa: E731
    found = measure(score_fn=shifted, score_floor=-21.0).fit(equations(), equations())
    assert found.threshold_score_ == pytest.approx(-21 + 0.9 * 42)
    assert found.d_int_ == RANK
    assert "0.9 of the way from -21.000 to 21.000" in found.report()


# Built-in training


def regression_data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 6)).astype(np.float32)
    y = np.tanh(X[:, 0] + X[:, 1]) + 0.3 * X[:, 2]
    return X[:200], y[:200], X[200:], y[200:]


def regressor(**options):
    fixed = {"recipe": RECIPE, "lr": 2e-2, "lr_grid": (3.0,), "n_seeds": 2, "threshold": 0.8}
    return LandscapeDimension.for_regressor(
        lambda: mlp([6, 12, 1]), *regression_data(), **{**fixed, "search": [5, 20, 60], **options}
    )


RECIPE = Recipe(epochs=4, batch_size=50)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """One measurement, its runs made one by one and as one; those as one are kept in a folder."""
    folder = tmp_path_factory.mktemp("runs")
    return regressor(vectorize=False).fit(), regressor(cache_dir=folder).fit()


def test_vectorised_equals_plain(measured):
    one, many = measured
    assert many._sweep.trainer.vectorized
    assert not one._sweep.trainer.vectorized
    assert [(r.d, r.seed, r.steps, r.lr) for r in one.curve_] == [
        (r.d, r.seed, r.steps, r.lr) for r in many.curve_
    ]
    for name in ("score", "train_score"):
        np.testing.assert_allclose(
            [getattr(r, name) for r in one.curve_], [getattr(r, name) for r in many.curve_], atol=2e-4
        )
    assert one.baseline_score_ == pytest.approx(many.baseline_score_, abs=2e-4)
    assert regressor(cache_dir=many.cache_dir).fit().curve_ == many.curve_


@pytest.mark.slow
@pytest.mark.ray
def test_ray_gives_the_same_runs(measured):
    pytest.importorskip("ray", reason="needs the extra `ray`")
    here, there = measured[0], regressor(ray="local").fit()
    assert [(r.d, r.seed, r.steps, r.lr) for r in here.curve_] == [
        (r.d, r.seed, r.steps, r.lr) for r in there.curve_
    ]
    np.testing.assert_allclose([r.score for r in here.curve_], [r.score for r in there.curve_], atol=2e-4)


def test_the_curve_can_be_remade_by_hand(measured):
    record = measured[1].curve_[2]
    torch.manual_seed(record.seed)
    module = SubspaceModule(mlp([6, 12, 1]), record.d, seed=record.seed)
    task = Task.from_arrays(*regression_data(), kind="regression")
    result = fit(module, task, RECIPE, lr=record.lr, random_state=record.seed)
    assert result.score == pytest.approx(record.score, abs=2e-4)


@pytest.mark.parametrize("how", [0, 1])
def test_model_at_is_the_trained_model(measured, how):
    found = measured[how]
    task = found.task
    for d in (None, 5):
        module = found.model_at(d)
        runs = [r for r in found.curve_ if r.d == module.d]
        with torch.no_grad():
            score = float(r2(module(task.X_val), task.y_val))
        assert score == pytest.approx(max(r.score for r in runs), abs=2e-4)
    assert found.best_.record.d >= found.d_int_
    assert found.best_.v.shape == (found.best_.record.d,)
    with pytest.raises(ValueError, match=r"no run was made at d=7; those tried are \[5, 20, 60\]"):
        found.model_at(7)


def test_model_at_brings_running_statistics_along():
    make = lambda: nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 1))  # noqa: E731
    found = LandscapeDimension.for_regressor(
        make, *regression_data(), recipe=RECIPE, lr_grid=(3.0,), lr=2e-2, n_seeds=1, search=[40]
    ).fit()
    module = found.model_at(40).eval()
    with torch.no_grad():
        score = float(r2(module(found.task.X_val), found.task.y_val))
    assert score == pytest.approx(found.curve_[0].score, abs=1e-5)
    with pytest.raises(ValueError, match="vectorize=True is not possible"):
        LandscapeDimension.for_regressor(make, *regression_data(), vectorize=True).fit()


@pytest.mark.parametrize("vectorize", ["auto", False])
def test_direct_model_is_the_best_of_the_direct_runs(vectorize):
    few = {"vectorize": vectorize, "search": [60], "n_seeds": 1, "recipe": Recipe(epochs=2, batch_size=50)}
    found = regressor(**few, lr_grid=(1.0, 3.0)).fit()
    with torch.no_grad():
        score = float(r2(found.direct_model()(found.task.X_val), found.task.y_val))
    assert score == pytest.approx(max(t.record.score for t in found._sweep.direct), abs=2e-4)
    assert sum(bool(t.buffers) for t in found._sweep.direct) == 1


def test_there_is_no_direct_model_where_the_baseline_was_given():
    given = measure(baseline=1.0, search=[RANK]).fit(equations(), equations())
    with pytest.raises(ValueError, match="baseline was given"):
        given.direct_model()


def test_early_stop_certifies_the_threshold():
    found = regressor(early_stop=True, vectorize=False, threshold=0.5, search=[5, 60]).fit()
    stopped = [r for r in found.curve_ if r.stopped == "early_stop"]
    assert stopped
    assert all(r.score >= found.threshold_score_ for r in stopped)
    full = (
        max(r.steps for r in found.curve_ if r.stopped == "budget")
        if len(stopped) < len(found.curve_)
        else 32
    )
    assert min(r.steps for r in stopped) < full


def test_memorisation_is_scored_on_the_training_set():
    X, y, X_val, y_val = regression_data()
    noise = np.random.default_rng(1).permutation(y)
    found = LandscapeDimension.for_regressor(
        lambda: mlp([6, 40, 1]),
        X,
        noise,
        X_val,
        y_val,
        score_on="train",
        search=[20],
        n_seeds=1,
        lr=0.03,
        lr_grid=(1.0,),
        recipe=Recipe(epochs=60),  # five seeds: an R^2 of 0.26 or more
    ).fit()
    assert all(r.score == r.train_score for r in found.curve_)
    assert found.result_.score_name == "training R^2"


def test_a_model_that_learns_nothing_has_no_dimension():
    X, y, X_val, _ = regression_data()
    noise = np.random.default_rng(0).normal(size=100)
    with pytest.raises(ValueError, match="does not learn this task"):
        LandscapeDimension.for_regressor(
            lambda: mlp([6, 12, 1]),
            X,
            np.random.default_rng(1).permutation(y),
            X_val,
            noise,
            lr_grid=(1.0,),
            recipe=Recipe(epochs=2),
        ).fit()


@pytest.mark.filterwarnings("ignore:training diverged")
@pytest.mark.filterwarnings("ignore:.*diverged")
def test_a_baseline_that_diverges_says_so():
    with pytest.raises(ValueError, match="diverged at every learning rate"):
        regressor(lr=1e12, recipe=Recipe(epochs=5, optimizer="sgd", schedule="constant")).fit()


# The result


def test_result_prints_tabulates_and_travels(measured):
    found = measured[1]
    result = found.result_
    text = str(result)
    assert text.startswith(f"needs {result.d_int90:,.0f} [")
    assert f"of {result.n_parameters:,} numbers" in text
    assert f"threshold {result.threshold_score:.3f} = 0.8 x {result.baseline_score:.3f}" in text
    assert "direct training" in text
    back = LandscapeResult.from_json(result.to_json())
    assert back.curve == result.curve
    assert back.d_int90 == result.d_int90
    frame = result.to_frame()
    assert len(frame) == len(result.curve)
    assert list(frame.columns[:3]) == ["d", "seed", "score"]
    ax = found.plot()
    assert ax.get_xscale() == "log"
    labels = {t.get_text() for t in ax.get_legend().get_texts()}
    assert {"runs", "isotonic fit", "threshold", "direct training"} <= labels
    dots = next(line for line in ax.lines if line.get_label() == "runs")
    assert sorted(dots.get_xdata()) == sorted(r.d for r in result.kept)


def test_progress_rises_and_partial_results_are_at_hand():
    seen = []
    finder = regressor(
        search=[5, 60],
        n_seeds=1,
        progress=lambda done, text: seen.append((done, finder.partial_result().status)),
    )
    finder.fit()
    shares = [done for done, _ in seen]
    assert all(0 <= done <= 1 for done in shares)
    assert shares == sorted(shares)
    assert seen[0][1] == "not_measured"
    assert seen[-1][1] == finder.status_


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"d_max": 61}, ValueError, "d_max=61 is more than the model's D=60"),
        ({"d_min": 9, "d_max": 8}, ValueError, "d_min=9 is more than d_max=8"),
        ({"d_min": 0}, ValueError, "d_min must be at least 1"),
        ({"threshold": 0.0}, ValueError, "threshold must be above 0"),
        ({"threshold": 1.5}, ValueError, "threshold"),
        ({"projection": "fastfod"}, ValueError, "fastfood"),
        ({"estimator": "median"}, ValueError, "isotonic"),
        ({"search": "linear"}, ValueError, "bracket"),
        ({"search": []}, ValueError, "at least one d"),
        ({"search": [0, 3]}, ValueError, "at least one d"),
        ({"resolution": 1.0}, ValueError, "resolution"),
        ({"lr_grid": ()}, ValueError, "lr_grid"),
        ({"time_budget": -1.0}, ValueError, "time_budget"),
        ({"score_fn": None}, ValueError, "go together"),
        ({"fit_fn": None, "score_fn": None}, ValueError, "give the data"),
        ({"vectorize": True}, ValueError, "not possible"),
    ],
)
def test_bad_parameters_say_what_to_do(options, error, match):
    with pytest.raises(error, match=match):
        measure(**options).fit(None if options.get("fit_fn", 1) is None else equations(), equations())


# Parameters


def test_options_have_their_own_names_and_groups():
    flat = measure(n_seeds=4, search="grid", n_jobs=2, time_budget=9.0)
    grouped = LandscapeDimension(
        Point, solve, performance, random_state=1, run=RunOptions(n_jobs=2, time_budget=9.0),
        search=SearchOptions("grid", n_seeds=4, lr_grid=(1.0,)),
    )  # fmt: skip
    assert (flat.search, flat.run) == (grouped.search, grouped.run)
    assert flat.get_params() == grouped.get_params()
    assert (flat.n_seeds, flat.get_params()["time_budget"], flat.d0) == (4, 9.0, 10)
    assert repr(flat.search) == "SearchOptions(sizes='grid', n_seeds=4, lr_grid=(1.0,))"
    assert "n_seeds=4" in repr(flat)
    assert "RunOptions" not in repr(measure())
    copied = clone(flat).set_params(n_seeds=5, search=[3, 4])
    assert (copied.n_seeds, copied.search.sizes, copied.n_jobs) == (5, [3, 4], 2)
    assert (flat.n_seeds, flat.search.sizes) == (4, "grid")
    sent = pickle.loads(pickle.dumps(copied))
    assert (sent.search, sent.run, sent.n_seeds) == (copied.search, copied.run, 5)
    copied.d_max = 30
    assert copied.search == SearchOptions([3, 4], n_seeds=5, lr_grid=(1.0,), d_max=30)


def test_options_that_contradict_are_said():
    with pytest.raises(ValueError, match="n_seeds was given twice"):
        LandscapeDimension(Point, search=SearchOptions(n_seeds=2), n_seeds=2)
    with pytest.raises(ValueError, match="ray was given twice"):
        LandscapeDimension(Point, run=RunOptions(n_jobs=2), ray="local")
    with pytest.raises(TypeError, match=r"no option 'n_seed'.* Did you mean 'n_seeds'"):
        LandscapeDimension(Point, n_seed=2)
    with pytest.raises(AttributeError, match="no attribute 'n_seed'"):
        _ = measure().n_seed


def test_nothing_measured_yet():
    with pytest.raises(RuntimeError, match="call fit"):
        measure().report()


@pytest.mark.slow
def test_digits_need_few_dimensions_and_a_wider_net_hardly_more():
    X, y = load_digits(return_X_y=True)
    X = (X - X.mean()) / 8
    X, X_val, y, y_val = train_test_split(X, y, test_size=0.2, stratify=y, random_state=0)
    found = {}
    for width in (64, 100):
        make = lambda width=width: mlp([64, width, width, 10])  # noqa: E731
        found[width] = LandscapeDimension.for_classifier(make, X, y, X_val, y_val, lr_grid=(10.0,)).fit()
    assert found[64].n_parameters_ == 8970
    assert found[100].n_parameters_ == 17610
    assert all(0.955 < f.baseline_score_ < 0.995 for f in found.values())
    assert 90 <= found[64].d_int_ <= 260
    assert 0.6 < found[100].d_int_ / found[64].d_int_ < 1.7
    low, high = found[64].d_int_ci_
    assert low < found[64].d_int_ < high


def quick(make_model, **options):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 4)).astype(np.float32)
    y = (X @ rng.normal(size=(4, 3))).argmax(1)
    fixed = {"recipe": Recipe(epochs=2), "n_seeds": 1, "lr_grid": (10.0,), "search": [2, 5]}
    return LandscapeDimension.for_classifier(
        make_model, X[:60], y[:60], X[60:], y[60:], **{**fixed, **options}
    )


def test_a_maker_that_returns_one_module_for_ever_is_refused():
    net = mlp([4, 8, 3])
    for vectorize in ("auto", False):
        with pytest.raises(ValueError, match="new module at each call"):
            quick(lambda: net, vectorize=vectorize).fit()
    with pytest.raises(TypeError, match=r"make_model must be a function .* got a Sequential"):
        quick(net).fit()


def test_a_floor_that_losses_do_not_have_is_refused():
    for floor in (2.3, "majority", lambda: 2.3):
        with pytest.raises(ValueError, match="score_floor is not used"):
            measure(greater_is_better=False, score_floor=floor).fit(equations(), equations())


def test_the_verdict_says_where_the_way_begins():
    told = quick(lambda: mlp([4, 8, 3]), baseline=0.9, score_floor=0.3, threshold=0.5).fit().result_.verdict()
    assert "threshold 0.600 = 0.5 of the way from 0.300 to 0.900" in told


def test_sizes_may_be_an_array():
    found = quick(lambda: mlp([4, 8, 3]), search=np.array([5, 2])).fit()
    assert sorted({r.d for r in found.curve_}) == [2, 5]


def test_direct_training_in_bfloat16_is_kept():
    found = quick(lambda: mlp([4, 8, 3]).bfloat16(), vectorize=False)
    trial = Trial(None, 0, 1e-2)
    trainer, _ = found._prepare(None, None)
    (kept,) = trainer.job.one([trial])
    assert trainer.rebuild(kept)[0].weight.dtype == torch.bfloat16
