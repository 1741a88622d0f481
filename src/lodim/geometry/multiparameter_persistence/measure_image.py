"""A signed measure as an image, for any network or classifier: its convolution with a Gaussian, on pixels.

``mu * K_h`` of Scoccola et al. 2024, arXiv 2406.07224, section 4; differentiable in the measure's points.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lodim.geometry.multiparameter_persistence.measures import SignedMeasure, corners
from lodim.validation import check_in_range, checked


@checked
class SignedMeasureImage(torch.nn.Module):
    """Convolution of a signed measure with a Gaussian, at the pixels of a box: ``sum_i w_i exp(-|x - x_i|^2 / (2
    h^2))``.

    Parameters
    ----------
    resolution : int
        Pixels along each of the two parameters.
    bandwidth : float
        h, in units of the box's sides.
    box : pair of array-like, optional
        Lower and upper corner. Default: that of each measure (so that images of different measures cannot be compared
        pixel by pixel).
    """

    def __init__(self, resolution: Any = 32, bandwidth: Any = 0.1, box: Any = None):
        super().__init__()
        self.resolution = check_in_range(resolution, "resolution", low=1, integer=True)
        if not check_in_range(bandwidth, "bandwidth", low=0) > 0:
            raise ValueError(f"bandwidth must be positive, got {bandwidth}")
        self.bandwidth, self.box = bandwidth, box
        self._corners = None if box is None else corners(box)

    def forward(self, measure: SignedMeasure) -> Float[Tensor, "resolution resolution"]:
        """Return the image, differentiable in the points, of a measure of two parameters; an empty one gives zeros."""
        points, weights = measure.points, measure.weights
        if points.shape[1] != 2:
            raise ValueError(f"an image shows two parameters, and the measure has {points.shape[1]}")
        if not len(points):
            return points.new_zeros(self.resolution, self.resolution)
        own = points.detach().amin(0), points.detach().amax(0)
        low, high = (corner.to(points) for corner in self._corners or own)
        side = torch.where(high > low, high - low, torch.ones_like(low))
        steps = torch.linspace(0, 1, self.resolution, dtype=points.dtype, device=points.device)
        offset = (steps[:, None, None] - (points - low) / side) / self.bandwidth
        first, second = torch.exp(-(offset**2) / 2).unbind(2)
        return torch.einsum("im,jm,m->ij", first, second, weights)
