r"""Training without gradients, in a subspace: evolution strategies and the cross-entropy method.

The problem: a policy's reward has no gradient, and searching all D weights of it is wasteful. Search the d numbers v of
:math:`\theta = \theta_0 + P v` instead: the noise is drawn in d dimensions, so the sampled directions are fewer, and
what processes exchange shrinks from D to d.

*Evolution strategy* (:func:`es_train`). With n antithetic pairs :math:`\epsilon_i \sim N(0, I_d)` and the 2n rewards
replaced by their centred ranks F in [-1/2, 1/2],

.. math:: g = \frac{1}{2 n \sigma} \sum_i (F_i^+ - F_i^-)\, \epsilon_i, \qquad
          v \leftarrow v + \text{Adam}(g - \lambda v) .

*Cross-entropy method* (:func:`cem_train`). Draw :math:`v_i \sim N(\mu, s^2)`, keep the best, and set :math:`\mu` to
their mean and s to their standard deviation plus a noise floor :math:`s_0 \rho^t` that decays over the generations t.

====================== ==============================================
symbol                 name here
====================== ==============================================
n, :math:`\sigma`      ``n_pairs``, ``sigma``
:math:`\lambda`        ``weight_decay`` (L2, on v)
:math:`\mu`            ``EvolutionResult.mean``
:math:`s_0, \rho`      ``noise``, ``noise_decay``
:math:`\theta_0, P`    made from the seed by :class:`PolicySearch`
====================== ==============================================

Sources: C. Li et al., "Measuring the intrinsic dimension of objective landscapes" (arXiv 1804.08838), Section 3.4;
T. Salimans et al., "Evolution strategies as a scalable alternative to reinforcement learning" (arXiv 1703.03864);
I. Szita and A. Lorincz, "Learning Tetris using the noisy cross-entropy method" (2006). Departures: the published runs
are far longer and use evolution strategies throughout.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from lodim.landscape.objective_landscapes.policy import PolicySearch
from lodim.randomness import RandomState, derive_seed, root_seed
from lodim.results import Result
from lodim.validation import check_fraction, check_in_range, checked

__all__ = ["EvolutionResult", "cem_train", "es_train"]

Fitness = Callable[[np.ndarray], Any]


@dataclass(frozen=True)
class EvolutionResult(Result):
    """What a gradient-free search found.

    Attributes
    ----------
    method : str
        ``"es"`` or ``"cem"``.
    d : int
        Numbers searched over.
    mean : ndarray, shape (d,)
        The search distribution's final mean: the solution.
    score : float
        Mean fitness of ``mean`` on fresh evaluations, none of which the search used.
    target : float or None
        Score that counts as solved.
    best, average : ndarray, shape (n_generations,)
        Fitness within each generation.
    n_evaluations : int
        Fitness evaluations of the search.
    stopped : str
        ``"target"`` or ``"budget"``.
    seconds : float
        Wall time.
    """

    method: str
    d: int
    seed: int
    mean: np.ndarray
    score: float
    target: float | None
    best: np.ndarray
    average: np.ndarray
    n_evaluations: int
    stopped: str
    seconds: float

    @property
    def solved(self) -> bool:
        """Whether the score reached the target; False without one."""
        return self.target is not None and self.score >= self.target

    def to_frame(self) -> Any:
        """Return a data frame with one row a generation."""
        import pandas as pd

        return pd.DataFrame({"generation": range(len(self.best)), "best": self.best, "average": self.average})

    def plot(self, ax: Any = None) -> Any:
        """Draw best and average fitness over the generations; return the axes."""
        from lodim.plots import COLORS, new_axes

        ax = new_axes(ax)
        ax.plot(self.best, color=COLORS[0], label="best of the generation")
        ax.plot(self.average, color=COLORS[5], label="average")
        if self.target is not None:
            ax.axhline(self.target, color=COLORS[6], linestyle="--", label="target")
        ax.set(xlabel="generation", ylabel="fitness")
        ax.legend()
        return ax

    def __str__(self) -> str:
        goal = (
            ""
            if self.target is None
            else f", target {self.target:g} {'reached' if self.solved else 'missed'}"
        )
        return (
            f"{self.method} over {self.d} numbers: score {self.score:.4g}{goal} "
            f"({len(self.best)} generations, {self.n_evaluations:,} evaluations, {self.seconds:.1f} s)"
        )


class _EvolutionStrategy:
    """Antithetic sampling, centred ranks, Adam."""

    def __init__(self, d: int, n_pairs: int, sigma: float, lr: float, weight_decay: float) -> None:
        self.n_pairs, self.sigma = n_pairs, sigma
        self._v = torch.zeros(d, dtype=torch.float64)
        self._adam = torch.optim.Adam([self._v], lr=lr, weight_decay=weight_decay)

    @property
    def mean(self) -> np.ndarray:
        return self._v.numpy().copy()

    def ask(self, rng: np.random.Generator) -> np.ndarray:
        self._noise = rng.standard_normal((self.n_pairs, len(self._v)))
        return self.mean + self.sigma * np.concatenate([self._noise, -self._noise])

    def tell(self, population: np.ndarray, fitness: np.ndarray) -> None:
        ranks = (rankdata(fitness) - 1) / (len(fitness) - 1) - 0.5
        gain = ranks[: self.n_pairs] - ranks[self.n_pairs :]
        self._v.grad = torch.from_numpy(-(gain @ self._noise) / (2 * self.n_pairs * self.sigma))
        self._adam.step()


class _CrossEntropy:
    """Gaussian refitted to the elite, with a decaying noise floor."""

    def __init__(self, d: int, population: int, n_elite: int, sd: float, noise: float, decay: float) -> None:
        self.population, self.n_elite, self.noise, self.decay = population, n_elite, noise, decay
        self.mean, self.sd = np.zeros(d), np.full(d, float(sd))
        self._generation = 0

    def ask(self, rng: np.random.Generator) -> np.ndarray:
        return self.mean + self.sd * rng.standard_normal((self.population, len(self.mean)))

    def tell(self, population: np.ndarray, fitness: np.ndarray) -> None:
        elite = population[np.argsort(-fitness, kind="stable")[: self.n_elite]]
        self.mean = elite.mean(0)
        self.sd = elite.std(0) + self.noise * self.decay**self._generation
        self._generation += 1


@checked
def es_train(
    fitness: Fitness | PolicySearch,
    d: int | None = None,
    *,
    n_pairs: int = 32,
    sigma: float = 0.1,
    lr: float = 0.05,
    weight_decay: float = 0.005,
    generations: int = 100,
    target: int | float | None = None,
    n_fresh: int = 10,
    random_state: RandomState = 0,
    progress: Callable[[float, str], None] | None = None,
) -> EvolutionResult:
    """Maximise a fitness over d numbers by an evolution strategy (the module's first equation).

    Parameters
    ----------
    fitness : callable or PolicySearch
        ``fitness(v) -> float`` for v of shape (d,), its own copy; larger is better. Or an environment.
    d : int, optional
        Needed for a callable; a :class:`PolicySearch` knows it.
    n_pairs : int
        Antithetic pairs a generation.
    sigma, lr, weight_decay : float
        Standard deviation of the noise, Adam's learning rate, and L2 decay of v; in units of v (row scale).
    generations : int
        At most that many.
    target : float, optional
        Stop as soon as the mean reaches this score on fresh evaluations.
    n_fresh : int
        Fresh episodes of a :class:`PolicySearch` that a score averages.
    random_state : int, numpy.random.Generator or None
        The same int gives the same result, of a :class:`PolicySearch` that is new: one that standardises observations
        goes on from those it has met.
    progress : callable, optional
        ``progress(done, text)`` with done in [0, 1].

    Raises
    ------
    ValueError
        A parameter out of range, or a fitness that is not finite.
    """
    check_in_range(n_pairs, "n_pairs", low=1, integer=True)
    check_in_range(sigma, "sigma", low=1e-12)
    check_in_range(lr, "lr", low=0.0)
    check_in_range(weight_decay, "weight_decay", low=0.0)
    search = _EvolutionStrategy(_dimension(fitness, d), int(n_pairs), sigma, lr, float(weight_decay))
    return _evolve("es", search, fitness, generations, target, n_fresh, root_seed(random_state), progress)


@checked
def cem_train(
    fitness: Fitness | PolicySearch,
    d: int | None = None,
    *,
    population: int = 24,
    elite: float = 0.25,
    sd: float = 0.5,
    noise: float = 0.2,
    noise_decay: float = 0.93,
    generations: int = 40,
    target: int | float | None = None,
    n_fresh: int = 10,
    random_state: RandomState = 0,
    progress: Callable[[float, str], None] | None = None,
) -> EvolutionResult:
    """Maximise a fitness over d numbers by the cross-entropy method with a decaying noise floor.

    Parameters
    ----------
    fitness, d, generations, target, n_fresh, random_state, progress
        As in :func:`es_train`.
    population : int
        Candidates a generation.
    elite : float
        Share of them that the distribution is refitted to, one candidate at least.
    sd : float
        Initial standard deviation, in units of v (row scale); how far it explores decides what it can find.
    noise, noise_decay : float
        The floor added to the standard deviation in generation t is ``noise * noise_decay**t``.

    Raises
    ------
    ValueError
        A parameter out of range, or a fitness that is not finite.
    """
    check_in_range(population, "population", low=2, integer=True)
    if check_fraction(elite, "elite") == 0:
        raise ValueError(
            "elite must be above 0: the distribution is refitted to that share of the candidates"
        )
    n_elite = max(1, round(elite * population))
    check_in_range(sd, "sd", low=1e-12)
    check_in_range(noise, "noise", low=0.0)
    check_fraction(noise_decay, "noise_decay")
    search = _CrossEntropy(_dimension(fitness, d), int(population), n_elite, sd, noise, noise_decay)
    return _evolve("cem", search, fitness, generations, target, n_fresh, root_seed(random_state), progress)


def _dimension(fitness: Fitness | PolicySearch, d: int | None) -> int:
    """The number of numbers searched over."""
    if isinstance(fitness, PolicySearch):
        if d is not None and d != fitness.d:
            raise ValueError(f"d={d} but the policy search has d={fitness.d}; leave d out")
        return fitness.d
    if d is None:
        raise ValueError("d, how many numbers the fitness takes, must be given")
    return int(check_in_range(d, "d", low=1, integer=True))


def _evolve(
    method: str,
    search: _EvolutionStrategy | _CrossEntropy,
    fitness: Fitness | PolicySearch,
    generations: int,
    target: int | float | None,
    n_fresh: int,
    seed: int,
    progress: Callable[[float, str], None] | None,
) -> EvolutionResult:
    """Ask, evaluate, tell; stop when the mean is good enough on evaluations that the search never saw."""
    check_in_range(generations, "generations", low=1, integer=True)
    check_in_range(n_fresh, "n_fresh", low=1, integer=True)
    start, rng = time.perf_counter(), np.random.default_rng(derive_seed(seed, method))
    best, average, stopped = [], [], "budget"
    for generation in range(generations):
        population = search.ask(rng)
        scores = _scores(fitness, population, derive_seed(seed, "search", generation))
        search.tell(population, scores)
        best.append(scores.max())
        average.append(scores.mean())
        if progress is not None:
            progress((generation + 1) / generations, f"{method} best {best[-1]:.4g}")
        if target is not None and best[-1] >= target:
            check = _fresh_score(fitness, search.mean, n_fresh, derive_seed(seed, "check", generation))
            if check >= target:
                stopped = "target"
                break
    return EvolutionResult(
        method=method,
        d=len(search.mean),
        seed=int(seed),
        mean=search.mean,
        score=_fresh_score(fitness, search.mean, n_fresh, derive_seed(seed, "final")),
        target=None if target is None else float(target),
        best=np.array(best),
        average=np.array(average),
        n_evaluations=len(best) * len(population),
        stopped=stopped,
        seconds=time.perf_counter() - start,
    )


def _scores(fitness: Fitness | PolicySearch, population: np.ndarray, seed: int) -> np.ndarray:
    """Fitness of every candidate, finite."""
    if isinstance(fitness, PolicySearch):
        seeds = [derive_seed(seed, "episode", i) for i in range(fitness.n_episodes)]
        scores = fitness.evaluate(population, seeds, learning=True)
    else:
        scores = np.array([_number(fitness(v.copy())) for v in population])
    if not np.isfinite(scores).all():
        where = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ValueError(f"the fitness of {population[where]} is {scores[where]}; it must be finite")
    return scores


def _fresh_score(fitness: Fitness | PolicySearch, mean: np.ndarray, n_fresh: int, seed: int) -> float:
    """The mean's fitness on evaluations of its own; once for a plain function."""
    if isinstance(fitness, PolicySearch):
        seeds = [derive_seed(seed, "episode", i) for i in range(n_fresh)]
        return float(fitness.evaluate(mean[None], seeds)[0])
    return _number(fitness(mean.copy()))


def _number(score: Any) -> float:
    """What a fitness returned, if it is one number."""
    try:
        return float(score)
    except (TypeError, ValueError) as error:
        raise TypeError(f"fitness must return one number, got {score!r}") from error
