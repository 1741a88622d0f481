"""Groups are parts between valleys of the density deeper than chance makes them; ungrouped rows have none."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform
from scipy.stats import binom
from sklearn.datasets import load_iris, make_circles, make_moons
from sklearn.metrics import adjusted_rand_score

from lodim.datasets import Dataset
from lodim.dimension import IntrinsicDimension
from lodim.partition import Groups, groups
from lodim.partition.density_tree import Neighborhoods, best_tree, grow_tree
from lodim.partition.make_valley_null import deepest
from lodim.partition.valley_null import FEWEST, chance, deep_enough, least_rows, scales


def gaussians(n, d, sep, k=2, seed=0):
    """Rows of k unit balls whose centres are ``sep`` apart, and which is whose."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    centres = np.zeros((k, max(d, 2)))
    centres[1:, :2] = sep * np.array([[1, 0], [0.5, 0.75**0.5]])[: k - 1]
    return rng.normal(size=(n, d)) + centres[y, :d], y


def found_in(X, level=0.05):
    """How many groups the whole sample shows, without resamples."""
    n = len(X)
    lists = Neighborhoods.of(np.ascontiguousarray(X, dtype=float), 2 * max(scales(n)))
    return len(best_tree(lists, scales(n), level)[1].saddle)


# ---------------------------------------------------------------------------------------------------- the tree


def complete(X, k):
    """Lists and edges with which the tree is the single linkage of mutual reachability."""
    lists = Neighborhoods.of(X, len(X) - 1)
    return lists, lists.edges(len(X) - 1)


def test_with_all_edges_parts_are_those_of_mutual_reachability():
    X, _ = gaussians(80, 2, 6.0)
    k, least = 6, 6
    lists, edges = complete(X, k)
    deep = 1.0
    tree = grow_tree(lists, edges, k, least, deep)
    core = np.sort(squareform(pdist(X)), 1)[:, k]
    reach = np.maximum(squareform(pdist(X)), np.maximum(core[:, None], core))
    np.fill_diagonal(reach, 0)
    single = linkage(squareform(reach), "single")
    assert len(tree.saddle) == 2
    just_below = math.exp(tree.saddle[0]) * (1 - 1e-9)
    cut = fcluster(single, just_below, "distance")
    dense = core < just_below
    assert adjusted_rand_score(cut[dense], tree.labels[dense]) == 1
    assert len(np.unique(cut[dense])) == 2
    assert any(np.isclose(single[:, 2], math.exp(tree.saddle[0])))


def test_a_valley_grows_with_the_dimension_times_the_logarithm_of_the_gap():
    ball = np.random.default_rng(0).normal(size=(60, 3))

    def depths(gap):
        lists = Neighborhoods.of(np.vstack([ball, ball + [gap, 0, 0]]), 24)
        return grow_tree(lists, lists.edges(), 6, 6, 1.0)

    near, far = depths(1e3), depths(2e3)
    assert math.exp(far.saddle[0]) == pytest.approx(2e3, rel=0.01)
    d = near.part_dims.min()
    assert far.depths[0] - near.depths[0] == pytest.approx(d * (far.saddle[0] - near.saddle[0]), rel=1e-9)


def test_the_dimension_is_that_of_the_spine():
    X = np.random.default_rng(0).uniform(size=(500, 2))
    lists = Neighborhoods.of(X, 24)
    tree = grow_tree(lists, lists.edges(), 12, 12, math.inf)
    spine = IntrinsicDimension("mada", k=24, aggregate="inverse_mean").fit(X)
    assert tree.dimension == pytest.approx(spine.dimension_, rel=1e-6)


def test_lists_of_some_rows_are_those_of_a_search_among_them():
    X, _ = gaussians(200, 2, 40.0)
    lists, kept = Neighborhoods.of(X, 60), np.random.default_rng(1).uniform(size=200) < 0.8
    some, searched = lists.take(kept, 24), Neighborhoods.of(X[kept], 24)
    assert np.array_equal(some.dist, searched.dist)
    assert np.array_equal(some.idx, searched.idx)
    assert lists.take(kept, 60).dist.shape == (kept.sum(), 60)  # too short to take from: searched


