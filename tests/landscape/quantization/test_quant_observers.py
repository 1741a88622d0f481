"""Calibration: known optima, and what each observer is for."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.landscape.quantization import (
    QuantSpec,
    RangeObserver,
    choose_qparams,
    clip_range,
    fake_quantize,
    to_blocks,
    weight_qparams,
)
from lodim.landscape.quantization.spec import OBSERVERS
from lodim.randomness import torch_generator

NOT_NORM = [observer for observer in OBSERVERS if observer != "norm"]  # which takes the path of "mse"


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed))


def squared_error(x, spec, low, high):
    rounded = fake_quantize(x, *choose_qparams(low, high, spec), spec)
    return to_blocks((x - rounded).square(), spec).sum(1)


@pytest.mark.parametrize(
    ("observer", "symmetric"), [("norm", False), *itertools.product(NOT_NORM, [True, False])]
)
def test_batches_give_what_the_whole_gives(observer, symmetric):
    spec = QuantSpec(4, symmetric=symmetric, granularity="tensor", observer=observer, momentum=1)
    x = normal(4096)
    whole, parts = RangeObserver(spec), RangeObserver(spec)
    whole.update(x)
    for part in x.split(500):
        parts.update(part)
    assert parts.n_batches == 9
    if observer != "moving_average":
        assert [t.item() for t in whole.range()] == [t.item() for t in parts.range()]
    low, high = clip_range(x[None], spec)
    for ours, exact in zip(whole.range(), (low, high), strict=True):
        assert ours.item() == pytest.approx(exact.item(), rel=0.06)


def test_a_moving_average_by_hand():
    observer = RangeObserver(QuantSpec(granularity="tensor", observer="moving_average", momentum=0.1))
    for top in (1.0, 2.0, 4.0):
        observer.update(torch.tensor([-top, top]))
    assert observer.range()[1].item() == pytest.approx(0.9 * (0.9 * 1 + 0.1 * 2) + 0.1 * 4)


def test_an_observer_of_channels_has_a_range_for_each():
    x = normal(32, 3, 5) * torch.tensor([1.0, 10.0, 100.0])[:, None]
    observer = RangeObserver(QuantSpec(granularity="channel", axis=1, observer="percentile", percentile=100))
    for part in x.split(8):
        observer.update(part)
    torch.testing.assert_close(observer.range()[1], x.abs().amax((0, 2)), rtol=1e-3, atol=0)


@pytest.mark.parametrize("symmetric", [True, False])
def test_percentiles_are_numpys(symmetric):
    x = normal(3, 501)
    low, high = clip_range(x, QuantSpec(4, symmetric=symmetric, observer="percentile", percentile=98))
    if symmetric:
        expected = np.percentile(x.abs().double().numpy(), 98, axis=1)
        np.testing.assert_allclose(-low.numpy(), expected, rtol=1e-6)
    else:
        expected = np.percentile(x.double().numpy(), 98, axis=1)
        np.testing.assert_allclose(low.numpy(), np.percentile(x.double().numpy(), 2, axis=1), rtol=1e-6)
    np.testing.assert_allclose(high.numpy(), expected, rtol=1e-6)


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    bits=st.integers(2, 6),
    symmetric=st.booleans(),
    heavy=st.floats(0, 2),
    full=st.booleans(),
)
def test_the_mse_range_is_never_worse_than_minmax(seed, bits, symmetric, heavy, full):
    x = normal(4, 60, seed=seed) * (heavy * normal(4, 60, seed=seed + 1)).exp()
    spec = QuantSpec(bits, symmetric=symmetric, observer="mse", range="full" if full else "restricted")
    best = squared_error(x, spec, *clip_range(x, spec))
    plain = squared_error(x, spec, *torch.aminmax(x, dim=1))
    assert bool((best <= plain * (1 + 1e-6)).all())


def test_the_mse_range_is_the_best_of_a_fine_scan():
    x, spec = normal(1, 1000), QuantSpec(3, observer="mse")
    best = squared_error(x, spec, *clip_range(x, spec)).item()
    tops = x.abs().max() * torch.linspace(0.2, 1, 401)
    scan = squared_error(x.expand(401, -1), spec, -tops, tops)  # each row another range
    assert best <= scan.min().item() * 1.001


def test_the_norm_with_p_2_is_the_mse():
    x = normal(5, 100)
    both = [clip_range(x, QuantSpec(3, observer=o, p=2)) for o in ("mse", "norm")]
    assert torch.equal(both[0][1], both[1][1])


def test_a_higher_norm_minds_outliers_more():
    x = normal(1, 2000)
    tops = [clip_range(x, QuantSpec(3, observer="norm", p=p))[1].item() for p in (1, 2, 4, 12)]
    assert tops == sorted(tops)
    assert tops[0] < tops[-1]


@pytest.mark.parametrize(("bits", "far", "limit"), [(4, 50.0, 10), (8, 300.0, 100)])
def test_entropy_clips_outliers(bits, far, limit):
    x = normal(1, 100_000)
    x[0, ::100] *= far  # one in a hundred; kept, they would leave the others a few levels
    for spec in (
        QuantSpec(bits, granularity="tensor", observer="entropy"),
        QuantSpec(bits, granularity="tensor", observer="entropy", symmetric=False),
    ):
        assert 2 < clip_range(x, spec)[1].item() < limit
        observer = RangeObserver(spec)
        observer.update(x)
        low, high = observer.range()
        assert high.item() < limit
        assert low.item() > -limit
        assert high.item() > 2  # and keeps the bulk


def test_entropy_keeps_what_is_evenly_spread():
    x = torch.linspace(-1, 1, 100_001)[None]
    assert clip_range(x, QuantSpec(8, granularity="tensor", observer="entropy"))[1].item() > 0.95


def test_one_sided_data_use_all_levels_for_one_side():
    x = normal(1, 20_000).relu()
    low, high = clip_range(x, QuantSpec(8, symmetric=False, granularity="tensor", observer="entropy"))
    assert low.item() == 0
    assert 2 < high.item() <= x.max().item()


@pytest.mark.parametrize("observer", NOT_NORM)
def test_masked_padding_does_not_count(observer):
    x = normal(1, 40) + 1.5
    padded = torch.nn.functional.pad(x, (0, 24))
    mask = torch.arange(64)[None] < 40
    spec = QuantSpec(3, observer=observer, percentile=90)
    for ours, exact in zip(clip_range(padded, spec, mask=mask), clip_range(x, spec), strict=True):
        if observer in ("minmax", "moving_average"):  # zero is in every range anyway
            ours, exact = (torch.minimum(t, torch.zeros(1)) if exact < 1 else t for t in (ours, exact))
        torch.testing.assert_close(ours, exact)


@pytest.mark.parametrize("observer", NOT_NORM)
@pytest.mark.parametrize("symmetric", [True, False])
def test_zeros_and_tiny_blocks_are_no_trouble(observer, symmetric):
    spec = QuantSpec(4, observer=observer, symmetric=symmetric)
    low, high = clip_range(torch.zeros(2, 5), spec)
    assert low.tolist() == high.tolist() == [0, 0]
    low, high = clip_range(torch.tensor([[0.5]]), spec)
    assert low.item() <= high.item() <= 0.5 + 1e-3


@pytest.mark.parametrize("observer", ["minmax", "mse"])
def test_numbers_that_are_not_finite_are_refused_where_they_come(observer):
    seen = RangeObserver(QuantSpec(granularity="tensor", observer=observer))
    with pytest.raises(ValueError, match="NaN"):
        seen.update(torch.tensor([1.0, math.nan]))


def test_an_observer_without_data_and_one_too_fine():
    with pytest.raises(RuntimeError, match="no batch"):
        RangeObserver(QuantSpec(granularity="tensor")).range()
    with pytest.raises(ValueError, match="too coarse for 12 bits"):
        RangeObserver(QuantSpec(12, granularity="tensor", observer="mse"))


@pytest.mark.parametrize("observer", ["mse", "norm"])
@pytest.mark.parametrize("exponent", [-110, -70, 70, 110])
def test_the_range_of_least_error_follows_the_unit_of_the_numbers(observer, exponent):
    x, spec = normal(3, 60), QuantSpec(3, observer=observer)
    here, there = (weight_qparams(x * 2.0**k, spec)[0] for k in (0, exponent))
    assert torch.equal(there, here * 2.0**exponent)
    assert (here < x.abs().amax(1) / spec.qmax).all()
