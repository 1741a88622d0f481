"""Phases, decays and stages against the values one reads off the definitions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lodim.landscape.nm_sparsity import RECIPES, Schedule
from lodim.landscape.nm_sparsity.schedule import geometric_stages, stepwise_stages


def schedule(recipe, n=1, m=8, total=100, **options):
    return Schedule.make(recipe, n, m, total, **options)


@pytest.mark.parametrize(
    ("n", "m", "stages"),
    [
        (1, 8, [(7, 8), (4, 8), (2, 8), (1, 8)]),
        (2, 8, [(7, 8), (4, 8), (2, 8)]),
        (1, 16, [(15, 16), (8, 16), (4, 16), (2, 16), (1, 16)]),
        (2, 4, [(3, 4), (2, 4)]),
        (3, 8, [(7, 8), (4, 8), (3, 8)]),
        (1, 2, [(1, 2)]),
        (7, 8, [(7, 8)]),
    ],
)
def test_stepwise_stages(n, m, stages):
    assert list(stepwise_stages(n, m)) == stages


@given(st.integers(1, 7))
def test_stepwise_has_log2_m_over_n_plus_one_stages(power):
    m = 2**power
    for n in (2**k for k in range(power)):
        assert len(stepwise_stages(n, m)) == math.log2(m / n) + 1 - (m == 2)


def test_geometric_stages_keep_the_density():
    assert list(geometric_stages(1, 8)) == [(8, 64), (4, 32), (2, 16), (1, 8)]
    assert {n / m for n, m in geometric_stages(3, 16)} == {3 / 16}


def test_exponential_decay():
    s = schedule("mdgf-exp", dense_frac=0.1, finetune_frac=0.2)
    assert [s.at(t).name for t in (0, 9, 10, 79, 80, 100, 1000)] == ["dense"] * 2 + ["sparse"] * 2 + [
        "final"
    ] * 3
    assert (s.at(9).beta, s.at(10).beta) == (1.0, 1.0)
    assert s.at(45).beta == pytest.approx(math.sqrt(1e-3))
    assert s.at(79).beta == pytest.approx(1e-3 ** (69 / 70))
    assert s.at(80).beta == 0
    assert schedule("mdgf-exp", decay=0.01, dense_frac=0).at(50).beta == pytest.approx(math.exp(-0.5))


def test_linear_decay():
    s = schedule("mdgf-linear", dense_frac=0.1, finetune_frac=0.1)
    assert [s.at(t).beta for t in (0, 10, 50, 70, 90)] == pytest.approx([1, 1, 0.5, 0.25, 0])
    fast = schedule("mdgf-linear", decay=0.05, dense_frac=0, finetune_frac=0)
    assert [fast.at(t).beta for t in (0, 10, 20, 99)] == pytest.approx([1, 0.5, 0, 0])


@given(st.integers(1, 200), st.floats(0, 0.4), st.floats(0, 0.4))
def test_beta_never_rises_and_ends_at_zero(total, dense, final):
    try:
        s = schedule("mdgf-exp", total=total, dense_frac=dense, finetune_frac=final)
    except ValueError:
        assert round(dense * total) + round(final * total) >= total
        return
    betas = [s.at(t).beta for t in range(total + 1)]
    assert betas == sorted(betas, reverse=True)
    assert (betas[0], betas[-1]) == (1, 0)
    assert sum(b == 0 for b in betas) == s.final_steps + 1


def test_structure_decay_has_equal_stages():
    s = schedule("sdgf-stepwise", dense_frac=0.1, finetune_frac=0.1)
    frame = s.to_frame()
    assert list(frame.columns) == ["step", "phase", "n", "m", "beta"]
    sparse = frame[frame.phase == "sparse"]
    assert sparse.groupby("n", sort=False).size().to_dict() == {7: 20, 4: 20, 2: 20, 1: 20}
    assert (sparse.beta == 0).all()


def test_custom_stages():
    s = schedule("sdgf-custom", stages=[(4, 8), (1, 8)], dense_frac=0, finetune_frac=0)
    assert [(s.at(t).n, s.at(t).m) for t in (0, 49, 50, 99)] == [(4, 8), (4, 8), (1, 8), (1, 8)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_but_dense_ends_with_the_pattern(recipe):
    options = {"stages": [(2, 8), (1, 8)]} if recipe == "sdgf-custom" else {}
    s = schedule(recipe, **options)
    end = s.at(100)
    assert (end.name, end.n, end.m, end.beta) == (
        ("dense", 1, 1, 1.0) if recipe == "dense" else ("final", 1, 8, 0.0)
    )
    assert s.at(0).name == "dense"
    assert s.at(50).name == ("dense" if recipe in ("dense", "one-shot") else "sparse")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "mdgf"}, "Did you mean 'mdgf-exp'"),
        ({"n": 8}, "n must be below m, got 8:8"),
        ({"n": 9}, "n must be below m, got 9:8"),
        ({"dense_frac": 0.6, "finetune_frac": 0.5}, "leave none of the 100 steps"),
        ({"dense_frac": 1.5}, "dense_frac must be at least 0"),
        ({"recipe": "ste", "decay": 0.1}, "the recipe 'ste' has none"),
        ({"decay": 0.0}, "decay must be positive"),
        ({"stages": [(1, 8)]}, "stages belong to the recipe 'sdgf-custom'"),
        ({"recipe": "sdgf-custom"}, "stages belong to the recipe 'sdgf-custom'"),
        ({"recipe": "sdgf-custom", "stages": [(4, 8)]}, "must be the pattern itself, 1:8"),
    ],
)
def test_bad_schedules_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        schedule(**({"recipe": "mdgf-exp"} | options))
