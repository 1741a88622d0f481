"""Several starts and several sizes on one task, where the order of their dimensions is known."""

import math

import matplotlib as mpl
import numpy as np
import pytest
import torch
from torch import nn

from lodim.landscape import DimensionComparison, compare_initialisations, d90_vs_size
from lodim.landscape.finetuning.comparison import head_name
from lodim.nets import linear, mlp
from lodim.training import Recipe, Task

pytestmark = pytest.mark.trains

mpl.use("Agg")

TRUE = torch.randn(12, 3, generator=torch.Generator().manual_seed(3))


def task(n=300):
    X = torch.randn(n, 12, generator=torch.Generator().manual_seed(0))
    y = (X @ TRUE).argmax(1)
    return Task(X[:200], y[:200], X[200:], y[200:], "classification", 3)


def almost_there():
    """A linear model whose weights are the true ones, turned a little."""
    model = linear(12, 3)
    with torch.no_grad():
        model[1].weight.copy_(TRUE.T + 0.2 * torch.randn(3, 12))
    return model


OPTIONS = {
    "recipe": Recipe(epochs=6, batch_size=50), "lr": 4e-2, "lr_grid": (3.0,), "n_seeds": 2,
    "search": [1, 2, 4, 8, 16, 32],
}  # fmt: skip
BRIEF = {**OPTIONS, "recipe": Recipe(epochs=2, batch_size=50), "n_seeds": 1, "baseline": 0.5}


@pytest.fixture(scope="module")
def compared():
    starts = {"random": lambda: linear(12, 3), "near": almost_there}
    recipe = Recipe(
        epochs=15, batch_size=50
    )  # four tasks: 24 to 28 numbers from a random start, near it at most 3
    return compare_initialisations(starts, task(), **{**OPTIONS, "recipe": recipe})


def test_a_start_near_the_solution_needs_fewer_numbers(compared):
    assert compared.names == ("random", "near")
    assert compared["random"].status == "found"
    near = compared["near"]
    d90 = near.d_int90 if near.status == "found" else near.bound
    assert d90 <= compared["random"].d_int90 / 2


def test_it_prints_tabulates_draws_and_travels(compared):
    frame = compared.to_frame()
    assert list(frame.index) == ["random", "near"]
    assert frame.loc["random", "D"] == 39
    assert frame.loc["random", "low"] <= frame.loc["random", "d90"] <= frame.loc["random", "high"]
    assert "random" in str(compared)
    assert compared.plot().get_xlabel() == "trained dimensions d"
    again = DimensionComparison.from_json(compared.to_json())
    assert again["random"].curve == compared["random"].curve
    with pytest.raises(ValueError, match="'random', 'near'"):
        compared["other"]


def test_gaps_are_those_of_full_fine_tuning(compared):
    for r, gap in zip(compared.results, compared.relative_gaps):
        assert math.isfinite(gap)
        assert gap <= 1
        assert len(r.baseline_scores) == 2


def test_a_module_is_copied_and_stays_as_it_was():
    start = linear(12, 3)
    before = start[1].weight.detach().clone()
    found = compare_initialisations({"one": start}, task(), **{**BRIEF, "search": [8, 39], "said": "tensor"})
    assert torch.equal(start[1].weight, before)
    assert {r.d for r in found["one"].curve} == {8, 39}


def test_a_direct_head_is_counted():
    def make():
        return nn.Sequential(mlp([12, 5]), nn.ReLU(), nn.Linear(5, 3))

    direct = compare_initialisations({"net": make}, task(), head="direct", **{**BRIEF, "search": [19, 24]})
    assert direct.n_direct == (18,)
    assert {r.d for r in direct["net"].curve} == {19, 24}  # of which 18 are the head's
    assert compare_initialisations({"net": make}, task(), **{**BRIEF, "search": [24]}).n_direct == (0,)
    with pytest.raises(ValueError, match="no linear layer has 7 outputs"):
        head_name(make(), 7)
    assert head_name(make(), 3) == "2"


def test_sizes_are_sorted_and_correlated():
    def sized(width):
        return lambda: mlp([12, width, 3])

    models = {"wide": sized(32), "narrow": sized(4), "middle": sized(12)}
    found = d90_vs_size(models, task(), **{**BRIEF, "search": [4]})
    assert found.names == ("narrow", "middle", "wide")
    assert [r.n_parameters for r in found.results] == [67, 195, 515]
    with pytest.raises(ValueError, match="at least three sizes"):
        d90_vs_size({"a": sized(4), "b": sized(4)}, task())


def test_rank_correlations_by_hand(compared):
    def like(n, d90, status="found"):
        values = {**compared["random"].to_dict(), "n_parameters": n, "d_int90": d90, "status": status}
        return type(compared["random"]).from_dict(values)

    results = (like(100, 50.0), like(1000, 40.0), like(10_000, 45.0), like(10, math.inf, "not_reached"))
    made = DimensionComparison(("a", "b", "c", "d"), results, (0.9, 0.2, 0.5, 0.1), (0, 0, 0, 0))
    assert made.size_correlation == pytest.approx(-0.5)  # ranks 1 2 3 against 3 1 2
    assert made.gap_correlation == pytest.approx(1.0)
    assert made.ratio("a", "b") == pytest.approx(1.25)
    assert np.isnan(made.ratio("a", "d"))
    assert "rank correlation of d90 with D: -0.50" in str(made)
    assert np.isnan(compared.size_correlation)


def test_bad_input():
    with pytest.raises(ValueError, match="'subspace', 'direct'"):
        compare_initialisations({"a": linear(12, 3)}, task(), head="frozen")
    with pytest.raises(ValueError, match="at least one entry"):
        compare_initialisations({}, task())
