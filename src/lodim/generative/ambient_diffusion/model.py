r"""Ambient diffusion: a generator of clean data, from samples most of which carry known noise.

Sample :math:`y_i = x_0 + s_i n` has normal noise of a known standard deviation :math:`s_i`, 0 for a clean one. At a
level :math:`\sigma > s` of training only what is missing is added, and the mean of the *noisy* sample given the noisier
one, which can be learnt, is the mean of the *clean* one up to two known factors:

.. math:: x_\sigma = y + \sqrt{\sigma^2 - s^2}\, n, \qquad
          \mathbb{E}[x_s \mid x_\sigma] = a x_\sigma + (1 - a)\, \mathbb{E}[x_0 \mid x_\sigma], \quad
          a = s^2 / \sigma^2,

.. math:: L = \mathbb{E}\; w(\sigma)\, \tfrac1N | a x_\sigma + (1 - a)\, D(x_\sigma, \sigma) - y |^2 .

Its minimiser is the denoiser of clean data at every level above s. At :math:`\sigma = s` the loss and its gradient are
0, below it the sample teaches nothing: low levels are learnt from the clean samples alone, high ones from all. With
s = 0 it is :class:`~lodim.generative.Diffusion`'s own loss, bit for bit.

For data almost without clean samples a consistency loss asks that the denoiser's answers agree along its own reverse
process, with x' drawn J times by Euler-Maruyama from level :math:`\sigma` to :math:`\sigma' < \sigma`:

.. math:: L_c = \mathbb{E}\; \tfrac1N \Big| \tfrac1J \sum_j D(x'_j, \sigma') - D(x_\sigma, \sigma) \Big|^2 .

===================================  ==================================================================================
symbol in the paper                  name here
===================================  ==================================================================================
:math:`\sigma_{t_n}`, the noise of   ``noise_std``, s above, in the data's unit
the data
:math:`h_\theta(x_t, t)`             ``denoiser``
:math:`x_{t_n}`, a noisy sample      rows of ``X``
early stopping at :math:`t_n`        ``sample(stop_at=...)``
===================================  ==================================================================================

Variance-preserving processes need nothing of their own: levels are canonical, so with :math:`x_t = \sqrt{1 - t^2} x_0 +
t n`, :math:`r = \sqrt{(1 - t^2) / (1 - s^2)}` and :math:`q^2 = t^2 - r^2 s^2` the paper's :math:`\mathbb{E}[x_s \mid
x_t] = ((q / t)^2 (\sqrt{1 - t^2}\, h - x_t) + x_t) / r` is the identity above divided by :math:`\sqrt{1 - s^2}`.

Source: G. Daras and others, arXiv 2411.02780, sections 2 and 3, and its code's defaults; the identity and the
consistency loss: G. Daras, A. Dimakis, C. Daskalakis, arXiv 2404.10177.

Departures. :math:`a x_\sigma + (1 - a) D - y` is computed as :math:`a (x_\sigma - y) + (1 - a)(D - y)` with
:math:`1 - a = (\sigma - s)(\sigma + s) / \sigma^2` in float64: near :math:`\sigma = s` nothing cancels. The level
:math:`\sigma'` is drawn from training's law below :math:`\sigma` (the published loss uses one draw for both levels, so
that it acts only where clamping did), and Euler-Maruyama's steps are of :math:`\sigma^2`, whose noise is exact. The
squared mean of J children is too large by their variance over J; ``unbiased=True`` multiplies two means of half of them
instead. The data's size, which scales the network, is that of the clean data: the noise's variance is taken off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lodim.generative.denoiser import Condition, as_levels
from lodim.generative.diffusion import Diffusion, _rows
from lodim.generative.losses import gaussian, normal, uniform, weights
from lodim.generative.samplers import check_levels
from lodim.linalg.precision import as_tensor
from lodim.plots import new_axes
from lodim.randomness import RandomState, as_generator, derive_seed, root_seed
from lodim.results import Result
from lodim.validation import check_choice, check_in_range, check_numbers, checked, warn

__all__ = ["AmbientDiffusion", "NoiseEstimate", "attach_noise", "estimate_noise"]

POLICIES = ("clamp", "resample", "reject")
_ROUNDS = 1000  # of "reject"
_RHO = 7.0  # of the consistency loss's steps
_HIDDEN = 3.0  # standard errors that the clean data's variance must stand above 0


@checked
class AmbientDiffusion(Diffusion):
    """A diffusion model that learns clean data from clean and noisy samples.

    Parameters
    ----------
    net, shape
        As of :class:`~lodim.generative.Diffusion`, like all further ``options`` but ``kernel``: only normal noise can
        be completed to a higher level.
    policy : {"clamp", "resample", "reject"}
        What happens to a level drawn below a sample's noise: it is raised to the noise, where the sample teaches
        nothing (the authors' choice, which leaves the law of the levels that teach as it is); it comes from the law cut
        off below the noise, so that no draw is wasted; or it is drawn until one lies above: the same law, for a
        schedule that has no ``share_below``.
    consistency : float
        Factor of the consistency loss; 0 leaves it out. The authors advise to train without it first.
    consistency_children, consistency_steps, consistency_batch : int
        Paths drawn from each sample, their steps, and samples of a batch that it is asked of.
    unbiased : bool
        Multiply two means of half the children each.

    Attributes
    ----------
    floor : Tensor
        The least noise of the samples of the last :meth:`fit`: below it nothing was learnt.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(500, 2)) * [1, 0.3]
    >>> Y, noise = attach_noise(X, 0.2, fraction=0.9, random_state=0)
    >>> model = AmbientDiffusion(shape=2, random_state=0).fit(Y, noise, steps=20)
    >>> model.sample(4, generator=0).shape
    (4, 2)
    """

    floor: Tensor

    def __init__(
        self,
        net: nn.Module | None = None,
        shape: int | Sequence[int] = (2,),
        *,
        policy: str = "clamp",
        consistency: float | int = 0.0,
        consistency_children: int = 6,
        consistency_steps: int = 6,
        consistency_batch: int = 32,
        unbiased: bool = False,
        **options: Any,
    ) -> None:
        if options.get("kernel", gaussian) is not gaussian:
            raise ValueError(
                "kernel must be normal noise, which can be completed to a higher level: leave it out"
            )
        super().__init__(net, shape, **options)
        self.policy = check_choice(policy, POLICIES, "policy")
        self.consistency = float(check_in_range(consistency, "consistency", low=0))
        if math.isinf(self.consistency):
            raise ValueError("consistency must be finite")
        self.consistency_children = int(
            check_in_range(consistency_children, "consistency_children", low=1 + bool(unbiased), integer=True)
        )
        self.consistency_steps = int(
            check_in_range(consistency_steps, "consistency_steps", low=1, integer=True)
        )
        self.consistency_batch = int(
            check_in_range(consistency_batch, "consistency_batch", low=1, integer=True)
        )
        self.unbiased = bool(unbiased)
        self.register_buffer("floor", torch.tensor(0.0))

    # ------------------------------------------------------------------------------------------------ training

    def loss(  # type: ignore[override]
        self,
        x: Float[Tensor, "batch ..."],
        cond: Any = None,
        noise_std: Any = 0.0,
        *,
        generator: torch.Generator | None = None,
        reduction: str = "mean",
    ) -> Float[Tensor, " ..."]:
        """Return the loss of samples in their own unit.

        Parameters
        ----------
        noise_std : float, array or Tensor, shape (batch,)
            Standard deviation of the noise in each sample, in the data's unit.
        cond, generator, reduction
            As of :meth:`Diffusion.loss`.
        """
        check_choice(reduction, ("mean", "none"), "reduction")
        given = self._taught(x, cond, generator)
        wide = torch.promote_types(x.dtype, torch.float32)
        s = _noise_levels(noise_std, len(x), x.device, torch.finfo(wide).max)
        sigma = self._draw(s, x, generator)
        missing = (sigma - s) * (sigma + s)  # sigma^2 - s^2, of which nothing cancels
        levels = as_levels(sigma, x)
        noise = self.kernel(x, as_column(missing.sqrt(), levels), generator)
        x0_hat = self.denoiser(x + noise, levels, given)
        a, rest = (as_column(part / sigma.square(), levels) for part in (s.square(), missing))
        weight = weights(type(self.schedule), self.denoiser)(levels.double()).sqrt().to(x0_hat.dtype)
        each = (weight * (a * noise + rest * (x0_hat - x))).square().flatten(1).mean(1)
        if self.consistency:
            asked = slice(min(self.consistency_batch, len(x)))
            apart = self._apart(
                (x + noise)[asked], x0_hat[asked], sigma[asked], _rows(given, asked), generator
            )
            share = len(x) / len(apart)  # the mean over the batch is that over the samples asked
            each = torch.cat([each[asked] + self.consistency * share * apart, each[len(apart) :]])
        return each.mean() if reduction == "mean" else each

    def _draw(self, s: Tensor, x: Tensor, generator: torch.Generator | None) -> Float[Tensor, " batch"]:
        """Draw a level a sample, none below its noise; float64, in the data's unit."""
        scale, u = self.denoiser.scale, uniform(x, generator)
        if self.policy == "resample":
            below = self.schedule.share_below(s / scale)
            u = (below + (1 - below) * u).clamp(max=1 - 2**-53)
        sigma = scale * self.schedule.levels(u)
        for _ in range(_ROUNDS if self.policy == "reject" else 0):
            low = sigma < s
            if not bool(low.any()):
                break
            sigma = torch.where(low, scale * self.schedule.levels(uniform(x, generator)), sigma)
        else:
            if self.policy == "reject" and bool((sigma < s).any()):
                raise ValueError(
                    f"in {_ROUNDS} draws no level was above a noise of {float(s.max()):.4g}; take policy='resample' "
                    "or a schedule with higher levels"
                )
        return torch.maximum(sigma, s)

    def _apart(
        self,
        x: Tensor,
        x0_hat: Tensor,
        sigma: Tensor,
        given: Condition | None,
        generator: torch.Generator | None,
    ) -> Float[Tensor, " batch"]:
        """Return how far the denoiser is from agreeing with itself at a lower level, in squares of the network's unit.

        ``x0_hat`` is its answer to x at ``sigma``. Gradients go through the paths.
        """
        scale, schedule, J = self.denoiser.scale, self.schedule, self.consistency_children
        lowest, top = (
            schedule.share_below(level) for level in (schedule.sigmas(2)[-2].to(sigma), sigma / scale)
        )
        u = lowest + uniform(x, generator) * (top - lowest).clamp_min(0)
        ends = [sigma, torch.minimum(scale * schedule.levels(u.clamp(1e-9, 1 - 1e-9)), sigma)]
        first, last = (end.pow(1 / _RHO).repeat_interleave(J) for end in ends)
        way = [
            (first + k / self.consistency_steps * (last - first)).pow(_RHO)
            for k in range(self.consistency_steps + 1)
        ]
        children = {name: value.repeat_interleave(J, 0) for name, value in given.items()} if given else None
        y, mean = x.repeat_interleave(J, 0), x0_hat.repeat_interleave(J, 0)
        for level, following in pairwise(way):
            following = torch.minimum(following, level)
            gap = (level - following) * (level + following)
            keep, noise = as_column((following / level).square(), y), as_column(gap.sqrt(), y)
            y = mean + keep * (y - mean) + noise * normal(y, generator)
            mean = self.denoiser(y, following, children)  # of the next step, and at last what is compared
        answers = mean.unflatten(0, (len(x), J)) - x0_hat.unsqueeze(1)
        half = J // 2 if self.unbiased else J
        one, other = answers[:, :half].mean(1), answers[:, half if self.unbiased else 0 :].mean(1)
        return (one * other).flatten(1).mean(1) / scale.square()

    def fit(  # type: ignore[override]
        self, X: Any, noise_std: Any, cond: Any = None, **options: Any
    ) -> AmbientDiffusion:
        """Train on samples and the noise that each has.

        The noise must have been attached once: samples drawn anew in every epoch, from clean ones, would give the clean
        ones away (:func:`attach_noise` attaches it for experiments). Changes of a sample that keep noise white and
        normal, such as flips, are fine.

        Parameters
        ----------
        X : array or Tensor, shape (n, ...)
        noise_std : float, array or Tensor, shape (n,)
            Standard deviation of the noise in each sample, in the data's unit; 0 for clean ones.
        cond, **options
            As of :meth:`Diffusion.fit`.

        Raises
        ------
        ValueError
            As :meth:`Diffusion.fit`; noise that is negative, not finite, of another number of samples, above the
            schedule's highest level, or so strong that the size of the clean data cannot be told (give ``sigma_data``).
        """
        n = len(X) if hasattr(X, "__len__") and getattr(X, "ndim", 1) != 0 else 1
        s = _noise_levels(noise_std, n, "cpu")  # where its values are checked
        each = {**(options.pop("each", None) or {}), "noise_std": s}
        super().fit(X, cond, each=each, **options)
        return self

    def _identity(self) -> dict[str, Any]:
        names = (
            "policy",
            "consistency",
            "consistency_children",
            "consistency_steps",
            "consistency_batch",
            "unbiased",
        )
        return {**super()._identity(), **{name: getattr(self, name) for name in names}}

    def _check_range(self, rows: Tensor) -> None:
        """Take any: noise may lie outside ``data_range``; what is clean is checked when the noise is known."""

    def _scale_to(self, rows: Tensor, each: Any) -> None:
        """Take the clean data's centre and size: less noisy samples count more."""
        s2 = each["noise_std"].square()
        if bool((s2 == 0).any()):
            super()._check_range(rows[s2 == 0])
        if not isinstance(self.sigma_data, str) or not bool(s2.any()):
            super()._scale_to(rows, each)
        else:
            wide = rows.double()
            rough = (wide - wide.mean(0)).square().mean()
            rough = torch.maximum(rough - s2.mean(), rough / 100)
            center = torch.einsum("i,i...->...", 1 / (rough + s2), wide) / (1 / (rough + s2)).sum()
            own, w = (wide - center).square().flatten(1).mean(1) - s2, (rough + s2).pow(-2)
            variance = (w * own).sum() / w.sum()
            error = (w * (own - variance)).square().sum().sqrt() / w.sum()
            if not variance > _HIDDEN * error:
                raise ValueError(
                    f"the noise hides how large the clean data are: their variance is {float(variance):.3g} with a "
                    f"standard error of {float(error):.2g}; check noise_std, add clean samples, or give sigma_data"
                )
            self.denoiser.center.copy_(center)
            self.denoiser.scale.fill_(2 * float(variance.sqrt()))
        most, highest = float(s2.max().sqrt()), self.schedule.sigma_max * float(self.denoiser.scale)
        if not most < highest:
            raise ValueError(
                f"noise_std is up to {most:.4g}, but the schedule's highest level is {highest:.4g} in the data's unit: "
                "such samples teach nothing; leave them out, or take a schedule with higher levels"
            )
        self.floor.fill_(float(s2.min().sqrt()))

    # ------------------------------------------------------------------------------------------------ use

    def sample(
        self,
        n: int,
        *,
        stop_at: float | int | None = None,
        steps: int = 18,
        sigmas: Any = None,
        **options: Any,
    ) -> Any:
        """Draw new samples.

        Parameters
        ----------
        stop_at : float, optional
            The lowest level that is used, in the data's unit: the answer is the denoiser's there, a mean instead of a
            draw (``"exponential_integrator"`` holds the score and comes near it). For models trained without clean
            samples, which know nothing below their noise.
        steps, sigmas, **options
            As of :meth:`Diffusion.sample`; ``sigmas`` are your own levels, so not together with ``stop_at``.

        Warns
        -----
        UserWarning
            Levels below the noise of all training samples are used.
        """
        if stop_at is not None:
            if sigmas is not None:
                raise ValueError("give stop_at or sigmas, not both")
            sigmas = self._levels_down_to(stop_at, steps)
        used = self.sigmas(steps) if sigmas is None else torch.from_numpy(check_levels(sigmas))
        least, floor = float(used[used > 0].min()), float(self.floor)
        if least < floor * (1 - 1e-3):  # the message has four digits
            warn(
                f"all training samples had noise of {floor:.4g} or more, so nothing was learnt of lower levels, down "
                f"to {least:.3g}; give stop_at={floor:.4g}, or clean samples to train on"
            )
        return super().sample(n, steps=steps, sigmas=used, **options)

    def _levels_down_to(self, stop_at: float | int, steps: int) -> Float[Tensor, " levels"]:
        """Return ``steps`` levels spaced as the schedule's, the last one ``stop_at``, and 0."""
        check_in_range(steps, "steps", low=2, integer=True)
        fine = self.sigmas(1000)[:-1].log()
        if not float(fine[-1].exp()) <= check_in_range(stop_at, "stop_at") < float(fine[0].exp()):
            raise ValueError(
                f"stop_at must lie between the schedule's levels, {float(fine[-1].exp()):.3g} and "
                f"{float(fine[0].exp()):.3g}, got {stop_at}"
            )
        at = np.arange(len(fine))
        end = np.interp(-math.log(stop_at), -fine.numpy(), at)
        levels = np.exp(np.interp(np.linspace(0, end, steps), at, fine.numpy()))
        levels[-1] = stop_at
        return torch.from_numpy(np.append(levels, 0.0))


