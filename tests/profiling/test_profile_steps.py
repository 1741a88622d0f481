"""Tables of categories, ratings, counts and rounded numbers: distances show the steps, and the report says so."""

import numpy as np
import pandas as pd
import pytest

import lodim
from lodim.datasets import read_table
from lodim.profiling.report import key_figures, shares
from lodim.profiling.steps import correspondence_inertia, rounding_noise, step_of, table_columns

RNG = np.random.default_rng


def profile_of(frame, target=None):
    return lodim.profile(read_table(frame, target=target), model="none", budget=600)


def categories(columns, n, levels="abcd", seed=0):
    rng = RNG(seed)
    return pd.DataFrame({c: rng.choice(list(levels), n) for c in columns})


def test_six_categorical_columns_have_six_columns():
    p = profile_of(categories("uvwxyz", 400))
    assert (p.n_features, p.n_columns) == (24, 6)
    assert p.data.dimension is None
    assert p.data.interval == (None, 6.0)
    steps = p.data.steps
    assert (steps.n_columns, steps.n_categories, steps.most, steps.rank) == (6, 6, 6, 18)
    assert 15 <= steps.components95 <= 18  # 18 of nearly the same inertia
    assert steps.n_distinct + p.data.n_duplicates == 400
    assert "6 columns (24 encoded). No dimension can be read from neighbours" in p.verdict
    assert "at most 6, one a column" in p.verdict
    figures = {f.label: f.value for f in key_figures(p)}
    assert (figures["columns"], figures["dimensions of the data"]) == ("6", "≤ 6")
    assert shares(p) == []
    assert (p.data.estimators, p.data.density, p.data.pointwise) == ({}, None, None)


def test_columns_that_say_the_same_add_nothing():
    """Six columns that rename two factors: as many rows differ as pairs of levels, and the rank is that of two."""
    two = categories("uv", 300)
    frame = pd.DataFrame({f"{c}{i}": two[c].map(lambda t, i=i: f"{t}{i}") for c in "uv" for i in range(3)})
    steps = profile_of(frame).data.steps
    assert (steps.n_distinct, steps.rank, steps.components95) == (16, 6, 6)
    assert profile_of(two).data.steps.rank == 6


def test_inertia_is_that_of_the_levels():
    frame = categories("uvw", 200)
    frame["b"] = frame["u"].isin(["a", "b"]).map({True: "yes", False: "no"})
    data = read_table(frame)
    varying = np.ones(data.X.shape[1], dtype=bool)
    columns = table_columns(data.X, varying, data.origins, data.column_kinds)
    inertia = correspondence_inertia(data.X, columns, varying)
    assert inertia.sum() == pytest.approx((4 + 4 + 4 + 2) / 4 - 1)
    assert (inertia > 1e-12).sum() == 3 * 3  # what b says, u says
    same = read_table(frame[["u"]].assign(again=frame["u"]))
    pair = table_columns(same.X, np.ones(8, dtype=bool), same.origins, same.column_kinds)
    np.testing.assert_allclose(
        correspondence_inertia(same.X, pair, np.ones(8, dtype=bool))[:4], [1, 1, 1, 0], atol=1e-12
    )


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([1, 2, 2, 5], 1),
        ([0.1, 0.4, 0.4, 0.2], 0.1),
        ([0.1, 0.7, 0.4], 0),  # no value twice
        ([1.0, 1.0], 0),
        (np.repeat([0.0, 1.0, 3.7], 5), 1.85),  # levels without a common step: the mean gap
        (np.r_[RNG(0).normal(size=50), 0.0, 0.0], 0),  # one repeated value is no lattice
    ],
)
def test_steps_of_a_column(values, step):
    assert step_of(np.asarray(values, dtype=float)) == pytest.approx(step)


def test_rounding_has_the_noise_of_the_uniform_law():
    """A difference of two rounded numbers is off by the difference of two uniform errors: variance h^2 / 6 a column."""
    X = RNG(0).normal(size=(4000, 5))
    R = np.round(X, 1)
    off = np.diff(R - X, axis=0)
    assert rounding_noise(R, np.arange(5)) == pytest.approx(np.sqrt((off**2).sum(1).mean()), rel=0.02)
    assert rounding_noise(X, np.arange(5)) == 0


