r"""Families of images for which the best denoiser is known, by how its error falls with the noise.

At noise :math:`\sigma` the best on images of a smooth d-dimensional set is to keep the d directions of
its tangent space, :math:`\mathrm{MSE} \approx d\, \sigma^2`: the PSNR rises by 1 dB a dB. Of images that are
:math:`C^\alpha` off a contour that is :math:`C^\alpha` itself, the best error falls as
:math:`\sigma^{2\alpha/(\alpha+1)}`: a slope of :math:`\alpha/(\alpha+1)`.

=====================  ==========================================================================  =========
family                 what varies                                                                 dimension
=====================  ==========================================================================  =========
:func:`c_alpha`        a contour between two textures, all with amplitudes :math:`|f|^{-\alpha}`   none
:func:`discs`          place, radius, both grey levels                                             5
:func:`ray`            the brightness of one image                                                 1
:func:`sines`          brightness and phase of one wave                                            2
=====================  ==========================================================================  =========

:func:`shuffle_pixels` takes neighbourhoods away and leaves all else; :func:`near_duplicates` finds images that stand
twice, which a test of memorisation must not hold.

Source: Z. Kadkhodaie and others, arXiv 2310.02557, sections 2 and 3, appendix, and their code. Departures: discs have
places and radii that are no whole numbers and lie wholly inside, sines are a (1 + sin) / 2 so as to be intensities,
and images are compared each about its own mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from ..randomness import RandomState, as_generator
from ..validation import check_fraction, check_in_range, check_numbers, checked

__all__ = [
    "CAlpha",
    "Discs",
    "Shuffled",
    "c_alpha",
    "disc_tangents",
    "discs",
    "draw_discs",
    "near_duplicates",
    "ray",
    "shuffle_pixels",
    "sines",
]

_BLOCK = 500  # images drawn or compared at once


class CAlpha(NamedTuple):
    """Images of two textures and a contour.

    Attributes
    ----------
    images : float32 ndarray, shape (n, 1, size, size)
    contours : ndarray, shape (n, size)
        How far below the middle row the contour is, in images' sizes, before it is rounded to pixels.
    """

    images: Float32[np.ndarray, "n 1 size size"]
    contours: Float[np.ndarray, "n size"]


@checked
def c_alpha(
    n: int | np.integer,
    alpha: int | float | np.number,
    size: int | np.integer = 80,
    *,
    random_state: RandomState = None,
) -> CAlpha:
    """Draw geometric images: two textures on both sides of a contour, each as smooth as alpha says.

    Contour and textures are uniform white noise with Fourier coefficients divided by ``|f|^alpha``, f in cycles an
    image. One texture is brought to [u, 1], the other to [0, v], u and v uniform; which one is drawn too. The mask
    between them is averaged over 2 x 2 pixels.

    Parameters
    ----------
    alpha : float
        Not negative: derivatives that contour and textures have.
    """
    check_in_range(n, "n", low=1, integer=True)
    check_in_range(alpha, "alpha", low=0)
    check_in_range(size, "size", low=4, integer=True)
    rng, size = as_generator(random_state), int(size)
    images, contours = np.empty((int(n), 1, size, size), np.float32), np.empty((int(n), size))
    frequency = np.abs(np.fft.fftfreq(size)) * size
    plane = np.hypot(frequency[:, None], frequency)
    for some in _blocks(int(n)):
        m = some.stop - some.start
        contours[some] = contour = _filtered(rng.uniform(-1, 1, (m, size)), frequency, alpha)
        rows = np.rint(contour * size) + size // 2
        below = (np.arange(size)[:, None] >= rows[:, None]).astype(float)  # (m, size, size)
        padded = np.pad(below, ((0, 0), (1, 0), (1, 0)), mode="reflect")
        mask = (padded[:, 1:, 1:] + padded[:, :-1, 1:] + padded[:, 1:, :-1] + padded[:, :-1, :-1]) / 4
        textures = _filtered(rng.uniform(-1, 1, (2, m, size, size)), plane, alpha)
        low, high = textures.min((2, 3), keepdims=True), textures.max((2, 3), keepdims=True)
        bright, dark = (textures - low) / (high - low)
        u, v = rng.random((2, m, 1, 1))
        bright, dark = u + (1 - u) * bright, v * dark
        swap = rng.random((m, 1, 1)) < 0.5
        under, over = np.where(swap, dark, bright), np.where(swap, bright, dark)
        images[some, 0] = under * mask + over * (1 - mask)
    return CAlpha(images, contours)


def _filtered(noise: np.ndarray, frequency: np.ndarray, alpha: Any) -> np.ndarray:
    """Noise with amplitudes over frequency^alpha along its last axes; the constant counts as frequency 1."""
    axes = tuple(range(-frequency.ndim, 0))
    spectrum = np.fft.fftn(noise, axes=axes) / np.maximum(frequency, 1) ** float(alpha)
    return np.fft.ifftn(spectrum, axes=axes).real


def _blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, _BLOCK):
        yield slice(start, min(start + _BLOCK, n))


class Discs(NamedTuple):
    """Images of one disc each.

    Attributes
    ----------
    images : float32 ndarray, shape (n, 1, size, size)
    parameters : ndarray, shape (n, 5)
        Row and column of the centre and the radius in pixels, grey level of the disc and around it.
    """

    images: Float32[np.ndarray, "n 1 size size"]
    parameters: Float[np.ndarray, "n 5"]


@checked
def discs(n: int | np.integer, size: int | np.integer = 80, *, random_state: RandomState = None) -> Discs:
    """Draw discs of uniform place, radius (from a sixteenth of the image up to its border) and grey levels."""
    check_in_range(n, "n", low=1, integer=True)
    check_in_range(size, "size", low=8, integer=True)
    rng = as_generator(random_state)
    least = max(1.5, size / 16)
    centre = rng.uniform(2 * least, size - 2 * least, (int(n), 2))
    most = np.minimum(centre, size - centre).min(1)
    radius = rng.uniform(least, most)
    parameters = np.column_stack([centre, radius, rng.random((int(n), 2))])
    images = [draw_discs(parameters[some], size).astype(np.float32) for some in _blocks(int(n))]
    return Discs(np.concatenate(images), parameters)


@checked
def draw_discs(parameters: Float[np.ndarray, "n 5"], size: int | np.integer) -> Float[np.ndarray, "n 1 s s"]:
    """Return the images of discs: a pixel is covered by ``radius + 1/2 - distance`` of its centre, within [0, 1].

    Parameters
    ----------
    parameters : ndarray, shape (n, 5)
        As of :class:`Discs`.
    """
    row, column, radius, disc, around = (each[:, None, None] for each in parameters.T)
    at = np.arange(size) + 0.5
    covered = np.clip(radius + 0.5 - np.hypot(at[:, None] - row, at - column), 0, 1)
    return (around + (disc - around) * covered)[:, None]


@checked
def disc_tangents(
    parameters: Float[np.ndarray, "n 5"], size: int | np.integer, *, step: float = 1e-3
) -> Float[np.ndarray, "n 5 1 s s"]:
    """Return the derivatives of discs' images by their five parameters, by differences of +-step."""
    moves = step * np.eye(5)
    return np.stack(
        [
            (draw_discs(parameters + move, size) - draw_discs(parameters - move, size)) / (2 * step)
            for move in moves
        ],
        axis=1,
    )


