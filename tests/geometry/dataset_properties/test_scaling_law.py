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
    assert "R^2 1.000" in str(law)
    assert "log(N)," in str(law)  # no dimension was given
    assert "log(N)/d," in str(fit_scaling_law(n, 3 * n**-0.25, d=8))
    assert "+ 0.25 " in str(fit_scaling_law(n, 3 * n**0.25))
    assert "- 0.5 log K_F" in str(
        fit_scaling_law(n, n**-0.25 * np.array([1, 2, 2, 1]) ** -0.5, k_f=[1, 2, 2, 1])
    )


@pytest.mark.parametrize("d", [None, 1.0, 10, 23.5, np.full(5, 7.0)])
def test_the_documented_recipe_gives_the_law_back(d):
    n = np.array([100, 300, 1000, 3000, 10_000])
    law = fit_scaling_law(n, 5 * n**-0.1, d=d)
    assert law.predict(2000) == pytest.approx(2.338, rel=1e-3)
    assert law.n_for_loss(2.0) == pytest.approx(9537, rel=1e-3)
    np.testing.assert_allclose(law.predict([50_000, 2000]), 5 * np.array([50_000, 2000]) ** -0.1)
    again = ScalingLaw.from_json(law.to_json())
    assert again == law
    assert again.predict(50_000) == law.predict(50_000)


def test_another_dimension_may_be_given():
    n = np.array([100, 1000, 10_000])
    law = fit_scaling_law(n, 5 * n**-0.1, d=10)
    assert law.predict(2000, d=5) == pytest.approx(5 * 2000**-0.2)
    assert law.n_for_loss(2.0, d=5) == pytest.approx(2.5**5)


def test_what_varied_in_the_fit_is_asked_for():
    n, d, k_f, loss = observations()
    law = fit_scaling_law(n, loss, d, k_f)
    assert law.d == pytest.approx((d.min(), d.max()))
    assert law.k_f == pytest.approx((k_f.min(), k_f.max()))
    for call in (law.predict, law.n_for_loss):
        with pytest.raises(ValueError, match=r"dimensions from .* give d="):
            call(0.5, k_f=1.0)
        with pytest.raises(ValueError, match=r"sharpnesses from .* give k_f="):
            call(0.5, d=10)
    fixed = fit_scaling_law(n, np.exp(0.5 - 0.08 * np.log(n) + 1.3 * np.log(k_f)), 10, k_f)
    assert fixed.predict(2000, k_f=0.4) == pytest.approx(np.exp(0.5) * 2000**-0.08 * 0.4**1.3)


def test_what_was_not_in_the_fit_is_refused():
    n = np.array([100, 1000, 10_000])
    law = fit_scaling_law(n, 5 * n**-0.1)
    for call in (law.predict, law.n_for_loss):
        with pytest.raises(ValueError, match="fitted without d"):
            call(2.0, d=10)
        with pytest.raises(ValueError, match="fitted without k_f"):
            call(2.0, k_f=0.5)


@pytest.mark.parametrize("bad", [-5, 0, np.nan, np.inf, [100, -1], "many", None])
def test_only_positive_numbers_are_put_into_a_law(bad):
    n = np.array([100, 1000, 10_000])
    law = fit_scaling_law(n, 5 * n**-0.1, d=10)
    with pytest.raises((ValueError, TypeError), match=r"n must (be positive|hold numbers)"):
        law.predict(bad)
    with pytest.raises((ValueError, TypeError), match=r"loss must (be positive|hold numbers)"):
        law.n_for_loss(bad)
    if bad is not None:
        with pytest.raises(ValueError, match=r"d must (be positive|hold numbers)"):
            law.predict(10, d=bad)


def test_a_loss_that_no_number_of_points_reaches_is_said():
    n = np.array([100, 1000, 10_000])
    law = fit_scaling_law(n, 5 * n**-0.001)
    assert law.n_for_loss(3.0) == pytest.approx((5 / 3) ** 1000, rel=1e-6)
    with pytest.raises(ValueError, match=r"no finite number of points .* 0\.1"):
        law.n_for_loss([3.0, 0.1])


def test_refusals():
    with pytest.raises(ValueError, match="positive"):
        fit_scaling_law([10, 20], [1.0, -1.0])
    with pytest.raises(ValueError, match="vary n"):
        fit_scaling_law([10, 10, 10], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="loss has 3"):
        fit_scaling_law([10, 20], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="does not fall"):
        fit_scaling_law([10, 100], [1.0, 2.0]).n_for_loss(0.5)


def earlier(law):
    """As a law was written before it kept what it was fitted to."""
    return ScalingLaw.from_dict({k: v for k, v in law.to_dict().items() if k not in ("d", "k_f")})


def test_a_law_that_does_not_say_what_it_was_fitted_to_takes_what_it_is_given():
    n, d, k_f, loss = observations()
    law = fit_scaling_law(n, loss, d, k_f)
    old = earlier(law)
    assert old.predict(2000, 7, 0.4) == law.predict(2000, 7, 0.4)
    assert old.n_for_loss(0.5, 7, 0.4) == law.n_for_loss(0.5, 7, 0.4)
    with pytest.raises(ValueError, match=r"does not say .* dimensions .* give d="):
        old.predict(2000, k_f=0.4)
    with pytest.raises(ValueError, match=r"does not say .* sharpnesses .* give k_f="):
        old.predict(2000, d=7)


def test_a_fit_without_a_dimension_is_told_from_one_that_does_not_say():
    n = np.array([100, 1000, 10_000])
    law = fit_scaling_law(n, 5 * n**-0.1)
    assert law.d == ()
    old = earlier(law)
    assert old.d is None
    assert old.predict(2000, d=1) == law.predict(2000)
    with pytest.raises(ValueError, match="does not say"):
        old.predict(2000)
    with pytest.raises(ValueError, match="fitted without k_f"):
        old.predict(2000, d=1, k_f=0.5)
