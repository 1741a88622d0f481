"""Comparing ways of spending few bytes: plans fit, sizes are what is stored, nothing is lost."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from lodim.landscape import WAYS, Comparison, DoesNotFitError, Origin, Way, compare
from lodim.landscape.codec import message_length_bits
from lodim.landscape.comparison.bench import SEED_BYTES, Stored, store_halves
from lodim.landscape.comparison.result import mean_and_interval
from lodim.landscape.comparison.run import _beyond
from lodim.nets import mlp
from lodim.training import Recipe


def blobs(n=240, seed=0):
    """Three well separated groups in eight dimensions."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    X = rng.normal(size=(n, 8)) + 4 * np.eye(3, 8)[y]
    half = n // 2
    return X[:half], y[:half], X[half:], y[half:]


# not a function of this file: worker processes cannot import test files
make_model = partial(mlp, [8, 16, 16, 3])


QUICK = {"recipe": Recipe(epochs=3, batch_size=32), "lr": 1e-2, "n_seeds": 2, "random_state": 1}


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if way.available()])
def test_every_plan_fits_its_budget_and_is_stored_within_it(name):
    found = compare(
        make_model, blobs(), methods=[name], budget_bytes=[200, 500, 1500], lr_grid=[3.0], **QUICK
    )
    assert found.failed == {}
    assert found.spendings
    for spending in found.spendings:
        assert 0 < spending.n_bytes <= spending.budget
        assert 0 <= spending.score <= 1
    sizes = [s.n_bytes for s in found.spendings if s.seed == 0]
    assert sizes == sorted(sizes)


def test_more_bytes_help():
    found = compare(make_model, blobs(), methods=["subspace"], budget_bytes=[12, 900], **QUICK)
    frame = found.to_frame()
    assert frame["score"].iloc[1] > frame["score"].iloc[0]
    assert frame["score"].iloc[1] > 0.9
    assert np.mean(found.dense) > 0.9
    assert found.dense_bytes == 4 * sum(p.numel() for p in make_model().parameters())


def test_a_grid_of_too_small_rates_is_extended_at_its_end():
    args = {"methods": ["subspace"], "budget_bytes": [300], **QUICK, "lr": 1e-4}
    found = compare(make_model, blobs(), **args, lr_grid=[1.0, 3.0])
    assert found.spendings[0].lr > 4e-4
    fixed = compare(make_model, blobs(), **args, lr_grid=[3.0])
    assert fixed.spendings[0].lr == pytest.approx(3e-4)
    assert found.spendings[0].score > fixed.spendings[0].score


@pytest.mark.parametrize(
    ("scores", "beyond"),
    [
        ({1.0: 0.2, 3.0: 0.4, 9.0: 0.6}, (27.0,)),
        ({1.0: 0.9, 3.0: 0.4, 9.0: 0.6}, (1 / 3,)),
        ({1.0: 0.2, 3.0: 0.7, 9.0: 0.6}, ()),
        ({1.0: 0.5, 3.0: 0.5, 9.0: 0.5}, (27.0,)),
        ({1.0: 0.5, 3.0: 0.5, 9.0: 0.4}, ()),
        ({1.0: 0.5, 3.0: 0.6, 9.0: -math.inf}, ()),
        ({1.0: -math.inf, 3.0: -math.inf}, ()),
    ],
)
def test_what_is_tried_past_the_ends_of_a_grid(scores, beyond):
    assert _beyond(scores) == pytest.approx(beyond)


def test_halves_are_what_is_scored_and_counted():
    net = nn.Linear(3, 2)
    net.bias.requires_grad_(False)
    weight = net.weight.detach().clone()
    stored = store_halves(net, "x")
    assert torch.equal(stored.module.weight, weight.half().float())
    assert not torch.equal(stored.module.weight, weight)
    assert (stored.n_numbers, stored.n_bytes) == (6, SEED_BYTES + 12)
    net.weight.data[0, 0] = 1e6
    with pytest.raises(ValueError, match="half precision"):
        store_halves(net, "x")


def test_changed_running_statistics_are_counted():
    net, origin = nn.BatchNorm1d(5), nn.BatchNorm1d(5)
    assert store_halves(net, "x", origin=origin).n_bytes == SEED_BYTES + 2 * 10
    net(torch.randn(20, 5))
    assert store_halves(net, "x", origin=origin).n_bytes == SEED_BYTES + 2 * 10 + 4 * 10