def as_column(values: Float[Tensor, " batch"], like: Tensor) -> Tensor:
    """Return one number a sample in the precision and with the axes of ``like``."""
    return values.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


def _noise_levels(noise_std: Any, n: int, device: Any, most: float = math.inf) -> Float[Tensor, " n"]:
    """Check standard deviations, one for all or one a sample, and return them in float64.

    They must be below ``most``. Values are looked at on the CPU only: elsewhere every batch would wait for them.
    """
    s = as_tensor(noise_std, "noise_std").detach().to(device, torch.float64)
    if s.ndim > 1 or s.numel() not in ((1, n) if not s.ndim else (n,)):
        raise ValueError(
            f"noise_std must be a number or one a sample, shape ({n},), got shape {tuple(s.shape)}"
        )
    if s.device.type == "cpu" and not bool(((s >= 0) & (s < most)).all()):
        bad = s[~((s >= 0) & (s < most))].reshape(-1)
        limit = "finite" if most == math.inf else f"below {most:.4g}"
        raise ValueError(f"noise_std must be at least 0 and {limit}, got {float(bad[0])}")
    return s.expand(n)


@checked
def attach_noise(
    X: Any, noise_std: Any, fraction: float | int = 1.0, random_state: RandomState = 0
) -> tuple[Any, Float[np.ndarray, " n"]]:
    """Add normal noise to a share of samples, once: for experiments with data that are clean.

    A sample's noise depends on the seed and its row alone, and with a larger ``fraction`` the noisy samples of a
    smaller one stay noisy.

    Parameters
    ----------
    X : array or Tensor, shape (n, ...)
    noise_std : float, array or Tensor, shape (n,)
    fraction : float
        Share of noisy samples, rounded to a whole number of them.

    Returns
    -------
    Y : ndarray or Tensor, shape (n, ...)
    noise_std : ndarray, shape (n,)
        Of each sample, 0 for clean ones.
    """
    check_in_range(fraction, "fraction", low=0, high=1)
    values = check_numbers(X, "X")
    if not values.ndim:
        raise ValueError("X must hold samples, one a row, got a single number")
    s = _noise_levels(noise_std, len(values), "cpu").numpy().copy()
    seed = root_seed(random_state)
    order = as_generator(derive_seed(seed, "noisy")).permutation(len(values))
    s[order[round(fraction * len(values)) :]] = 0
    noise = as_generator(derive_seed(seed, "noise")).standard_normal(values.shape)
    Y = values + s.reshape(-1, *[1] * (values.ndim - 1)) * noise
    if isinstance(X, Tensor):
        return torch.from_numpy(Y).to(X.device, torch.promote_types(X.dtype, torch.float32)), s
    return Y.astype(np.float32 if getattr(X, "dtype", None) == np.float32 else float), s


