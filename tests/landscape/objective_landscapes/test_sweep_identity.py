"""Runs of a sweep: found in a store only where they are the same, and the same whoever makes them."""

from __future__ import annotations

import dataclasses
import io
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from joblib import parallel_config
from joblib.externals.loky.backend.reduction import dumps
from torch import nn

from lodim.landscape import LandscapeDimension
from lodim.landscape.objective_landscapes import trials as trials_module
from lodim.nets import mlp
from lodim.parallel import run_jobs
from lodim.training import Recipe, Task

NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x):
        return self.layer(x).{how}()
"""
FIT = """
def helper(module):
    return {callee}

def fit(module, train, *, lr, seed, steps={steps}):
    helper(module)
    return steps
"""


def written(text, name, **values):
    """Something of a user's module, with one place of its text filled in."""
    space = {"nn": nn, "__name__": "a_users_module"}
    exec(text.format(**values), space)
    return space[name]


def score(module, data, sign=1.0):
    return sign


def other_score(module, data, sign=1.0):
    return sign + 1.0


def pair(shift=0.0, tied=False, frozen=False):
    """Two layers of equal weights, shared or not, one of them frozen or not."""
    made = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    with torch.no_grad():
        for p, q in zip(made[0].parameters(), made[1].parameters(), strict=True):
            p.add_(shift)
            q.copy_(p)
    if tied:
        made[1].weight = made[0].weight
    made[0].bias.requires_grad_(not frozen)
    return made


def closed_over(value):
    return lambda module, train, *, lr, seed: value


