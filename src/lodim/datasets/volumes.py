r"""Small volumes whose slices go together along z: what reconstructions of tomography and MRI are tried on.

=======================  ===============================================================================================
volume                   what it is made of
=======================  ===============================================================================================
:func:`digit_volume`     copies of an image, turned and scaled a little more from slice to slice
:func:`ellipse_volume`   ellipsoids in an ellipsoid, each of its own density, as in the phantoms of computed tomography
=======================  ===============================================================================================

Both have shape (slices, 1, height, width), and pixels in [0, 1].

Sources: the first is ours, for a prior of digits' images; ellipsoids: L. A. Shepp, B. F. Logan, IEEE Trans. Nucl. Sci.
21 (1974), in random number and place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from ..randomness import RandomState, as_generator
from ..validation import check_in_range, check_numbers, checked

__all__ = ["digit_volume", "ellipse_volume"]

_SUBPIXELS = 3  # along each axis of a voxel


@checked
def digit_volume(
    image: Any,
    n_slices: int | np.integer = 16,
    *,
    angle: int | float | np.number = 10.0,
    zoom: int | float | np.number = 0.12,
    random_state: RandomState = None,
) -> Float32[np.ndarray, "z 1 h w"]:
    r"""Stack turned and scaled copies of an image, smoothly along z.

    Slice z at :math:`t = z / (Z - 1)` is turned by :math:`\mathrm{angle}\, \sin(\pi t + a)` degrees and scaled by
    :math:`1 + \mathrm{zoom}\, \sin(\pi t + b)`, with phases a and b drawn: half a wave along the volume.

    Parameters
    ----------
    image : array or Tensor, shape (h, w)
        Of any range; outside of it is 0.
    n_slices : int
    angle, zoom : float
        Amplitudes, in degrees and as a share of the size.

    Returns
    -------
    ndarray, shape (n_slices, 1, h, w)

    Raises
    ------
    ValueError
        No image, one that is not finite, or amplitudes out of range.
    """
    pixels = check_numbers(image, "image")
    check_in_range(n_slices, "n_slices", low=1, integer=True)
    check_in_range(angle, "angle", low=-180, high=180)
    check_in_range(zoom, "zoom", low=-0.9, high=0.9)
    if pixels.ndim != 2 or not pixels.size:
        raise ValueError(
            f"image must be (h, w), got shape {pixels.shape}; of a set take one row, X[i].reshape(28, 28)"
        )
    if not np.isfinite(pixels).all():
        raise ValueError("image has NaN or infinity")
    turned, scaled = as_generator(random_state).uniform(0, 2 * np.pi, 2)
    t = np.pi * np.linspace(0, 1, int(n_slices))
    centre = (np.array(pixels.shape) - 1) / 2
    out = np.empty((len(t), 1, *pixels.shape), np.float32)
    for z, (a, s) in enumerate(zip(np.radians(angle * np.sin(t + turned)), 1 + zoom * np.sin(t + scaled))):
        # from places here to the image's
        back = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) / s
        out[z, 0] = ndimage.affine_transform(pixels, back, centre - back @ centre, order=1)
    return out


@checked
def ellipse_volume(
    n_slices: int | np.integer = 16,
    size: int | np.integer = 32,
    *,
    n_inside: int | np.integer = 8,
    random_state: RandomState = None,
) -> Float32[np.ndarray, "z 1 size size"]:
    """Draw a body of constant density with ellipsoids of other densities in it.

    The body is an upright ellipsoid that reaches through all slices; those inside are turned about z, lie anywhere, and
    add or take up to half the density. Voxels at borders hold what part of them is inside.

    Parameters
    ----------
    n_slices, size : int
        The volume has ``size`` x ``size`` pixels a slice.
    n_inside : int
        Ellipsoids in the body.

    Returns
    -------
    ndarray, shape (n_slices, 1, size, size)
    """
    check_in_range(n_slices, "n_slices", low=1, integer=True)
    check_in_range(size, "size", low=4, integer=True)
    check_in_range(n_inside, "n_inside", low=0, integer=True)
    rng, fine = as_generator(random_state), _SUBPIXELS
    z, y, x = (
        (np.arange(fine * int(n)) + 0.5) / (fine * int(n)) * 2 - 1 for n in (n_slices, size, size)
    )  # the cube [-1, 1]^3
    body = np.array([1.6, *rng.uniform(0.6, 0.9, 2)])
    places, axes = rng.uniform(-1, 1, (int(n_inside), 3)), rng.uniform(0, 1, (int(n_inside), 3))
    places, axes = places * (0.8, *(0.6 * body[1:])), (0.3, 0.08, 0.08) + axes * (0.7, 0.27, 0.27)
    turns, densities = rng.uniform(0, np.pi, int(n_inside)), rng.uniform(-0.5, 0.5, int(n_inside))

    def inside(place: Any, axes: Any, turn: Any, deep: Any) -> Any:
        dy, dx, dz = y[:, None] - place[1], x - place[2], deep - place[0]
        along, across = np.cos(turn) * dy + np.sin(turn) * dx, np.cos(turn) * dx - np.sin(turn) * dy
        return (dz / axes[0]) ** 2 + (along / axes[1]) ** 2 + (across / axes[2]) ** 2 <= 1

    out = np.empty((int(n_slices), 1, int(size), int(size)), np.float32)
    for s in range(int(n_slices)):  # one at a time: the fine grid has 27 points a voxel
        deep = z[fine * s : fine * (s + 1), None, None]
        density = np.full((fine, len(y), len(x)), 0.5)
        for place, radii, turn, more in zip(places, axes, turns, densities, strict=True):
            density += more * inside(place, radii, turn, deep)
        density = density.clip(0, 1) * inside(np.zeros(3), body, 0.0, deep)
        out[s, 0] = density.reshape(fine, int(size), fine, int(size), fine).mean((0, 2, 4))
    return out
