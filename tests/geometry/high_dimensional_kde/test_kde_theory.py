"""The theory against quadrature, its limits, and simulated random energies."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import ncx2

from lodim.geometry.high_dimensional_kde import (
    EmpiricalPhi,
    KDETheory,
    density_fluctuations,
    empirical_phi,
    gaussian_phi,
    kde_theory,
    regime_map,
)
from lodim.geometry.high_dimensional_kde.fluctuations import _one_large_term as one_large_term


@pytest.mark.parametrize("r", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("rate", [0.1, 1.0, 4.0])
def test_phi_is_the_mean_kernels_exponent(rate, r):
    d = 12
    mean, _ = quad(lambda D: math.exp(-rate * D / 2) * ncx2.pdf(D, d, r * d), 0, 20 * d, epsabs=0, limit=200)
    value, slope = gaussian_phi(np.ones(1), r)(rate)
    assert math.log(mean) / d == pytest.approx(value, rel=1e-7)
    step = 1e-5
    up, down = (gaussian_phi(np.ones(1), r)(rate + s)[0] for s in (step, -step))
    assert slope == pytest.approx((up - down) / (2 * step), rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(alpha=st.floats(1e-3, 2.0), r=st.floats(0.3, 3.0), s=st.floats(0.01, 100))
def test_the_threshold_solves_the_closed_form(alpha, r, s):
    t = 1 / kde_theory(alpha=alpha, spectrum=[s], position=r).h_g ** 2 * s
    entropy = 0.5 * math.log1p(t) - t / (2 * (1 + t)) + r * t**2 / (2 * (1 + t) ** 2)
    assert entropy == pytest.approx(alpha, rel=1e-8)


@pytest.mark.parametrize(
    ("d", "h_g", "h_opt", "kl"),
    [(20, 0.656, 0.626, None), (40, 0.951, 0.837, 0.0696), (80, 1.267, 0.998, 0.1218)],
)
def test_known_values(d, h_g, h_opt, kl):
    found = kde_theory(20_000, d)
    assert found.h_g == pytest.approx(h_g, abs=6e-4)
    assert found.h_opt == pytest.approx(h_opt, abs=6e-4)
    assert kl is None or found.kl_per_dim == pytest.approx(kl, abs=6e-5)


@given(alpha=st.floats(1e-3, 3.0))
@settings(max_examples=20, deadline=None)
def test_identities(alpha):
    found = kde_theory(alpha=alpha)
    assert found.h_clt == pytest.approx(math.sqrt(2) * found.h_g)
    assert found.h_opt < found.h_g
    assert found.regime(found.h_opt) == "condensed"
    assert found.tail_index(found.h_g) == pytest.approx(1)
    assert found.tail_index(found.h_clt) == pytest.approx(2)
    assert found.kl_per_dim > 0


def test_the_clt_threshold_is_the_condition_at_twice_the_rate():
    """The sum of squared kernels, an energy at twice the rate, condenses exactly at h_CLT, for any spectrum."""
    s = np.array([3.0, 1.0, 0.2])
    found, phi = kde_theory(alpha=0.3, spectrum=s), gaussian_phi(s)
    doubled = 2 / found.h_clt**2
    value, slope = phi(doubled)
    assert 0.3 + value - doubled * slope == pytest.approx(0, abs=1e-10)


def test_few_points_for_the_dimension():
    """alpha to 0: the best bandwidth's square tends to 2, KL/d to log(2)/2."""
    found = kde_theory(alpha=1e-7)
    assert found.h_opt**2 == pytest.approx(2, abs=2e-3)
    assert found.kl_per_dim == pytest.approx(0.5 * math.log(2), abs=5e-4)


def test_the_best_bandwidth_maximises_the_likelihood():
    """Below h_G the mean log density over d is ``-alpha - log(2 pi h^2)/2 - u_G/(2 h^2)``, above it phi's."""
    s = np.array([2.0, 0.5])
    found, phi = kde_theory(alpha=0.2, spectrum=s), gaussian_phi(s)
    h = np.geomspace(0.3, 4, 4000) * found.h_g
    below = -0.2 - found.u_g / (2 * h**2)
    above = np.array([phi(1 / v**2)[0] for v in h])
    likelihood = np.where(h < found.h_g, below, above) - 0.5 * np.log(2 * np.pi * h**2)
    assert h[likelihood.argmax()] == pytest.approx(found.h_opt, rel=1e-3)
    entropy = 0.5 * (np.log(2 * np.pi * math.e) + np.log(s).mean())
    assert -entropy - likelihood.max() == pytest.approx(found.kl_per_dim, abs=1e-5)
    j = np.searchsorted(h, found.h_g)
    assert likelihood[j] == pytest.approx(likelihood[j - 1], abs=1e-3)  # continuous at the threshold