def test_pieces_far_apart_are_joined_by_their_nearest_rows():
    X = np.vstack([np.random.default_rng(i).normal(size=(50, 2)) + 100 * i for i in range(3)])
    lists = Neighborhoods.of(X, 12)
    tail, head, length = lists.edges()
    across = tail // 50 != head // 50
    assert across.sum() == 2
    between = squareform(pdist(X))
    for i, j in ((0, 1), (1, 2)):
        nearest = between[50 * i : 50 * i + 50, 50 * j : 50 * j + 50].min()
        assert np.isclose(nearest, length[across]).any()


# ---------------------------------------------------------------------------------------------------- the null


@pytest.mark.parametrize(("n", "k"), [(60, 6), (300, 12), (5000, 48)])
def test_a_valley_as_deep_as_asked_for_is_as_rare(n, k):
    for level in (1e-9, 1e-6):  # where chance and not size decides
        assert chance(deep_enough(n, k, 3, level), n, k, 3) == pytest.approx(level, rel=1e-6)
    assert deep_enough(n, k, 3, 0.5) >= -math.log(0.65)
    assert chance(0.0, n, k, 1) == pytest.approx(1.0, abs=0.01)


def test_a_line_shows_valleys_as_the_law_says():
    n, ks = 100, scales(100)
    depths = np.array([deepest(n, ks, 10_000 + seed) for seed in range(30)])
    for k, column in zip(ks, depths.T / np.sqrt(ks)[:, None]):
        p = np.array([chance(depth, n, k, 1) for depth in column])
        assert 1 <= (p < 0.5).sum() <= binom.isf(1e-3, 30, 0.5)
        assert (p < 0.05).sum() <= binom.isf(1e-3, 30, 0.05)


def ball(n, d, rng):
    return sphere(n, d - 1, rng) * rng.uniform(size=(n, 1)) ** (1 / d)


def sphere(n, d, rng):
    x = rng.normal(size=(n, d + 1))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def rolled(n, d, rng):
    angle = 1.5 * math.pi * (1 + 2 * rng.uniform(size=n))
    return np.c_[angle * np.cos(angle), 21 * rng.uniform(size=n), angle * np.sin(angle)]


def bowl(n, d, rng):
    x = rng.uniform(-1, 1, size=(n, d))
    return np.c_[x, (x**2).sum(1)]


def bend(n, d, rng):
    t = 1.5 * math.pi * rng.uniform(-1, 1, size=n)
    return np.c_[np.sin(t), 2 * rng.uniform(size=(n, d - 1)), np.sign(t) * (np.cos(t) - 1)]


UNGROUPED = {
    "normal": lambda n, d, rng: rng.normal(size=(n, d)),
    "cube": lambda n, d, rng: rng.uniform(size=(n, d)),
    "rectangle": lambda n, d, rng: rng.uniform(size=(n, d)) * np.r_[20.0, np.ones(d - 1)],
    "exponential": lambda n, d, rng: rng.exponential(size=(n, d)),
    "log-normal": lambda n, d, rng: np.exp(rng.normal(size=(n, d))),
    "t, 3 degrees": lambda n, d, rng: rng.normal(size=(n, d)) / np.sqrt(rng.chisquare(3, size=(n, 1)) / 3),
    "ball": ball,
    "sphere": sphere,
    "S": bend,
    "bowl": bowl,
    "rolled sheet": rolled,
}


def in_more_columns(X, rng):
    """The rows turned into three more columns, with little noise."""
    turn = np.linalg.qr(rng.normal(size=(X.shape[1] + 3, X.shape[1])))[0]
    return X @ turn.T + 0.02 * X.std() * rng.normal(size=(len(X), X.shape[1] + 3))


def share_with_groups(name, cases, runs):
    """How often a family shows groups, over sizes and dimensions."""
    shown = []
    for n, d in cases:
        for seed in range(runs):
            rng = np.random.default_rng([seed, n, d])
            X = UNGROUPED[name](n, d, rng)
            shown.append(found_in(in_more_columns(X, rng) if seed % 2 else X) > 1)
    return float(np.mean(shown)), len(shown)


@pytest.mark.parametrize("name", UNGROUPED)
def test_ungrouped_rows_show_no_groups(name):
    share, runs = share_with_groups(name, ((60, 2), (200, 4)), 5)
    assert share <= binom.isf(1e-3, runs, 0.05) / runs