@dataclass(frozen=True)
class NoiseEstimate(Result):
    """The noise of images, as their finest details suggest it.

    Attributes
    ----------
    noise_std : ndarray, shape (n,)
        Of each image, in its unit.
    se : ndarray, shape (n,)
        If all of the finest details are noise.
    doubts : tuple of str
        For each image why the figure is not to be trusted; empty where nothing speaks against it.
    pooled : float
        Of all images together, if they have the same noise.
    pooled_doubt : str
    """

    noise_std: Float[np.ndarray, " n"]
    se: Float[np.ndarray, " n"]
    doubts: tuple[str, ...]
    pooled: float
    pooled_doubt: str

    def __str__(self) -> str:
        counts = {doubt: self.doubts.count(doubt) for doubt in dict.fromkeys(self.doubts) if doubt}
        said = "; ".join(f"{n} doubtful: {doubt}" for doubt, n in counts.items()) or "none is doubtful"
        low, high = np.percentile(self.noise_std, [5, 95])
        together = f"cannot be told: {self.pooled_doubt}" if self.pooled_doubt else f"{self.pooled:.4g}"
        return f"noise of {len(self.doubts)} images: {low:.3g} to {high:.3g} ({said}); of all together: {together}"

    def plot(self, ax: Any = None) -> Any:
        """Draw histograms of the images without and with doubts; and return the axes."""
        ax = new_axes(ax)
        doubtful = np.array([bool(doubt) for doubt in self.doubts])
        parts = {"told": self.noise_std[~doubtful], "doubtful": self.noise_std[doubtful]}
        ax.hist(list(parts.values()), bins=20, stacked=True, label=list(parts))
        ax.set(xlabel="standard deviation of the noise", ylabel="images")
        ax.legend()
        return ax


