"""Rules for a spectrum against their definitions; spectra against the SVD."""

import numpy as np
import pytest

from lodim.dimension.spectrum import (
    LPCA_RULES,
    components_for,
    covariance_spectrum,
    linear_dimension,
    local_dimension,
    local_spectra,
)
from lodim.neighbors import NeighborGraph


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (20, 20)])
def test_spectrum_is_the_covariance_matrix_s(shape):
    X = np.random.default_rng(0).normal(size=shape) + 5
    expected = np.sort(np.linalg.eigvalsh(np.cov(X.T)))[::-1][: min(shape)]
    np.testing.assert_allclose(covariance_spectrum(X), np.maximum(expected, 0), atol=1e-10)


@pytest.mark.parametrize("d", [3, 30])
def test_local_spectra(d):
    X = np.random.default_rng(0).normal(size=(60, d))
    graph = NeighborGraph.from_data(X, 8)
    found = local_spectra(X, graph, 8)
    around = np.vstack([X[5], X[graph.idx[5]]])
    np.testing.assert_allclose(found[5], covariance_spectrum(around)[: found.shape[1]], atol=1e-10)
    np.testing.assert_array_equal(
        local_dimension(found, "FO"), [linear_dimension(row, "FO") for row in found]
    )


def test_rules_on_a_spectrum_worked_by_hand():
    l = np.array([10.0, 6.0, 3.0, 0.6, 0.3, 0.1])  # sum 20
    assert linear_dimension(l, "FO") == 4
    assert linear_dimension(l, "maxgap") == 3
    assert linear_dimension(l, "ratio") == 3
    assert linear_dimension(l, "Kaiser") == 2
    assert linear_dimension(l, "participation") == pytest.approx(400 / (100 + 36 + 9 + 0.36 + 0.09 + 0.01))
    # 95 % at the third: noise = mean(3, .6, .3, .1) = 1, cleaned 9 5 2 0 0 0; 80 % of 16 at the second
    assert linear_dimension(l, "Fan") == 2
    # expected shares .408 .242 .158 .103 .061 .028 against .5 .3 .15
    assert linear_dimension(l, "broken_stick") == 2


def test_components_for():
    assert [components_for(np.array([5.0, 3.0, 2.0]), s) for s in (0.5, 0.51, 0.8, 0.81, 1.0)] == [
        1,
        2,
        2,
        3,
        3,
    ]


@pytest.mark.parametrize("rule", [r for r in LPCA_RULES if r != "broken_stick"])
def test_a_flat_disc_in_many_dimensions(rule):
    X = (
        np.random.default_rng(0).normal(size=(400, 3))
        @ np.linalg.qr(np.random.default_rng(1).normal(size=(50, 3)))[0].T
    )
    low = 2 if rule in ("Fan", "participation") else 3
    assert low <= linear_dimension(covariance_spectrum(X), rule, X.shape) <= 3.0001


def test_edges():
    assert linear_dimension(np.zeros(4)) == 0
    assert linear_dimension(np.array([2.0]), "maxgap") == 1
    with pytest.raises(ValueError, match="rule must be one of"):
        linear_dimension(np.ones(3), "scree")


@pytest.mark.parametrize("unit", [1e-200, 1.0, 1e200])
def test_participation_does_not_hang_on_the_unit(unit):
    assert linear_dimension(unit * np.array([4.0, 4.0, 0.0]), "participation") == 2