def data(n=40):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 6)).astype(np.float32)
    return X[: n // 2], np.arange(n // 2) % 4, X[n // 2 :], np.arange(n // 2) % 4


def task(**changes):
    return dataclasses.replace(Task.from_arrays(*data(), kind="classification"), **changes)


def swapped(tensor):
    """The same entries, and the same sum, in another order."""
    return tensor.roll(1, 0)


BUILT_IN = {"make_model": partial(mlp, [6, 8, 4]), "task": task(), "recipe": Recipe(epochs=2)}
OWN = {
    "make_model": pair,
    "fit_fn": partial(written(FIT, "fit", callee=0, steps=2), steps=60),
    "score_fn": score,
    "train": [torch.arange(4.0)],
    "val": (np.arange(3.0),),
}
OTHERS = {
    "another argument of make_model": (BUILT_IN, {"make_model": partial(mlp, [6, 8, 4], activation="tanh")}),
    "X": (BUILT_IN, {"task": task(X=swapped(task().X))}),
    "y": (BUILT_IN, {"task": task(y=swapped(task().y))}),
    "X_val": (BUILT_IN, {"task": task(X_val=swapped(task().X_val))}),
    "y_val": (BUILT_IN, {"task": task(y_val=swapped(task().y_val))}),
    "n_outputs": (BUILT_IN, {"task": task(n_outputs=5)}),
    "recipe": (BUILT_IN, {"recipe": Recipe(epochs=3)}),
    "projection": (BUILT_IN, {"projection": "dense"}),
    "scale": (BUILT_IN, {"scale": "row"}),
    "score_on": (BUILT_IN, {"score_on": "train"}),
    "said": (BUILT_IN, {"said": "tensor"}),
    "train_directly": (BUILT_IN, {"train_directly": ["2"]}),
    "vectorize": (BUILT_IN, {"vectorize": False}),
    "an edited forward": (
        {**BUILT_IN, "make_model": written(NET, "Net", how="relu")},
        {"make_model": written(NET, "Net", how="tanh")},
    ),
    "other weights": (OWN, {"make_model": partial(pair, 1.0)}),
    "tied weights": (
        {**OWN, "make_model": partial(pair, tied=False)},
        {"make_model": partial(pair, tied=True)},
    ),
    "frozen weights": (
        {**OWN, "make_model": partial(pair, frozen=False)},
        {"make_model": partial(pair, frozen=True)},
    ),
    "another argument of fit_fn": (
        OWN,
        {"fit_fn": partial(written(FIT, "fit", callee=0, steps=2), steps=2)},
    ),
    "a changed default": (
        {**OWN, "fit_fn": written(FIT, "fit", callee=0, steps=2)},
        {"fit_fn": written(FIT, "fit", callee=0, steps=3)},
    ),
    "an edited callee": (OWN, {"fit_fn": partial(written(FIT, "fit", callee=1, steps=2), steps=60)}),
    "a closure": ({**OWN, "fit_fn": closed_over(1)}, {"fit_fn": closed_over(2)}),
    "score_fn": (OWN, {"score_fn": other_score}),
    "an argument of score_fn": (OWN, {"score_fn": partial(score, sign=2.0)}),
    "train": (OWN, {"train": [torch.arange(4.0).flip(0)]}),
    "val": (OWN, {"val": (np.arange(3.0)[::-1],)}),
}


def content(folder, given):
    given = dict(given)
    train, val = given.pop("train", None), given.pop("val", None)
    return LandscapeDimension(**given, cache_dir=folder)._prepare(train, val)[0].content


@pytest.mark.parametrize("what", OTHERS)
def test_a_stored_run_is_of_the_same_content(what, tmp_path):
    given, changes = OTHERS[what]
    assert content(tmp_path, given) == content(tmp_path, pickle.loads(dumps(given)))
    assert content(tmp_path, given) != content(tmp_path, {**given, **changes})


def count_fit(module, train, *, lr, seed, log, steps):
    """Write a line for every run that is made; the more steps, the better."""
    with log.open("a") as file:
        file.write(f"{steps}\n")
    with torch.no_grad():
        next(module.parameters()).fill_(float(steps))
    return steps


def first_number(module, _):
    return float(next(module.parameters()).detach().reshape(-1)[0])


def test_a_partial_with_other_arguments_is_measured_anew(tmp_path):
    log = tmp_path / "log"

    def measured(steps):
        fit_fn = partial(count_fit, log=log, steps=steps)
        options = {"search": [3, 5], "n_seeds": 1, "lr_grid": (1.0,), "cache_dir": tmp_path / "runs"}
        return LandscapeDimension(pair, fit_fn, first_number, **options).fit(0, 0).result_

    for steps in (60, 2, 60):
        assert {r.steps for r in measured(steps).curve} == {steps}
        assert measured(steps).baseline_score == steps
    assert log.read_text().split() == ["60"] * 3 + ["2"] * 3


@pytest.mark.parametrize("part", ["fit_fn", "score_fn", "make_model", "train"])
def test_what_cannot_be_told_is_said_before_any_run(part, tmp_path):
    log, stream = tmp_path / "log", io.TextIOWrapper(io.BytesIO())
    given = {"make_model": pair, "fit_fn": partial(count_fit, log=log, steps=1), "score_fn": score}
    train = stream if part == "train" else None
    if part != "train":
        given[part] = lambda *args, function=given[part], held=stream, **more: function(*args, **more)
    with pytest.raises(TypeError, match=rf"cache_dir .* {part} cannot be told: .*TextIOWrapper"):
        LandscapeDimension(**given, cache_dir=tmp_path / "runs").fit(train, None)
    assert not log.exists()


# The same runs for everyone


def lenses(**options):
    """A small search on data a network learns within a few steps; made of few runs."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 6)).astype(np.float32)
    y = np.tanh(X[:, 0] + X[:, 1]) + 0.3 * X[:, 2]
    fixed = {"recipe": Recipe(epochs=2, batch_size=25), "lr": 4e-2, "lr_grid": (1.0, 2.0), "n_seeds": 2}
    parts = X[:150], y[:150], X[150:], y[150:]
    return LandscapeDimension.for_regressor(
        partial(mlp, [6, 8, 1]),
        *parts,
        **{**fixed, "threshold": 0.7, "max_runs": 10, "resolution": 1.5, **options},
    )


def told(found):
    """Everything of a measurement but its seconds."""
    records = [dataclasses.replace(r, seconds=0.0) for r in (*found.direct_runs(), *found.result_.curve)]
    return records, found.d_int_, found.d_int_ci_, found.baseline_score_, found.status_


@pytest.fixture
def in_threes(monkeypatch):
    """Three runs are trained as one, so that a wave is several groups."""
    monkeypatch.setattr(trials_module, "replicas_at_once", lambda model, D, device: 3)


@pytest.fixture(scope="module", params=["auto", False])
def alone(request):
    """The search as one process makes it, in threes or run by run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials_module, "replicas_at_once", lambda model, D, device: 3)
        return lenses(vectorize=request.param).fit()