@pytest.mark.slow
@pytest.mark.parametrize("name", UNGROUPED)
def test_ungrouped_rows_show_groups_in_at_most_a_twentieth_of_cases(name):
    cases = [(50, 2), (50, 5), (200, 2), (200, 10), (600, 3), (600, 30)]
    share, runs = share_with_groups(name, cases, 25)
    assert share <= binom.isf(1e-3, runs, 0.05) / runs


@pytest.mark.parametrize("d", [2, 10])
def test_groups_far_enough_apart_are_found(d):
    for k in (2, 3):
        X, y = gaussians(600, d, 8.0, k)
        found = groups(X, n_resamples=4)
        assert found.n_groups == k
        assert adjusted_rand_score(y[found.labels >= 0], found.labels[found.labels >= 0]) > 0.98


def test_shapes_that_are_not_convex():
    for make, options in ((make_moons, {"noise": 0.06}), (make_circles, {"noise": 0.04, "factor": 0.4})):
        X, y = make(600, random_state=0, **options)
        found = groups(X, n_resamples=4)
        assert found.n_groups == 2
        assert adjusted_rand_score(y, found.labels) > 0.98


def test_rows_that_surely_belong_do():
    X, y = gaussians(600, 2, 4.5)
    found = groups(X, y, n_resamples=10)
    sure = found.separable
    wrong = min((found.labels[sure] != y[sure]).mean(), (found.labels[sure] == y[sure]).mean())
    assert 0.5 < sure.mean() < 1
    assert wrong < 0.01 < min((found.labels != y).mean(), (found.labels == y).mean())
    assert found.n_clear == 2
    assert "Two groups that repeat on 100 % of resamples" in str(found)


# ---------------------------------------------------------------------------------------------------- the answer


@pytest.fixture(scope="module")
def blobs():
    X, y = gaussians(300, 3, 9.0, 3)
    return X, y, groups(X, y, n_resamples=4)


def test_the_verdict_counts_the_groups_that_come_again(blobs):
    found = blobs[2]
    for clear, said in (
        (0, "none of which come again"),
        (1, "one of which comes again"),
        (2, "two of which come again"),
    ):
        parts = [replace(g, repeated=0.95 if i < clear else 0.4) for i, g in enumerate(found.groups)]
        assert (
            f"Three groups in this sample, {said} in nine of ten"
            in replace(found, groups=tuple(parts)).verdict
        )


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_units_and_order_do_not_matter(blobs, unit):
    X, _, found = blobs
    again = groups(X * unit, n_resamples=2)
    assert adjusted_rand_score(found.labels, again.labels) == 1
    order = np.random.default_rng(0).permutation(len(X))
    turned = X[order] @ np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0] + 5.0
    assert adjusted_rand_score(found.labels[order], groups(turned, n_resamples=2).labels) > 0.99


def test_the_same_seed_gives_the_same_answer_and_copies_count_in_sizes_only(blobs):
    X, y, found = blobs
    assert groups(X, y, n_resamples=4) == found
    copied = groups(np.vstack([X, X[y == 2], X[y == 2]]), n_resamples=4)
    assert copied.n_groups == 3
    assert copied.groups[0].size > 2.8 * copied.groups[1].size
    assert np.array_equal(copied.labels[300:400], copied.labels[:300][y == 2])
    assert copied.n_used == 300


def test_a_sample_is_measured_and_the_others_follow(blobs):
    X, y, _ = blobs
    found = groups(X, max_rows=150, n_resamples=3, random_state=1)
    assert found.n_used == 150
    assert "150 of 300 different rows" in str(found)
    assert adjusted_rand_score(y, found.labels) > 0.98


def test_classes_are_compared_and_a_group_without_labels_is_new(blobs):
    X, y, found = blobs
    assert found.ari_classes > 0.98
    assert found.new_groups == ()
    partial = np.where(y == 1, -1, y)
    partial[:150:2] = -1
    told = groups(X, partial, n_resamples=3)
    assert len(told.new_groups) == 1
    assert adjusted_rand_score(told.labels == told.new_groups[0], y == 1) > 0.95
    assert told.groups[told.new_groups[0]].n_known == 0
    names = np.array(["a", "b", "c"])[y]
    assert groups(X, np.where(partial < 0, None, names), n_resamples=3).new_groups == told.new_groups
    few = np.full(len(y), -1)
    few[:6] = y[:6]  # six labels cannot show that a group has none
    assert groups(X, few, n_resamples=2).new_groups == ()


