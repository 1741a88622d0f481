import numpy as np
import pytest

from lodim.geometry import ScalingLaw, fit_scaling_law


def observations(noise=0.0, m=40, seed=0):
    rng = np.random.default_rng(seed)
    n, d, k_f = rng.integers(100, 10_000, m), rng.uniform(5, 20, m), rng.uniform(0.1, 1, m)
    return n, d, k_f, np.exp(0.5 - 0.8 * np.log(n) / d + 1.3 * np.log(k_f) + noise * rng.normal(size=m))


def test_exact_data_give_the_coefficients_back():
    n, d, k_f, loss = observations()
    law = fit_scaling_law(n, loss, d, k_f)
    assert (law.intercept, law.exponent, law.sharpness) == pytest.approx((0.5, 0.8, 1.3))
    assert law.r2 == pytest.approx(1)
    np.testing.assert_allclose(law.predict(n, d, k_f), loss)
    np.testing.assert_allclose(law.n_for_loss(loss, d, k_f), n)


def test_standard_errors_are_the_spread():
    laws = [
        fit_scaling_law(n, loss, d, k) for n, d, k, loss in (observations(0.1, seed=s) for s in range(300))
    ]
    for name in ("exponent", "sharpness"):
        spread = np.std([getattr(law, name) for law in laws])
        assert np.mean([law.se[name] for law in laws]) == pytest.approx(spread, rel=0.15)


def test_plain_power_law():
    n = np.array([100, 200, 400, 800])
    law = fit_scaling_law(n, 3 * n**-0.25)
    assert law.exponent == pytest.approx(0.25)
    assert law.sharpness is None
    assert law.n_for_loss(0.1) == pytest.approx(30**4)
    assert fit_scaling_law(n, 3 * n**-0.25, d=8).exponent == pytest.approx(2)
    assert ScalingLaw.from_json(law.to_json()) == law
    assert "R^2 1.000" in str(law)


def test_refusals():
    with pytest.raises(ValueError, match="positive"):
        fit_scaling_law([10, 20], [1.0, -1.0])
    with pytest.raises(ValueError, match="vary n"):
        fit_scaling_law([10, 10, 10], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="loss has 3"):
        fit_scaling_law([10, 20], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="does not fall"):
        fit_scaling_law([10, 100], [1.0, 2.0]).n_for_loss(0.5)
