"""Reinforcement learning in a handful of dimensions: poles balanced by policies of 562 weights made from d numbers.

The paper (Section 3.4, Table 1): InvertedPendulum has intrinsic dimension 4 with an evolution strategy, CartPole 25
with deep Q-learning. Here a run succeeds if its reward on fresh episodes reaches 90 % of the possible one, and the
crossing is where half of the runs do.

Source: C. Li et al., 2018, arXiv 1804.08838. Departures: far fewer evaluations than the authors' (their budgets are
not matched), CartPole by the cross-entropy method instead of Q-learning, episodes of the pendulum cut at 500 steps.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lodim.claims.result import Claim, Findings, Progress, check_between
from lodim.landscape import PolicySearch, cem_train, es_train
from lodim.landscape.crossing import find_crossing
from lodim.randomness import derive_seed

CARTPOLE_DIMS, CARTPOLE_RUNS, CARTPOLE_GOAL = (1, 2, 3, 4, 6, 8), 16, 195.0
PENDULUM_DIMS, PENDULUM_RUNS, PENDULUM_GOAL = (2, 4, 8), 4, 500.0
SHARE = 0.9


def run(seed: int, progress: Progress) -> Findings:
    """Balance CartPole and InvertedPendulum in subspaces of several dimensions."""
    cartpole = _scores(_cartpole, CARTPOLE_DIMS, CARTPOLE_RUNS, seed, progress.part(0.0, 0.3))
    pendulum = _scores(_pendulum, PENDULUM_DIMS, PENDULUM_RUNS, seed, progress.part(0.3, 1.0))
    success = {d: float(np.mean(np.array(s) >= SHARE * CARTPOLE_GOAL)) for d, s in cartpole.items()}
    solved = {d: int(np.sum(np.array(s) >= SHARE * PENDULUM_GOAL)) for d, s in pendulum.items()}
    sizes = np.repeat(CARTPOLE_DIMS, CARTPOLE_RUNS)
    crossing = find_crossing(
        sizes, np.concatenate(list(cartpole.values())), SHARE * CARTPOLE_GOAL, estimator="success_probability"
    )
    checks = (
        check_between("CartPole: share of runs that succeed at d = 8", success[8], 0.5, 1.0),
        check_between("CartPole: the same at d = 1", success[1], 0.0, 0.25),
        check_between("InvertedPendulum: runs solved with d at most 8", sum(solved.values()), 1, math.inf),
        check_between(
            "InvertedPendulum: least d at which a run is solved",
            min((d for d, n in solved.items() if n), default=math.inf),
            1,
            8,
            paper=4,
        ),
    )
    figures: dict[str, Any] = {
        "D": 562,
        "CartPole scores": {str(d): np.round(s, 1).tolist() for d, s in cartpole.items()},
        "CartPole success": {str(d): p for d, p in success.items()},
        "CartPole d at success 1/2": crossing.value if math.isfinite(crossing.value) else None,
        "CartPole interval": [end if math.isfinite(end) else None for end in crossing.interval],
        "InvertedPendulum scores": {str(d): np.round(s, 1).tolist() for d, s in pendulum.items()},
        "InvertedPendulum solved": {str(d): n for d, n in solved.items()},
    }
    return Findings(checks, figures, NOTES)


def _cartpole(d: int, seed: int) -> float:
    policies = PolicySearch("CartPole-v1", d, max_episode_steps=200, n_episodes=3, seed=seed)
    return cem_train(policies, generations=40, target=CARTPOLE_GOAL, random_state=seed).score


def _pendulum(d: int, seed: int) -> float:
    policies = PolicySearch(
        "InvertedPendulum-v5", d, max_episode_steps=500, normalize_observations=True, seed=seed
    )
    return es_train(policies, generations=100, target=0.95 * PENDULUM_GOAL, random_state=seed).score


def _scores(
    play: Any, dims: tuple[int, ...], n_runs: int, seed: int, progress: Progress
) -> dict[int, list[float]]:
    """Scores of every run by dimension."""
    found: dict[int, list[float]] = {}
    for i, d in enumerate(dims):
        progress(i / len(dims), f"{play.__name__[1:]}, d={d}")
        found[d] = [play(d, derive_seed(seed, play.__name__, d, k)) for k in range(n_runs)]
    return found


NOTES = (
    "CartPole is cut at 200 steps and solved at 195, as in the paper; a run succeeds at 175.5 on ten fresh episodes.",
    "InvertedPendulum is cut at 500 steps; a run is solved at 450 on ten fresh episodes.",
)

CLAIM = Claim(
    name="objective-landscapes/rl",
    arxiv="1804.08838",
    statement="Policies of 562 weights balance a pole when no more than eight numbers are trained.",
    laptop=run,
    needs=("rl",),
    minutes=3,
)
