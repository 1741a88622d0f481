"""Evolution strategy and cross-entropy method on plain functions: optima, invariances, determinism."""

import numpy as np
import pytest

from lodim.landscape.objective_landscapes.evolution import EvolutionResult, cem_train, es_train

pytestmark = pytest.mark.trains

TARGET = np.array([0.7, -1.2, 0.3, 2.0])


def bowl(v):
    return -float(((v - TARGET) ** 2).sum())


def trained(method, fitness=bowl, **options):
    if method == "es":
        return es_train(fitness, 4, **{"generations": 150, "weight_decay": 0.0, **options})
    return cem_train(fitness, 4, **{"generations": 60, **options})


@pytest.mark.parametrize("method", ["es", "cem"])
def test_finds_the_optimum_of_a_bowl(method):
    found = trained(method)
    np.testing.assert_allclose(found.mean, TARGET, atol=0.15)
    assert found.score == bowl(found.mean)
    assert found.stopped == "budget"
    assert found.average[-5:].mean() > found.average[:5].mean()


@pytest.mark.parametrize("method", ["es", "cem"])
def test_only_the_order_of_fitness_matters(method):
    plain = trained(method, generations=20)
    bent = trained(method, lambda v: 5 + np.exp(bowl(v) / 20), generations=20)
    np.testing.assert_array_equal(plain.mean, bent.mean)
    assert plain.score != bent.score


@pytest.mark.parametrize("method", ["es", "cem"])
def test_the_seed_decides(method):
    one, again, other = (trained(method, generations=5, random_state=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.mean, again.mean)
    np.testing.assert_array_equal(one.best, again.best)
    assert (one.mean != other.mean).all()


@pytest.mark.parametrize("method", ["es", "cem"])
def test_stops_at_the_target(method):
    found = trained(method, target=-0.5, generations=500)
    assert found.stopped == "target"
    assert found.solved
    assert found.score >= -0.5
    assert len(found.best) < 500
    assert not trained(method, target=1.0, generations=3).solved  # the bowl's top is 0


def test_es_follows_the_gradient_of_a_linear_function():
    slope = np.array([3.0, 0.0, -1.0])
    one_step = es_train(lambda v: float(slope @ v), 3, n_pairs=2000, lr=0.01, generations=1, weight_decay=0.0)
    # Adam's first step has the sign of the gradient and the size lr
    np.testing.assert_allclose(one_step.mean[[0, 2]], [0.01, -0.01], rtol=1e-6)
    assert one_step.n_evaluations == 4000


def test_es_on_a_constant_stays_where_it_is():
    np.testing.assert_array_equal(es_train(lambda v: 1.0, 3, generations=5).mean, np.zeros(3))


def test_es_weight_decay_pulls_the_solution_inwards():
    free = trained("es", weight_decay=0.0, generations=200).mean
    held = trained("es", weight_decay=5.0, generations=200).mean
    assert np.linalg.norm(held) < 0.9 * np.linalg.norm(free)


def test_cem_noise_floor_keeps_it_searching():
    def flat_start(v):  # nothing to climb until the search has spread
        return float(min(abs(v[0]), 3.0))

    spread = cem_train(flat_start, 1, sd=0.01, noise=0.5, noise_decay=1.0, generations=30)
    stuck = cem_train(flat_start, 1, sd=0.01, noise=0.0, generations=30)
    assert spread.score > 2.0
    assert stuck.score < 0.5


def test_the_result_reports_itself():
    found = trained("cem", generations=4, target=5.0)
    assert "4 generations, 96 evaluations" in str(found)
    assert "missed" in str(found)
    assert list(found.to_frame().columns) == ["generation", "best", "average"]
    back = EvolutionResult.from_json(found.to_json())
    np.testing.assert_array_equal(back.mean, found.mean)
    assert found.plot().get_ylabel() == "fitness"


def test_progress_is_reported():
    seen = []
    trained("es", generations=4, progress=lambda done, text: seen.append(done))
    assert seen == [0.25, 0.5, 0.75, 1.0]


def test_bad_input():
    with pytest.raises(ValueError, match="d, how many numbers"):
        es_train(bowl)
    with pytest.raises(ValueError, match="n_pairs"):
        es_train(bowl, 4, n_pairs=0)
    with pytest.raises(ValueError, match="sigma"):
        es_train(bowl, 4, sigma=0.0)
    with pytest.raises(ValueError, match="population"):
        cem_train(bowl, 4, population=1)
    with pytest.raises(ValueError, match="generations"):
        cem_train(bowl, 4, generations=0)
    with pytest.raises(ValueError, match="must be finite"):
        cem_train(lambda v: float("nan"), 4)
    with pytest.raises(ValueError, match="elite must be above 0"):
        cem_train(bowl, 4, elite=0.0)
    with pytest.raises(ValueError, match="n_fresh"):
        es_train(bowl, 4, n_fresh=0)
    with pytest.raises(TypeError, match="fitness must return one number, got None"):
        es_train(lambda v: None, 4)


def test_a_fitness_may_write_on_what_it_is_given():
    def scribbler(v):
        score = bowl(v)
        v[:] = 99.0
        return score

    options = {"generations": 3, "random_state": 1}
    np.testing.assert_array_equal(cem_train(scribbler, 4, **options).mean, cem_train(bowl, 4, **options).mean)