_FLAT = "half of its details are 0: flat areas, rounding or no noise"
_CLIPPED = "a tenth of its values sit on its least or largest one: clipped noise is not normal"
_FEW = "too few pixels"
_EDGES = "its largest details are too large for noise, as edges are: the figure is at best an upper bound"
_CONTENT = "its own details are that fine: the figure is at best an upper bound"


@checked
def estimate_noise(X: Any) -> NoiseEstimate:
    r"""Estimate the noise of images from the diagonal details of their finest Haar wavelets.

    The median of \|details\| over 0.6745, so that sparse edges do not count (D. Donoho and I. Johnstone, Ideal spatial
    adaptation by wavelet shrinkage, Biometrika 81, 1994). It assumes noise that is normal, of one level in an image and
    independent between pixels, and content that is smooth at the scale of two pixels. Such noise is as strong in
    horizontal and vertical details; where those are clearly stronger, the content is that fine and the figure an upper
    bound. So it is where the largest details do not go with the median, as dense edges do not. Fine texture that is
    equal in all directions cannot be told from noise by any of this.

    Parameters
    ----------
    X : array or Tensor, shape (n, h, w) or (n, channels, h, w)

    Raises
    ------
    ValueError
        Other shapes, channels last among them, or values that are not finite.
    """
    images = check_numbers(X, "X")
    if images.ndim not in (3, 4) or not len(images) or min(images.shape[-2:]) < 2 or not images.size:
        raise ValueError(
            f"X must be images, shape (n, h, w) or (n, channels, h, w), got shape {images.shape}"
        )
    if images.ndim == 4 and images.shape[3] <= 4 < min(images.shape[1:3]):
        raise ValueError(
            f"X of shape {images.shape} seems to have its channels last; move them: np.moveaxis(X, -1, 1)"
        )
    if not np.isfinite(images).all():
        raise ValueError("X holds NaN or infinity; drop or impute these images")
    h, w = (2 * (size // 2) for size in images.shape[-2:])
    nw, ne, sw, se = (images[..., i:h:2, j:w:2] for i in (0, 1) for j in (0, 1))
    bands = [nw - ne - sw + se, nw - ne + sw - se, nw + ne - sw - se]  # diagonal first
    details = np.stack([np.abs(band.reshape(len(images), -1)) / 2 for band in bands])
    flat = images.reshape(len(images), -1)
    ends = ((flat == flat.min(1, keepdims=True)) | (flat == flat.max(1, keepdims=True))).mean(1)
    found = [_of_details(part, float(end)) for part, end in zip(details.swapaxes(0, 1), ends, strict=True)]
    pooled, _, doubt = _of_details(details.reshape(3, -1), float(ends.mean()))
    figures = np.array([one[:2] for one in found])
    return NoiseEstimate(figures[:, 0], figures[:, 1], tuple(one[2] for one in found), pooled, doubt)


def _of_details(details: Float[np.ndarray, "3 m"], ends: float) -> tuple[float, float, str]:
    """Return the estimate, its standard error and what speaks against it."""
    diagonal, *others = np.median(details, axis=1) / 0.6745
    relative = 1.166 / math.sqrt(details.shape[1])  # of a median of m normal sizes
    doubt = ""
    if relative > 0.25:
        doubt = _FEW
    elif not diagonal:
        doubt = _FLAT
    elif ends > 0.1:
        doubt = _CLIPPED
    elif float(np.mean(others)) > (most := diagonal * (1.1 + 4 * relative)):
        doubt = _CONTENT
    elif float(np.quantile(details[0], 0.95)) / 1.96 > most:
        doubt = _EDGES
    return float(diagonal), relative * float(diagonal), doubt
