"""The sparsity claim: its checks follow from the scores, and both scales' recipes take their first steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lodim.claims.landscape import nm_sparsity
from lodim.claims.result import verdict_of
from lodim.nets import mlp, vit
from lodim.training import Task


def scores(**changes):
    """Five seeds' scores under which the laptop's claim holds."""
    noise = np.array([0.0, 0.001, -0.001, 0.002, -0.002])
    levels = {"dense": 0.86, "one-shot": 0.5} | changes
    found = {name: (levels.get(name, 0.83) + noise).tolist() for name in nm_sparsity.RECIPES}
    found["mdgf-exp"] = (np.array(found["mdgf-exp"]) + [0.001, -0.001, 0.0005, 0.0, 0.001]).tolist()
    return found


def verdict(found, exact=True, full=False):
    return verdict_of(nm_sparsity._checks(found, [exact] * 40, full))


def test_the_verdict_follows_the_scores():
    assert verdict(scores()) == "holds"
    assert verdict(scores(), exact=False) == "fails"
    assert verdict(scores(ste=0.54)) == "fails"  # not five points over cutting once
    assert verdict(scores(**{"mdgf-exp": 0.82})) == "fails"  # a point under SR-STE
    assert verdict(scores(), full=True) == "fails"  # where a gain is asked for
    assert verdict(scores(**{"mdgf-exp": 0.836, "sdgf-stepwise": 0.84}), full=True) == "holds"


def test_differences_are_paired():
    mean, low, high = nm_sparsity.difference([0.3, 0.5, 0.7], [0.2, 0.41, 0.59])
    assert mean == pytest.approx(0.1)
    assert low < 0.1 < high
    assert high - 0.1 == pytest.approx(4.302653 * 0.01 / 3**0.5)


def blobs(shape):
    draws = torch.Generator().manual_seed(0)
    X, y = torch.randn(60, *shape, generator=draws), torch.arange(60) % 10
    return Task.from_arrays(X[:40], y[:40], X[40:], y[40:])


@pytest.mark.trains
@pytest.mark.parametrize("name", nm_sparsity.RECIPES)
def test_the_laptops_recipes_take_their_first_steps(name):
    small = replace(nm_sparsity.LAPTOP, make_model=lambda: mlp([32, 16, 16, 10]))
    small = replace(small, recipe=replace(small.recipe, epochs=5, batch_size=8))
    score, exact = nm_sparsity.train(small, blobs((32,)), name, 0)
    assert 0 <= score <= 1
    assert exact == (name != "dense")


@pytest.mark.trains
@pytest.mark.parametrize("name", ["sr-ste", "mdgf-exp", "sdgf-geometric"])
def test_the_full_scales_recipe_takes_its_first_steps(name):
    setting = nm_sparsity.FULL
    assert [type(m).__name__ for m in setting.make_model().children()] == [
        "Linear",
        "TransformerEncoder",
        "Linear",
    ]
    small = replace(
        setting,
        make_model=lambda: vit((1, 28, 28), 10, patch=7, width=32, depth=1, heads=2),
        recipe=replace(setting.recipe, epochs=10, batch_size=20),
    )
    score, exact = nm_sparsity.train(small, blobs((1, 28, 28)), name, 0)
    assert 0 <= score <= 1
    assert exact
