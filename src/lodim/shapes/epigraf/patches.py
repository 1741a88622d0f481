r"""Patches: which part of an image is looked at, drawn anew for every group of images.

A patch has a scale s (its side as a share of the image's) and an offset o of its left upper corner, so that a position
x in [-1, 1] of the patch is the image's

.. math:: x' = (x + 1)\, s - 1 + 2 o, \qquad o \sim U(0, 1 - s) \text{ along each axis},

with x to the right and y downwards. Of scales there are three distributions, t being the share of the training that is
done:

- ``"beta"``: :math:`s = s_\min + (1 - s_\min) \cdot \mathrm{Beta}(1, \beta(t))`, :math:`\beta` growing linearly; a
  small one gives whole images, 1 the uniform distribution;
- ``"uniform"``: :math:`s \sim U(s_\min(t), 1)`, where the minimum falls linearly from 1;
- ``"discrete"``: 1, 1/2, 1/4, ... as far as the minimum, each as often.

Source: I. Skorokhodov and others, 2022, arXiv 2206.10535, section 3.3. Departure: pixels are looked at in their
centres, in real images and in renders alike.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lodim.shapes.rendering import check_patches
from lodim.validation import check_choice, check_counts, check_fraction, check_in_range, check_tensor, checked

__all__ = ["Patch", "PatchSampler", "extract_patches"]

DISTRIBUTIONS = ("beta", "uniform", "discrete")


class Patch(NamedTuple):
    """Squares of images: ``scales`` (n,) and ``offsets`` (n, 2) to the right and down, in sides of the image."""

    scales: Float[Tensor, " n"]
    offsets: Float[Tensor, "n 2"]

    def to(self, device: torch.device | str) -> Patch:
        """Return the same on a device."""
        return Patch(self.scales.to(device), self.offsets.to(device))

    @classmethod
    def whole(cls, n: int) -> Patch:
        """Return n whole images."""
        return cls(torch.ones(n), torch.zeros(n, 2))


@checked
class PatchSampler:
    """Draws patches, by default whole images at first and mostly small ones later.

    Parameters
    ----------
    min_scale : float
        Smallest side as a share of the image's: patch resolution over image resolution. At 1 all are whole images.
    distribution : {"beta", "uniform", "discrete"}
    beta_start, beta_end : float
        Ends of the schedule of ``"beta"``.
    anneal : float
        Share of the training over which the distribution changes; 0: it is the last one throughout.
    """

    def __init__(
        self,
        min_scale: float | int,
        distribution: str = "beta",
        *,
        beta_start: float | int = 1e-3,
        beta_end: float | int = 0.8,
        anneal: float | int = 0.4,
    ) -> None:
        if not 0 < check_in_range(min_scale, "min_scale") <= 1:
            raise ValueError(
                f"min_scale must be in (0, 1], patch resolution over image resolution, got {min_scale}"
            )
        for name, value in {"beta_start": beta_start, "beta_end": beta_end}.items():
            if not check_in_range(value, name, low=0.0) > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        self.min_scale = float(min_scale)
        self.distribution = check_choice(distribution, DISTRIBUTIONS, "distribution")
        self.beta_start, self.beta_end = float(beta_start), float(beta_end)
        self.anneal = float(check_in_range(anneal, "anneal", low=0.0, high=1.0))

    def __repr__(self) -> str:
        return f"PatchSampler({self.min_scale:g}, {self.distribution!r})"

    def _annealed(self, share: float, start: float, end: float) -> float:
        done = min(share / self.anneal, 1.0) if self.anneal else 1.0
        return start + (end - start) * done

    def beta(self, share: float | int) -> float:
        """Return the second parameter of the beta distribution at a share of the training."""
        return self._annealed(check_fraction(share, "share"), self.beta_start, self.beta_end)

    def __call__(
        self, n: int, share: float | int = 1.0, generator: torch.Generator | None = None, *, group: int = 4
    ) -> Patch:
        """Draw n patches at a share of the training; ``group`` neighbours have the same one."""
        check_counts(n=n, group=group)
        check_fraction(share, "share")
        where = "cpu" if generator is None else generator.device
        n_groups = math.ceil(n / group)
        u = torch.rand(n_groups, 3, generator=generator, device=where, dtype=torch.float64)
        low = self.min_scale
        if self.distribution == "beta":
            # the inverse of the distribution function of Beta(1, b)
            x = 1 - (1 - u[:, 0]) ** (1 / self.beta(share))
            scales = low + (1 - low) * x
        elif self.distribution == "uniform":
            low = self._annealed(share, 1.0, low)
            scales = low + (1 - low) * u[:, 0]
        else:
            support = 0.5 ** torch.arange(1 + math.floor(math.log2(1 / low) + 1e-9), device=where)
            scales = support[(u[:, 0] * len(support)).long()].double()
        offsets = u[:, 1:] * (1 - scales[:, None])
        return Patch(*(part.float().repeat_interleave(group, 0)[:n] for part in (scales, offsets)))


@checked
def extract_patches(
    images: Float[Tensor, "n channels height width"], patch: Patch, resolution: int
) -> Float[Tensor, "n channels resolution resolution"]:
    """Return patches of images, (n, c, R, R), sampled bilinearly at the centres of their pixels.

    A patch of scale resolution / R, with an offset of whole pixels, is a crop; beyond the border the image goes on as
    it is there.

    Raises
    ------
    ValueError
        Images that are not square, a resolution above theirs, or not as many patches as images.
    """
    n, _, height, width = check_tensor(images, "images").shape
    check_counts(resolution=resolution)
    if height != width:
        raise ValueError(f"images must be square, got {height} x {width} pixels; crop or pad them")
    if resolution > height:
        raise ValueError(f"a patch cannot have more pixels than the image: {resolution} > {height}")
    check_patches(*patch, n)
    scales, offsets = (part.to(images) for part in patch)
    x = (2 * torch.arange(resolution).to(images) + 1) / resolution
    at = x * scales[:, None, None] - 1 + 2 * offsets[:, :, None]
    right, down = at[:, 0, None, :], at[:, 1, :, None]
    grid = torch.stack(torch.broadcast_tensors(right, down), -1)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
