"""What must hold of hallucination detection whatever the model: the statistic, its guarantee, sampling that drops."""

import copy
import math
import os
import pickle
import warnings
from functools import cache

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from torch import nn

from lodim.claims.generative.mode_interpolation import grid as grid_claim
from lodim.claims.generative.mode_interpolation import mnist as mnist_claim
from lodim.claims.generative.mode_interpolation import recursion as recursion_claim
from lodim.claims.result import Progress
from lodim.datasets.toy import gaussian_grid, gaussian_line
from lodim.generative import (
    EDM,
    ClassifierFree,
    Diffusion,
    DiscreteVP,
    HallucinationDetector,
    MixtureDenoiser,
    ancestral,
    euler,
    heun,
    interpolation_mass,
    off_support,
    recursive_training,
    sample_filtered,
    score_profile,
)
from lodim.generative.mode_interpolation.detector import _area_interval, _placement_variance
from lodim.generative.mode_interpolation.recursion import _figures
from lodim.generative.samplers import SAMPLERS
from lodim.nets import TimeMLP
from lodim.randomness import build_seeded

WAY = 20  # steps


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Smooth(nn.Module):
    """The denoiser of two modes at -1 and 1 as a net would learn it: too smooth, so that it interpolates."""

    def __init__(self, width=0.6):
        super().__init__()
        self.width = nn.Parameter(torch.tensor(width))

    def forward(self, x, c_noise, cond=None):
        return torch.tanh(x * (1 + (8 * c_noise).exp()[:, None]).sqrt() / self.width)


def smooth(width=0.6, numpy=False, **options):
    model = Diffusion(Smooth(width), 1, precond="x0", sigma_data=1.0, **options)
    model._numpy = numpy
    return model


def stored(sampler, x, sigmas, denoiser, **options):
    """A sampler's answer and all its estimates."""
    way = []
    out = sampler(denoiser, x, sigmas, on_step=lambda state: way.append(state.x0_hat.clone()), **options)
    return out, torch.stack(way)


def run(detector, n=400, batch_size=4096, sampler="ancestral", seed=0, **options):
    return smooth().sample(
        n, steps=WAY, sampler=sampler, generator=seeded(seed), batch_size=batch_size, on_step=detector.record(),
        **options,
    )  # fmt: skip


@cache
def _calibrated(window, threshold_at, sampler):
    detector = HallucinationDetector(window)
    run(detector, 2000, sampler=sampler)
    detector.calibrate(detector.score_ > np.quantile(detector.score_, 0.93), false_alarm=threshold_at)
    return detector


def calibrated(window=(0, 8), threshold_at=0.04, sampler="ancestral"):
    return copy.deepcopy(_calibrated(window, threshold_at, sampler))


