"""Streaming histograms: conserved counts, whatever the batches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lodim.landscape.quantization import StreamingHistogram
from lodim.randomness import torch_generator


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch_generator(seed))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), parts=st.integers(1, 6), spread=st.floats(-8, 8))
def test_a_histogram_forgets_how_its_numbers_were_split(seed, parts, spread):
    rng = np.random.default_rng(seed)
    x = torch.tensor(
        rng.normal(size=(3, 120)) * np.exp(rng.normal(size=(3, 120)) * spread), dtype=torch.float32
    )
    x[0, :5] = 0
    whole = StreamingHistogram(3, 64)
    whole.update(x)
    split = StreamingHistogram(3, 64)
    for part in torch.tensor_split(x[:, torch.tensor(rng.permutation(120))], parts, dim=1):
        split.update(part)
    assert torch.equal(whole.counts, split.counts)
    assert torch.equal(whole.exponent, split.exponent)
    assert whole.counts.sum(1).tolist() == [120, 120, 120]


def test_a_histogram_counts_as_numpy_does():
    x = normal(1, 5000)
    histogram = StreamingHistogram(1, 256)
    histogram.update(x)
    edges = (np.arange(257) - 128) * float(histogram.width)
    assert histogram.counts[0].tolist() == np.histogram(x.double().numpy(), edges)[0].tolist()
    middles = (edges[1:] + edges[:-1]) / 2
    np.testing.assert_allclose(histogram.centres[0].numpy(), middles, rtol=1e-12)


def test_masked_numbers_are_not_counted():
    x = normal(2, 6)
    histogram = StreamingHistogram(2, 8)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    histogram.update(x * mask, mask)
    assert histogram.counts.sum(1).tolist() == [6, 4]


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_histogram_finds_its_range_at_any_scale(scale):
    histogram = StreamingHistogram(1, 4096)
    histogram.update(normal(1, 1000) * scale)
    histogram.update(torch.zeros(1, 5))
    assert int(histogram.counts.sum()) == 1005
    assert float(histogram.quantile(0.9)) == pytest.approx(1.28 * scale, rel=0.15)


def test_a_histogram_refuses_other_bins():
    with pytest.raises(ValueError, match="power of two"):
        StreamingHistogram(1, 100)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("magnitude", [False, True])
def test_quantiles_are_within_a_bin(share, magnitude):
    x = normal(2, 4000).exp() - 1
    histogram = StreamingHistogram(2)
    for part in x.split(1000, dim=1):
        histogram.update(part)
    exact = torch.quantile(x.abs() if magnitude else x, share, dim=1)
    error = (histogram.quantile(share, magnitude=magnitude) - exact).abs()
    neighbours = 0.02 * exact.abs()  # numbers are sparse in the tails
    assert bool((error <= histogram.width + neighbours).all())