@pytest.mark.trains
def test_the_answer_is_that_of_any_number_of_workers(alone, in_threes):
    assert len(alone.curve_) > 3
    with parallel_config("threading"):
        assert told(lenses(vectorize=alone.vectorize, n_jobs=2).fit()) == told(alone)


@pytest.mark.trains
@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [2, 3])
def test_processes_give_the_answer_of_one(alone, n_jobs, in_threes):
    assert told(lenses(vectorize=alone.vectorize, n_jobs=n_jobs).fit()) == told(alone)


@pytest.mark.trains
def test_a_cluster_gives_the_answer_of_one(alone, in_threes, monkeypatch):
    """Without Ray: what would travel there and back does."""
    asked = []

    def far(function, jobs, *, ray, **options):
        asked.append(ray)
        return run_jobs(lambda job: pickle.loads(dumps((function, job)))[0](job), jobs, **options)

    monkeypatch.setattr(trials_module, "run_jobs", far)
    assert told(lenses(vectorize=alone.vectorize, ray="auto").fit()) == told(alone)
    assert set(asked) == {"auto"}


@pytest.mark.trains
def test_whether_runs_are_trained_as_one_does_not_change_which_are_made():
    options = {"lr_grid": (2.0,), "search": "bracket", "d_max": 20, "threshold": 0.999}  # never reached
    as_one, one_by_one = (lenses(vectorize=how, **options).fit() for how in (True, False))
    assert [(r.d, r.seed) for r in as_one.curve_] == [(r.d, r.seed) for r in one_by_one.curve_]
    np.testing.assert_allclose(
        [r.score for r in as_one.curve_], [r.score for r in one_by_one.curve_], atol=2e-4
    )


@pytest.mark.trains
def test_workers_that_had_nothing_to_do_are_told_of():
    (note,) = [n for n in lenses(n_jobs=2).fit().result_.notes if "nothing to spread" in n]
    assert "vectorize=False" in note
    assert not any("spread" in n for n in lenses(n_jobs=1).fit().result_.notes)


def test_rounding_that_follows_the_threads_is_told_of(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    small, large = (
        LandscapeDimension(partial(mlp, [6, width, width, 4]), task=task(), n_jobs=2)._prepare(None, None)[0]
        for width in (8, 400)
    )
    small.most_groups = large.most_groups = 2
    assert small.remarks == []
    assert "torch.set_num_threads(1)" in large.remarks[0]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert large.remarks == []


# Stored ones too


@pytest.mark.trains
def test_stored_runs_serve_any_number_of_workers(alone, tmp_path, in_threes):
    stored = lenses(vectorize=alone.vectorize, cache_dir=tmp_path).fit()
    files = sorted(tmp_path.iterdir())
    with parallel_config("threading"):
        again = lenses(vectorize=alone.vectorize, cache_dir=tmp_path, n_jobs=2).fit()
    assert sorted(tmp_path.iterdir()) == files
    assert again.result_.curve == stored.result_.curve
    assert told(again) == told(stored) == told(alone)


@pytest.mark.trains
def test_a_store_of_another_search_does_not_change_the_answer(tmp_path):
    fresh = lenses(n_seeds=3).fit()
    lenses(n_seeds=2, cache_dir=tmp_path).fit()
    lenses(lr_grid=(2.0,), cache_dir=tmp_path).fit()
    assert told(lenses(n_seeds=3, cache_dir=tmp_path).fit()) == told(fresh)


@pytest.mark.trains
def test_an_interrupted_search_ends_with_the_answer_of_a_whole_one(alone, tmp_path, in_threes):
    calls = []

    def stop(done, text):
        calls.append(text)
        if len(calls) == 6:
            raise KeyboardInterrupt

    cut = lenses(vectorize=alone.vectorize, cache_dir=tmp_path, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        cut.fit()
    assert len(list(tmp_path.iterdir())) > 0
    assert len(cut.direct_runs()) + len(cut.result_.curve) < len(alone.direct_runs()) + len(alone.curve_)
    assert told(lenses(vectorize=alone.vectorize, cache_dir=tmp_path).fit()) == told(alone)