def whole(columns, low, high, n=400):
    return pd.DataFrame(RNG(0).integers(low, high, (n, columns)), columns=list("abcdefgh")[:columns])


IN_STEPS = {
    "ratings": (whole(8, 1, 6), 8),
    "counts": (pd.DataFrame(RNG(0).poisson(4, (400, 6)), columns=list("abcdef")), 6),
    "coarse ages": (pd.DataFrame(RNG(0).normal(4, 1.2, (400, 2)).round(), columns=["age", "size"]), 2),
    "booleans": (pd.DataFrame(RNG(0).integers(0, 2, (400, 9)) == 1, columns=list("abcdefghi")), 9),
    "many categories, one number": (
        categories("uvwxyz", 400).assign(number=RNG(1).normal(size=400)),
        7,
    ),
}


@pytest.mark.parametrize("name", IN_STEPS)
def test_values_in_steps_have_no_dimension(name):
    frame, columns = IN_STEPS[name]
    p = profile_of(frame)
    assert p.data.dimension is None
    assert p.data.tied
    assert p.data.steps.n_columns == columns
    assert p.data.steps.most == columns
    assert f"{columns} columns" in p.verdict
    assert "No dimension can be read" in p.verdict


@pytest.mark.parametrize("columns", [4, 8])
def test_fine_rounding_leaves_the_dimension(columns):
    """Independent columns, rounded to a fiftieth of their deviation: as many dimensions as columns."""
    X = RNG(0).normal(size=(400, columns))
    p = profile_of(pd.DataFrame(np.round(X, 2)))
    assert p.data.steps is None
    assert p.data.interval[0] <= columns
    assert 0.75 * columns < p.data.dimension <= columns


def test_numbers_beside_a_category_are_measured_and_doubted():
    rng = RNG(0)
    frame = pd.DataFrame(rng.normal(size=(400, 3)), columns=list("abc")).assign(
        k=rng.choice(list("pqrstuvw"), 400)
    )
    p = profile_of(frame)
    assert p.data.steps is None
    assert 2.5 < p.data.dimension <= 4
    assert p.data.unfamiliar
    assert "4 columns (11 encoded)" in p.verdict
    assert "unlike the shapes" in p.verdict
    assert any("Categories stand as 0/1 columns" in note for note in p.notes)
    labelled = profile_of(frame.assign(t=rng.choice(["n", "y"], 400)), target="t").data
    for e in (*labelled.estimators.values(), *labelled.per_class.values()):
        assert e.interval is None or e.calibrated is None or e.interval[1] <= 4
    assert {e.interval[1] <= 4 for e in labelled.per_class.values()} == {True}


def test_few_different_rows_have_no_dimension():
    X = np.repeat(RNG(0).normal(size=(7, 5)), 10, axis=0)
    p = lodim.profile(X, budget=600)
    assert (p.data.steps.n_distinct, p.data.steps.most) == (7, 5)
    assert "there are only 7 different rows" in p.verdict
    fewer = lodim.profile(X[:30], budget=600)
    assert fewer.data.steps.most == 2
    assert "at most 2, one less than there are different rows" in fewer.verdict


def test_a_table_in_steps_travels_and_shows(schema_problems):
    frame = categories("uvw", 300)
    frame["t"] = np.where(RNG(2).random(300) < 0.3, "yes", "no")
    p = profile_of(frame, target="t")
    assert schema_problems(p.to_json()) == []
    assert lodim.Profile.from_json(p.to_json()) == p
    assert p.to_html().count("<svg") == 1  # the variance kept by PCA
    (advice,) = [a for a in p.advice if a.rule == "label_conflicts"]
    same = frame.groupby(["u", "v", "w"])["t"].value_counts().groupby(level=[0, 1, 2]).max().sum()
    assert p.data.best_score == pytest.approx(same / 300)
    assert "do not settle the label" in advice.text
    assert "duplicates" not in {a.rule for a in p.advice}


def test_categories_written_out_are_no_bend():
    """Corners of a simplex are of many pieces, but no answer beside a table of three columns has twelve dimensions."""
    rng = RNG(0)
    frame = pd.DataFrame(
        {"u": rng.random(800), "v": rng.random(800), "c": rng.choice(list("abcdefghijkl"), 800)}
    )
    p = profile_of(frame)
    assert p.data.dimension is not None
    assert p.data.pca95 > p.data.interval[1]
    assert p.data.independent is None
