"""Policies over gymnasium environments; skipped without the extra ``rl``."""

import pickle
import sys

import numpy as np
import pytest
import torch
from torch.func import functional_call

from lodim.landscape.objective_landscapes.evolution import cem_train, es_train
from lodim.landscape.objective_landscapes.policy import PolicySearch
from lodim.nets import mlp

pytestmark = pytest.mark.rl


@pytest.fixture(autouse=True)
def _needs_gymnasium(request):
    if "without" not in request.node.name:
        pytest.importorskip("gymnasium", reason="needs the extra rl: pip install 'lodim[rl]'")


def test_without_gymnasium_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ImportError, match=r"lodim\[rl\]"):
        PolicySearch("CartPole-v1", 4)


def test_the_published_policy_has_562_weights():
    search = PolicySearch("CartPole-v1", 4)
    assert search.D == 4 * 20 + 20 + 20 * 20 + 20 + 20 * 2 + 2 == 562
    assert search.theta(np.zeros(4)).shape == (562,)
    torch.testing.assert_close(search.theta(np.zeros(4)), search.theta0)


def test_numpy_policies_equal_the_torch_network():
    search = PolicySearch("CartPole-v1", 6, seed=3)
    rng = np.random.default_rng(0)
    population, observations = rng.normal(size=(5, 6)), rng.normal(size=(5, 4))
    net = mlp([4, 20, 20, 2], activation="tanh")
    names = [name for name, _ in net.named_parameters()]
    for v, x, out in zip(population, observations, search.outputs(population, observations), strict=True):
        flat, weights, start = search.theta(v), {}, 0
        for name, parameter in zip(names, net.parameters(), strict=True):
            weights[name] = flat[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()
        expected = functional_call(net, weights, (torch.tensor(x, dtype=torch.float32),))
        np.testing.assert_allclose(out, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_a_candidates_reward_does_not_depend_on_the_others():
    search = PolicySearch("CartPole-v1", 4, max_episode_steps=50)
    population = np.random.default_rng(0).normal(size=(6, 4))
    together = search.evaluate(population, [1, 2])
    alone = [search.evaluate(v[None], [1, 2])[0] for v in population]
    np.testing.assert_array_equal(together, alone)
    assert together.max() <= 50
    assert len(set(together)) > 1
    np.testing.assert_allclose(
        together, (search.evaluate(population, [1]) + search.evaluate(population, [2])) / 2
    )


def test_running_observation_statistics():
    search = PolicySearch("CartPole-v1", 4, normalize_observations=True)
    assert (search.observation_sd == 1).all()
    rng, chunks = np.random.default_rng(0), []
    for n in (7, 50, 3):
        chunks.append(rng.normal(2.0, 3.0, size=(n, 4)))
        search._update_statistics(chunks[-1])
    seen = np.concatenate(chunks)
    np.testing.assert_allclose(search.observation_mean, seen.mean(0))
    np.testing.assert_allclose(search.observation_sd, seen.std(0), rtol=1e-6)


def test_a_constant_observation_gains_no_spread_by_updates():
    search = PolicySearch("CartPole-v1", 4, normalize_observations=True)
    for _ in range(200):
        search._update_statistics(np.ones((3, 4)))
    np.testing.assert_allclose(search.observation_sd, 1e-4, rtol=1e-6)


def test_only_the_search_changes_the_statistics():
    search = PolicySearch("CartPole-v1", 4, normalize_observations=True)
    search.evaluate(np.zeros((1, 4)), [0])
    assert (search.observation_mean == 0).all()
    search.evaluate(np.zeros((1, 4)), [0], learning=True)
    assert (search.observation_mean != 0).all()


@pytest.mark.parametrize("train", [es_train, cem_train])
def test_searches_are_deterministic(train):
    one, again = (
        train(PolicySearch("CartPole-v1", 3, max_episode_steps=40, seed=1), generations=2, random_state=5)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.mean, again.mean)
    assert one.score == again.score
    assert one.d == 3


def test_continuous_actions_are_squashed_differences_within_bounds():
    pytest.importorskip("mujoco", reason="needs the extra rl: pip install 'lodim[rl]'")
    search = PolicySearch("InvertedPendulum-v5", 4)
    assert search.D == 562
    outputs = np.array([[0.0, 0.0], [100.0, -100.0], [-1.0, 1.0]])
    np.testing.assert_allclose(search._actions(outputs)[:, 0], [0.0, -3.0, 3 * np.tanh(2.0)], rtol=1e-6)
    assert PolicySearch("InvertedPendulum-v5", 4, n_outputs=1).D == 541


@pytest.mark.slow
def test_cem_balances_the_pole_in_sixteen_dimensions():
    scores = []
    for seed in range(4):
        policies = PolicySearch("CartPole-v1", 16, max_episode_steps=200, seed=seed)
        scores.append(cem_train(policies, generations=40, target=195, random_state=seed).score)
    assert np.median(scores) > 175.5


def test_bad_input():
    with pytest.raises(ValueError, match="n_outputs"):
        PolicySearch("CartPole-v1", 4, n_outputs=4)
    with pytest.raises(ValueError, match="vectors"):
        PolicySearch("FrozenLake-v1", 4)
    with pytest.raises(ValueError, match="d="):
        cem_train(PolicySearch("CartPole-v1", 4), 5)
    with pytest.raises(ValueError, match="population of shape"):
        PolicySearch("CartPole-v1", 4).evaluate(np.zeros(4), [0])
    with pytest.raises(ValueError, match="0 seeds"):
        PolicySearch("CartPole-v1", 4).evaluate(np.zeros((1, 4)), [])


@pytest.fixture
def env_of():
    """Register an environment with certain actions, which rewards each by itself; return its name."""
    gymnasium, name = pytest.importorskip("gymnasium"), "LodimOwn-v0"

    class Env(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (3,))

        def __init__(self, actions):
            self.action_space = actions

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.np_random.normal(size=3).astype(np.float32), {}

        def step(self, action):
            assert self.action_space.contains(action)
            return np.zeros(3, np.float32), float(np.sum(action)), True, False, {}

    gymnasium.register(name, Env)
    yield name, gymnasium.spaces
    del gymnasium.registry[name]


def test_choices_are_counted_from_where_their_space_starts(env_of):
    name, spaces = env_of
    search = PolicySearch(name, 4, actions=spaces.Discrete(3, start=-1))
    outputs = search.outputs(np.eye(4), np.zeros((4, 3)))
    assert search._actions(outputs) == (outputs.argmax(1) - 1).tolist()
    assert set(search.evaluate(np.eye(4), [0])) <= {-1.0, 0.0, 1.0}


def test_several_choices_at_once_are_refused(env_of):
    name, spaces = env_of
    for actions in (spaces.MultiBinary(3), spaces.MultiDiscrete([2, 3])):
        with pytest.raises(ValueError, match="actions must be"):
            PolicySearch(name, 4, actions=actions)


def test_a_search_travels_to_other_processes():
    search = PolicySearch("CartPole-v1", 4, max_episode_steps=20)
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.evaluate(np.eye(4), [0]), search.evaluate(np.eye(4), [0]))