@checked
def ray(
    n: int | np.integer, image: Float[np.ndarray, " ..."], *, random_state: RandomState = None
) -> Float32[np.ndarray, "n ..."]:
    """Return copies of one image, each times a number uniform in [0, 1]: a set of dimension 1."""
    check_in_range(n, "n", low=1, integer=True)
    brightness = as_generator(random_state).random(int(n))
    return np.multiply.outer(brightness, check_numbers(image, "image")).astype(np.float32)


@checked
def sines(
    n: int | np.integer, size: int | np.integer = 80, *, random_state: RandomState = None
) -> Float32[np.ndarray, "n 1 size size"]:
    """Draw one wave across the image, ``a (1 + sin(2 pi x + phase)) / 2`` with a in [0, 1]: a set of dimension 2."""
    check_in_range(n, "n", low=1, integer=True)
    check_in_range(size, "size", low=3, integer=True)
    rng = as_generator(random_state)
    a, phase = rng.random((int(n), 1)), rng.uniform(0, 2 * np.pi, (int(n), 1))
    rows = a * (1 + np.sin(2 * np.pi * np.arange(size) / size + phase)) / 2
    return np.repeat(rows[:, None, None].astype(np.float32), int(size), axis=2)


class Shuffled(NamedTuple):
    """Images with their pixels in another order, the same for all.

    Attributes
    ----------
    images : ndarray, shape (n, ..., h, w)
    order : int ndarray, shape (h * w,)
        Pixel ``order[i]`` went to place i; by ``argsort(order)`` they go back.
    """

    images: np.ndarray
    order: Int[np.ndarray, " pixels"]


