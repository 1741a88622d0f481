"""Dimension of streams: the answer in memory, a uniform reservoir whatever the batches, refusals."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lodim.dimension.answers import NEED_DATA
from lodim.dimension.methods import METHODS
from lodim.geometry import IntrinsicDimension, StreamingDimension, stream_dimension


def sheet(n=1500, d=3, width=18, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(n, d)) @ rng.normal(size=(d, width))


@pytest.mark.parametrize("method", [m for m in METHODS if m not in (*NEED_DATA, "abide")])
def test_the_answer_is_that_in_memory(method):
    X = sheet()
    found = stream_dimension(X, method, n_queries=300, block_rows=200, random_state=4)
    expected = IntrinsicDimension(method, n_queries=300, random_state=4).fit(X)
    assert found.dimension_ == pytest.approx(expected.dimension_, rel=1e-9)
    np.testing.assert_allclose(
        found.dimension_pw_, expected.dimension_pw_
    ) if expected.dimension_pw_ is not None else 0


def test_options_reach_the_estimator():
    X = sheet()
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=100)
    found = stream_dimension(
        loader, "mle", k=15, n_queries=400, ci=0.9, calibrate="ball", random_state=1, block_rows=256
    )
    assert found.graph_.k == 15
    assert found.graph_.n_ref == 1500
    low, high = found.ci_
    assert low < found.dimension_ < high
    assert found.dimension_ == pytest.approx(3, rel=0.08)


@pytest.mark.parametrize("method", ["tle", "lpca", "abide"])
def test_methods_that_need_the_data_say_so(method):
    with pytest.raises(ValueError, match="needs all data in memory"):
        stream_dimension(sheet(), method)


def test_a_metric_keeps_all_of_little():
    X = sheet(400).astype(np.float32)
    metric = StreamingDimension("mle", random_state=0)
    for part in np.array_split(X, 5):
        metric.update(torch.from_numpy(part).reshape(len(part), 3, 6))
    np.testing.assert_array_equal(metric.sample, X)
    assert metric.compute() == IntrinsicDimension("mle").fit(X).dimension_
    assert metric.model.graph_.n_ref == 400
    metric.reset()
    assert metric.n_seen == 0
    with pytest.raises(ValueError, match="no rows yet"):
        metric.compute()


def test_the_batches_do_not_matter():
    X = sheet(1000)
    samples = []
    for parts in (3, 1000):
        metric = StreamingDimension(max_points=100, random_state=7)
        for part in np.array_split(X, parts):
            metric.update(part)
        samples.append(metric.sample.copy())
    np.testing.assert_array_equal(samples[0], samples[1])
    assert samples[0].shape == (100, 18)


def test_the_reservoir_is_uniform():
    counts = np.zeros(50)
    for seed in range(600):
        metric = StreamingDimension(max_points=10, random_state=seed)
        for part in np.array_split(np.arange(50.0)[:, None], 4):
            metric.update(part)
        kept = metric.sample[:, 0].astype(int)
        assert len(set(kept)) == 10
        counts[kept] += 1
    assert (np.abs(counts - 120) < 5 * np.sqrt(120 * 0.8)).all()


def test_batches_of_another_width_are_refused():
    metric = StreamingDimension()
    metric.update(np.ones((3, 4)))
    with pytest.raises(ValueError, match="5 features"):
        metric.update(np.ones((3, 5)))
    with pytest.raises(ValueError, match="method must be one of"):
        StreamingDimension("two")
