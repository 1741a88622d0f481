r"""Policies for reinforcement learning, their weights produced by d numbers.

The problem: how few numbers does a control task need? A policy network's D weights are :math:`\theta_0 + P v`; an
environment turns v into a mean episode reward, which :func:`~lodim.landscape.es_train` and
:func:`~lodim.landscape.cem_train` maximise.

====================== ==============================================
symbol                 name here
====================== ==============================================
D, d                   ``PolicySearch.D``, ``PolicySearch.d``
:math:`\theta_0`       ``PolicySearch.theta0``
P                      ``PolicySearch.projection``
====================== ==============================================

Source: C. Li et al., "Measuring the intrinsic dimension of objective landscapes" (arXiv 1804.08838), Section 3.4: the
4-20-20-2 policy of 562 weights for the pole on a cart, 376-256-256-17 (166,673 weights) for the humanoid. Departure: a
continuous action is a squashed output, or the squashed difference of two, which gives a single continuous action
the published network with two outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lodim.nets import flat_spec, mlp
from lodim.randomness import build_seeded, derive_seed
from lodim.sketch import make_projection
from lodim.validation import check_in_range, check_numbers, checked, require

__all__ = ["PolicySearch"]


@checked
class PolicySearch:
    """A gymnasium environment as a function of d numbers: the mean reward of the policy that they produce.

    The policy is a fully connected tanh network; its weights are theta0 + P v. Every member of a population meets the
    same episodes.

    Parameters
    ----------
    env_id : str
        An environment with a vector of observations and discrete or bounded actions, e.g. ``"CartPole-v1"``.
    d : int
        Numbers searched over.
    hidden : tuple of int
        Widths of the hidden layers.
    n_outputs : int, optional
        Of the network. One an action if not given, except two for a single continuous action, which is then their
        squashed difference (so that 4-20-20-2 has 562 weights for CartPole and InvertedPendulum alike).
    projection, scale : str
        Random map from d to D, see :func:`lodim.sketch.make_projection`.
    max_episode_steps : int, optional
        Cuts episodes; the environment's own limit if not given.
    n_episodes : int
        Episodes an evaluation in the search.
    normalize_observations : bool
        Standardise observations by the running mean and standard deviation of all that the search has seen; they are
        part of a found policy, so keep ``observation_mean`` and ``observation_sd`` with it.
    seed : int
        Of theta0 and P: with the environment it is what a found v means, so keep both together.
    **env_options
        Passed to ``gymnasium.make``.

    Attributes
    ----------
    D : int
        Number of weights.
    theta0 : Tensor, shape (D,)
    observation_mean, observation_sd : ndarray, shape (n_observations,)

    Raises
    ------
    ImportError
        Without gymnasium (extra ``rl``).
    ValueError
        An environment whose observations or actions do not suit.
    """

    def __init__(
        self,
        env_id: str,
        d: int,
        *,
        hidden: tuple[int, ...] = (20, 20),
        n_outputs: int | None = None,
        projection: str = "dense",
        scale: str = "row",
        max_episode_steps: int | None = None,
        n_episodes: int = 1,
        normalize_observations: bool = False,
        seed: int = 0,
        **env_options: Any,
    ) -> None:
        self.env_id, self.d, self.seed = env_id, int(d), int(seed)
        self.n_episodes = int(check_in_range(n_episodes, "n_episodes", low=1, integer=True))
        self.normalize_observations = normalize_observations
        self._options = {"max_episode_steps": max_episode_steps, "disable_env_checker": True, **env_options}
        self._envs: list[Any] = []
        self._more_envs(1)
        n_in, n_actions = _space_sizes(self._envs[0])
        self._action_space = self._envs[0].action_space
        self._discrete = _is_choice(self._action_space)
        if n_outputs is None:
            n_outputs = 2 if n_actions == 1 else n_actions
        if n_outputs != n_actions and (self._discrete or n_outputs != 2 * n_actions):
            allowed = f"{n_actions}" if self._discrete else f"{n_actions} or {2 * n_actions}"
            raise ValueError(f"n_outputs must be {allowed} for {env_id}, got {n_outputs}")
        self._paired = not self._discrete and n_outputs == 2 * n_actions
        policy = build_seeded(
            lambda: mlp([n_in, *hidden, n_outputs], activation="tanh"), derive_seed(self.seed, "theta0")
        )
        self._spec = flat_spec(policy)
        self.theta0 = self._spec.flatten(policy).detach()
        self.D = self._spec.numel
        self.projection = make_projection(
            projection, self.D, self.d, seed=derive_seed(self.seed, "projection"), scale=scale
        )
        self.observation_mean, self.observation_sd = np.zeros(n_in), np.ones(n_in)
        self._observed_variance, self._n_observed = np.zeros(n_in), 0

    def theta(self, v: Any) -> torch.Tensor:
        """Return the weights theta0 + P v, shape (..., D), of v, shape (..., d)."""
        return self.theta0 + self.projection(torch.from_numpy(check_numbers(v, "v", dtype=np.float32)))

    def outputs(self, v: Any, observations: np.ndarray) -> np.ndarray:
        """Return the network's outputs, one policy (n, d) and one observation (n, n_observations) a row."""
        return _forward(self._layers(v), self._standardise(observations))

    def evaluate(
        self, population: np.ndarray, episode_seeds: Sequence[int], learning: bool = False
    ) -> np.ndarray:
        """Return each candidate's mean reward over the same episodes, shape (n,).

        Parameters
        ----------
        population : ndarray, shape (n, d)
        episode_seeds : sequence of int
            One an episode.
        learning : bool
            Whether the observations count for the running normalisation.
        """
        population = check_numbers(population, "population")
        if population.ndim != 2 or 0 in (len(population), len(episode_seeds)):
            raise ValueError(
                f"evaluate needs a population of shape (n, d={self.d}) and the seed of at least one episode, got shape "
                f"{population.shape} and {len(episode_seeds)} seeds"
            )
        repeated = np.repeat(population, len(episode_seeds), axis=0)
        rewards, observed = self._rollout(self._layers(repeated), list(episode_seeds) * len(population))
        if learning and self.normalize_observations:
            self._update_statistics(observed)
        return rewards.reshape(len(population), -1).mean(1)

    def _rollout(self, layers: list[np.ndarray], seeds: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """One episode a row of the layers; returns rewards and all observations met."""
        self._more_envs(len(seeds))
        envs = self._envs[: len(seeds)]
        observations = np.stack([env.reset(seed=s)[0] for env, s in zip(envs, seeds, strict=True)])
        rewards, alive, met = np.zeros(len(envs)), np.arange(len(envs)), [observations]
        while len(alive):
            actions = self._actions(_forward(layers, self._standardise(observations)))
            steps = [envs[i].step(action) for i, action in zip(alive, actions, strict=True)]
            rewards[alive] += [step[1] for step in steps]
            going = np.array([not (step[2] or step[3]) for step in steps])
            observations = np.stack([step[0] for step in steps])[going]
            alive, layers = alive[going], layers if going.all() else [part[going] for part in layers]
            met.append(observations)
        return rewards, np.concatenate(met)

    def _more_envs(self, n: int) -> None:
        """Have at least n environments."""
        gymnasium: Any = require("gymnasium", "rl")
        self._envs += [gymnasium.make(self.env_id, **self._options) for _ in range(n - len(self._envs))]

    def _actions(self, outputs: np.ndarray) -> Any:
        """Actions from the network's outputs."""
        if self._discrete:
            return (self._action_space.start + outputs.argmax(1)).tolist()
        if self._paired:
            outputs = outputs[:, 1::2] - outputs[:, ::2]
        low, high = self._action_space.low, self._action_space.high
        return (low + (high - low) * (np.tanh(outputs) + 1) / 2).astype(self._action_space.dtype)

    def _layers(self, v: Any) -> list[np.ndarray]:
        """The weights and biases of each row's policy."""
        return [part.numpy() for part in self._spec.unflatten(self.theta(v)).values()]

    def _standardise(self, observations: np.ndarray) -> np.ndarray:
        return ((observations - self.observation_mean) / self.observation_sd).astype(np.float32)

    def _update_statistics(self, observed: np.ndarray) -> None:
        """Merge a batch of observations into the running mean and standard deviation."""
        n_old, n_new = self._n_observed, len(observed)
        share = n_new / (n_old + n_new)
        step = observed.mean(0) - self.observation_mean
        within = (1 - share) * self._observed_variance + share * observed.var(0)
        self._observed_variance = within + share * (1 - share) * step**2
        self.observation_mean = self.observation_mean + share * step
        self.observation_sd = np.sqrt(self._observed_variance + 1e-8)
        self._n_observed += n_new


def _space_sizes(env: Any) -> tuple[int, int]:
    """Lengths of the observation and of the action (number of choices if discrete)."""
    observation, action = env.observation_space, env.action_space
    if observation.shape is None or len(observation.shape) != 1:
        raise ValueError(f"observations must be vectors, got {observation}; flatten them with a wrapper")
    if _is_choice(action):
        return observation.shape[0], int(action.n)
    if (
        not hasattr(action, "low")
        or len(action.shape) != 1
        or not np.isfinite([action.low, action.high]).all()
    ):
        raise ValueError(f"actions must be discrete or a bounded vector, got {action}")
    return observation.shape[0], action.shape[0]


def _is_choice(space: Any) -> bool:
    """Whether an action is one of n in a row; several yes-or-no ones have an ``n`` too, several choices a ``start``."""
    return hasattr(space, "n") and hasattr(space, "start")


def _forward(layers: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """The tanh networks of all rows at once; NumPy, because a step's arithmetic is less than torch's overhead."""
    for i in range(0, len(layers), 2):
        x = (layers[i] @ x[..., None])[..., 0] + layers[i + 1]
        if i + 2 < len(layers):
            x = np.tanh(x)
    return x