@pytest.mark.parametrize("budget", [60, 100, 333, 1000])
def test_a_coded_plan_fits_for_the_worst_codes_and_hardly_less(budget):
    origin = Origin(make_model)
    d = WAYS["subspace, coded"].plan(origin, budget) if budget >= 100 else None
    if d is None:
        with pytest.raises(DoesNotFitError) as error:
            WAYS["subspace, coded"].plan(origin, budget)
        assert WAYS["subspace, coded"].plan(origin, error.value.least) == 16
        return
    size = SEED_BYTES + message_length_bits(np.arange(d) % 16, 16) / 8
    D = sum(p.numel() for p in make_model().parameters())
    assert size <= budget
    assert d == D or size > 0.9 * budget - 4


def test_a_model_given_is_the_origin_and_stays_as_it_was():
    net = make_model()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    compare(net, blobs(), methods=["subspace"], budget_bytes=[100], lr_grid=[1.0], **QUICK)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_same_seed_gives_the_same_comparison_in_one_process_or_two(n_jobs):
    args = {"methods": ["subspace"], "budget_bytes": [100, 300], "lr_grid": [1.0, 3.0], **QUICK}
    scores = [[s.score for s in compare(make_model, blobs(), **args, n_jobs=n).spendings] for n in (1, 1, 2)]
    assert scores[0] == scores[1] == scores[2]


def test_runs_are_kept_and_not_made_again(tmp_path):
    calls = []

    def spend(bench, setting):
        calls.append(setting)
        return WAYS["subspace"].spend(bench, setting)

    ways = {"mine": Way(WAYS["subspace"].plan, spend, "none")}
    args = {"methods": ways, "budget_bytes": [100], "lr_grid": [1.0], "cache_dir": tmp_path, **QUICK}
    first = compare(make_model, blobs(), **args)
    n_calls = len(calls)
    second = compare(make_model, blobs(), **args)
    assert (n_calls, len(calls)) == (2, 2)
    assert [s.score for s in first.spendings] == [s.score for s in second.spendings]


def test_a_way_that_breaks_is_said_and_the_others_are_kept():
    def spend(bench, setting):
        raise ArithmeticError("no such luck")

    ways = {"broken": Way(lambda origin, budget: budget, spend, "none"), "subspace": WAYS["subspace"]}
    found = compare(make_model, blobs(), methods=ways, budget_bytes=[100], **QUICK)
    assert found.ways == ("subspace",)
    assert "no such luck" in found.failed["broken"]
    assert "broken is missing" in str(found)


def test_a_way_that_takes_more_than_planned_fails():
    def spend(bench, setting):
        return Stored(bench.origin.make(), setting + 1, 1, "greedy")

    found = compare(
        make_model,
        blobs(),
        methods={"greedy": Way(lambda o, b: b, spend, "none"), "subspace": WAYS["subspace"]},
        budget_bytes=[100],
        lr_grid=[1.0],
        **QUICK,
    )
    assert "takes 101" in found.failed["greedy"]


def test_intervals_over_seeds():
    mean, low, high = mean_and_interval([1.0, 2.0, 3.0], 0.95)
    assert mean == 2
    assert high - mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert low + high == pytest.approx(4)
    assert math.isnan(mean_and_interval([1.0], 0.95)[1])


def test_tables_pictures_and_json(tmp_path):
    found = compare(
        make_model, blobs(), methods=["subspace", "subspace, coded"], budget_bytes=[30, 300], **QUICK
    )
    assert found.too_small["subspace, coded"] > 30
    assert "needs at least" in str(found)
    assert set(found.to_frame().columns) >= {"way", "bytes", "score", "low", "high"}
    again = Comparison.from_json(found.to_json())
    assert again.to_frame().equals(found.to_frame())
    assert found.plot().get_xscale() == "log"
    assert found.best(300).n_bytes <= 300
    with pytest.raises(ValueError, match="nothing fits 1 bytes"):
        found.best(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["sub-space"]}, "methods must be one of"),
        ({"budget_bytes": []}, "at least one budget"),
        ({"budget_bytes": [0]}, "budget_bytes must be at least 1"),
        ({"budget_bytes": [9], "methods": ["subspace"]}, "no method fits any budget"),
        ({"lr_grid": []}, "positive multipliers"),
        ({"n_seeds": 0}, "n_seeds must be at least 1"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        compare(make_model, blobs(), **{**QUICK, **options})
