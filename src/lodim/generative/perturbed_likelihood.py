r"""Add the right amount of noise to clean data before fitting a VAE, so that likelihood training stays meaningful.

Data near a set of few dimensions are modelled as ``X = f(Z) + eps``, Z of a known law, ``eps ~ N(0, sigma^2 I)``. What
is wanted is the law Q of f(Z), which is singular, not that of X. As sigma falls the likelihood

.. math:: p_{f,\sigma}(x) = \mathbb{E}_Z\, N(x; f(Z), \sigma^2 I)

has no upper limit: every f that passes near all points is as good as any other, whatever law it puts on the set. Noise
of deviation t on the *data* keeps it bounded:

.. math:: (\hat f, \hat\sigma) = \arg\max \sum_i \log p_{f,\sigma}(X_i + t e_i), \quad e_i \sim N(0, I), \qquad
          \hat Q = \mathrm{law}(\hat f(Z)),

where no noise is added to :math:`\hat f(Z)`, and :math:`\hat\sigma^2` estimates :math:`\sigma_0^2 + t^2`. With d the
dimension of the set and beta the smoothness of f, the Wasserstein-1 error is of the order of :math:`n^{-\beta/(2(\beta
+ d))}` for t of that order, whatever D. Where the data's own noise is as large as that, t = 0 will do.

====================================  =====================================================================
symbol in the paper                   name here
====================================  =====================================================================
f, generator                          ``NoisyDecoder.decode``
:math:`\sigma`, :math:`\hat\sigma`    ``NoisyDecoder.sigma``, ``sigma_``
:math:`\sigma_0`                      ``sigma`` with ``learn_sigma=False``
perturbation of the data, its level   ``perturb``, ``perturbation_`` (t)
:math:`\beta`, d                      ``smoothness``, ``dimension`` of :func:`perturbation_level`
:math:`\hat Q`                        ``sample`` (``sample_noisy``: the law with the decoder's noise)
====================================  =====================================================================

Source: M. Chae, D. Kim, Y. Kim, L. Lin, arXiv 2105.04046.
Departures: the paper's estimator keeps one perturbed copy of the data (``resample=False``); here every batch draws anew
unless told so. Its classes of sparse networks are MLPs under Adam. t by validation is the smallest one that held-out
clean rows cannot tell from the best. The likelihoods of two t are of different data and never compared.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from lodim.dimension import IntrinsicDimension
from lodim.generative.autoencoding import (
    gaussian_vae_elbo,
    grid_log_likelihood,
    grid_log_weights,
    iwae_bound,
    stratified_latents,
)
from lodim.metrics import wasserstein
from lodim.nets import mlp
from lodim.parallel import count_processes, run_jobs
from lodim.randomness import RandomState, as_generator, build_seeded, derive_seed, root_seed, torch_generator
from lodim.results import Result
from lodim.training import DescentRecipe, descend
from lodim.validation import (
    check_choice,
    check_counts,
    check_device,
    check_in_range,
    check_kind,
    check_matrix,
    checked,
    warn,
)

__all__ = ["NoisePath", "NoisyDecoder", "PerturbedLikelihoodModel", "perturbation_level", "smooth_mlp"]

OBJECTIVES = ("vae", "iwae", "grid")
PRIORS = ("normal", "uniform")
LEVELS = (0.0, *np.logspace(-2.5, -0.3, 8).tolist())  # that validation tries, in units of the data's scale
_LEAST_ROWS, _MOST_HELD, _DRAWS = 20, 1000, 8
_FINE, _IMPORTANCE = 4096, 256  # latents behind a density: a grid's, or draws of q
_BLOCK = 2**24  # numbers held at once
_MOST = 1e300
_FARTHEST = 1e12  # in units of the rows: squares of more, and of its inverse, leave single precision
_LOG_VAR = 30  # of q at the most: beyond, exponentials overflow


@checked
def perturbation_level(
    n: int, dimension: float | int, smoothness: float | int = 2.0, scale: float | int = 1.0
) -> float:
    """Order of the paper's perturbation: ``scale * n^(-beta / (2 (beta + d)))``, in the unit of the scale.

    Parameters
    ----------
    n : int
        Rows.
    dimension, smoothness : float
        d of the set, and beta of f on it.
    """
    check_in_range(n, "n", low=1, integer=True)
    for value, name in ((dimension, "dimension"), (smoothness, "smoothness"), (scale, "scale")):
        check_in_range(value, name, low=0.0)
    share = 1.0 if math.isinf(smoothness) else smoothness / (smoothness + dimension or 1)
    return float(scale * n ** (-share / 2))


@checked
def smooth_mlp(
    n_in: int, n_out: int, width: int = 128, depth: int = 2, activation: str = "silu"
) -> nn.Sequential:
    """A fully connected network with torch's own, small initial weights.

    A decoder that begins with He's larger ones begins as a folded curve, and where s is small stays one.
    """
    net = mlp([n_in, *[width] * check_in_range(depth, "depth", low=0, integer=True), n_out], activation)
    for layer in net:
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    return net


class NoisyDecoder(nn.Module):
    """``x = f(z) + sigma e`` for rows of about unit size, with the likelihood of perturbed rows as its loss.

    Parameters
    ----------
    decoder : Module
        From latent_dim numbers to dim.
    latent_dim : int
    encoder : Module, optional
        From dim numbers to 2 latent_dim: mean and log variance of q(z|x). Needed but for ``"grid"``.
    objective : {"vae", "iwae", "grid"}
        See :mod:`lodim.generative.autoencoding`; ``"grid"`` has no inference gap, and needs latent_dim <= 2.
    perturbation : float
        Deviation t of fresh noise on every batch.
    sigma, sigma_min, learn_sigma
        The decoder's deviation begins at ``sigma`` and, if it is learned, stays above ``sigma_min``:
        ``sigma^2 = sigma_min^2 + exp(2 rho)``.
    prior : {"normal", "uniform"}
        What the decoder is given: z, or uniform numbers of the same mean and variance, ``sqrt(3) (2 Phi(z) - 1)``.
    n_importance, n_grid : int
        K of ``"iwae"``, M of ``"grid"``.
    """

    @checked
    def __init__(
        self,
        decoder: nn.Module,
        latent_dim: int,
        encoder: nn.Module | None = None,
        *,
        objective: str = "vae",
        perturbation: float | int = 0.0,
        sigma: float | int = 0.5,
        sigma_min: float | int = 1e-3,
        learn_sigma: bool = True,
        prior: str = "normal",
        n_importance: int = 5,
        n_grid: int = 256,
    ) -> None:
        super().__init__()
        check_choice(objective, OBJECTIVES, "objective")
        check_choice(prior, PRIORS, "prior")
        check_counts(latent_dim=latent_dim, n_importance=n_importance)
        check_in_range(n_grid, "n_grid", low=2, integer=True)
        check_in_range(perturbation, "perturbation", low=0.0, high=_FARTHEST)
        if objective == "grid" and latent_dim > 2:
            raise ValueError(
                f'objective "grid" needs latent_dim of 1 or 2, got {latent_dim}; use "vae" or "iwae"'
            )
        if objective != "grid" and encoder is None:
            raise ValueError(f"objective {objective!r} needs an encoder, of outputs 2 * latent_dim")
        check_in_range(sigma_min, "sigma_min", low=0.0, high=_FARTHEST)
        check_in_range(sigma, "sigma", low=1 / _FARTHEST, high=_FARTHEST)
        if learn_sigma and not sigma > sigma_min:
            raise ValueError(f"sigma must be above sigma_min = {sigma_min}, got {sigma}")
        self.decoder, self.encoder = decoder, encoder
        self.latent_dim, self.objective, self.prior = int(latent_dim), objective, prior
        self.perturbation, self.n_importance, self.n_grid = (
            float(perturbation),
            int(n_importance),
            int(n_grid),
        )
        self.sigma_min = float(sigma_min) if learn_sigma else 0.0
        rho = torch.tensor(0.5 * math.log(sigma**2 - self.sigma_min**2))
        self.rho = nn.Parameter(rho, requires_grad=learn_sigma)

    @property
    def sigma(self) -> Float[Tensor, ""]:
        """The decoder's standard deviation."""
        return (self.sigma_min**2 + (2 * self.rho).exp()).sqrt()

    def _normal(self, *shape: int, generator: torch.Generator | None) -> Tensor:
        drawn = torch.randn(*shape, generator=generator, dtype=self.rho.dtype)
        return drawn.to(self.rho.device)

    def _grid(self, m: int, generator: torch.Generator | None = None, *, jitter: bool = True) -> Tensor:
        z = stratified_latents(m, self.latent_dim, generator=generator, jitter=jitter, dtype=self.rho.dtype)
        return z.to(self.rho.device)

    def decode(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch dim"]:
        """Return f(z), for z of the normal law whatever the prior."""
        given = z if self.prior == "normal" else math.sqrt(3) * (2 * torch.special.ndtr(z) - 1)
        points = self.decoder(given.reshape(-1, self.latent_dim))  # a backbone has one batch axis
        return points.reshape(*z.shape[:-1], points.shape[-1])

    def encode(self, x: Float[Tensor, "batch dim"]) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z|x), (batch, latent) each, the latter kept within 30 of zero."""
        assert self.encoder is not None
        found = self.encoder(x)
        if found.shape != (len(x), 2 * self.latent_dim):
            raise ValueError(
                f"the encoder must return 2 * latent_dim = {2 * self.latent_dim} numbers a row, got shape "
                f"{tuple(found.shape)} for {len(x)} rows"
            )
        mean, log_var = found.chunk(2, dim=-1)
        return mean, log_var.clamp(-_LOG_VAR, _LOG_VAR)

    def log_likelihood(
        self, x: Float[Tensor, "batch dim"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, " batch"]:
        """Objective of every row as it is: a draw of what bounds (or, by the grid, estimates) its log density."""
        if self.objective == "grid":
            return grid_log_likelihood(x, self.decode(self._grid(self.n_grid, generator)), self.sigma)
        mean, log_var = self.encode(x)
        if self.objective == "vae":
            z = mean + (0.5 * log_var).exp() * self._normal(*mean.shape, generator=generator)
            return gaussian_vae_elbo(x, self.decode(z), self.sigma, mean, log_var)
        noise = self._normal(self.n_importance, *mean.shape, generator=generator)
        z = mean + (0.5 * log_var).exp() * noise
        return iwae_bound(x, self.decode(z), self.sigma, z, mean, log_var)

    def loss(
        self, x: Float[Tensor, "batch dim"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, ""]:
        """Minus the mean objective of the rows with noise of deviation ``perturbation``, in nats."""
        if self.perturbation:
            x = x + self.perturbation * self._normal(*x.shape, generator=generator)
        return -self.log_likelihood(x, generator=generator).mean()

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Float[Tensor, "n dim"]:
        """Draw f(Z), without the decoder's noise."""
        return self.decode(self._normal(n, self.latent_dim, generator=generator))

    @torch.no_grad()
    def log_density(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, " batch"]:
        """Log density of every row: by a fine grid for latent_dim <= 2, else a bound by draws that all share."""
        if self.latent_dim <= 2:
            points = self.decode(self._grid(_FINE, jitter=False))
            blocks = x.split(max(1, _BLOCK // _FINE))
            return torch.cat([grid_log_likelihood(rows, points, self.sigma) for rows in blocks])
        noise = self._normal(_IMPORTANCE, 1, self.latent_dim, generator=torch_generator(0))

        def bound(rows: Tensor) -> Tensor:
            mean, log_var = self.encode(rows)
            z = mean + (0.5 * log_var).exp() * noise
            return iwae_bound(rows, self.decode(z), self.sigma, z, mean, log_var)

        return torch.cat([bound(rows) for rows in x.split(max(1, _BLOCK // (_IMPORTANCE * x.shape[1])))])

    @torch.no_grad()
    def denoise(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """Posterior mean E[f(Z) | x] over a fine grid with ``"grid"``; else f at the encoder's mean."""
        if self.objective != "grid":
            return self.decode(self.encode(x)[0])
        points = self.decode(self._grid(_FINE, jitter=False))
        blocks = x.split(max(1, _BLOCK // _FINE))
        return torch.cat([grid_log_weights(rows, points, self.sigma).softmax(1) @ points for rows in blocks])

    @torch.no_grad()
    def spacing(self) -> float:
        """Median distance between f at neighbouring points of the training grid."""
        side = round(self.n_grid ** (1 / self.latent_dim))
        points = self.decode(self._grid(self.n_grid, jitter=False)).view(*[side] * self.latent_dim, -1)
        gaps = [points.diff(dim=axis).norm(dim=-1).flatten() for axis in range(self.latent_dim)]
        return float(torch.cat(gaps).median())


@dataclass(frozen=True)
class NoisePath(Result):
    """Held-out Wasserstein-1 distance over levels of perturbation, in the data's unit.

    Attributes
    ----------
    t : tuple of float
        Ascending, the first 0.
    w1 : tuple of float
        Mean over random halves of the held-out rows, each against as many samples.
    sigma : tuple of float
        The fitted deviation of the decoder.
    excess, excess_std : tuple of float
        Mean of the distance above that of the best t on the same halves, and its standard deviation over them.
    floor : float
        The same distance between the two halves.
    n : int
        Rows of a half.
    """

    t: tuple[float, ...]
    w1: tuple[float, ...]
    sigma: tuple[float, ...]
    excess: tuple[float, ...]
    excess_std: tuple[float, ...]
    floor: float
    n: int

    @property
    def chosen(self) -> float:
        """The smallest t at most two standard deviations worse than the best."""
        near = (t for t, gap, std in zip(self.t, self.excess, self.excess_std, strict=True) if gap <= 2 * std)
        return next(near, self.t[int(np.argmin(self.w1))])

    def to_frame(self) -> Any:
        """Return a row for each level."""
        import pandas as pd

        columns = ("t", "w1", "sigma", "excess", "excess_std")
        return pd.DataFrame({name: getattr(self, name) for name in columns})

    def plot(self, ax: Any = None) -> Any:
        """Draw the distance over t with its floor, and return the axes."""
        from lodim.plots import COLORS, new_axes

        ax = new_axes(ax)
        ax.errorbar(self.t, self.w1, 2 * np.array(self.excess_std), marker="o", capsize=2, color=COLORS[0])
        ax.axhline(self.floor, color=COLORS[-1], linestyle=":", label="held-out halves apart")
        ax.axvline(self.chosen, color=COLORS[1], linestyle="--", linewidth=1.2, label="chosen")
        least = min((t for t in self.t if t > 0), default=1.0)
        ax.set_xscale("symlog", linthresh=least)
        ax.set_xlim(-least / 2, 1.5 * max(*self.t, least))
        ax.set(xlabel="perturbation t", ylabel="Wasserstein-1, held out")
        ax.legend()
        return ax

    def __str__(self) -> str:
        best = int(np.argmin(self.w1))
        if self.chosen > 0:
            w1 = self.w1[self.t.index(self.chosen)]
            said = f"t = {self.chosen:.3g}: W1 {w1:.3g} against {self.w1[0]:.3g} without"
        elif best == 0:
            said = f"no perturbation: W1 {self.w1[0]:.3g}, the lowest"
        else:
            said = (
                f"no perturbation: W1 {self.w1[0]:.3g}, which the data cannot tell from {self.w1[best]:.3g} at "
                f"t = {self.t[best]:.3g}"
            )
        seeds = "one training for each t, which another seed may move"
        return f"{said} (floor {self.floor:.3g}, {self.n} held-out rows; {seeds})"


@dataclass(eq=False, repr=False)
class PerturbedLikelihoodModel(DensityMixin, BaseEstimator):
    """A decoder model of clean data near a set of few dimensions, fitted by the likelihood of perturbed data.

    All lengths (t, sigma, distances) are in the data's unit. Inside, data are centred and divided by one number, their
    root mean variance over columns (``scale_``): dividing each column by its own would change the set's geometry.

    Parameters
    ----------
    latent_dim : int
    perturb : "validation", "theory" or float
        Level t. ``"validation"``: fits with t = 0 and eight levels from .003 to .5 of the scale, and takes the smallest
        whose Wasserstein-1 distance to held-out clean rows is within noise of the best. ``"theory"``:
        :func:`perturbation_level` at the estimated dimension. A number: that one; 0 is the plain model.
    objective : {"vae", "iwae", "grid"}
        See :class:`NoisyDecoder`. ``"grid"`` is computed in double precision, the others in single.
    n_importance, n_grid : int
        Draws of ``"iwae"`` and latents of ``"grid"`` (in two dimensions the nearest square number).
    prior : {"normal", "uniform"}
        Law of the latents.
    decoder, encoder : Module or callable, optional
        A module (a copy is trained) or ``make(n_in, n_out)``. Default: :func:`smooth_mlp`.
    learn_sigma : bool
        Whether the decoder's deviation is learned. Learned from a large start it acts as annealing, and perturbation
        often brings little; held at a small value is where the likelihood goes wrong without it.
    sigma : float, optional
        Learned: where it starts (default: half the scale), but no lower than t without a ``sigma_min``. Not learned:
        noise sigma_0 of the data themselves; the deviation is ``sqrt(sigma^2 + t^2)`` (default: a hundredth of the
        scale).
    sigma_min : float, optional
        Floor of a learned one; default: a thousandth of the scale, or t / 2 if that is larger.
    resample : bool
        Fresh noise for every batch, or one perturbed copy of the data.
    steps, batch_size, lr
        Of Adam.
    n_jobs : int
        Processes for the levels of ``"validation"``.
    device : torch.device or str, optional
        Where to train; default: the tensor's device, else the CPU.
    random_state : int, Generator or None

    Attributes
    ----------
    perturbation_, sigma_, scale_ : float
    w1_path_ : NoisePath or None
        What validation saw.
    dimension_ : float or None
        The dimension that ``"theory"`` went by.
    degenerate_ : bool
        A learned deviation fell to its floor without perturbation: the likelihood has no maximum there.
    module_ : NoisyDecoder
        Of centred and scaled rows.
    training_ : DescentResult
    n_features_in_ : int

    References
    ----------
    Chae, Kim, Kim and Lin 2021, arXiv 2105.04046.

    Examples
    --------
    >>> from lodim.datasets.toy import uneven_circle
    >>> from lodim.generative import PerturbedLikelihoodModel
    >>> X = uneven_circle(200, random_state=0).X
    >>> model = PerturbedLikelihoodModel(1, "theory", "grid", steps=20, random_state=0).fit(X)
    >>> model.sample(5).shape
    (5, 2)
    """

    latent_dim: Any = 2
    perturb: Any = "validation"
    objective: Any = "vae"
    n_importance: Any = 5
    n_grid: Any = 256
    prior: Any = "normal"
    decoder: Any = None
    encoder: Any = None
    learn_sigma: Any = True
    sigma: Any = None
    sigma_min: Any = None
    resample: Any = True
    steps: Any = 2000
    batch_size: Any = 128
    lr: Any = 2e-3
    n_jobs: Any = 1
    device: Any = None
    random_state: Any = None

    def fit(
        self, X: Any, y: Any = None, *, checkpoint: Any = None, progress: Any = None
    ) -> PerturbedLikelihoodModel:
        """Choose t and train.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_samples, n_features)
            Clean data, 20 rows at least.
        y : ignored
        checkpoint, progress
            Of the final training, as in :func:`lodim.training.descend`; ``progress`` is told of the levels tried, too.

        Raises
        ------
        ValueError
            Fewer than 20 rows, constant data, values that are not finite, parameters out of range.
        """
        if isinstance(self.perturb, str):
            check_choice(self.perturb, ("validation", "theory"), "perturb")
        else:
            check_in_range(self.perturb, "perturb", low=0.0, high=_MOST)
        check_in_range(self.steps, "steps", low=0, integer=True)
        count_processes(self.n_jobs)  # wrong ones are refused, whatever perturb asks for
        for name in ("decoder", "encoder"):
            if (net := getattr(self, name)) is not None and not callable(net):
                raise TypeError(
                    f"{name} must be a module or make(n_in, n_out), which returns one, got {type(net).__name__}"
                )
        device = check_device(
            self.device if self.device is not None else X.device if isinstance(X, Tensor) else "cpu"
        )
        data = check_matrix(X)
        n, d = data.shape
        if n < _LEAST_ROWS:
            raise ValueError(
                f"X has {n} sample(s) and {d} feature(s) (n_samples = {n}); at least {_LEAST_ROWS} rows are needed"
            )
        validate_data(self, X if hasattr(X, "columns") else data, skip_check_array=True)
        largest = float(np.abs(data).max()) or 1.0
        within = data / largest  # squares neither over- nor underflow
        centre = within.mean(0)
        spread = math.sqrt(float(within.var(0).mean()))
        if not spread > 1e-12 or not math.isfinite(1 / (spread * largest)):
            raise ValueError("X is constant (all rows are equal up to rounding); there is no law to fit")
        self._centre, self.scale_ = centre * largest, spread * largest
        rows = (within - centre) / spread
        self._seed = seed = root_seed(self.random_state)
        self.w1_path_, self.dimension_ = None, None
        train = partial(_train, self._settings(d), device=device, seed=seed)
        if self.perturb == "validation":
            self.w1_path_ = self._validate(rows, train, progress)
            t = self.w1_path_.chosen / self.scale_
        elif self.perturb == "theory":
            estimate = IntrinsicDimension(random_state=derive_seed(seed, "dimension")).fit(rows)
            self.dimension_ = float(estimate.dimension_)
            t = perturbation_level(n, self.dimension_)
        else:
            t = self._in_unit(self.perturb, "perturb")
        final = progress
        if self.w1_path_ is not None and progress is not None:
            tried = len(LEVELS) / (len(LEVELS) + 1)

            def final(done: float, text: str) -> None:
                progress(tried + (1 - tried) * done, text)

        self.module_, self.training_ = train(rows, t, checkpoint=checkpoint, progress=final)
        sigma = self.module_.sigma.item()
        self.perturbation_, self.sigma_ = t * self.scale_, sigma * self.scale_
        self.degenerate_ = bool(self.learn_sigma and t == 0 and sigma < 1.05 * self.module_.sigma_min)
        if self.degenerate_:
            warn(
                f"the decoder's deviation fell to its floor, {self.sigma_:.3g}: the likelihood of these data grows "
                'without limit and says nothing of their law; use perturb="validation", or a t above 0'
            )
        if self.objective == "grid" and sigma < 2 * self.module_.spacing():
            warn(
                f"the decoder's deviation, {self.sigma_:.3g}, is below twice the spacing of the grid, "
                f"{self.module_.spacing() * self.scale_:.3g}: a mixture of separate bumps; raise n_grid, or t"
            )
        return self

    def _in_unit(self, length: Any, name: str) -> float:
        """A length in units of the scale."""
        if not (length == 0 or 1 / _FARTHEST <= (found := float(length) / self.scale_) <= _FARTHEST):
            raise ValueError(
                f"{name} must be of the order of the data's scale, {self.scale_:.3g}, got {length}"
            )
        return found if length else 0.0

    def _settings(self, d: int) -> dict[str, Any]:
        """What a training needs, in units of the scale."""
        check_choice(self.objective, OBJECTIVES, "objective")
        check_in_range(self.latent_dim, "latent_dim", low=1, integer=True)
        for name in ("learn_sigma", "resample"):
            check_kind(getattr(self, name), bool | np.bool_, name)
        lengths = {}
        for name in ("sigma", "sigma_min"):
            value = getattr(self, name)
            if value is not None and not check_in_range(value, name, low=0.0, high=_MOST) > 0:
                raise ValueError(f"{name} must be positive, got {value}")
            lengths[name] = None if value is None else self._in_unit(value, name)
        if self.learn_sigma and None not in (self.sigma, self.sigma_min) and not self.sigma > self.sigma_min:
            raise ValueError(f"sigma must be above sigma_min = {self.sigma_min}, got {self.sigma}")
        # every level has the networks that the same seed begins with
        return {
            **lengths,
            "d": d, "latent_dim": int(self.latent_dim), "objective": self.objective, "prior": self.prior,
            "n_importance": self.n_importance, "n_grid": self.n_grid, "learn_sigma": bool(self.learn_sigma),
            "decoder": self.decoder, "encoder": self.encoder, "resample": bool(self.resample),
            "recipe": DescentRecipe(steps=self.steps, batch_size=self.batch_size, lr=self.lr),
        }  # fmt: skip

    def _validate(self, rows: np.ndarray, train: Callable[..., Any], progress: Any) -> NoisePath:
        """Distances of every level to random halves of held-out rows, the same halves and latents for all."""
        rng = as_generator(derive_seed(self._seed, "held out"))
        order = rng.permutation(len(rows))
        n_held = min(_MOST_HELD, max(_LEAST_ROWS // 2, len(rows) // 5))
        held, rest = rows[order[:n_held]], rows[order[n_held:]]
        half = n_held // 2
        splits = [rng.permutation(n_held) for _ in range(_DRAWS)]
        draws = [(derive_seed(self._seed, "draw", i), held[split[:half]]) for i, split in enumerate(splits)]

        def report(index: int, outcome: Any) -> None:
            if progress is not None:
                progress((index + 1) / (len(LEVELS) + 1), f"t = {LEVELS[index] * self.scale_:.3g}")

        judge = partial(_distances, train, held_out_draws=draws, rows=rest)
        outcomes = run_jobs(judge, LEVELS, n_jobs=self.n_jobs, on_done=report)
        if failed := next((o.error for o in outcomes if o.error is not None), None):
            raise RuntimeError(f"a training failed: {failed}")
        found: list[Any] = [outcome.value for outcome in outcomes]
        w1 = self.scale_ * np.array([distances for distances, _ in found])
        excess = w1 - w1[w1.mean(1).argmin()]
        floor = np.mean([_w1(held[split[half : 2 * half]], held[split[:half]]) for split in splits])

        def numbers(values: Any) -> tuple[float, ...]:
            return tuple(map(float, values))

        return NoisePath(
            t=numbers(self.scale_ * np.array(LEVELS)), w1=numbers(w1.mean(1)),
            sigma=numbers(self.scale_ * sigma for _, sigma in found), excess=numbers(excess.mean(1)),
            excess_std=numbers(excess.std(1, ddof=1)), floor=float(self.scale_ * floor), n=half,
        )  # fmt: skip

    def _inward(self, X: Any) -> Tensor:
        check_is_fitted(self, "module_")
        data = check_matrix(X)
        validate_data(self, X if hasattr(X, "columns") else data, skip_check_array=True, reset=False)
        rows = (data / self.scale_ - self._centre / self.scale_) if math.isfinite(1 / self.scale_) else data
        return torch.as_tensor(rows, dtype=self.module_.rho.dtype, device=self.module_.rho.device)

    def score_samples(self, X: Any) -> Any:
        """Log density of the *noisy* model (of perturbed data, at the fitted sigma) at each row.

        Exact up to a fine grid for latent_dim <= 2, else a lower bound by importance sampling. Not comparable between
        models of different t.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_queries, n_features)

        Returns
        -------
        ndarray or Tensor, shape (n_queries,)
        """
        inside = self._inward(X)
        return _like(X, self.module_.log_density(inside) - inside.shape[1] * math.log(self.scale_))

    def score(self, X: Any, y: Any = None) -> float:
        """Total log density of the rows.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_queries, n_features)
        y : ignored
        """
        return float(self.score_samples(X).sum())

    def denoise(self, X: Any) -> Any:
        """Return the rows moved to the fitted set: see :meth:`NoisyDecoder.denoise`.

        Parameters
        ----------
        X : array-like or Tensor, shape (n_queries, n_features)

        Returns
        -------
        ndarray or Tensor, shape (n_queries, n_features)
        """
        moved = self.module_.denoise(self._inward(X))
        return _like(X, moved * self.scale_ + torch.as_tensor(self._centre, device=moved.device))

    def sample(
        self, n_samples: Any = 1, random_state: RandomState = None
    ) -> Float[np.ndarray, "n n_features"]:
        """Draw from the singular law: f(Z), without noise.

        Parameters
        ----------
        n_samples : int
        random_state : int, Generator or None
            Default: derived from the estimator's, so that repeated calls agree.
        """
        check_is_fitted(self, "module_")
        check_in_range(n_samples, "n_samples", low=0, integer=True)
        seed = derive_seed(self._seed, "sample") if random_state is None else root_seed(random_state)
        return _draw(self.module_, int(n_samples), seed) * self.scale_ + self._centre

    def sample_noisy(
        self, n_samples: Any = 1, random_state: RandomState = None
    ) -> Float[np.ndarray, "n n_features"]:
        """Draw from the law of perturbed data: the rows of :meth:`sample`, and noise of deviation ``sigma_``."""
        clean = self.sample(n_samples, random_state)
        seed = derive_seed(self._seed, "sample") if random_state is None else root_seed(random_state)
        rng = as_generator(derive_seed(seed, "noise"))
        return clean + self.sigma_ * rng.standard_normal(clean.shape)


def _train(
    settings: dict[str, Any], rows: np.ndarray, t: float, *, device: torch.device, seed: int, **options: Any
) -> tuple[NoisyDecoder, Any]:
    """Train the model of one level on rows of unit scale; in double precision afterwards."""
    s = settings
    floor = max(1e-3, t / 2) if s["sigma_min"] is None else s["sigma_min"]
    sigma = s["sigma"]
    if s["learn_sigma"]:
        sigma = sigma if sigma is not None and s["sigma_min"] is not None else max(sigma or 0.5, 2 * floor)
    else:
        sigma = math.hypot(sigma or 0.01, t)

    def make(net: Any, n_in: int, n_out: int) -> nn.Module:
        return copy.deepcopy(net) if isinstance(net, nn.Module) else (net or smooth_mlp)(n_in, n_out)

    def build() -> NoisyDecoder:
        decoder = make(s["decoder"], s["latent_dim"], s["d"])
        encoder = None if s["objective"] == "grid" else make(s["encoder"], s["d"], 2 * s["latent_dim"])
        return NoisyDecoder(
            decoder, s["latent_dim"], encoder, sigma=sigma, sigma_min=floor, learn_sigma=s["learn_sigma"],
            perturbation=t if s["resample"] else 0.0,
            **{name: s[name] for name in ("objective", "prior", "n_importance", "n_grid")},
        )  # fmt: skip

    module = build_seeded(build, derive_seed(seed, "networks")).to(device)
    dtype = torch.float64 if s["objective"] == "grid" else torch.float32
    if not s["resample"]:
        rows = rows + t * as_generator(derive_seed(seed, "perturbation")).standard_normal(rows.shape)
    data = torch.tensor(rows, dtype=dtype, device=device)
    result = descend(
        module.to(dtype).loss, module, s["recipe"], data, random_state=derive_seed(seed, "descent"), **options
    )
    return module.double().eval(), result


def _distances(
    train: Callable[..., Any], t: float, *, rows: np.ndarray, held_out_draws: Sequence[tuple[int, np.ndarray]]
) -> tuple[list[float], float]:
    """Train at a level; its distances to each part of the held-out rows, and the fitted deviation."""
    module, _ = train(rows, t)
    found = [_w1(_draw(module, len(part), seed), part) for seed, part in held_out_draws]
    return found, module.sigma.item()


@torch.no_grad()
def _draw(module: NoisyDecoder, n: int, seed: int) -> np.ndarray:
    return module.sample(n, generator=torch_generator(seed)).cpu().numpy()


def _w1(samples: np.ndarray, reference: np.ndarray) -> float:
    return wasserstein(samples, reference).value


def _like(X: Any, values: Tensor) -> Any:
    return values.to(X.device) if isinstance(X, Tensor) else values.cpu().numpy()