def test_scale_and_repetition_of_the_spectrum():
    one, scaled = kde_theory(alpha=0.2, spectrum=[1.0, 4.0]), kde_theory(alpha=0.2, spectrum=[9.0, 36.0])
    assert scaled.h_g == pytest.approx(3 * one.h_g)
    assert scaled.kl_per_dim == pytest.approx(one.kl_per_dim)
    assert kde_theory(1000, spectrum=[1.0, 4.0] * 5).h_g == pytest.approx(
        kde_theory(alpha=math.log(1000) / 10, spectrum=[1, 4]).h_g
    )


def test_a_phi_of_ones_own():
    plain = kde_theory(5000, 50)
    entropy = 0.5 * math.log(2 * math.pi * math.e)
    mine = kde_theory(5000, 50, phi=lambda rate: gaussian_phi([1.0])(rate)[0], entropy=entropy)
    assert mine.h_g == pytest.approx(plain.h_g, rel=1e-6)
    assert mine.h_opt == pytest.approx(plain.h_opt, rel=1e-6)
    assert mine.kl_per_dim == pytest.approx(plain.kl_per_dim, rel=1e-6)
    assert math.isnan(kde_theory(5000, 50, phi=gaussian_phi([1.0])).kl_per_dim)


def test_simulated_random_energies_condense_at_the_threshold():
    """Independent of the formulas: distances drawn, shares squared, in 400 dimensions."""
    d, n, rng = 400, 3000, np.random.default_rng(0)
    theory = kde_theory(n, d)
    squares = rng.noncentral_chisquare(d, d, size=(400, n))
    for factor in (0.3, 0.6):
        h = factor * theory.h_g
        logs = -squares / (2 * h**2)
        y2 = np.exp(logsumexp(2 * logs, axis=1) - 2 * logsumexp(logs, axis=1))
        assert y2.mean() == pytest.approx(theory.share_squared(h), abs=0.08)
    assert squares.min(1).mean() / d == pytest.approx(theory.u_g, rel=0.04)


def test_phi_measured_on_data_gives_the_same_thresholds():
    X = np.random.default_rng(0).normal(size=(6000, 25))
    phi = empirical_phi(X, n_queries=400, random_state=0)
    for n in (10, 40):
        assert kde_theory(n, 25, phi=phi).h_g == pytest.approx(kde_theory(n, 25).h_g, rel=0.03)
        assert kde_theory(n, 25, phi=phi).h_opt == pytest.approx(kde_theory(n, 25).h_opt, rel=0.03)
    with pytest.raises(ValueError, match="ask for fewer"):
        kde_theory(6000, 25, phi=phi)
    assert math.exp(phi.alpha_limit * 25) > 40
    assert EmpiricalPhi.from_json(phi.to_json())(phi.guess) == pytest.approx(phi(phi.guess))


@pytest.mark.parametrize("factor", [0.7, 1.25])
def test_fluctuations_have_the_tail_of_one_large_term(factor):
    h = factor * kde_theory(1000, 60).h_g
    found = density_fluctuations(h, 1000, 60, n_sets=1500, random_state=1)
    assert abs(found.tail_index - found.expected_here) < 4 * found.se
    assert found.expected == pytest.approx(factor**2)
    assert found.regime == ("condensed" if factor < 1 else "stable")
    assert "data sets" in str(found)


def test_one_large_term_tends_to_the_theory():
    """At fixed alpha the index at the threshold falls to 1 as the dimension grows."""
    index = [
        one_large_term(kde_theory(n, d).h_g, n, d) for d in (40, 80, 160) for n in [round(math.exp(0.1 * d))]
    ]
    assert index[0] > index[1] > index[2] > 1
    assert index[2] - 1 < 0.6 * (index[0] - 1)


def test_fluctuations_of_a_sampler_of_ones_own():
    found = density_fluctuations(
        1.0,
        50,
        3,
        n_sets=300,
        sampler=lambda rng, m, n: rng.gamma(1.5, size=(m, n)),
        expected=2.0,
        random_state=0,
    )
    assert found.expected == 2.0
    assert math.isnan(found.expected_here)


