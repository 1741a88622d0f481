r"""Draw from the density a denoiser stands for, and compare what two denoisers of disjoint training sets draw.

With the residual :math:`d = f(y) - y`, whose size tells the noise level, :math:`\sigma_t = |d| / \sqrt{D}`,

.. math:: y \leftarrow y + h\, d + \gamma z, \qquad \gamma^2 = \big((1 - \beta h)^2 - (1 - h)^2\big)\, \sigma_t^2 ,

so that the noise falls by :math:`1 - \beta h` a step until it is below :math:`\sigma_L`; :math:`\beta = 1` adds none.
Given measurements :math:`x_c = M^\top x` with orthonormal columns of M, the density guides only what they leave open:

.. math:: d = (I - M M^\top) (f(y) - y) + M (x_c - M^\top y) .

Source: the paper's section 2; Z. Kadkhodaie and E. P. Simoncelli, arXiv 2007.13640, algorithms 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.fft import dct
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from lodim.generative.harmonic_denoisers.denoising import (
    as_images,
    denoised,
    noisy,
    parameter_of,
    psnr_curve,
    train_denoiser,
)
from lodim.neighbors import TopK, stream_pairs
from lodim.randomness import RandomState, as_generator, build_seeded, derive_seed, root_seed, torch_generator
from lodim.results import Result
from lodim.validation import ConvergenceWarning, check_in_range, checked, warn

__all__ = [
    "BlindSamples",
    "Measurement",
    "MemorizationCurve",
    "PairComparison",
    "compare_pair",
    "memorization_curve",
    "sample_blind",
    "solve_inverse",
]

_DIVERGED = 100  # times the first noise level
_DENOISES = 3.0  # decibels that a trained net gains at much noise: half the error


@dataclass(frozen=True)
class BlindSamples(Result):
    """Images drawn with a denoiser.

    Attributes
    ----------
    images : ndarray, shape (n, channels, height, width)
    n_iter : int ndarray, shape (n,)
        Steps that each image took.
    sigmas : ndarray, shape (steps, n)
        Noise level found before every step; NaN once an image has stopped.
    iterates : ndarray, shape (kept, n, channels, height, width)
        What was kept on the way.
    """

    images: Float[np.ndarray, "n channels height width"]
    n_iter: Int[np.ndarray, " n"]
    sigmas: Float[np.ndarray, "steps n"]
    iterates: Float[np.ndarray, "kept n channels height width"]

    def plot(self, ax: Any = None) -> Any:
        """Draw the noise level of every image over the steps, and return the axes."""
        from lodim.plots import new_axes

        ax = new_axes(ax)
        ax.semilogy(self.sigmas)
        ax.set(xlabel="step", ylabel="noise level")
        return ax

    def __str__(self) -> str:
        return f"{len(self.images)} images after {self.n_iter.min()} to {self.n_iter.max()} steps"


@dataclass(frozen=True)
class Measurement:
    """Some coordinates of images in an orthonormal basis: ``measure(back(c)) == c``.

    Attributes
    ----------
    measure : callable
        M': images (n, channels, height, width) to measurements (n, ...).
    back : callable
        M: measurements to images, zero in all directions that are not measured.
    """

    measure: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]

    @classmethod
    def inpainting(cls, known: np.ndarray | Tensor) -> Measurement:
        """Pixels where ``known``, of shape (height, width) or (channels, height, width), is true."""
        mask = torch.as_tensor(known)
        if not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError("known must hold True and False (or 0 and 1) only")
        return cls(lambda x: x * mask.to(x), lambda c: c * mask.to(c))

    @classmethod
    def super_resolution(cls, factor: int) -> Measurement:
        """Means of blocks of ``factor`` x ``factor`` pixels, times the factor."""
        check_in_range(factor, "factor", low=1, integer=True)

        def measure(x: Tensor) -> Tensor:
            if any(side % factor for side in x.shape[-2:]):
                raise ValueError(f"height and width must be multiples of {factor}, got {tuple(x.shape[-2:])}")
            return factor * avg_pool2d(x, factor)

        return cls(
            measure,
            lambda c: interpolate(c, scale_factor=float(factor), mode="nearest") / factor,
        )

    @classmethod
    def spectral(cls, kept: int, height: int, width: int) -> Measurement:
        """The lowest ``kept`` x ``kept`` coefficients of the cosine transform of images of one size."""
        check_in_range(kept, "kept", low=1, high=min(height, width), integer=True)
        down, across = (
            torch.from_numpy(dct(np.eye(side), axis=0, norm="ortho")[:kept]) for side in (height, width)
        )
        return cls(
            lambda x: down.to(x) @ x @ across.to(x).T,
            lambda c: down.to(c).T @ c @ across.to(c),
        )

    @classmethod
    def compressed_sensing(
        cls, n_measurements: int, shape: Sequence[int], *, random_state: RandomState = 0
    ) -> Measurement:
        """Inner products with random orthonormal images of one shape, (channels, height, width)."""
        size = int(np.prod(list(shape)))
        check_in_range(n_measurements, "n_measurements", low=1, high=size, integer=True)
        columns, _ = np.linalg.qr(as_generator(random_state).standard_normal((size, n_measurements)))
        M = torch.from_numpy(columns)
        return cls(lambda x: x.flatten(1) @ M.to(x), lambda c: (c @ M.to(c).T).view(len(c), *shape))


@checked
def sample_blind(
    net: Callable[..., Any],
    n: int,
    shape: tuple[int, ...],
    *,
    sigma_0: float | int = 1.0,
    sigma_L: float | int = 0.05,
    h: float | int = 0.01,
    beta: float | int = 0.1,
    growing: bool = False,
    mean: float | int | Tensor = 0.0,
    max_iter: int = 10_000,
    keep_every: int | None = None,
    random_state: RandomState = 0,
) -> BlindSamples:
    """Draw images with a denoiser that is not told the noise level, from noise about a mean.

    Parameters
    ----------
    net : callable
        An object with ``denoise``, or the denoising function itself.
    shape : tuple of int
        Of an image: (channels, height, width).
    sigma_0, sigma_L : float
        Noise level at the start, and that at which an image stops; it is denoised a last time.
    h : float
        Size of the first step, in (0, 1].
    beta : float
        In (0, 1]; 1 adds no noise, and images come out smoother and less varied.
    growing : bool
        Step t is ``h t / (1 + h (t - 1))``, as in the authors' code: some 100 steps instead of ``log(sigma_0 / sigma_L)
        / (beta h)``, but samples vary less than the density, whose variance is kept to first order in h only.
    mean : float or Tensor
        About which the first noise is drawn.
    keep_every : int, optional
        Steps between iterates that are kept.
    random_state : int, Generator or None
        Two nets started from the same one see the same noise throughout.

    Raises
    ------
    ValueError
        Numbers out of range, or a denoiser under which the residual explodes.

    Warns
    -----
    ConvergenceWarning
        Images that had not stopped after ``max_iter``.
    UserWarning
        Images that stop before their first step.
    """
    check_in_range(n, "n", low=1, integer=True)
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape must be (channels, height, width), got {shape}")
    parameter = parameter_of(net)
    start = torch.zeros(n, *shape) + mean
    start = start.to(parameter) if parameter is not None else start
    nothing = Measurement.inpainting(torch.zeros(shape))
    return _ascend(
        net, start, nothing, nothing.measure(start), sigma_0, sigma_L, h, beta, growing, max_iter, keep_every,
        random_state,
    )  # fmt: skip


@checked
def solve_inverse(
    net: Callable[..., Any],
    measurement: Measurement,
    values: Float[Tensor, "n ..."],
    *,
    sigma_0: float | int = 1.0,
    sigma_L: float | int = 0.05,
    h: float | int = 0.01,
    beta: float | int = 0.1,
    growing: bool = False,
    mean: float | int | Tensor = 0.0,
    max_iter: int = 10_000,
    keep_every: int | None = None,
    random_state: RandomState = 0,
) -> BlindSamples:
    """Draw images that agree with measurements, one for each row of values.

    Parameters
    ----------
    measurement : Measurement
        As :meth:`Measurement.inpainting` and its siblings.
    values : Tensor, shape (n, ...)
        ``measurement.measure(images)``.

    Other parameters, errors and warnings are those of :func:`sample_blind`.
    """
    if not len(values) or not bool(values.isfinite().all()):
        raise ValueError("values must be measurements of one image or more, all finite")
    parameter = parameter_of(net)
    values = values if parameter is None else values.to(parameter)
    known = measurement.back(values)
    start = torch.zeros_like(known) + mean
    start = start - measurement.back(measurement.measure(start)) + known
    return _ascend(
        net,
        start,
        measurement,
        values,
        sigma_0,
        sigma_L,
        h,
        beta,
        growing,
        max_iter,
        keep_every,
        random_state,
    )


def _ascend(
    net: Callable[..., Any], start: Float[Tensor, "n ..."], M: Measurement, values: Float[Tensor, "n ..."],
    sigma_0: float, sigma_L: float, h_0: float, beta: float, growing: bool, max_iter: int,
    keep_every: int | None, random_state: RandomState,
) -> BlindSamples:  # fmt: skip
    """The loop that both share."""
    for value, name in ((sigma_0, "sigma_0"), (sigma_L, "sigma_L"), (h_0, "h"), (beta, "beta")):
        if not check_in_range(value, name, low=0, high=1 if name in ("h", "beta") else None) > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    check_in_range(max_iter, "max_iter", low=1, integer=True)
    draws = torch_generator(derive_seed(root_seed(random_state), "noise"))

    def noise() -> Tensor:  # for all images, so that each has its own whatever the others do
        return torch.randn(start.shape, generator=draws, dtype=torch.float32).to(start)

    y = start + sigma_0 * noise()
    moving = torch.ones(len(y), dtype=torch.bool, device=y.device)
    steps, levels, kept = torch.zeros(len(y), dtype=torch.int64), [], []
    for t in range(1, max_iter + 1):
        if keep_every is not None and (t - 1) % check_in_range(keep_every, "keep_every", low=1) == 0:
            kept.append(_numpy(y))
        now, x_c = y[moving], values[moving]
        towards = denoised(net, now) - now
        d = towards - M.back(M.measure(towards)) + M.back(x_c - M.measure(now))
        sigma = d.flatten(1).norm(dim=1) / d[0].numel() ** 0.5
        if not bool((sigma < _DIVERGED * sigma_0).all()):
            raise ValueError(
                f"the denoiser's residual exploded at step {t}: noise of {float(sigma.max()):.3g}, from {sigma_0} at "
                "the start; was the net trained on intensities in [0, 1] with noise up to sigma_0?"
            )
        level = torch.full((len(y),), torch.nan)
        level[moving.cpu()] = sigma.float().cpu()
        levels.append(level.numpy())
        going = sigma >= sigma_L
        if t == 1 and not bool(going.all()):
            warn(
                f"the net finds noise below sigma_L in {int((~going).sum())} of {len(y)} images that begin with "
                f"sigma_0={sigma_0}, so they are nothing but that noise; is it trained, and up to sigma_0?"
            )
        z = noise()
        moving[moving.clone()] = going
        if not bool(going.any()):
            break
        steps[moving.cpu()] += 1
        h = h_0 * t / (1 + h_0 * (t - 1)) if growing else h_0
        gamma = ((1 - beta * h) ** 2 - (1 - h) ** 2) ** 0.5 * sigma[going]
        y[moving] = now[going] + h * d[going] + gamma.view(-1, *[1] * (y.ndim - 1)) * z[moving]
    else:
        warn(
            f"{int(moving.sum())} of {len(y)} images still have noise above {sigma_L} after {max_iter} steps; raise "
            "max_iter, h or sigma_L",
            ConvergenceWarning,
        )
    iterates = np.stack(kept) if kept else np.empty((0, *y.shape), np.float32)
    return BlindSamples(_numpy(denoised(net, y)), steps.numpy(), np.stack(levels), iterates)


def _numpy(y: Tensor) -> np.ndarray:
    """A copy, of bfloat16 (which NumPy lacks) in single precision."""
    return (y.float() if y.dtype == torch.bfloat16 else y).cpu().numpy().copy()


@dataclass(frozen=True)
class PairComparison(Result):
    """Two denoisers of disjoint training sets.

    Attributes
    ----------
    n : int
        Training images of each.
    sigmas : ndarray, shape (n_sigmas,)
    psnr_train, psnr_test : ndarray, shape (n_sigmas,)
        Of denoised images (dB), means of both nets, each on its own training set and on images neither has seen.
    variance : ndarray, shape (n_sigmas,)
        ``E|f1 - f2|^2 / E|f1 - x|^2`` on the latter: 0 where both are the same function.
    pair_cosine, nearest_cosine : ndarray, shape (n_samples,)
        Between the two samples of one noise, and of the first net's sample with the nearest of its training images.
    samples : ndarray, shape (3, n_samples, channels, height, width)
        The first net's, the second's, and the training images nearest to the first's.
    """

    n: int
    sigmas: Float[np.ndarray, " n_sigmas"]
    psnr_train: Float[np.ndarray, " n_sigmas"]
    psnr_test: Float[np.ndarray, " n_sigmas"]
    variance: Float[np.ndarray, " n_sigmas"]
    pair_cosine: Float[np.ndarray, " n_samples"]
    nearest_cosine: Float[np.ndarray, " n_samples"]
    samples: Float[np.ndarray, "3 n_samples channels height width"]

    @property
    def gap(self) -> float:
        """Decibels by which training images are denoised better, over all noise levels."""
        return float((self.psnr_train - self.psnr_test).mean())

    def __str__(self) -> str:
        told = (
            f"N = {self.n}: training images denoised {self.gap:.2f} dB better, samples alike to "
            f"{self.pair_cosine.mean():.3f}, to the nearest training image to {self.nearest_cosine.mean():.3f}"
        )
        worst = int(self.sigmas.argmax())
        gained = self.psnr_test[worst] + 20 * np.log10(self.sigmas[worst])
        if gained < _DENOISES:
            told += (
                f"\n  ! the nets hardly denoise ({gained:.1f} dB gained at noise {self.sigmas[worst]:.2g}), so their "
                "samples are alike as the noise is that both began with: train them longer"
            )
        return told


@dataclass(frozen=True)
class MemorizationCurve(Result):
    """From memorising to generalising: one comparison a training size.

    Attributes
    ----------
    pairs : tuple of PairComparison
    presentations : int
        Images shown to each net in training, whatever its size.
    """

    pairs: tuple[PairComparison, ...]
    presentations: int

    def to_frame(self) -> Any:
        """Return one row a size: gap in decibel, model variance, and both cosines, as means."""
        import pandas as pd

        names = ["n", "gap", "variance", "pair_cosine", "nearest_cosine"]
        rows = [
            (p.n, p.gap, p.variance.mean(), p.pair_cosine.mean(), p.nearest_cosine.mean()) for p in self.pairs
        ]
        return pd.DataFrame(rows, columns=names)

    def plot(self, ax: Any = None) -> Any:
        """Draw both cosines over the number of training images, and return the axes."""
        from lodim.plots import new_axes

        ax, frame = new_axes(ax), self.to_frame()
        ax.semilogx(frame.n, frame.pair_cosine, marker="o", label="samples of both nets")
        ax.semilogx(frame.n, frame.nearest_cosine, marker="o", label="sample and nearest training image")
        ax.set(xlabel="training images of each net", ylabel="cosine")
        ax.legend()
        return ax

    def __str__(self) -> str:
        return "\n".join(map(str, self.pairs))


@checked
def compare_pair(
    first: nn.Module,
    second: nn.Module,
    train: tuple[Any, Any],
    test: Any,
    *,
    sigmas: Any = (0.1, 0.3, 0.6),
    n_samples: int = 32,
    n_images: int = 500,
    mean: float | int | Tensor = 0.0,
    random_state: RandomState = 0,
    **sampler: Any,
) -> PairComparison:
    """Compare two trained denoisers: do they know the same, and is it their training images?

    Parameters
    ----------
    train : pair
        Both training sets, shape (n, channels, height, width).
    test : array or Tensor, shape (m, channels, height, width)
        Images that neither has seen.
    n_images : int
        Of each set that are denoised, the first ones.
    mean, sampler
        Of :func:`sample_blind`.
    """
    own = [as_images(x, name, net) for x, name, net in zip(train, ("train[0]", "train[1]"), (first, second))]
    check_in_range(n_images, "n_images", low=1, integer=True)
    unseen, seed = as_images(test, "test", first)[:n_images], root_seed(random_state)
    _check_alike(*own, unseen)
    curves = [
        [psnr_curve(net, x[:n_images], sigmas, random_state=derive_seed(seed, "noise")) for net, x in pairs]
        for pairs in (zip((first, second), own), ((first, unseen), (second, unseen)))
    ]
    variance = []
    for i, sigma in enumerate(curves[0][0].sigmas):
        y = noisy(unseen, float(sigma), seed, "variance", i)
        f1, f2 = denoised(first, y), denoised(second, y.to(own[1])).to(y)
        variance.append(float((f1 - f2).square().sum() / (f1 - unseen).square().sum()))
    draws = [
        torch.from_numpy(
            sample_blind(net, n_samples, tuple(unseen.shape[1:]), mean=mean, random_state=derive_seed(seed, "draw"),
                         **sampler).images
        )
        for net in (first, second)
    ]  # fmt: skip
    pool = own[0].cpu().to(draws[0])
    nearest = pool[_nearest(draws[0], pool)]
    seen, new = (np.mean([curve.denoised for curve in side], axis=0) for side in curves)
    return PairComparison(
        min(map(len, own)), curves[0][0].sigmas, seen, new, np.array(variance),
        _cosine(draws[0], draws[1]), _cosine(draws[0], nearest), torch.stack([*draws, nearest]).numpy(),
    )  # fmt: skip


def _check_alike(*sets: Tensor) -> None:
    if len(shapes := {tuple(x.shape[1:]) for x in sets}) > 1:
        raise ValueError(f"training and test images must have one shape, got {sorted(shapes)}")


def _nearest(x: Float[Tensor, "n ..."], pool: Float[Tensor, "m ..."]) -> Int[Tensor, " n"]:
    """For each image the one of the largest cosine, which is the nearest once all have length one."""
    rows = [z.flatten(1) / z.flatten(1).norm(dim=1, keepdim=True).clamp(min=1e-12) for z in (x, pool)]
    ((_, index),) = stream_pairs(*rows, reducers=[TopK(1)])
    return index[:, 0]


def _cosine(x: Float[Tensor, "n ..."], y: Float[Tensor, "n ..."]) -> Float[np.ndarray, " n"]:
    return torch.cosine_similarity(x.flatten(1).double(), y.flatten(1).double()).numpy()


@checked
def memorization_curve(
    make_net: Callable[[], nn.Module],
    images: Any,
    test: Any,
    sizes: Sequence[int] | np.ndarray,
    *,
    steps: int = 2000,
    batch_size: int = 64,
    lr: float | int = 1e-3,
    sigma_range: tuple[float | int, float | int] = (0.0, 1.0),
    random_state: RandomState = 0,
    on_pair: Callable[..., Any] | None = None,
    **comparison: Any,
) -> MemorizationCurve:
    """Train two denoisers on disjoint sets of N images, for growing N, and compare them.

    Repeated images blur the picture: drop :func:`lodim.datasets.near_duplicates` first.

    Parameters
    ----------
    make_net : callable
        Returns a fresh denoiser; each net has its own first weights.
    images : array or Tensor, shape (n, channels, height, width)
        Intensities in [0, 1]. They are drawn from without replacement; smaller sets lie in larger ones.
    test : array or Tensor, shape (m, channels, height, width)
        Images that are in no training set.
    sizes : sequence of int
        The N; twice the largest must be there.
    steps, batch_size, lr, sigma_range
        Of :func:`train_denoiser`, the same for all sizes, as the point where memorisation ends depends on them.
    on_pair : callable, optional
        Called with N and both trained nets.
    comparison
        Of :func:`compare_pair`.

    Raises
    ------
    ValueError
        Fewer than 2 N images, or as in :func:`train_denoiser`.
    """
    pool, seed = as_images(images, "images"), root_seed(random_state)
    for size in sizes:
        check_in_range(size, "sizes", low=1, integer=True)
    if 2 * max(sizes, default=0) > len(pool) or not len(sizes):
        raise ValueError(
            f"two disjoint sets of {max(sizes, default=0)} need twice as many images, got {len(pool)}"
        )
    _check_alike(pool, as_images(test, "test"))
    order = torch.from_numpy(as_generator(derive_seed(seed, "split")).permutation(len(pool)))
    pairs = []
    for size in map(int, sizes):
        halves = [pool[order[i : 2 * size : 2]] for i in (0, 1)]
        nets = []
        for i, half in enumerate(halves):
            net = build_seeded(make_net, derive_seed(seed, "start", size, i))
            train_denoiser(
                net, half, steps=steps, batch_size=batch_size, lr=lr, sigma_range=sigma_range,
                random_state=derive_seed(seed, "net", size, i),
            )  # fmt: skip
            nets.append(net)
        first, second = nets
        if {*map(id, first.parameters())} & {*map(id, second.parameters())}:
            raise ValueError("make_net must return a fresh net each time: two of its nets share weights")
        pair = compare_pair(first, second, (halves[0], halves[1]), test, random_state=seed, **comparison)
        pairs.append(pair)
        if on_pair is not None:
            on_pair(size, first, second)
    return MemorizationCurve(tuple(pairs), steps * batch_size)
