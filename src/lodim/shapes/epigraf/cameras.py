r"""Where cameras stand: distributions of azimuth and elevation on a sphere, or poses that are given.

With mean m and spread d along each angle,

- ``"uniform"``: evenly between m - d and m + d;
- ``"gaussian"``: normal with deviation d; what goes over a pole comes down on its other side;
- ``"truncated"``: the same, cut off at m - 2 d and m + 2 d;
- ``"spherical"``: evenly over that part of the sphere's area which ``"uniform"`` covers: the sine of the elevation is
  uniform;
- ``"poses"``: each of the poses given as often.

Source: I. Skorokhodov and others, 2022, arXiv 2206.10535, appendix (cameras of FFHQ, Cats and Megascans).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lodim.shapes.rendering import camera_to_world
from lodim.validation import (
    check_choice,
    check_counts,
    check_in_range,
    check_numbers,
    check_tensor,
    checked,
    to_torch,
)

__all__ = ["CameraDistribution"]

KINDS = ("uniform", "gaussian", "truncated", "spherical", "poses")
CUT = 2.0
_POLE = math.pi / 2 - 1e-4


@checked
class CameraDistribution:
    """Draws cameras that look at the centre of a sphere, or poses that are given.

    Parameters
    ----------
    kind : {"uniform", "gaussian", "truncated", "spherical", "poses"}
    mean, spread : pair of float
        Of azimuth and elevation, in radians, as above. By default all around, and 0.1 to 0.7 above the horizon.
    radius : float
        Of the sphere.
    fov : float
        Field of view, in radians; what draws with these cameras reads it here.
    poses : Tensor, shape (n, 4, 4), optional
        Camera to world, of a data set, for ``"poses"``.

    Raises
    ------
    ValueError
        Elevations that reach beyond a pole, or poses without ``kind="poses"`` and the other way round.
    """

    def __init__(
        self,
        kind: str = "uniform",
        *,
        mean: tuple[float | int, float | int] = (0.0, 0.4),
        spread: tuple[float | int, float | int] = (math.pi, 0.3),
        radius: float | int = 2.0,
        fov: float | int = 0.7,
        poses: Any = None,
    ) -> None:
        self.kind = check_choice(kind, KINDS, "kind")
        if (kind == "poses") != (poses is not None):
            raise ValueError(f'poses and kind="poses" go together, got kind={kind!r} and poses={poses!r:.40}')
        if not 0 < check_in_range(radius, "radius") < math.inf:
            raise ValueError(f"radius must be positive and finite, got {radius}")
        if not 0 < check_in_range(fov, "fov") < math.pi:
            raise ValueError(f"fov must be between 0 and pi (in radians), got {fov}")
        self.mean = tuple(float(check_in_range(m, "mean", low=-math.pi, high=math.pi)) for m in mean)
        self.spread = tuple(float(check_in_range(d, "spread", low=0.0, high=math.pi)) for d in spread)
        reach = abs(self.mean[1]) + self.spread[1] * {"truncated": CUT, "gaussian": 0.0}.get(kind, 1.0)
        if kind != "poses" and reach > math.pi / 2 + 1e-9:
            raise ValueError(f"elevations reach {reach:.3g}, beyond the pole at pi / 2; lower mean or spread")
        self.radius, self.fov, self.poses = float(radius), float(fov), poses
        if poses is not None:
            held = check_tensor(to_torch(check_numbers(poses, "poses")), "poses", finite=True).float()
            if held.ndim != 3 or held.shape[1:] != (4, 4) or not len(held):
                raise ValueError(f"poses must have shape (n, 4, 4), got {tuple(held.shape)}")
            self.poses = held

    def __repr__(self) -> str:
        where = (
            f"{len(self.poses)} poses" if self.kind == "poses" else f"mean={self.mean}, spread={self.spread}"
        )
        return f"CameraDistribution({self.kind!r}, {where}, radius={self.radius:g}, fov={self.fov:g})"

    def angles(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n 2"]:
        """Draw azimuths and elevations, these at least 1e-4 from the poles, where up is undefined.

        Parameters
        ----------
        generator : torch.Generator, optional
            By default torch's global one.
        """
        check_counts(n=n)
        if self.kind == "poses":
            raise ValueError("poses that are given have no angles; use sample")
        where = "cpu" if generator is None else generator.device
        u = torch.rand(n, 2, generator=generator, dtype=torch.float64, device=where)
        mean, spread = (u.new_tensor(v) for v in (self.mean, self.spread))
        if self.kind in ("gaussian", "truncated"):
            share = math.erf(CUT / math.sqrt(2)) if self.kind == "truncated" else 1 - 2**-52
            drawn = mean + spread * math.sqrt(2) * torch.erfinv(share * (2 * u - 1))
        else:
            drawn = mean + spread * (2 * u - 1)
        azimuth, elevation = drawn.unbind(1)
        if self.kind == "spherical":
            low, high = math.sin(self.mean[1] - self.spread[1]), math.sin(self.mean[1] + self.spread[1])
            elevation = torch.asin(low + (high - low) * u[:, 1])
        # the height and the ground distance of the place, with its sign, say where it is on the sphere
        behind = elevation.cos() < 0
        azimuth = torch.where(behind, azimuth + math.pi, azimuth)
        elevation = torch.asin(elevation.sin()).clamp(-_POLE, _POLE)
        return torch.stack([azimuth, elevation], 1).float()

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n 4 4"]:
        """Draw poses, camera to world."""
        if self.kind != "poses":
            return camera_to_world(self.angles(n, generator), self.radius)
        check_counts(n=n)
        where = "cpu" if generator is None else generator.device
        at = torch.randint(len(self.poses), (n,), generator=generator, device=where)
        return self.poses.to(where)[at]