def test_groups_of_a_category_are_named():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=400), "b": rng.normal(size=400)})
    frame["sex"] = np.where(rng.uniform(size=400) < 0.5, "f", "m")
    frame["b"] += 3 * (frame["sex"] == "f")
    found = groups(frame, n_resamples=3)
    assert (found.n_groups, found.told_by, found.told_by_values) == (2, "sex", True)
    assert "nothing to discover" in str(found)
    assert any("standardised" in note for note in found.notes)


def test_tables_and_data_sets_bring_their_names_and_classes():
    table = load_iris(as_frame=True)
    found = groups(table.data, n_resamples=3)
    assert (found.n_groups, found.told_by[:5], found.told_by_values) == (2, "petal", False)
    data = Dataset(
        table.data.to_numpy(), table.target.to_numpy(), kind="classification", classes=["a", "b", "c"]
    )
    assert groups(data, n_resamples=3).accuracy == pytest.approx(2 / 3, abs=0.02)


def test_a_dimension_that_is_given_is_used(blobs):
    X, _, found = blobs
    double = groups(X, dimension=2 * found.dimension, n_resamples=2)
    assert double.dimension == pytest.approx(2 * found.dimension)
    assert double.groups[0].dimension == double.dimension


def test_other_methods_are_asked(blobs):
    X, _, _ = blobs
    found = groups(X, n_resamples=2, compare=True)
    assert [peer.n_clusters for peer in found.beside][:2] == [3, 3]
    assert str(found).count("Beside: ") == 3


def test_steps_few_rows_and_equal_rows_show_nothing():
    lattice = np.stack(np.meshgrid(*[np.arange(7.0)] * 3), -1).reshape(-1, 3)
    assert groups(lattice, n_resamples=2).n_groups == 1
    corners = np.random.default_rng(0).integers(0, 2, size=(300, 8)).astype(float)
    assert groups(corners, n_resamples=2).n_groups == 1
    (only,) = groups(lattice, n_resamples=2).groups
    assert (only.remaining, only.chance) == (1, 1)  # nothing parts it from anything
    with pytest.warns(UserWarning, match="12 different rows are too few"):
        few = groups(np.eye(12), [0, 1] * 6)
    assert "too few different rows" in few.verdict
    assert (few.n_groups, few.n_resamples) == (1, 0)
    assert f"{FEWEST} are needed" in str(few)
    with pytest.warns(UserWarning, match="1 different rows"):
        equal = groups(np.ones((100, 2)))
    assert equal.labels.tolist() == [0] * 100
    assert Groups.from_json(equal.to_json()) == equal


def test_a_constant_column_and_single_precision_change_nothing(blobs):
    X, _, found = blobs
    wide = np.column_stack([X, np.ones(len(X))]).astype(np.float32)
    wide.setflags(write=False)
    assert adjusted_rand_score(groups(wide, n_resamples=2).labels, found.labels) > 0.99


def test_no_two_groups_of_a_picture_look_alike():
    X = np.random.default_rng(0).normal(size=(9, 60, 2)) + 30 * np.arange(9)[:, None, None]
    found = groups(X.reshape(-1, 2), n_resamples=2)
    ax = found.plot()
    drawn = {tuple(dots.get_facecolor()[0][:3]) + (len(dots.get_paths()[0].vertices),)
             for dots in ax.collections if len(dots.get_offsets())}  # fmt: skip
    assert len(drawn) == found.n_groups == 9
    assert len(ax.get_legend().get_texts()) == 9


def test_the_least_group_and_the_scales():
    assert scales(FEWEST) == (6,)
    assert scales(5000) == (12, 24, 48, 96)
    assert all(
        2 * max(scales(n)) <= n // 4 and least_rows(n, max(scales(n))) <= n // 8 for n in range(48, 3000)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimension": "many"}, "dimension must be 'auto' or a positive number"),
        ({"dimension": 0}, "dimension"),
        ({"level": 0.0}, "level"),
        ({"n_resamples": 1}, "n_resamples"),
        ({"max_rows": 10}, "max_rows"),
        ({"y": [1, 2]}, "y"),
    ],
)
def test_bad_input_is_refused(blobs, options, message):
    with pytest.raises(ValueError, match=message):
        groups(blobs[0], **options)
