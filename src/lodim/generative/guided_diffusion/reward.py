r"""Samples of high reward, for a reward known from few examples: :class:`RewardDirectedDiffusion`.

Many samples x are at hand, and for a few of them a reward y = r(x) + noise (2404.07771, section 6):

1. a regression :math:`\hat r` is fitted to the few; ``"ridge"`` is :math:`\hat\theta = (X^T X + \lambda I)^{-1} X^T
y`    of centred X and y; 2. all samples get :math:`\tilde y = \hat r(x) + N(0, \nu^2)`; 3. a conditional denoiser
learns the law of x given :math:`\tilde y`, the condition left out now and then; 4. it is sampled at a target a.

What is missed, :math:`a - \mathbb{E}\, r`, has three parts: the regression's error where the samples go, the model's
error there, and what leaves the set the data lie on. Hence the true reward first rises with a, then stalls or falls:
:meth:`RewardDirectedDiffusion.report` says where.

A gradient can take the place of steps 2 and 3. With :math:`g = \nabla \hat r` at :math:`\hat x_0 = D(x, \sigma)` and
J the denoiser's Jacobian, :class:`RewardGuide` answers

.. math:: \hat x_0 + \lambda\, \sigma^2 J^T g\, \frac{a - \hat r(\hat x_0)}{\sigma^2\, g^T J^T g + \nu^2},

the :class:`~lodim.generative.LookAheadLoss` of :math:`(a - \hat r)^2 / 2 v` at the variance v of the reward given x,
since :math:`\sigma^2 J` is the covariance of :math:`x_0` given x. For normal data and a linear reward that is the
exact denoiser of the data given their (noisy) reward. The push lies in the range of :math:`J^T`, the directions in
which data vary. The naive gradient is the same with x for :math:`\hat x_0` and I for J; it leaves that range.

====================  =============================
symbol in the paper   name here
====================  =============================
:math:`\hat r`        ``reward_``
:math:`\nu`           ``nu``
:math:`a`             ``target``
:math:`b(t)`          :math:`\lambda / 2 v`, above
====================  =============================

Departures. The network is told the standardised :math:`\tilde y`, and ``nu`` counts in standard deviations of
:math:`\hat r` over the samples, so that a reward's unit does not matter. The ridge's :math:`\lambda` is chosen by
leave-one-out error. The reward is linearised anew at every step, which stands for the paper's rounds.

Source: M. Chen and others, arXiv 2404.07771, section 6; Y. Guo and others, arXiv 2404.14743 (the look-ahead).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import clone
from sklearn.linear_model import RidgeCV
from torch import Tensor, nn

from lodim.dimension.spectrum import covariance_spectrum, linear_dimension
from lodim.generative.denoiser import Condition, as_levels
from lodim.generative.diffusion import Diffusion
from lodim.generative.guidance import differentiable, finite, gradient
from lodim.generative.guided_diffusion.subspace import flat_rows, off_subspace_energy
from lodim.neighbors import NeighborGraph, NeighborIndex
from lodim.nets.activations import evaluation_mode
from lodim.plots import COLORS, new_axes
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.results import Result
from lodim.validation import check_choice, check_in_range, check_numbers, checked

__all__ = ["RewardCurve", "RewardDirectedDiffusion", "RewardGuide"]

MODES = ("conditional", "lookahead", "naive")


@checked
class RewardGuide:
    """A guidance towards a reward; see the module's formula.

    Parameters
    ----------
    reward : callable
        ``reward(x)``, one number a sample, differentiable.
    target : float
    noise : float
        Standard deviation with which the reward is to meet the target.
    scale : float
        1 is right for normal data and a linear reward.
    ahead : bool
        Through the denoiser; otherwise the naive gradient.
    """

    def __init__(
        self,
        reward: Callable[..., Any],
        target: float | int,
        noise: float | int,
        scale: float | int = 1.0,
        *,
        ahead: bool = True,
    ) -> None:
        self.reward, self.target, self.ahead = reward, finite(target, "target"), ahead
        self.noise = finite(check_in_range(noise, "noise", low=0), "noise")
        self.scale = finite(scale)

    def __call__(self, denoise: Any, x: Tensor, sigma: Any, cond: Condition | None = None) -> Tensor:
        """Return the guided answer."""
        s2 = as_levels(sigma, x).square()
        with differentiable(x) as (at, outer):
            x0_hat = denoise(at, sigma, cond)
            seen = x0_hat if self.ahead else at
            rewards = self.reward(seen)
            push, slope = (gradient(rewards, place, "reward", outer) for place in (at, seen))
            variance = (s2 * slope * push).flatten(1).sum(1).clamp_min(0) + self.noise**2
            missing = (self.target - rewards) / variance.clamp_min(1e-30)
            out = x0_hat + self.scale * s2 * push * missing.reshape(s2.shape)
        return out if outer else out.detach()


@dataclass(frozen=True)
class RewardCurve(Result):
    """What came of asking for more and more reward.

    Attributes
    ----------
    targets, predicted, true : tuple of float
        Of each target the means of the regression's and of the true reward; NaN where that is not known.
    off_subspace : tuple of float
        Share of the samples' squared distance from the data's mean that lies across their principal subspace.
    distance : tuple of float
        Mean distance to the nearest of the data.
    data_off_subspace, data_distance : float
        The same of the data themselves (their distances to one another): the floors.
    data_range : tuple of float
        Smallest and largest reward that the regression gives to the data.
    mode : str
    n : int
        Samples of a target.
    """

    targets: tuple[float, ...]
    predicted: tuple[float, ...]
    true: tuple[float, ...]
    off_subspace: tuple[float, ...]
    distance: tuple[float, ...]
    data_off_subspace: float
    data_distance: float
    data_range: tuple[float, float]
    mode: str
    n: int

    def to_frame(self) -> Any:
        """Return a row a target."""
        import pandas as pd

        names = ("targets", "predicted", "true", "off_subspace", "distance")
        return pd.DataFrame({name.rstrip("s"): getattr(self, name) for name in names})

    def plot(self, ax: Any = None) -> Any:
        """Draw rewards against targets, with the range of the data, and return the axes."""
        ax = new_axes(ax)
        ax.axvspan(*self.data_range, color=COLORS[2], alpha=0.12, linewidth=0, label="data")
        ax.plot(self.targets, self.targets, ":", color="grey", label="asked for")
        ax.plot(self.targets, self.predicted, "o-", color=COLORS[0], label="predicted")
        if self.known:
            ax.plot(self.targets, self.true, "s-", color=COLORS[1], label="true")
        ax.set(xlabel="target", ylabel="mean reward", title=self.mode)
        ax.legend()
        return ax

    @property
    def known(self) -> bool:
        """Whether the true reward is."""
        return not np.isnan(self.true).any()

    def __str__(self) -> str:
        low, high = self.data_range
        head = f"{self.mode}, {self.n} samples a target; the data's rewards go from {low:.3g} to {high:.3g}"
        rows = [
            f"  target {a:.3g}: predicted {p:.3g}, true {t:.3g}, off-subspace {o:.2g}, distance {d:.3g}"
            for a, p, t, o, d in zip(
                self.targets, self.predicted, self.true, self.off_subspace, self.distance
            )
        ]
        floors = f"  data: off-subspace {self.data_off_subspace:.2g}, distance {self.data_distance:.3g}"
        if not self.known:
            end = f"  the true reward is not known; beyond {high:.3g} the prediction is an extrapolation"
        else:
            best = int(np.argmax(self.true))
            rises = best == len(self.true) - 1
            end = (
                f"  the true reward rises up to the last target and misses it by {self.targets[-1] - self.true[-1]:.3g}"
                if rises
                else f"  the true reward rises up to {self.true[best]:.3g} at target {self.targets[best]:.3g}, "
                "no further"
            )
        return "\n".join([head, *rows, floors, end])


@checked
class RewardDirectedDiffusion:
    """A generative model of designs, asked for designs of a reward.

    Parameters
    ----------
    base : Diffusion
        Built with ``cond_dim=1`` and ``p_uncond`` above 0; trained by :meth:`fit`.
    reward : "ridge", estimator or nn.Module
        The regression: scikit-learn's interface, or a module that is taken as trained, ``reward(x)`` with one number a
        sample. Gradient modes need a linear one (with ``coef_``) or a module.
    nu : float
        Noise of the pseudo-labels, in standard deviations of the predicted rewards.

    Attributes
    ----------
    reward_ : estimator or nn.Module
    subspace_ : ndarray, shape (D, k)
        Principal directions of the unlabelled samples above even noise, one at least.
    data_range_ : tuple of float
        Of the predicted rewards of the unlabelled samples.

    Raises
    ------
    ValueError
        A base for no single condition; before :meth:`fit`.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(400, 3))
    >>> model = RewardDirectedDiffusion(Diffusion(shape=3, cond_dim=1, random_state=0))
    >>> model = model.fit(X, X[:50], X[:50, 0], steps=20)
    >>> model.sample(5, target=1.0, random_state=0).shape
    (5, 3)
    """

    def __init__(self, base: Diffusion, reward: Any = "ridge", nu: float | int = 0.1) -> None:
        if base.cond_dim != 1 or not base.p_uncond:
            raise ValueError(
                f"base must be built with cond_dim=1 and p_uncond above 0, got cond_dim={base.cond_dim}, "
                f"p_uncond={base.p_uncond}"
            )
        if isinstance(reward, str):
            check_choice(reward, ("ridge",), "reward")
        elif not isinstance(reward, nn.Module) and not hasattr(reward, "predict"):
            raise TypeError(
                f"reward must be 'ridge', an estimator or a torch module, got {type(reward).__name__}"
            )
        self.base, self.reward = base, reward
        self.nu = finite(check_in_range(nu, "nu", low=0), "nu")
        self.reward_: Any = None

    def fit(
        self, X_unlab: Any, X_lab: Any, y_lab: Any, *, random_state: RandomState = 0, **options: Any
    ) -> RewardDirectedDiffusion:
        """Fit the regression to the labelled samples and the conditional model to all the others.

        Parameters
        ----------
        X_unlab, X_lab : array or Tensor, shape (n, ...), (m, ...)
        y_lab : array or Tensor, shape (m,)
            Rewards; larger is better.
        options
            Of :meth:`lodim.generative.Diffusion.fit`.
        """
        rows, few = flat_rows(X_unlab, "X_unlab"), flat_rows(X_lab, "X_lab")
        y = check_numbers(y_lab, "y_lab").astype(float)
        if y.shape != (len(few),) or not np.isfinite(y).all():
            raise ValueError(
                f"y_lab must be {len(few)} finite numbers, one a row of X_lab, got shape {y.shape}"
            )
        if len(few) < 2:
            raise ValueError("X_lab has 1 sample; a regression needs two or more")
        if few.shape[1] != rows.shape[1]:
            raise ValueError(
                f"X_lab must have {rows.shape[1]} numbers a sample as X_unlab has, got {few.shape[1]}"
            )
        self.reward_ = self._regression(few, y)
        predicted = self.predict(rows)
        if not np.isfinite(predicted).all():
            raise ValueError("the regression gives NaN or infinity for some of X_unlab")
        self._mean, self._size = float(predicted.mean()), float(predicted.std())
        if not self._size > 1e-9 * max(1e-300, float(np.abs(predicted).max())):
            raise ValueError("the regression gives all samples one reward: it has learnt nothing to aim at")
        self.data_range_ = float(predicted.min()), float(predicted.max())
        spectrum = covariance_spectrum(rows)
        k = min(max(1, int(linear_dimension(spectrum, "MP", rows.shape))), rows.shape[1])
        self._rows, self._middle = rows, rows.mean(0)
        self.subspace_ = np.linalg.svd(rows - self._middle, full_matrices=False)[2][:k].T
        seed = root_seed(random_state)
        noise = as_generator(derive_seed(seed, "pseudo-labels")).standard_normal(len(rows))
        labels = ((predicted - self._mean) / self._size + self.nu * noise).astype(np.float32)
        self.base.fit(X_unlab, labels[:, None], random_state=derive_seed(seed, "diffusion"), **options)
        return self

    def _regression(self, X: np.ndarray, y: np.ndarray) -> Any:
        if isinstance(self.reward, nn.Module):
            return self.reward
        if isinstance(self.reward, str):
            size = float(((X - X.mean(0)) ** 2).sum()) or 1.0
            return RidgeCV(alphas=size * np.logspace(-8, 1, 19)).fit(X, y)
        return clone(self.reward).fit(X, y)

    @torch.no_grad()
    def predict(self, X: Any) -> Float[np.ndarray, " n"]:
        """Return the regression's rewards.

        Parameters
        ----------
        X : array or Tensor, shape (n, ...)
        """
        if self.reward_ is None:
            raise ValueError("there is no regression yet: call fit first")
        rows = flat_rows(X, "X")
        if not isinstance(self.reward_, nn.Module):
            return np.asarray(self.reward_.predict(rows), dtype=float).reshape(-1)
        batch = torch.from_numpy(rows).float().reshape(len(rows), *self.base.shape)
        values = check_numbers(self._module(batch), "reward").astype(float)
        if values.shape != (len(rows),):
            raise ValueError(
                f"reward must return one number a sample, shape ({len(rows)},), got {values.shape}"
            )
        return values

    def _module(self, x: Tensor) -> Any:
        """The module's rewards, in its own precision and without dropout."""
        own = next((p for p in self.reward_.parameters() if p.is_floating_point()), x)
        with evaluation_mode(self.reward_):
            return self.reward_(x.to(own.device, own.dtype))

    def _differentiable(self) -> Callable[[Tensor], Tensor]:
        """The regression as a function of tensors."""
        if isinstance(self.reward_, nn.Module):
            return self._module
        if not hasattr(self.reward_, "coef_"):
            raise ValueError(
                f"{type(self.reward_).__name__} has no gradient; use mode='conditional', a linear estimator, or a "
                "torch module"
            )
        theta = torch.from_numpy(np.ravel(self.reward_.coef_))
        offset = float(np.ravel(self.reward_.intercept_)[0])
        some = self._rows[:100]
        found, linear = self.predict(some), some @ theta.numpy() + offset
        if not np.allclose(
            found, linear, rtol=1e-3, atol=1e-3 * self._size
        ):  # a link or a threshold is between
            raise ValueError(
                f"{type(self.reward_).__name__} predicts other than its coef_ times x; use mode='conditional', a "
                "linear estimator, or a torch module"
            )
        return lambda x: x.flatten(1) @ theta.to(x) + offset

    def sample(
        self,
        n: int,
        target: float | int,
        *,
        mode: str = "conditional",
        scale: float | int = 1.0,
        random_state: RandomState = None,
        **options: Any,
    ) -> Any:
        """Draw samples that are to have a reward.

        Parameters
        ----------
        target : float
            In the reward's unit.
        mode : {"conditional", "lookahead", "naive"}
            The trained condition, or a gradient of the regression on the model without one.
        scale : float
            Of the guidance: of :class:`~lodim.generative.ClassifierFree`, or of :class:`RewardGuide`.
        options
            Of :meth:`lodim.generative.Diffusion.sample`, but for its ``cond``, ``guidance`` and ``generator``.

        Raises
        ------
        ValueError
            Before :meth:`fit`; a gradient mode and a regression without one.
        """
        check_choice(mode, MODES, "mode")
        if self.reward_ is None:
            raise ValueError("there is no regression yet: call fit first")
        target, n = finite(target, "target"), int(check_in_range(n, "n", low=0, integer=True))
        if mode == "conditional":
            cond = np.full((n, 1), (target - self._mean) / self._size, dtype=np.float32)
            return self.base.sample(n, cond=cond, guidance=scale, generator=random_state, **options)
        guide = RewardGuide(
            self._differentiable(), target, self.nu * self._size, scale, ahead=mode == "lookahead"
        )
        return self.base.sample(n, guidance=guide, generator=random_state, **options)

    def report(
        self,
        targets: Sequence[float | int] | Float[np.ndarray, " k"],
        n: int = 200,
        *,
        mode: str = "conditional",
        true_reward: Callable[..., Any] | None = None,
        random_state: RandomState = 0,
        **options: Any,
    ) -> RewardCurve:
        """Sample at several targets and say what came of each.

        Parameters
        ----------
        targets : sequence of float
        n : int
            Samples of each.
        true_reward : callable, optional
            ``true_reward(samples)``, one number a sample.
        options
            Of :meth:`sample`.
        """
        check_in_range(n, "n", low=1, integer=True)
        if not len(targets):
            raise ValueError("targets must be one number or more")
        if self.reward_ is None:
            raise ValueError("there is no regression yet: call fit first")
        seed, index = root_seed(random_state), NeighborIndex("l2").fit(self._rows)
        figures: list[tuple[float, ...]] = []
        for i, target in enumerate(targets):
            drawn = self.sample(
                n, float(target), mode=mode, random_state=derive_seed(seed, "target", i), **options
            )
            rows = flat_rows(drawn, "samples")
            known = (
                np.full(n, np.nan)
                if true_reward is None
                else check_numbers(true_reward(drawn), "true_reward")
            )
            if known.shape != (n,):
                raise ValueError(
                    f"true_reward must return one number a sample, shape ({n},), got {known.shape}"
                )
            truth = float(np.mean(known))
            figures.append((
                float(self.predict(rows).mean()), truth,
                off_subspace_energy(rows, self.subspace_, center=self._middle),
                float(np.mean(index.kneighbors(rows, 1)[0])),
            ))  # fmt: skip
        own = NeighborGraph.from_data(self._rows, 1)
        predicted, true, across, distance = zip(*figures, strict=True)
        return RewardCurve(
            tuple(map(float, targets)), predicted, true, across, distance,
            off_subspace_energy(self._rows, self.subspace_, center=self._middle), float(np.mean(own.dist)),
            self.data_range_, mode, int(n),
        )  # fmt: skip
