"""The estimators on MNIST's 10,000 test images: figures on which three independent implementations agree."""

import os

import numpy as np
import pytest

from lodim.dimension.nearest import gride, log_ratios
from lodim.geometry import IntrinsicDimension
from lodim.neighbors import NeighborGraph

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("LODIM_DATA" not in os.environ, reason="needs MNIST: set LODIM_DATA"),
]


@pytest.fixture(scope="module")
def images():
    from lodim.datasets import load

    return load("mnist", split="test").X.astype(np.float64)


@pytest.fixture(scope="module")
def graph(images):
    return NeighborGraph.from_data(images, 100)


@pytest.mark.parametrize(
    ("method", "k", "aggregate", "figure", "digits"),
    [
        ("twonn_fit", None, None, 13.557, 3),
        ("mle", 20, None, 11.850, 3),
        ("mle_unbiased", 20, None, 11.226, 3),
        ("mada", 20, "mean", 13.93, 2),
        ("mada", 20, "median", 12.25, 2),
        ("mom", 100, None, 12.735, 3),
        ("tle", 20, None, 12.86, 2),
        ("lpca", None, None, 37, 0),
        ("fishers", None, None, 7.83, 2),
        ("corrint", 20, None, 5.12, 2),
    ],
)
def test_figures(images, graph, method, k, aggregate, figure, digits):
    needs_data = method in ("tle", "lpca", "fishers", "corrint")
    model = IntrinsicDimension(method, k=k, aggregate=aggregate).fit(images if needs_data else graph)
    assert model.dimension_ == pytest.approx(figure, abs=0.5 * 10**-digits)


@pytest.mark.parametrize(
    ("n1", "figure", "se"),
    [
        (1, 13.56, 0.14),
        (2, 12.51, 0.09),
        (4, 12.20, 0.06),
        (8, 11.70, 0.04),
        (16, 11.31, 0.03),
        (32, 10.83, 0.02),
    ],
)
def test_gride_across_scales(graph, n1, figure, se):
    d, error = gride(log_ratios(graph.dist, n1, 2 * n1), n1, 2 * n1)
    assert d == pytest.approx(figure, abs=0.005)
    assert error == pytest.approx(se, abs=0.005)


def test_the_graph_is_exact(images, graph):
    rows = np.arange(0, 10_000, 500)
    dist = np.stack([np.linalg.norm(images - images[i], axis=1) for i in rows])
    dist[np.arange(len(rows)), rows] = np.inf
    np.testing.assert_allclose(graph.dist[rows], np.sort(dist, 1)[:, :100], rtol=1e-10)