@checked
def shuffle_pixels(
    images: np.ndarray, order: Int[np.ndarray, " pixels"] | None = None, *, random_state: RandomState = None
) -> Shuffled:
    """Permute the pixels of all images alike, by an order given or drawn.

    Parameters
    ----------
    images : ndarray, shape (n, ..., h, w)
    order : int ndarray, optional

    Raises
    ------
    ValueError
        No images, or an order that is no permutation of their pixels.
    """
    if images.ndim < 3:
        raise ValueError(f"images must be (n, ..., h, w), got shape {images.shape}")
    pixels = images.shape[-2] * images.shape[-1]
    order = as_generator(random_state).permutation(pixels) if order is None else np.asarray(order)
    if not np.array_equal(np.sort(order), np.arange(pixels)):
        raise ValueError(f"order must hold each of 0 to {pixels - 1} once, got shape {order.shape}")
    flat = images.reshape(*images.shape[:-2], pixels)[..., order]
    return Shuffled(flat.reshape(images.shape), order)


@checked
def near_duplicates(
    images: np.ndarray,
    threshold: float = 0.95,
    *,
    thumbnail: int | np.integer = 20,
) -> Bool[np.ndarray, " n"]:
    """Say which images repeat an earlier one that is kept: ``images[~near_duplicates(images)]`` are distinct.

    Two repeat each other where the correlation of their thumbnails passes the threshold. Images of one colour repeat
    each other only.

    Parameters
    ----------
    images : ndarray, shape (n, ..., h, w)
    threshold : float
        In [0, 1].
    thumbnail : int
        Height and width to which larger images are averaged.
    """
    check_fraction(threshold, "threshold")
    check_in_range(thumbnail, "thumbnail", low=1, integer=True)
    if images.ndim < 3:
        raise ValueError(f"images must be (n, ..., h, w), got shape {images.shape}")
    down, across = (_averaging(side, min(side, int(thumbnail))) for side in images.shape[-2:])
    kept: Any = np.empty((0, 0), np.float32)
    repeated: Any = np.zeros(len(images), bool)
    for some in _blocks(len(images)):
        rows = (down @ check_numbers(images[some], "images") @ across.T).reshape(some.stop - some.start, -1)
        if not np.isfinite(rows).all():
            wrong = some.start + int(np.flatnonzero(~np.isfinite(rows).all(1))[0])
            raise ValueError(f"images must hold finite numbers, got NaN or infinity in number {wrong}")
        scale = np.abs(rows).max(1, keepdims=True)
        rows = rows - rows.mean(1, keepdims=True)
        norm = np.linalg.norm(rows, axis=1, keepdims=True)
        flat = norm <= 1e-6 * scale * rows.shape[1] ** 0.5
        # a column of its own: what has no contrast points there
        rows = np.hstack([np.where(flat, 0, rows / np.where(flat, 1, norm)), flat]).astype(np.float32)
        kept = kept if len(kept) else np.empty((0, rows.shape[1]), np.float32)
        known: Any = (rows @ kept.T > threshold).any(1)
        among: Any = rows @ rows.T > threshold
        new: list[int] = []
        for i in range(len(rows)):
            if not known[i] and not among[i, new].any():
                new.append(i)
        repeated[some] = True
        repeated[some.start + np.array(new, int)] = False
        kept = np.vstack([kept, rows[new]])
    return repeated


def _averaging(side: int, to: int) -> np.ndarray:
    """The matrix (to, side) that averages a line over equal stretches, pixels by the share that lies within."""
    ends = np.arange(to + 1) * side / to
    pixel = np.arange(side)
    overlap = np.minimum(ends[1:, None], pixel + 1) - np.maximum(ends[:-1, None], pixel)
    return np.clip(overlap, 0, None) * to / side