def test_regime_map():
    found = regime_map([0.05, 0.2, 0.8])
    frame = found.to_frame()
    assert list(frame.columns) == ["alpha", "h_g", "h_clt", "h_opt"]
    assert (frame.diff().dropna()[["h_g", "h_clt", "h_opt"]] < 0).all().all()
    axes = found.plot(points=[(0.2, 1.0, "mine")])
    assert axes.get_xlabel().startswith("alpha")
    assert KDETheory.from_json(kde_theory(100, 10).to_json()) == kde_theory(100, 10)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({}, "give n and d"),
        ({"n": 100}, "give n and d"),
        ({"n": 100, "d": 5, "alpha": 0.1}, "not both"),
        ({"alpha": 0.0}, "positive"),
        ({"alpha": 0.1, "spectrum": [-1.0]}, "nonnegative"),
        ({"n": 100, "spectrum": []}, "spectrum"),
        ({"alpha": 0.1, "spectrum": [1.0], "phi": lambda rate: 0.0}, "not both"),
        ({"alpha": 0.1, "phi": lambda rate: (0.0, 0.0)}, "no condensation"),
        ({"alpha": 0.1, "phi": lambda rate: math.nan}, "phi.* must be a number, got nan"),
        ({"alpha": 0.1, "phi": lambda rate: (0.0, math.nan)}, "phi.* must be a number, got nan"),
        ({"n": 100, "d": 7, "spectrum": [1.0, 2.0]}, "2 eigenvalues for d=7"),
    ],
)
def test_refusals(arguments, match):
    with pytest.raises(ValueError, match=match):
        kde_theory(**arguments)


@pytest.mark.parametrize("phi", [lambda rate: None, lambda rate: [-0.1, -0.1], lambda rate: (1.0, 2.0, 3.0)])
def test_phi_is_a_number_or_a_pair(phi):
    with pytest.raises(TypeError, match=r"phi\(lambda\) must be a number"):
        kde_theory(alpha=0.1, phi=phi)


def test_the_number_of_points_goes_with_alpha():
    assert kde_theory(alpha=0.5, d=10).n == pytest.approx(math.exp(5))
    assert kde_theory(alpha=0.5, d=1500).n == math.inf  # beyond the largest float
    assert kde_theory(alpha=0.5).n is None


def test_one_eigenvalue_is_that_of_all_dimensions():
    assert kde_theory(100, 7, [2.0]).h_g == pytest.approx(kde_theory(100, 7, [2.0] * 7).h_g)


@pytest.mark.parametrize("squares", [np.ones(3), np.full((200, 50), np.nan), np.full((200, 50), -1.0), 1.0])
def test_a_sampler_returns_squared_distances(squares):
    with pytest.raises(ValueError, match="squared distances of shape"):
        density_fluctuations(1.0, 50, 3, n_sets=200, sampler=lambda rng, m, n: squares)
    with pytest.raises(ValueError, match="finite"):
        density_fluctuations(math.inf, 50, 3, n_sets=200)


@pytest.mark.parametrize(
    ("position", "match"), [([1, 2], "2 numbers.*3 dimensions"), (-1.0, "nonnegative"), ("a", "numbers")]
)
def test_positions_that_cannot_be(position, match):
    with pytest.raises(ValueError, match=match):
        kde_theory(100, spectrum=[1.0, 2.0, 3.0], position=position)


@pytest.mark.parametrize("position", ["3", True])
def test_a_position_is_a_number(position):
    with pytest.raises(TypeError, match="position must be a number"):
        kde_theory(100, 5, position=position)


@pytest.mark.parametrize("far", [1e16, 1e20])
def test_positions_far_out_have_thresholds(far):
    """There s = alpha - r lambda^2 / 2, and the nearest point is no nearer than the threshold."""
    found = kde_theory(100, 5, position=far)
    assert found.h_g == pytest.approx((far / (2 * found.alpha)) ** 0.25, rel=1e-6)
    assert math.isnan(found.h_opt)
    assert "not below" in str(found)


@pytest.mark.parametrize("beyond", [{"alpha": 1e-200}, {"alpha": 0.1, "position": 1e200}])
def test_what_double_precision_cannot_solve_is_refused(beyond):
    with pytest.raises(ValueError, match="alpha is too small or position too far out"):
        kde_theory(**beyond)
    with pytest.raises(ValueError, match="alphas must be at least"):
        regime_map([1e-200])


def test_a_position_for_each_dimension():
    """Without a spectrum all eigenvalues are 1, and only the mean of the squared coordinates counts."""
    assert kde_theory(100, 2, position=[1, 2]).h_g == pytest.approx(kde_theory(100, 2, position=1.5).h_g)
    with pytest.raises(ValueError, match=r"2 numbers.*5 dimensions"):
        kde_theory(100, 5, position=[1, 2])
