"""Sampling: unbiased, of the size asked for, repeated as planned, in a stream, judged by its distortion."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from lodim.geometry import (
    LpSampler,
    embedding_distortion,
    leverage_scores,
    lp_sensitivities,
    sample_size,
    sensitivity_growth,
)
from lodim.geometry.sensitivity_sampling.rules import RULES, schedule
from lodim.geometry.sensitivity_sampling.sensitivities import keep_probabilities


def heavy(n=500, d=4, seed=0):
    return np.random.default_rng(seed).standard_t(2, (n, d))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1e9)), min_size=2, max_size=40),
    st.floats(0.5, 1.0),
    st.data(),
)
def test_probabilities_are_proportional_up_to_one_and_sum_to_what_is_wanted(scores, fraction, data):
    s = torch.tensor(scores, dtype=torch.float64)
    live = int((s > 0).sum())
    m = data.draw(st.integers(1, len(scores)))
    q = keep_probabilities(s, m)
    assert bool(((q >= 0) & (q <= 1)).all())
    assert float(q.sum()) == pytest.approx(min(m, live), rel=1e-9)
    inside = (q < 1) & (s > 0)
    if bool(inside.any()):
        beta = (q / s)[inside]
        assert float(beta.max()) == pytest.approx(float(beta.min()), rel=1e-9)
        assert bool((s[q == 1] * beta[0] >= 1 - 1e-9).all())


@pytest.mark.parametrize("p", [1.0, 3.0])
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_unbiased(rule, p):
    A = heavy(300)
    A[7] = 0
    x = np.random.default_rng(5).standard_normal(4)
    terms = np.abs(A @ x) ** p
    sampler = LpSampler(p=p, n_rows=60, rule=rule, random_state=0).fit(A)
    totals = []
    for draw in range(60):
        idx, weight = sampler.sample(draw)
        assert 7 not in idx
        totals.append(weight @ terms[idx])
    error = np.std(totals) / math.sqrt(len(totals))
    assert abs(np.mean(totals) - terms.sum()) < 3.5 * error


@pytest.mark.parametrize("rule", RULES)
def test_the_sample_has_the_size_asked_for(rule):
    sampler = LpSampler(p=1.5, n_rows=80, rule=rule, random_state=1).fit(heavy(2000))
    sizes = [len(sampler.sample(draw)[0]) for draw in range(20)]
    assert np.mean(sizes) == pytest.approx(80, abs=5 * math.sqrt(80 / 20))


def test_a_row_alone_in_its_direction_is_always_kept():
    A = np.c_[heavy(1000, 3), np.zeros(1000)]
    A[11] = [0, 0, 0, 1e-6]
    for rule in ("lewis", "leverage", "sensitivity", "root_leverage", "combined", "augmented"):
        sampler = LpSampler(p=1, n_rows=60, rule=rule, uniform_mix=0.0, random_state=0).fit(A)
        for draw in range(5):
            idx, weight = sampler.sample(draw)
            assert weight[list(idx).index(11)] == pytest.approx(1, rel=0.35 if rule == "augmented" else 1e-2)


def test_all_rows_are_kept_where_as_many_are_wanted():
    A = heavy(50)
    for rule in RULES:
        idx, weight = LpSampler(p=1, n_rows=50, rule=rule, random_state=0).fit(A).sample()
        assert np.array_equal(idx, np.arange(50))
        assert np.array_equal(weight, np.ones(50))


def test_the_same_seed_gives_the_same_rows_on_arrays_and_tensors():
    A = heavy()
    one, two = (LpSampler(p=3, n_rows=40, rule="combined", random_state=3).fit(A) for _ in range(2))
    for draw in (0, 1):
        assert np.array_equal(one.sample(draw)[0], two.sample(draw)[0])
    assert not np.array_equal(one.sample(0)[0], one.sample(1)[0])
    idx, weight = LpSampler(p=3, n_rows=40, rule="combined", random_state=3).fit(torch.from_numpy(A)).sample()
    assert isinstance(idx, torch.Tensor)
    assert np.array_equal(idx.numpy(), one.sample()[0])
    assert np.array_equal(weight.numpy(), one.sample()[1])


def test_rounds_shrink_to_the_size_wanted_in_a_double_logarithm():
    for n, most in ((10**5, 4), (10**10, 6), (10**20, 7)):
        sizes = schedule(n, 500, 1.0, "root_leverage")
        assert sizes[-1] == 500
        assert sizes == sorted(sizes, reverse=True)
        assert len(sizes) <= most
    assert schedule(10**6, 500, 3.0, "lewis") == [500]
    assert schedule(10**6, 100, 1.0, "lewis", 2) == [10_000, 100]
    whole = math.log(10**5 / 500)
    first = math.log(schedule(10**5, 500, 1.0, "root_leverage")[0] / 500)
    assert first == pytest.approx(whole / 2, rel=0.01)


@pytest.mark.parametrize(
    ("rule", "p"), [("root_leverage", 1.0), ("combined", 3.0), ("lewis", 1.0), ("lewis", 3.0)]
)
def test_good_rules_embed_where_uniform_sampling_loses_a_direction(rule, p):
    A = np.c_[heavy(20_000, 3), np.zeros(20_000)]
    A[:5, 3] = 100.0
    idx, weight = LpSampler(p=p, n_rows=600, rule=rule, random_state=0).fit(A).sample()
    kept = embedding_distortion(A, idx, weight, p, random_state=0)
    assert kept.rank_kept
    assert kept.value < 0.3
    idx, weight = LpSampler(p=p, n_rows=600, rule="uniform", random_state=0).fit(A).sample()
    lost = embedding_distortion(A, idx, weight, p, random_state=0)
    assert lost.value > 0.5


def test_distortion_falls_with_the_number_of_rows():
    A = heavy(10_000, 5)
    found = []
    for m in (100, 1600):
        sampler = LpSampler(p=1, n_rows=m, random_state=0).fit(A)
        found.append(
            np.mean([embedding_distortion(A, *sampler.sample(k), 1, random_state=0).value for k in range(4)])
        )
    assert found[1] == pytest.approx(found[0] / 4, rel=0.6)


def test_distortion_of_the_whole_is_zero_and_of_a_known_loss_is_that():
    A = np.eye(3)
    assert embedding_distortion(A, [0, 1, 2], np.ones(3), 3).value == pytest.approx(0, abs=1e-12)
    found = embedding_distortion(A, [0, 1, 2], [8.0, 1.0, 1.0], 3)
    assert found.value == pytest.approx(1.0)  # e_0 counts twice
    lost = embedding_distortion(A, [0, 1], [1.0, 1.0], 3)
    assert not lost.rank_kept
    assert lost.value >= 1
    asked = embedding_distortion(
        A, [0, 1, 2], [1.0, 1.0, 2.0**3], 3, n_gaussian=0, n_extreme=0, directions=[0, 0, 1]
    )
    assert asked.extreme == pytest.approx(1.0)


@pytest.mark.parametrize("rule", ["lewis", "root_leverage"])
def test_a_stream_gives_an_unbiased_embedding(rule):
    A = heavy(8000)
    x = np.ones(4)
    whole = np.abs(A @ x).sum()
    errors = []
    for seed in range(12):
        sampler = LpSampler(p=1, n_rows=400, rule=rule, random_state=seed)
        for block in np.array_split(A, 4):
            sampler.partial_fit(block)
        idx, weight = sampler.sample()
        assert len(set(idx.tolist())) == len(idx)
        assert idx.max() < 8000
        assert np.array_equal(sampler.coreset_, A[idx])
        assert sampler.n_seen_ == 8000
        assert len(idx) < 3 * 480
        errors.append(weight @ np.abs(A[idx] @ x) / whole - 1)
    assert abs(np.mean(errors)) < 3.5 * np.std(errors) / math.sqrt(12) + 1e-3
    assert embedding_distortion(A, idx, weight, 1, random_state=0).value < 0.4
    with pytest.raises(ValueError, match="3 features, but LpSampler is expecting 4"):
        sampler.partial_fit(np.ones((5, 3)))


def test_one_block_of_a_stream_is_a_plain_sample():
    A = heavy(20)
    idx, weight = LpSampler(p=1, n_rows=20).partial_fit(A).sample()
    assert np.array_equal(idx, np.arange(20))
    assert np.array_equal(weight, np.ones(20))


def test_a_draw_is_a_whole_number_and_a_stream_has_one():
    sampler = LpSampler(p=1, n_rows=5, random_state=0).fit(heavy(50))
    assert np.array_equal(sampler.sample(np.int64(3))[0], sampler.sample(3)[0])
    for draw in (1.5, "x"):
        with pytest.raises(TypeError, match="draw must be an integer"):
            sampler.sample(draw)
    with pytest.raises(ValueError, match="one draw, got draw=1"):
        LpSampler(p=1, n_rows=5).partial_fit(heavy(50)).sample(1)


def test_sample_sizes_follow_the_table():
    S, d, n = 9.0, 16, 10**6
    wanted = {
        ("sensitivity", 1.0): min(S**2, d**0.5 * S),
        ("sensitivity", 4.0): S**1.5,
        ("combined", 4.0): d**0.5 * S,
        ("lewis", 4.0): d**2,
        ("lewis", 1.0): d,
        ("root_leverage", 1.0): d,
        ("augmented", 1.0): S + d,
        ("leverage", 2.0): d,
    }
    for (rule, p), complexity in wanted.items():
        found = sample_size(0.5, 0.1, rule, S, d, p=p)
        assert found.complexity == pytest.approx(complexity)
        assert int(found) == math.ceil(complexity * math.log(d / 0.1) / 0.25)
    assert sample_size(0.5, 0.1, "uniform", d=d, n=n, s_max=1e-3).complexity == 1000
    assert sample_size(0.5, 0.1, "lewis", d=d, c=2).rows == pytest.approx(
        2 * sample_size(0.5, 0.1, d=d).rows, abs=1
    )
    assert "embedding_distortion" in str(found)


def test_at_two_all_rules_but_the_uniform_agree():
    A = heavy()
    tau = leverage_scores(A)
    for rule in ("leverage", "sensitivity", "root_leverage", "lewis"):
        assert LpSampler(p=2, n_rows=30, rule=rule).fit(A).scores_ == pytest.approx(tau, rel=1e-9)


def test_growth_has_its_shapes_and_draws():
    found = sensitivity_growth(("gaussian", "polynomial"), (3, 6), 4, n=300, n_rows=40, random_state=0)
    assert found.largest == (9.0, 36.0)
    frame = found.to_frame()
    assert len(frame) == 4
    assert (frame.largest - frame.S >= -1e-9).all()
    flat = frame[frame.name == "polynomial"].set_index("d")
    assert flat.S[6] < 11 + 3 * flat.se[6] + 2
    axes = found.plot()
    assert len(axes.get_legend().get_texts()) == 3
    assert [label.get_text() for label in axes.get_xticklabels()] == ["9", "36"]


@pytest.mark.parametrize("p", [1, 3])
@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_the_directions_that_a_sample_lost_do_not_depend_on_the_size_of_its_weights(p, size):
    A, idx = heavy(30, 3), [0, 5, 9, 20]
    unit = embedding_distortion(A, idx, np.ones(4), p, random_state=0)
    found = embedding_distortion(A, idx, np.full(4, size), p, random_state=0)
    assert (found.n_probes, found.rank_kept) == (unit.n_probes, unit.rank_kept)
    large = embedding_distortion(A, idx, np.full(4, 1e24), p, random_state=0)  # 1 from 0 is lost
    assert found.extreme == pytest.approx(1.0 if size < 1 else large.extreme * (size / 1e24) ** (1 / p))


def test_rows_of_zeros_are_kept_by_no_rule():
    for rule in RULES:
        assert not LpSampler(p=3.0, n_rows=5, rule=rule).fit(np.zeros((9, 2))).scores_.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"p": 0}, "positive"),
        ({"p": math.nan}, "p must be"),
        ({"rule": "levis"}, "lewis"),
        ({"n_rows": 0}, "n_rows"),
        ({"uniform_mix": 2.0}, "uniform_mix"),
        ({"eps": 0.5, "rule": "uniform"}, "sample_size"),
        ({"eps": 0.5, "rule": "leverage"}, "no bound"),
        ({"n_rounds": 0}, "n_rounds"),
        ({"eps": math.nan}, "eps"),
        ({"eps": 0.5, "n_rows": 10}, "not both"),
    ],
)
def test_bad_parameters_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LpSampler(**options).fit(heavy(20))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"c": -1}, "c must"),
        ({"c": 0}, "c must be positive"),
        ({"c": math.inf}, "c must be"),
        ({"rule": "sensitivity", "S": -5, "p": 3}, "S must be"),
        ({"rule": "sensitivity", "S": 0}, "S must be positive"),
        ({"rule": "sensitivity", "S": math.nan}, "S must"),
        ({"rule": "uniform", "n": 0, "s_max": 0.5}, "n must"),
        ({"rule": "uniform", "n": 10, "s_max": 1.5}, "s_max must"),
        ({"rule": "uniform", "n": 10, "s_max": 0.0}, "s_max must be positive"),
    ],
)
def test_sizes_come_from_numbers_that_make_sense(options, message):
    with pytest.raises(ValueError, match=message):
        sample_size(**{"eps": 0.5, "d": 4, **options})


@pytest.mark.parametrize(
    ("idx", "weight", "message"),
    [
        ([0, 50], [1.0, 1.0], r"idx must .* 0 to 19, got 50"),
        ([-1, 2], [1.0, 1.0], r"idx must .* 0 to 19, got -1"),
        ([0.0, 1.0], [1.0, 1.0], "idx must .* whole numbers"),
        ([0, 1], [1.0, -2.0], "weight must .* got -2"),
        ([0, 1], [1.0, math.nan], "weight must"),
        ([0, 1], [1.0, math.inf], "weight must"),
        ([0, 1], [1.0], "1 weights .* 2 rows"),
        ([[0, 1]], [[1.0, 1.0]], "idx must be 1-D"),
        ([], [], "idx names no rows"),
        ([True, False], [1.0], "mask of 2 .* 20 rows"),
    ],
)
def test_a_distortion_is_that_of_a_sample(idx, weight, message):
    with pytest.raises(ValueError, match=message):
        embedding_distortion(heavy(20), idx, weight, 1.0)


def test_a_mask_names_rows_as_indices_do():
    A = heavy(20)
    mask = np.arange(20) % 3 > 0
    weight = np.full(mask.sum(), 1.5)
    one = embedding_distortion(A, mask, weight, 1.0, random_state=0)
    assert one == embedding_distortion(A, mask.nonzero()[0], weight, 1.0, random_state=0)
    assert one == embedding_distortion(A, torch.from_numpy(mask), weight, 1.0, random_state=0)


def test_an_unfitted_sampler_says_so_and_a_fitted_one_knows_its_columns():
    sampler = LpSampler(n_rows=10, random_state=0)
    with pytest.raises(NotFittedError, match="fit or partial_fit"):
        sampler.sample()
    assert sampler.fit(heavy(50)).n_features_in_ == 4
    assert LpSampler(n_rows=10).partial_fit(heavy(50, 3)).n_features_in_ == 3
    assert sampler.fit(torch.from_numpy(heavy(50, 2))).n_features_in_ == 2
    frame = pd.DataFrame(heavy(50, 2), columns=["a", "b"])
    assert LpSampler(n_rows=10).fit(frame).feature_names_in_.tolist() == ["a", "b"]


def test_sampling_needs_a_fit_and_exact_sizes_need_their_numbers():
    with pytest.raises(ValueError, match="fit"):
        LpSampler().sample()
    for call in (
        lambda: sample_size(0.5, rule="sensitivity", d=3),
        lambda: sample_size(0.5, rule="uniform", d=3),
        lambda: sample_size(0.0, d=3),
        lambda: sample_size(0.5, rule="combined", S=3.0, d=3, p=1),
    ):
        with pytest.raises(ValueError, match=r"needs|positive|no bound"):
            call()


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "uniform"])
@pytest.mark.parametrize("p", [1.0, 4.5])
def test_rows_that_nothing_stands_in_for_are_always_kept(rule, p):
    """Each of the last three columns has one entry, of sensitivity 1: without its row some norm is zero."""
    A = np.zeros((400, 9))
    A[:, :6] = np.random.default_rng(0).standard_normal((400, 6))
    alone = [3, 77, 250]
    A[alone] = 0
    A[alone, [6, 7, 8]] = [1e-3, 1.0, 50.0]
    sampler = LpSampler(p=p, n_rows=12, rule=rule, random_state=0).fit(A)
    assert sampler.probabilities_.sum() == pytest.approx(sampler.schedule_[0], rel=1e-9)
    for draw in range(5):
        idx, weight = sampler.sample(draw)
        assert set(alone) <= set(idx)
        assert weight[np.isin(idx, alone)].tolist() == [1, 1, 1]


def test_rows_of_more_than_half_of_a_norm_are_kept_where_theorems_would_ask_for_more_rows():
    """Leverage above a half proves a sensitivity above one at p >= 2; the bounds' total dwarfs the rows asked for."""
    rng = np.random.default_rng(1)
    A = rng.standard_normal((2000, 12))
    A[:12] += 120 * np.eye(12)
    tau = leverage_scores(A)
    assert (tau[:12] > 0.5).all()
    sensitive = lp_sensitivities(A, 4.5, "exact", rows=range(12))
    assert (sensitive > 1 / (1 + (1 / tau[:12] - 1) ** 2.25) - 1e-9).all()
    sampler = LpSampler(p=4.5, n_rows=40, rule="sensitivity", random_state=0).fit(A)
    assert (sampler.probabilities_[:12] == 1).all()
    assert sampler.probabilities_.sum() == pytest.approx(40)