# ---------------------------------------------------------------------------------------------------- the statistic


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_streamed_variance_is_the_stored_one_for_every_sampler(name):
    model, sigmas = smooth(), EDM().sigmas(WAY)
    x = 80 * torch.randn(30, 1, generator=seeded())
    _, way = stored(SAMPLERS[name], x, sigmas, model.denoiser, generator=seeded(1))
    for window, unit, steps in (
        ((0, 7), "step", slice(13, 20)),
        ((3, 9), "step", slice(11, 17)),
        ((0.05, 3.0), "sigma", [i for i in range(WAY) if 0.05 <= sigmas[i] <= 3]),
        (
            (-2 * math.log(3), -2 * math.log(0.05)),
            "logsnr",
            [i for i in range(WAY) if 0.05 <= sigmas[i] <= 3],
        ),
    ):
        detector = HallucinationDetector(window, unit)
        SAMPLERS[name](model.denoiser, x, sigmas, generator=seeded(1), on_step=detector.record())
        expected = way[steps].var(0, correction=0).mean(1).numpy()
        np.testing.assert_allclose(detector.score_, expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(
            detector.detect_from_trajectory(way.numpy(), sigmas[:-1]), expected, rtol=1e-9
        )


def test_it_is_the_mean_over_coordinates_of_a_population_variance():
    way = torch.zeros(4, 2, 2, 1, 1)
    way[:, 0, 0, 0, 0] = torch.tensor([0.0, 1.0, 0.0, 1.0])  # of variance 1/4, in one of two coordinates
    torch.testing.assert_close(
        HallucinationDetector((0, 4)).detect_from_trajectory(way), torch.tensor([0.125, 0.0]).double()
    )


def test_constant_estimates_score_zero_and_hopping_ones_are_on_top():
    steps = np.arange(10)
    hop, settle = np.where(steps % 2, 1.0, -1.0), 1 + np.exp(-steps)
    way = np.stack([settle, np.ones(10), hop, np.full(10, -1e6)], 1)[:, :, None]
    score = HallucinationDetector((0, 5)).detect_from_trajectory(way)
    assert score[1] == score[3] == 0
    assert score.argmax() == 2
    assert 0 < score[0] < score[2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert HallucinationDetector((0, 5)).detect_from_trajectory(way[:, :0]).shape == (0,)


def test_large_offsets_do_not_cost_digits():
    sigmas = [*np.geomspace(1, 0.01, 10), 0.0]
    shaken = iter(np.tile([1e6, 1e6 + 1e-3], 5))
    detector = HallucinationDetector()
    euler(
        lambda x, *_: torch.full_like(x, next(shaken)),
        torch.zeros(2, 3).double(),
        sigmas,
        on_step=detector.record(),
    )
    np.testing.assert_allclose(detector.score_, 0.25e-6, rtol=1e-5)


def test_neither_batches_nor_their_order_matter_nor_other_windows():
    whole, split = (
        HallucinationDetector((0, 8)),
        HallucinationDetector((0, 8), candidates=[(2, 9), (0, 8), (5, 7)]),
    )
    model, start = smooth(), 80 * torch.randn(50, 1, generator=seeded())
    for detector, size in ((whole, 50), (split, 7)):
        model.sample(50, start=start, batch_size=size, on_step=detector.record())
    np.testing.assert_allclose(split.score_, whole.score_, rtol=1e-5)
    assert split.scores_.shape == (3, 50)
    np.testing.assert_array_equal(split.scores_[0], split.score_)
    model.sample(3, on_step=whole)  # goes on
    assert whole.score_.shape == (53,)
    model.sample(3, on_step=whole.record())  # begins anew
    assert whole.score_.shape == (3,)


def test_doubled_batches_of_guidance_are_no_rows_and_samples_are_not_touched():
    net = build_seeded(lambda: TimeMLP(1, 8, 1, n_classes=2), 0)
    model = Diffusion(net, 1, n_classes=2, sigma_data=1.0)
    detector = HallucinationDetector()
    options = {"cond": [0, 1, 1], "guidance": ClassifierFree(2.0), "generator": 0}
    watched = model.sample(3, on_step=detector.record(), **options)
    assert detector.score_.shape == (3,)
    assert torch.equal(watched, model.sample(3, **options))


def test_callbacks_that_write_into_their_state_do_not_reach_the_statistic():
    def spoil(state):
        state.x0_hat.mul_(0)

    x, sigmas = 80 * torch.randn(5, 1, generator=seeded()), EDM().sigmas(WAY)
    alone, beside = HallucinationDetector(), HallucinationDetector()
    denoise = smooth().denoiser
    heun(denoise, x, sigmas, on_step=alone.record())
    heun(denoise, x, sigmas, on_step=[beside.record(), spoil])
    np.testing.assert_array_equal(alone.score_[0] > 0, beside.score_[0] > 0)
    assert (beside.score_ > 0).all()


def test_what_it_holds_does_not_grow_with_the_steps():
    def held(steps):
        detector, seen = HallucinationDetector((0, steps)), []

        def weigh(state):
            if state.i == state.steps - 2:
                seen.append(sum(s.mean.numel() + s.squares.numel() for s in detector._running))

        smooth().sample(20, steps=steps, on_step=[detector.record(), weigh])
        return seen

    assert held(5) == held(50) == [40]


def test_copies_and_pickles_go_on_alone():
    detector = calibrated()
    for other in (copy.deepcopy(detector), pickle.loads(pickle.dumps(detector))):
        np.testing.assert_array_equal(other.score_, detector.score_)
        assert other.calibration_ == detector.calibration_
        run(other, 5)
        assert len(detector.score_) == 2000


@pytest.mark.parametrize("precision", [torch.float16, torch.float32, torch.float64])
def test_every_precision_of_model_and_estimates(precision):
    detector = HallucinationDetector((0, 5))
    smooth().to(precision).sample(4, on_step=detector.record(), generator=0)
    assert detector.score_.dtype == np.float64
    assert np.isfinite(detector.score_).all()
    with torch.inference_mode():
        smooth().sample(4, on_step=detector.record())
    assert detector.detect_from_trajectory(torch.rand(6, 3, 2).to(precision)).dtype == torch.float64


@pytest.mark.parametrize(
    ("window", "unit", "message"),
    [((5, 5), "step", "empty"), ((3, 2), "sigma", "empty"), ((-1, 2), "step", "from 0"),
     ((1, 2, 3), "step", "two numbers"), ((0, 10), "t", "unit"), ((0, math.nan), "sigma", "a window's end")],
)  # fmt: skip
def test_windows_that_are_none_are_refused(window, unit, message):
    with pytest.raises(ValueError, match=message):
        HallucinationDetector(window, unit)


@pytest.mark.parametrize(
    ("window", "unit"),
    [((0, WAY + 1), "step"), ((WAY, WAY + 4), "step"), ((0, 1), "step"), ((100, 200), "sigma")],
)
def test_windows_that_do_not_fit_the_sampler_are_refused(window, unit):
    detector = HallucinationDetector(window, unit)
    with pytest.raises(ValueError, match=r"holds .* of the sampler's 20 steps"):
        run(detector)
    with pytest.raises(ValueError, match="nothing was sampled"):
        detector.score_  # noqa: B018
    with pytest.raises(ValueError, match="holds"):
        detector.detect_from_trajectory(np.zeros((WAY, 3, 1)), np.geomspace(10, 0.01, WAY))
    for way, said in (
        (np.zeros((WAY, 3, 0)), "x0_hats must have shape"),
        (torch.zeros(WAY, 3, 1).to_sparse(), "x0_hats is sparse"),
        (torch.zeros(WAY, 3, 1, dtype=torch.complex64), "x0_hats must hold real"),
    ):
        with pytest.raises((TypeError, ValueError), match=said):
            detector.detect_from_trajectory(way, np.geomspace(10, 0.01, WAY))


# ---------------------------------------------------------------------------------------------------- calibration


def with_scores(scores, **options):
    """A detector whose record holds these."""
    scores = np.atleast_2d(scores)
    detector = HallucinationDetector(
        (0, 2), candidates=[(0, 3 + i) for i in range(len(scores) - 1)], **options
    )
    detector._done = [torch.from_numpy(scores)]
    return detector


def test_at_most_the_allowed_share_of_good_samples_is_rejected_on_average():
    """Whatever the scores' law: over many calibrations the rate is (m + 1 - rank) / (m + 1)."""
    rng, m, alpha = np.random.default_rng(0), 60, 0.1
    rates = []
    for _ in range(150):
        good = rng.standard_cauchy(m)
        found = with_scores(np.r_[good, 50 + rng.random(5)]).calibrate(
            np.r_[np.zeros(m), np.ones(5)], false_alarm=alpha
        )
        rates.append(1 - stats.cauchy.cdf(found.threshold))
    expected = (m + 1 - math.ceil((m + 1) * (1 - alpha))) / (m + 1)
    assert expected <= alpha
    assert abs(np.mean(rates) - expected) < 4 * np.std(rates) / math.sqrt(len(rates))


def test_choosing_among_many_windows_does_not_spoil_the_guarantee():
    rng, rates, areas = np.random.default_rng(1), [], []
    labels = np.r_[np.zeros(100), np.ones(20)]
    for seed in range(80):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = with_scores(rng.random((30, 120))).calibrate(labels, false_alarm=0.1, random_state=seed)
        rates.append(1 - found.threshold)
        areas.append((found.areas.max(), found.auc))
    chosen, judged = np.mean(areas, 0)
    assert chosen > 0.6  # the best of thirty that know nothing
    assert abs(judged - 0.5) < 4 * np.std([a for _, a in areas]) / math.sqrt(80)
    assert np.mean(rates) < 0.1 + 4 * np.std(rates) / math.sqrt(80)


def test_areas_and_their_intervals():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=80), rng.random(80) < 0.4
    found = with_scores(scores + labels).calibrate(labels)
    assert found.auc == pytest.approx(roc_auc_score(labels, scores + labels))
    assert found.interval[0] < found.auc < found.interval[1]
    for m, n in ((5, 2000), (40, 40)):  # above 1/2 exactly where Mann and Whitney's test rejects
        spread = math.sqrt((m + n + 1) / (12 * m * n))
        for z, tells in ((1.97, True), (1.95, False)):
            assert (_area_interval(0.5 + z * spread, m, n, 0.95)[0] > 0.5) is tells
    low, high = _area_interval(1.0, 10, 1000, 0.95)
    assert 0.5 < low < 1
    assert high == 1
    assert _area_interval(0.0, 10, 1000, 0.95)[0] == 0


def test_intervals_cover():
    """Normal scores a distance apart have a known area."""
    rng, area = np.random.default_rng(0), stats.norm.cdf(1.2 / math.sqrt(2))
    held = []
    for _ in range(150):
        bad, good = 1.2 + rng.normal(size=15), rng.normal(size=150)
        a = (bad[:, None] > good).mean()
        low, high = _area_interval(a, 15, 150, 0.95)
        held.append(low <= area <= high)
    assert 0.9 < np.mean(held) < 0.995


@pytest.mark.parametrize(("share", "area"), [(0.5, 0.5), (0.7, 0.7)])
def test_intervals_cover_where_only_some_hallucinations_stand_out(share, area):
    """Some score above all others and the rest below: the area varies more than that of scores of a kind."""
    rng, held = np.random.default_rng(0), []
    for _ in range(200):
        bad, good = np.where(rng.random(40) < share, 9.0, -9.0) + rng.random(40), rng.random(400)
        a = (bad[:, None] > good).mean()
        low, high = _area_interval(a, 40, 400, 0.95, _placement_variance(bad, good))
        held.append(low <= area <= high)
    assert np.mean(held) > 0.9


def test_the_variance_that_scores_show_is_that_of_their_placements():
    rng = np.random.default_rng(0)
    bad, good = rng.integers(0, 9, 30) + 1.0, rng.integers(0, 9, 50) * 1.0  # with ties
    above = (bad[:, None] > good) + 0.5 * (bad[:, None] == good)
    expected = above.mean(1).var(ddof=1) / 30 + above.mean(0).var(ddof=1) / 50
    assert _placement_variance(bad, good) == pytest.approx(expected)
    assert _placement_variance(bad[:1], good[:1]) == 0


def test_a_detector_that_cannot_tell_says_so():
    rng = np.random.default_rng(0)
    with pytest.warns(UserWarning, match=r"cannot tell.*Is the model trained"):
        found = with_scores(rng.random(200)).calibrate(rng.random(200) < 0.5)
    assert not found.tells
    assert str(found).startswith("cannot tell")


def test_the_best_window_is_chosen_and_watched_alone_from_then_on():
    detector = HallucinationDetector((16, 20), candidates=[(4, 12), (0, 2)])
    x = run(detector, 3000)
    off = x[:, 0].abs().numpy() < 0.85
    assert 10 < off.sum() < 1000
    found = detector.calibrate(off)
    assert found.window == detector.window_ == (0, 2)
    assert found.auc > 0.9
    assert detector.window == (16, 20)  # as given
    run(detector, 5)
    assert detector.scores_.shape == (1, 5)
    assert len(found.to_frame()) == 3


@pytest.mark.parametrize(
    ("labels", "message"),
    [(np.zeros(50), "0 hallucinations"), (np.ones(50), "0 others"), (np.zeros(49), "49|50"),
     (np.r_[1, np.zeros(49)], "rate of false alarms"), (np.arange(50), "truth values")],
)  # fmt: skip
def test_labels_that_do_not_do_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        with_scores(np.arange(50.0)).calibrate(labels, false_alarm=0.001)


def test_scores_that_are_no_numbers_are_refused_and_never_kept():
    scores = np.r_[np.nan, np.arange(9.0)]
    with pytest.raises(ValueError, match="NaN"):
        with_scores(scores).calibrate(scores > 5)
    assert not with_scores(scores).keeps(threshold=100)[0]
    assert not with_scores(scores).keeps(keep_fraction=0.9)[0]


def test_filters_keep_rows_of_any_kind():
    scores = np.array([3.0, 1.0, 2.0, 0.0])
    detector, X = with_scores(scores), np.arange(8).reshape(4, 2)
    np.testing.assert_array_equal(detector.filter(X, keep_fraction=0.5), X[[1, 3]])
    np.testing.assert_array_equal(detector.filter(np.asfortranarray(X), threshold=2), X[[1, 2, 3]])
    assert detector.filter(X, threshold=2).dtype == X.dtype
    assert torch.equal(detector.filter(torch.from_numpy(X), threshold=-1), torch.zeros(0, 2).long())
    for options, message in (({}, "no threshold"), ({"threshold": 1, "keep_fraction": 0.5}, "not both"),
                             ({"keep_fraction": 0}, "above 0")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            detector.filter(X, **options)
    with pytest.raises(ValueError, match="5 rows, but 4 samples"):
        detector.filter(np.zeros((5, 2)), threshold=1)
    with pytest.raises(ValueError, match="masked"):
        detector.filter(np.ma.masked_equal(X, 3), threshold=1)


def test_far_from_the_data_is_what_the_data_seldom_are():
    grid = gaussian_grid(4000, random_state=0)
    fresh = gaussian_grid(4000, random_state=1).X
    assert off_support(fresh, grid.X, share=0.05).mean() == pytest.approx(0.05, abs=0.02)
    between = (grid.centers[0] + grid.centers[1])[None] / 2
    assert off_support(between, grid.X).tolist() == [True]
    wide = np.random.default_rng(0).normal(size=(300, 20))  # far from the origin squares cancel
    moved = off_support(2 * wide + 1e8, wide + 1e8, share=0.02)
    np.testing.assert_array_equal(moved, off_support(2 * wide, wide, share=0.02))
    for size in (1e-200, 1e200):  # whose squares vanish or overflow
        found = off_support(2 * size * wide, size * wide, share=0.02)
        np.testing.assert_array_equal(found, off_support(2 * wide, wide, share=0.02))
    assert off_support(1e300 + wide, wide).all()
    assert off_support(grid.X[:0], grid.X).shape == (0,)
    with pytest.raises(ValueError, match="of one shape"):
        off_support(grid.X, grid.X[:, :1])
    with pytest.raises(ValueError, match="more than k"):
        off_support(grid.X, grid.X[:5])


# ---------------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_stopping_early_drops_the_same_samples_and_changes_no_other(sampler):
    detector, model = calibrated((6, 16), sampler=sampler), smooth(numpy=True)
    found = [
        sample_filtered(
            model, 100, detector, steps=WAY, sampler=sampler, generator=3, n_checks=checks, show=4
        )
        for checks in (0, 1, 5)
    ]
    assert found[0].n_rejected > 0
    assert found[0].saved == 0
    for other in found[1:]:
        assert other.n_drawn == found[0].n_drawn
        np.testing.assert_allclose(other.samples, found[0].samples, atol=1e-4)
        np.testing.assert_allclose(other.rejected, found[0].rejected, atol=1e-4)
        np.testing.assert_allclose(other.trajectories, found[0].trajectories, atol=1e-3)
    assert found[2].saved > 0
    calls = {"euler": WAY, "heun": 2 * WAY - 1}[sampler]
    for one in found:
        assert one.evaluations == pytest.approx((1 - one.saved) * one.n_drawn * calls)


def test_a_window_early_on_the_way_saves_the_rest_of_the_dropped():
    detector = HallucinationDetector((10, 18))
    run(detector, 1000, sampler="euler")
    detector.calibrate(detector.score_ > np.quantile(detector.score_, 0.5), false_alarm=0.01)
    found = sample_filtered(
        smooth(), 200, detector, steps=WAY, sampler="euler", generator=0, n_checks=1, show=0
    )
    assert found.saved == pytest.approx(found.n_rejected / found.n_drawn / 2, rel=1e-9)  # ten of twenty steps


def test_churn_is_that_of_the_whole_run_wherever_it_is_checked():
    detector, model = calibrated((6, 16), sampler="heun"), smooth(numpy=True)
    seen = []
    for checks in (0, 4):
        levels = set()
        hook = model.denoiser.register_forward_pre_hook(
            lambda _, args, to=levels: to.add(round(float(args[1]), 9))
        )
        sample_filtered(model, 50, detector, steps=WAY, generator=0, n_checks=checks, churn=2, show=0)
        hook.remove()
        seen.append(levels)
    assert seen[0] == seen[1]


def test_guidance_may_call_the_denoiser_by_keywords_and_stand_in_a_list():
    def plain(denoise, x, sigma, cond=None):
        return denoise(x=x, sigma=sigma, cond=cond)

    options = {"steps": WAY, "sampler": "ancestral", "generator": 0}
    bare = sample_filtered(smooth(), 20, calibrated(), **options)
    assert sample_filtered(smooth(), 20, calibrated(), guidance=[plain], **options) == bare


@pytest.mark.parametrize(("sampler", "batch_size"), [("heun", 1000), ("ancestral", 32), ("dpmpp_2m", 32)])
def test_exactly_n_samples_pass_and_the_dropped_are_shown_on_their_way(sampler, batch_size):
    detector = calibrated(sampler=sampler)
    found = sample_filtered(
        smooth(), 60, detector, steps=WAY, sampler=sampler, generator=1, batch_size=batch_size, show=3
    )  # fmt: skip
    assert found.samples.shape == (60, 1)
    assert (found.score <= detector.threshold_).all()
    assert found.n_drawn == 60 + found.n_rejected
    assert (found.rejected_score > detector.threshold_).all()
    assert found.trajectories.shape == (3, WAY, 1)
    again = detector.detect_from_trajectory(found.trajectories.transpose(1, 0, 2))
    assert (again > 0.99 * detector.threshold_).all()  # what was seen is what is shown
    if sampler != "ancestral":
        np.testing.assert_allclose(found.trajectories[:, -1], found.rejected, atol=0.05)
    assert sample_filtered(
        smooth(), 60, detector, steps=WAY, sampler=sampler, generator=1, batch_size=batch_size, show=3
    ) == found  # fmt: skip


def test_conditions_stay_with_their_places():
    class Told(nn.Module):
        def forward(self, x, c_noise, cond=None):
            return Smooth().forward(x, c_noise) + 10 * cond["label"][:, None]

    model = Diffusion(Told(), 1, precond="x0", sigma_data=1.0, n_classes=3)
    detector = HallucinationDetector((0, 8))
    labels = np.arange(300) % 3
    x = model.sample(300, steps=WAY, cond=labels, sampler="euler", generator=0, on_step=detector.record())
    detector.calibrate(detector.score_ > np.quantile(detector.score_, 0.9), false_alarm=0.1)
    found = sample_filtered(
        model, 300, detector, cond=labels, steps=WAY, sampler="euler", generator=1, batch_size=100
    )
    assert found.n_rejected > 0
    np.testing.assert_array_equal(np.round(found.samples[:, 0] / 10), labels)
    assert len(x) == 300


def test_bad_requests_for_samples():
    detector = calibrated()
    none = sample_filtered(smooth(), 0, detector, steps=WAY)
    assert none.samples.shape == (0, 1)
    none.plot()
    with pytest.raises(ValueError, match="no threshold"):
        sample_filtered(smooth(), 5, HallucinationDetector())
    with pytest.raises(ValueError, match="holds"):
        sample_filtered(smooth(), 5, detector, steps=6)
    detector.threshold_ = -1.0
    with pytest.raises(ValueError, match="0 of 5 passed"):
        sample_filtered(smooth(), 5, detector, steps=WAY, max_draws=12, n_checks=0)
    assert not smooth().denoiser._forward_pre_hooks


# ---------------------------------------------------------------------------------------------------- between modes


def test_the_exact_denoiser_of_a_mixture():
    centers = torch.tensor([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]], dtype=torch.float64)
    exact, x, sigma = MixtureDenoiser(centers, 0.3), torch.randn(6, 2, generator=seeded()).double(), 0.7
    x.requires_grad_()
    total = 0.3**2 + sigma**2
    log_density = (-(x[:, None] - centers).square().sum(2) / (2 * total)).logsumexp(1)
    score = torch.autograd.grad(log_density.sum(), x)[0]
    torch.testing.assert_close(exact.score(x.detach(), sigma), score, rtol=1e-9, atol=1e-9)
    near_data = exact(x.detach(), 1e-3)
    torch.testing.assert_close(near_data, x.detach(), rtol=0, atol=1e-3)


def test_the_exact_denoiser_puts_nothing_between_modes():
    grid = gaussian_grid(25, random_state=0)
    x = 10 * torch.randn(12_000, 2, generator=seeded()).double()
    levels = [*np.geomspace(10, 0.005, 50), 0.0]
    out = ancestral(MixtureDenoiser(torch.from_numpy(grid.centers), grid.std), x, levels, generator=seeded(1))
    found = interpolation_mass(out, grid.centers, grid.std)
    assert found.mass < 1e-4
    assert len(found.edges) == 40
    assert "0.000%" in str(found)


def test_a_discrete_schedule_that_underflows_gives_no_nan():
    grid = gaussian_grid(25, random_state=0)
    schedule = DiscreteVP(1000, beta_start=0.001, beta_end=0.2)
    sigmas = schedule.sigmas(60)
    x = float(sigmas[0]) * torch.randn(50, 2, generator=seeded(), dtype=torch.float64)
    detector = HallucinationDetector((0, 10))
    exact = MixtureDenoiser(torch.from_numpy(grid.centers), grid.std)
    out = ancestral(exact, x, sigmas, generator=seeded(1), on_step=detector.record())
    assert bool(out.isfinite().all())
    assert np.isfinite(detector.score_).all()


def test_samples_are_counted_along_the_edge_they_lie_on():
    line = gaussian_line(4, [1.0, 2.0, 4.0, 5.0], random_state=0)
    samples = np.array([[1.0], [2.02], [1.5], [1.4], [4.6], [3.0], [9.0]])
    found = interpolation_mass(samples, line.centers, 0.05)
    assert found.edges.tolist() == [[0, 1], [2, 3]]  # nearest neighbours only: not 2 and 4
    assert found.counts.tolist() == [2, 1]
    assert (found.n_off, found.elsewhere, found.mass) == (5, 2, 5 / 7)
    turned = gaussian_grid(9, 3, rotated=True, random_state=0)
    far = interpolation_mass((turned.centers[0] + turned.centers[4])[None] / 2, turned.centers, turned.std)
    assert far.elsewhere == 1  # across a cell of the grid
    for bad, message in (
        (line.centers[:1], "two modes"),
        (np.ones((3, 1)), "equal"),
        (np.ones((3, 2)), "columns"),
    ):
        with pytest.raises(ValueError, match=message):
            interpolation_mass(samples, bad, 0.05)


def test_a_smooth_denoiser_is_slower_from_mode_to_mode_than_the_exact_one():
    modes = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    exact = MixtureDenoiser(modes, 0.05)
    found = score_profile(smooth(0.5), modes[0], modes[1], 0.1, exact=exact, n=2001)
    assert found.width > 3 * found.exact_width > 0
    s2 = 0.05**2 + 0.1**2
    # the answer is (0.05^2 x + 0.1^2 tanh(x / s2)) / s2, and x is small where it is 1/2
    assert found.exact_width == pytest.approx(math.atanh(0.5 * s2 / 0.1**2) * s2, rel=0.06)
    assert score_profile(exact, modes[0], modes[1], 0.1, n=2001).width == found.exact_width
    with pytest.raises(ValueError, match="two different points"):
        score_profile(exact, modes[0], modes[0], 0.1)


# ---------------------------------------------------------------------------------------------------- recursion


def tiny():
    return Diffusion(TimeMLP(1, 16, 1), 1)


def generations(tmp=None, n=2, **options):
    data = gaussian_line(60, [-1.0, 1.0], random_state=0).X
    more = {"fit": {"steps": 2}, "sample": {"steps": 12}, "metrics": {"mean": lambda x: x.mean()}, **options}
    return recursive_training(tiny, data, generations=n, surplus=40, checkpoint=tmp, **more)


@pytest.mark.trains
@pytest.mark.parametrize("way", ["variance", lambda x: x[:, 0]])
def test_generations_keep_their_size(way):
    found = generations(filter=way)
    assert found.samples.shape == (60, 1)
    assert len(found.distance) == len(found.figures["mean"]) == 3
    assert found.finished
    assert found == generations(filter=way)


def test_the_variance_filter_drops_the_highest_scores(monkeypatch):
    drawn, kept = {}, generations(n=1).samples
    own = Diffusion.sample

    def spy(self, n, **options):
        drawn["x"], drawn["score"] = own(self, n, **options), options["on_step"][0].score_
        return drawn["x"]

    monkeypatch.setattr(Diffusion, "sample", spy)
    np.testing.assert_array_equal(generations(n=1).samples, kept)
    assert len(drawn["x"]) == 100
    np.testing.assert_array_equal(kept, drawn["x"][np.sort(np.argsort(drawn["score"], kind="stable")[:60])])


@pytest.mark.parametrize("filter", ["variance", "random"])
def test_a_callback_of_ones_own_is_called_beside_the_detector(filter):
    steps = []
    generations(n=1, filter=filter, sample={"steps": 12, "on_step": lambda state: steps.append(state.i)})
    assert steps == list(range(12))


def test_generations_are_compared_by_any_of_their_rows():
    """Sorted data: the first rows are of one mode."""
    rows = np.sort(np.random.default_rng(0).normal(size=(24_000, 1)), 0)
    assert _figures(rows[::2], rows, {}, 0)["distance"] < 0.05


@pytest.mark.trains
def test_finished_generations_are_not_made_again(tmp_path, monkeypatch):
    def spread(x):
        return x.std()

    first = generations(tmp_path, 2, metrics={"spread": spread})
    fits, own = [], Diffusion.fit

    def counted(self, *a, **o):
        fits.append(1)
        return own(self, *a, **o)

    monkeypatch.setattr(Diffusion, "fit", counted)
    longer = generations(tmp_path, 3, metrics={"spread": spread})
    assert len(fits) == 1
    assert longer.distance[:3] == first.distance
    generations(tmp_path, 1, metrics={"spread": spread}, random_state=1)
    assert len(fits) == 2


def test_an_interruption_keeps_what_is_done(monkeypatch):
    fits, own = [], Diffusion.fit

    def interrupted(self, *a, **o):
        fits.append(1)
        if len(fits) == 2:
            raise KeyboardInterrupt
        return own(self, *a, **o)

    monkeypatch.setattr(Diffusion, "fit", interrupted)
    with pytest.warns(UserWarning, match="after 1 of 3"):
        found = generations(n=3)
    assert not found.finished
    assert len(found.distance) == 2
    fits.append(1)
    for options, message in (
        ({"filter": "best"}, "filter"),
        ({"n": 0}, "generations"),
        ({"filter": len}, "one number"),
        ({"metrics": {"distance": len}}, "named distance"),
        ({"fit": {"cond": np.zeros(60)}}, "cond: what belongs to rows of the data"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            generations(**options)


@pytest.mark.trains
@pytest.mark.slow
def test_the_claims_run_small():
    quiet = Progress()
    found = grid_claim.run(
        0, quiet, n=3000, steps=150, n_calibration=3000, n_test=2000, n_steps=60, control_steps=20
    )
    assert len(found.checks) == 9
    found = recursion_claim.run(0, quiet, runs=2, n=1000, steps=20, generations=2, surplus=100)
    assert found.checks


@pytest.mark.trains
@pytest.mark.slow
@pytest.mark.skipif("LODIM_DATA" not in os.environ, reason="needs MNIST: set LODIM_DATA")
def test_the_claim_of_digits_runs_small():
    found = mnist_claim.run(0, Progress(), n=300, steps=10, generations=2, surplus=50, n_steps=20)
    assert len(found.checks) == 4
    none, random = found.figures["none"]["fd_classifier"], found.figures["random"]["fd_classifier"]
    assert none[0] == random[0] < none[1]


def test_a_model_that_was_trained_is_no_generation():
    data, kept = gaussian_line(60, [-1.0, 1.0], random_state=0).X, tiny()
    options = {
        "generations": 2,
        "surplus": 4,
        "filter": "random",
        "fit": {"steps": 1},
        "sample": {"steps": 3},
    }
    for factory in (lambda: kept, lambda: None):
        with pytest.raises(ValueError, match="fresh Diffusion each time"):
            recursive_training(factory, data, **options)
    with pytest.raises(TypeError, match=r"metrics\['spread'\]"):
        recursive_training(tiny, data, metrics={"spread": lambda x: None}, **options)


def test_equal_data_have_no_distance_to_judge_by():
    with pytest.warns(UserWarning, match="drop duplicates"):
        off_support(np.ones((2, 1)), np.repeat([[-1.0], [1.0]], 50, 0))


@pytest.mark.parametrize(
    ("denoiser", "b", "said"),
    [
        (lambda x, s: x[:2], [1.0], "must return the shape"),
        (lambda x, s: x * math.nan, [1.0], "answers NaN"),
        (lambda x, s: x, [math.inf], "finite"),
    ],
)
def test_a_profile_of_nothing_is_refused(denoiser, b, said):
    with pytest.raises(ValueError, match=said):
        score_profile(denoiser, [-1.0], b, 0.5)
